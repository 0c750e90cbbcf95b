//! A network of its own for one program: a namespace, and a cable to the host that can be pulled.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::programs::need_program;

/// A network namespace joined to the host by a pair of virtual interfaces.
pub struct NetNs {
    name: String,
    host_interface: String,
    host_address: String,
}

impl NetNs {
    /// Makes one. Needs root.
    ///
    /// # Errors
    ///
    /// When `ip` is not installed or the kernel refuses.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Interface names have at most 15 characters, and a process id at most 7 digits.
        let tag = format!("{}x{number}", process::id());
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544). A /30 per namespace, chosen by process.
        let slot = (process::id().wrapping_mul(16).wrapping_add(number)) % 32_768;
        let (third, fourth) = ((slot / 64) % 256, (slot % 64) * 4);
        let second = 18 + slot / 16_384;
        let address = |host: u32| format!("198.{second}.{third}.{}", fourth + host);
        let namespace = Self {
            name: format!("oc-{tag}"),
            host_interface: format!("och{tag}"),
            host_address: address(1),
        };
        let (host, guest, name) = (
            &namespace.host_interface,
            format!("ocg{tag}"),
            &namespace.name,
        );
        ip(&["netns", "add", name])?;
        ip(&[
            "link", "add", host, "type", "veth", "peer", "name", &guest, "netns", name,
        ])?;
        ip(&["addr", "add", &format!("{}/30", address(1)), "dev", host])?;
        ip(&["link", "set", host, "up"])?;
        ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{}/30", address(2)),
            "dev",
            &guest,
        ])?;
        ip(&["-n", name, "link", "set", &guest, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The host's address on the cable.
    #[must_use]
    pub fn host_address(&self) -> &str {
        &self.host_address
    }

    /// A command that runs `program` inside.
    ///
    /// # Errors
    ///
    /// When `ip` is not installed.
    pub fn command(&self, program: &Command) -> Result<Command> {
        let mut command = Command::new(need_program("ip", "iproute2")?);
        command
            .args(["netns", "exec", &self.name])
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(command)
    }

    /// Pulls the cable: packets vanish, and nobody is told.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn cut(&self) -> Result<()> {
        // The far end goes down, as when a remote host loses power: the host keeps its address and route, and hears nothing.
        ip(&[
            "-n",
            &self.name,
            "link",
            "set",
            &self.guest_interface(),
            "down",
        ])
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn mend(&self) -> Result<()> {
        ip(&[
            "-n",
            &self.name,
            "link",
            "set",
            &self.guest_interface(),
            "up",
        ])
    }

    fn guest_interface(&self) -> String {
        self.host_interface.replacen("och", "ocg", 1)
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // The pair of interfaces may be gone with the namespace; both calls are needed when making it failed half-way.
        let _ = ip(&["link", "del", &self.host_interface]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new(need_program("ip", "iproute2")?).args(words))?
        .success()
        .context("a network namespace needs root")?;
    Ok(())
}
