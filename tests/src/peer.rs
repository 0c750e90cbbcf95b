//! Ill-behaved peers that speak TLS: `openssl s_client`, with or without a certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::command::{Finished, run, run_within};
use crate::programs::need_program;
use crate::scratch::Scratch;

/// How long a server may take to be done with such a peer.
const LIMIT: Duration = Duration::from_secs(60);

/// A TLS client that says what it is told to.
pub struct TlsPeer {
    openssl: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsPeer {
    /// A peer that does not say who it is.
    ///
    /// # Errors
    ///
    /// When `openssl` is not installed.
    pub fn anonymous() -> Result<Self> {
        Ok(Self {
            openssl: need_program("openssl", "openssl")?,
            certificate: None,
        })
    }

    /// A peer with a key of its own, as every honest one has.
    ///
    /// # Errors
    ///
    /// When `openssl` is not installed.
    pub fn with_certificate(scratch: &Scratch) -> Result<Self> {
        let openssl = need_program("openssl", "openssl")?;
        let (key, certificate) = certificate(scratch)?;
        Ok(Self {
            openssl,
            certificate: Some((key, certificate)),
        })
    }

    /// Connects to `port` on loopback, says `bytes`, stays, and returns when the server has closed the connection.
    ///
    /// # Errors
    ///
    /// When the server has not after a minute.
    pub fn say(&self, port: u16, bytes: &[u8], scratch: &Scratch) -> Result<Finished> {
        let message = scratch.write(&crate::unique("message"), bytes)?;
        run_within(&mut self.command(port, &message), LIMIT)
    }

    fn command(&self, port: u16, message: &Path) -> Command {
        // `-quiet` stays after the end of stdin: only the server can end this. TLS 1.2, because with 1.3 a client that is refused
        // learns so only after its own handshake is done.
        let mut command = Command::new("sh");
        command
            .args(["-c", "message=$1; shift; exec \"$@\" <\"$message\"", "peer"])
            .arg(message)
            .arg(&self.openssl);
        command.args([
            "s_client",
            "-tls1_2",
            "-quiet",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ]);
        if let Some((key, certificate)) = &self.certificate {
            command.arg("-key").arg(key).arg("-cert").arg(certificate);
        }
        command
    }
}

/// Makes a key and its certificate, and gives the paths of the two.
pub(crate) fn certificate(scratch: &Scratch) -> Result<(PathBuf, PathBuf)> {
    let openssl = need_program("openssl", "openssl")?;
    let (key, certificate) = (scratch.join("peer.key"), scratch.join("peer.pem"));
    run(Command::new(&openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=capnp",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate))?
    .success()?;
    Ok((key, certificate))
}
