//! Tokens for registries: how they are had from a token endpoint, and how long they are kept.
//!
//! They live in memory only, and never reach a log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The most tokens that are kept.
const MAX_TOKENS: usize = 256;
/// How long a token is good if its giver does not say: Docker's rule.
const USUAL_LIFE: u64 = 60;
/// The longest that one is used, in seconds.
const MAX_LIFE: u64 = 3600;
/// How much earlier than its end one is given up, in seconds.
const MARGIN: u64 = 10;

/// Headers that registries accepted or will accept, by registry and scope.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<(String, String), Token>>,
}

/// A header that proves that we may.
#[derive(Clone)]
pub(super) struct Token {
    /// Marked as a secret, so that nobody prints it.
    pub(super) header: HeaderValue,
    until: Instant,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Token {
    /// The one in a token endpoint's answer.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        // The words of an error may repeat the token.
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .map(Zeroizing::new)
            .find(|token| !token.is_empty())?;
        let life = answer.expires_in.unwrap_or(USUAL_LIFE);
        Self::new(&format!("Bearer {}", *token), life.saturating_sub(MARGIN))
    }

    /// A header that is good for `life` seconds.
    pub(super) fn new(header: &str, life: u64) -> Option<Self> {
        let mut header = HeaderValue::from_str(header).ok()?;
        header.set_sensitive(true);
        Some(Self {
            header,
            until: Instant::now() + Duration::from_secs(life.min(MAX_LIFE)),
        })
    }
}

impl Tokens {
    pub(super) fn get(&self, host: &str, scope: &str) -> Option<Token> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let token = kept.get(&(host.to_owned(), scope.to_owned()))?;
        (token.until > Instant::now()).then(|| token.clone())
    }

    pub(super) fn keep(&self, host: &str, scope: &str, token: Token) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_TOKENS {
            let now = Instant::now();
            kept.retain(|_, token| token.until > now);
            if kept.len() >= MAX_TOKENS {
                kept.clear();
            }
        }
        kept.insert((host.to_owned(), scope.to_owned()), token);
    }

    pub(super) fn forget(&self, host: &str, scope: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(host.to_owned(), scope.to_owned()));
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TOKENS, Token, Tokens};

    fn header(answer: &str) -> Option<String> {
        Token::read(answer.as_bytes()).map(|token| token.header.to_str().expect("text").to_owned())
    }

    #[test]
    fn both_spellings_of_a_token_are_read() {
        assert_eq!(header(r#"{"token":"a"}"#).as_deref(), Some("Bearer a"));
        assert_eq!(
            header(r#"{"token":"","access_token":"b","expires_in":300}"#).as_deref(),
            Some("Bearer b")
        );
        for none in ["", "{}", r#"{"token":"a\nb"}"#, r#"{"token":""}"#] {
            assert_eq!(header(none), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_used_for_their_life_and_never_shown() {
        let tokens = Tokens::default();
        tokens.keep("h", "s", Token::new("Bearer secret", 60).expect("a token"));
        let token = tokens.get("h", "s").expect("a token");
        assert!(!format!("{:?} {tokens:?}", token.header).contains("secret"));
        assert!(tokens.get("h", "other").is_none());
        tokens.keep("h", "s", Token::new("Bearer old", 0).expect("a token"));
        assert!(tokens.get("h", "s").is_none());
    }

    #[test]
    fn tokens_do_not_pile_up() {
        let tokens = Tokens::default();
        for scope in 0..MAX_TOKENS * 2 {
            let token = Token::new("Bearer x", 60).expect("a token");
            tokens.keep("h", &scope.to_string(), token);
        }
        assert!(tokens.kept.lock().expect("a lock").len() <= MAX_TOKENS);
    }
}
