//! What strangers' repositories and clients say about git, and what the worker and its git child say to each other.

#![no_main]
#![allow(dead_code, reason = "only the decoders are wanted of these files")]

#[path = "../../crates/git-context/src/commit.rs"]
mod commit;
#[path = "../../crates/git-context/src/error.rs"]
mod error;
#[path = "../../crates/git-context/src/child/gitmodules.rs"]
mod gitmodules;
#[path = "../../crates/git-context/src/protocol.rs"]
mod protocol;
#[path = "../../crates/git-context/src/repository_url.rs"]
mod repository_url;

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

// The names under which the files know each other's types.
use commit::CommitId;
use error::GitError;
use repository_url::RepositoryUrl;

/// Sections are found again when git's rules for writing them are followed, and an error is about a line there is.
fn modules(text: &[u8]) {
    match gitmodules::parse(text) {
        Err(line) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
        }
        Ok(sections) => {
            let mut written = Vec::new();
            for section in &sections {
                let name = quoted(&section.name, false);
                written.extend([b"[submodule ", &name[..], b"]\n"].concat());
                let entries = [
                    ("path", &section.path),
                    ("url", &section.url),
                    ("update", &section.update),
                ];
                for (key, value) in entries {
                    if let Some(value) = value {
                        let value = quoted(value, true);
                        written.extend([b"\t", key.as_bytes(), b" = ", &value, b"\n"].concat());
                    }
                }
            }
            assert_eq!(gitmodules::parse(&written), Ok(sections));
        }
    }
}

fn quoted(text: &[u8], with_letters: bool) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in text {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b'\n' if with_letters => quoted.extend(b"\\n"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// A URL that was taken is taken again, and shows nobody's password.
fn repository(text: &str) {
    let (text, reference) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(url) = text.parse::<RepositoryUrl>() else {
        return;
    };
    shown(&url);
    if let Ok(submodule) = url.submodule(reference) {
        shown(&submodule);
    }
}

fn shown(url: &RepositoryUrl) {
    let text = String::from(url.clone());
    assert_eq!(text.parse::<RepositoryUrl>().as_ref(), Ok(url));
    assert!(!url.directory_name().contains('/'));
    for shown in [url.to_string(), url.host()] {
        if let Ok(shown) = Url::parse(&shown) {
            assert_eq!((shown.username(), shown.password()), ("", None), "{text}");
        }
    }
}

fn line<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(found) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_string(&found).unwrap();
        let again: T = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    modules(data);
    line::<protocol::Report>(data);
    line::<protocol::Order>(data);
    if let Ok(text) = std::str::from_utf8(data) {
        repository(text);
        if let Ok(commit) = text.parse::<CommitId>() {
            assert_eq!(commit.as_str(), text.to_ascii_lowercase());
        }
    }
});
