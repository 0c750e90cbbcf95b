//! A Docker registry on loopback, with its data in a directory of its own, and skopeo to fill it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running registry, until it is dropped.
pub(crate) struct Registry {
    pub(crate) port: u16,
    login: Option<(&'static str, &'static str)>,
    child: Child,
    _dir: TempDir,
}

impl Registry {
    /// One for anybody.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// One that only `user` with `password` may use.
    pub(crate) fn with_login(user: &'static str, password: &'static str) -> Self {
        Self::start_with(Some((user, password)))
    }

    fn start_with(login: Option<(&'static str, &'static str)>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\ncompatibility:\n  schema1:\n    enabled: true\n",
            dir.path().join("data").display()
        );
        if let Some((user, password)) = login {
            let file = dir.path().join("htpasswd");
            fs::write(
                &file,
                run("htpasswd", &["-n", "-b", "-B", "-C", "4", user, password]),
            )
            .expect("a file");
            write!(
                config,
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            )
            .expect("text");
        }
        let file = dir.path().join("registry.yml");
        fs::write(&file, config).expect("a file");
        let log = File::create(dir.path().join("log")).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("docker-registry, of the package docker-registry");
        let mut registry = Self {
            port,
            login,
            child,
            _dir: dir,
        };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "docker-registry ended: {ended:?}");
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// Copies an image of a layout into it.
    pub(crate) fn push(&self, layout: &Path, repository: &str, more: &[&str]) {
        let credentials = self
            .login
            .map(|(user, password)| format!("--dest-creds={user}:{password}"));
        let from = format!("oci:{}", layout.display());
        let to = format!("docker://{}", self.name(repository));
        let mut arguments = vec![
            "copy",
            "--insecure-policy",
            "--quiet",
            "--dest-tls-verify=false",
        ];
        arguments.extend(more);
        arguments.extend(credentials.as_deref());
        arguments.extend([from.as_str(), to.as_str()]);
        run("skopeo", &arguments);
    }

    /// A manifest as the registry has it.
    pub(crate) fn manifest(&self, repository: &str) -> Vec<u8> {
        let from = format!("docker://{}", self.name(repository));
        run("skopeo", &["inspect", "--raw", "--tls-verify=false", &from])
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// What a program prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed, and cannot be run: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
    output.stdout
}
