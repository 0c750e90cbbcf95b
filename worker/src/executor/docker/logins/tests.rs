//! Reading Docker's configuration, and asking helpers, which are scripts here.

use std::fmt::{Debug, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

fn parse(text: &str) -> Logins {
    let (logins, error) = Logins::parse(text.as_bytes()).unwrap();
    assert!(error.is_none(), "{error:?}");
    logins
}

async fn login(logins: &Logins, host: &str) -> Option<(String, String)> {
    let login = logins.of(host).await?;
    let (user, secret) = login.user_and_secret();
    Some((user.to_owned(), secret.to_owned()))
}

fn pair(user: &str, secret: &str) -> Option<(String, String)> {
    Some((user.to_owned(), secret.to_owned()))
}

async fn header(logins: &Logins) -> Option<String> {
    let header = logins.header().await?;
    assert!(!header.contains(['+', '/']), "{header}");
    Some(String::from_utf8(BASE64_URL_SAFE.decode(header).unwrap()).unwrap())
}

/// Writes a helper. A program of its own does it: a file that this one had open for writing could not always be run.
fn helper(directory: &TempDir, name: &str, script: &str, limit: Duration) -> Helper {
    let path = directory.path().join(name);
    let mut child = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let script = format!("#!/bin/sh\n{script}\n");
    io::Write::write_all(&mut stdin, script.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    Helper::at(&path, limit)
}

const AMPLE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_file_s_logins_are_found_by_host() {
    let auth = BASE64_STANDARD.encode("ci:pa:ss?~~>\0");
    let hub = BASE64_STANDARD.encode("hub:x");
    let logins = parse(&format!(
        r#"{{"auths": {{"host:5000": {{"auth": "{auth}"}}, "https://url.example/v2/": {{"username": "u", "password": "p"}},
            "token.example": {{"auth": "{hub}", "identitytoken": "t"}}, "kept.elsewhere": {{}},
            "https://index.docker.io/v1/": {{"auth": "{hub}"}}}},
            "detachKeys": "ctrl-e", "proxies": {{}}}}"#
    ));
    assert_eq!(login(&logins, "host:5000").await, pair("ci", "pa:ss?~~>"));
    assert_eq!(login(&logins, "url.example").await, pair("u", "p"));
    assert_eq!(login(&logins, "token.example").await, pair("", "t"));
    assert_eq!(
        login(&logins, "registry-1.docker.io").await,
        pair("hub", "x")
    );
    for nobody in ["kept.elsewhere", "host", "other.example"] {
        assert_eq!(login(&logins, nobody).await, None, "{nobody}");
    }
    let told = header(&logins).await.unwrap();
    for part in [
        r#""host:5000":{"username":"ci","password":"pa:ss?~~>","serveraddress":"host:5000"}"#,
        r#""token.example":{"identitytoken":"t","serveraddress":"token.example"}"#,
        r#""https://index.docker.io/v1/":{"username":"hub""#,
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!format!("{logins:?}").contains("pa:ss"));
}

#[tokio::test]
async fn without_logins_the_engine_is_told_nothing() {
    for nothing in [
        "{}",
        r#"{"auths": {}}"#,
        r#"{"auths": null, "credsStore": ""}"#,
    ] {
        let logins = parse(nothing);
        assert_eq!(header(&logins).await, None);
        assert_eq!(login(&logins, "host").await, None);
    }
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("config.json");
    for file in [None, Some(missing.as_path())] {
        assert_eq!(header(&Logins::read(file).await).await, None);
    }
}

#[tokio::test]
async fn what_is_broken_is_told_without_what_is_in_it() {
    let error = |text: &str| Logins::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        error("{\n\"auths\": \"hunter2\"}"),
        "it is not a Docker configuration: see its line 2, column 18"
    );
    assert!(error("hunter2").contains("line 1"));

    let auth = BASE64_STANDARD.encode("u:p");
    let no_colon = BASE64_STANDARD.encode("hunter2");
    for wrong in ["hunter2!", &no_colon] {
        let text =
            format!(r#"{{"auths": {{"a": {{"auth": "{wrong}"}}, "b": {{"auth": "{auth}"}}}}}}"#);
        let (logins, error) = Logins::parse(text.as_bytes()).unwrap();
        assert_eq!(
            error.unwrap().to_string(),
            "its login for a is not the base64 of user:password"
        );
        assert_eq!(login(&logins, "b").await, pair("u", "p"));
    }

    // A directory can be opened, and not be read.
    let directory = TempDir::new().unwrap();
    let logins = Logins::read(Some(directory.path())).await;
    assert_eq!(header(&logins).await, None);
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::WARN {
            let mut line = String::new();
            event.record(&mut |_: &Field, value: &dyn Debug| {
                write!(line, "{value:?} ").unwrap();
            });
            self.0.lock().unwrap().push(line);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn the_operator_is_told_once_which_file_is_broken() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.json");
    for wrong in [
        r#"{"auths": "hunter2"}"#,
        r#"{"auths": {"a": {"auth": "hunter2!"}, "b": {"auth": "hunter2!"}}}"#,
    ] {
        std::fs::write(&file, wrong).unwrap();
        let log = Log::default();
        let listening = tracing::subscriber::set_default(log.clone());
        let logins = Logins::read(Some(&file)).await;
        drop(listening);
        assert_eq!(header(&logins).await, None);
        let lines = log.0.lock().unwrap();
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(line.contains(file.to_str().unwrap()), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[tokio::test]
async fn helpers_are_asked() {
    let directory = TempDir::new().unwrap();
    let store = r#"read -r registry
        case "$1 $registry" in
            "list ") echo '{"a.example": "u", "gone.example": "u", "b.example": "u"}';;
            "get a.example") echo '{"ServerURL": "a.example", "Username": "u", "Secret": "p"}';;
            "get b.example") echo '{"ServerURL": "b.example", "Username": "<token>", "Secret": "t"}';;
            *) echo credentials not found in native keychain; exit 1;;
        esac"#;
    let single = r#"echo '{"Username": "single", "Secret": "s"}'"#;
    let mut logins = parse(r#"{"auths": {"stored.example": {"username": "f", "password": "x"}}}"#);
    logins.store = Some(helper(&directory, "store", store, AMPLE));
    let single = helper(&directory, "single", single, AMPLE);
    logins.helpers = [("single.example".to_owned(), single)].into();

    assert_eq!(login(&logins, "a.example").await, pair("u", "p"));
    assert_eq!(login(&logins, "b.example").await, pair("", "t"));
    assert_eq!(login(&logins, "single.example").await, pair("single", "s"));
    assert_eq!(login(&logins, "stored.example").await, pair("f", "x"));
    assert_eq!(login(&logins, "other.example").await, None);
    let all = logins.all().await;
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["a.example", "b.example", "single.example", "stored.example"]
    );
}

#[tokio::test]
async fn a_helper_that_fails_or_hangs_does_not_hold_a_build_up() {
    let directory = TempDir::new().unwrap();
    let fails = helper(&directory, "fails", "echo hunter2; exit 3", AMPLE);
    let error = fails.get("host").await.unwrap_err().to_string();
    assert!(error.contains('3') && !error.contains("hunter2"), "{error}");
    let babbles = helper(&directory, "babbles", "echo '\"hunter2\"'", AMPLE);
    let error = babbles.get("host").await.unwrap_err().to_string();
    assert_eq!(error, "its answer cannot be read");

    let hangs = helper(
        &directory,
        "hangs",
        "exec sleep 1000",
        Duration::from_millis(100),
    );
    assert!(matches!(hangs.get("host").await, Err(HelperError::Slow)));
    let logins = Logins {
        store: Some(hangs),
        ..Logins::default()
    };
    assert_eq!(header(&logins).await, None);
    assert!(
        Helper::named("pass")
            .program()
            .ends_with("docker-credential-pass")
    );
}

#[tokio::test]
async fn a_helper_ends_with_the_build_that_asked_it() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pid");
    let script = format!("echo $$ > '{}'; exec sleep 1000", file.display());
    let hangs = helper(&directory, "hangs", &script, AMPLE);
    let started = async {
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                return pid.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let pid = tokio::select! {
        answer = hangs.get("host") => panic!("{answer:?}"),
        pid = started => pid,
    };
    let ended = async {
        // What has been killed has no words left, even before it is buried.
        let words = Path::new("/proc").join(pid).join("cmdline");
        while std::fs::read(&words).is_ok_and(|words| !words.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(AMPLE, ended).await;
    assert!(ended.is_ok(), "the helper runs on");
}
