//! What a chore needs from the machine, how to see whether it is there, and how to get it.
//!
//! As root on Debian and its kin it is installed, and said so. Everybody else is told exactly what to install. Nothing is ever
//! done without.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use ocluster_tests::{check_interrupt, find_program, run_within};

/// The longest that apt-get may take, in seconds.
const APT_LIMIT: std::time::Duration = std::time::Duration::from_secs(900);

/// Something that must be on the machine.
pub(crate) struct Need {
    /// What it is, for people.
    what: &'static str,
    /// What it is needed for.
    purpose: &'static str,
    /// Debian's package.
    package: &'static str,
    /// The part, by the names of `cargo xtask test --skip`, that can be left out to do without.
    part: Option<&'static str>,
    /// Whether it is there.
    present: fn() -> bool,
}

const COMPILER: Need = Need {
    what: "a C compiler (cc)",
    purpose: "to build the C libraries inside some crates",
    package: "build-essential",
    part: None,
    present: || find_program("cc").is_some(),
};
const PKG_CONFIG: Need = Need {
    what: "pkg-config",
    purpose: "to find OpenSSL when building",
    package: "pkg-config",
    part: None,
    present: || find_program("pkg-config").is_some(),
};
const OPENSSL_HEADERS: Need = Need {
    what: "OpenSSL's headers",
    purpose: "for git over https",
    package: "libssl-dev",
    part: None,
    present: || succeeds("pkg-config", &["--exists", "openssl"]),
};
const GIT: Need = Need {
    what: "git, with `git daemon` and `git http-backend`",
    purpose: "to serve repositories to build",
    package: "git",
    part: None,
    present: git_is_whole,
};
const BUSYBOX: Need = Need {
    what: "a static busybox",
    purpose: "to make the base image of builds without a registry",
    package: "busybox-static",
    part: Some("docker"),
    present: || find_program("busybox").is_some(),
};
const DOCKER: Need = Need {
    what: "the docker command",
    purpose: "to prepare and inspect the Docker engine",
    package: "docker.io",
    part: Some("docker"),
    present: || find_program("docker").is_some(),
};
const ENGINE: Need = Need {
    what: "a Docker engine: one that answers, or dockerd to start one",
    purpose: "to build",
    package: "docker.io",
    part: Some("docker"),
    present: || engine_answers() || (is_root() && find_program("dockerd").is_some()),
};
const DOCKERD: Need = Need {
    what: "dockerd",
    purpose: "for Docker engines that a test may kill",
    package: "docker.io",
    part: Some("dockerd"),
    present: || find_program("dockerd").is_some(),
};
const REGISTRY: Need = Need {
    what: "docker-registry",
    purpose: "for a registry to pull from and push to",
    package: "docker-registry",
    part: Some("registry"),
    present: || find_program("docker-registry").is_some(),
};
const HTPASSWD: Need = Need {
    what: "htpasswd",
    purpose: "for a registry with a login",
    package: "apache2-utils",
    part: Some("registry"),
    present: || find_program("htpasswd").is_some(),
};
const PROMETHEUS: Need = Need {
    what: "prometheus and promtool",
    purpose: "to scrape a cluster, and to check metrics, alert rules and configurations",
    package: "prometheus",
    part: Some("prometheus"),
    present: || find_program("prometheus").is_some() && find_program("promtool").is_some(),
};
const NODE_EXPORTER: Need = Need {
    what: "prometheus-node-exporter",
    purpose: "for the metrics of a worker's machine",
    package: "prometheus-node-exporter",
    part: Some("prometheus"),
    present: || find_program("prometheus-node-exporter").is_some(),
};
const IP: Need = Need {
    what: "the ip command",
    purpose: "for networks that a test may cut",
    package: "iproute2",
    part: Some("netns"),
    present: || find_program("ip").is_some(),
};
const IPTABLES: Need = Need {
    what: "iptables",
    purpose: "for the Docker engine's networks",
    package: "iptables",
    part: Some("docker"),
    present: || engine_answers() || find_program("iptables").is_some(),
};
const COMPOSE: Need = Need {
    what: "docker-compose",
    purpose: "to check the compose file",
    package: "docker-compose",
    part: Some("docker"),
    present: || find_program("docker-compose").is_some(),
};
const SYSTEMD: Need = Need {
    what: "systemd-analyze",
    purpose: "to check the units",
    package: "systemd",
    part: Some("systemd"),
    present: || find_program("systemd-analyze").is_some(),
};
const OPENSSL: Need = Need {
    what: "the openssl command",
    purpose: "to play ill-behaved TLS peers",
    package: "openssl",
    part: None,
    present: || find_program("openssl").is_some(),
};
const GROFF: Need = Need {
    what: "groff",
    purpose: "to format manual pages",
    package: "groff-base",
    part: None,
    present: || find_program("groff").is_some(),
};
const PYTHON: Need = Need {
    what: "Python 3",
    purpose: "for peers with another implementation of Cap'n Proto",
    package: "python3",
    part: Some("pycapnp"),
    present: || find_program("python3").is_some(),
};
const PYTHON_VENV: Need = Need {
    what: "Python's virtual environments",
    purpose: "to install pycapnp for the tests alone",
    package: "python3-venv",
    part: Some("pycapnp"),
    present: || succeeds("python3", &["-c", "import venv, ensurepip"]),
};
const CAPNP: Need = Need {
    what: "the capnp command",
    purpose: "to compile the schema",
    package: "capnproto",
    part: None,
    present: || find_program("capnp").is_some(),
};
const RUNC: Need = Need {
    what: "runc",
    purpose: "to run the steps of OBuilder builds",
    package: "runc",
    part: Some("obuilder"),
    present: || find_program("runc").is_some(),
};
const RSYNC: Need = Need {
    what: "rsync",
    purpose: "for OBuilder stores on any filesystem",
    package: "rsync",
    part: Some("obuilder"),
    present: || find_program("rsync").is_some(),
};
const MKFS_BTRFS: Need = Need {
    what: "mkfs.btrfs",
    purpose: "for OBuilder stores on btrfs",
    package: "btrfs-progs",
    part: Some("obuilder"),
    present: || find_program("mkfs.btrfs").is_some(),
};
const MKFS_XFS: Need = Need {
    what: "mkfs.xfs",
    purpose: "for OBuilder stores on xfs",
    package: "xfsprogs",
    part: Some("obuilder"),
    present: || find_program("mkfs.xfs").is_some(),
};
const SKOPEO: Need = Need {
    what: "skopeo",
    purpose: "to make and inspect images without an engine",
    package: "skopeo",
    part: Some("obuilder"),
    present: || find_program("skopeo").is_some(),
};
const UMOCI: Need = Need {
    what: "umoci",
    purpose: "to make and unpack images without an engine",
    package: "umoci",
    part: Some("obuilder"),
    present: || find_program("umoci").is_some(),
};

/// What the demo needs.
pub(crate) fn for_demo() -> Vec<Need> {
    vec![
        COMPILER,
        PKG_CONFIG,
        OPENSSL_HEADERS,
        GIT,
        BUSYBOX,
        DOCKER,
        ENGINE,
        IPTABLES,
        RUNC,
    ]
}

/// What the tests need.
pub(crate) fn for_tests() -> Vec<Need> {
    let mut needs = for_demo();
    needs.extend([
        DOCKERD,
        REGISTRY,
        HTPASSWD,
        IP,
        OPENSSL,
        GROFF,
        PYTHON,
        PYTHON_VENV,
        PROMETHEUS,
        NODE_EXPORTER,
        COMPOSE,
        SYSTEMD,
        RSYNC,
        MKFS_BTRFS,
        MKFS_XFS,
        SKOPEO,
        UMOCI,
    ]);
    needs
}

/// What measuring needs.
pub(crate) fn for_bench() -> Vec<Need> {
    let mut needs = for_demo();
    needs.extend([REGISTRY, SKOPEO, UMOCI]);
    needs
}

/// What compiling the schema needs.
pub(crate) fn for_codegen() -> Vec<Need> {
    vec![CAPNP]
}

/// Sees to it that everything is there, except for the parts in `skip`.
///
/// # Errors
///
/// With the list of what to install, when it cannot be installed from here.
pub(crate) fn provide(needs: &[Need], skip: &[String]) -> Result<()> {
    let wanted: Vec<&Need> = needs
        .iter()
        .filter(|need| {
            need.part
                .is_none_or(|part| !skip.iter().any(|name| name == part))
        })
        .collect();
    let missing = missing(&wanted);
    if !missing.is_empty() {
        if !is_root() || find_program("apt-get").is_none() {
            bail!("{}", what_to_install(&missing));
        }
        install(&missing)?;
        let still = self::missing(&wanted);
        if !still.is_empty() {
            bail!(
                "apt-get did its work, but something is still missing.\n{}",
                what_to_install(&still)
            );
        }
    }
    let privileged: Vec<&str> = ["netns", "dockerd", "obuilder"]
        .into_iter()
        .filter(|part| wanted.iter().any(|need| need.part == Some(part)))
        .collect();
    if !is_root() && !privileged.is_empty() {
        let flags: Vec<String> = privileged
            .iter()
            .map(|part| format!("--skip {part}"))
            .collect();
        bail!(
            "some tests need root, for networks, engines and stores of their own: run as root, or with {}",
            flags.join(" ")
        );
    }
    Ok(())
}

fn missing<'a>(needs: &[&'a Need]) -> Vec<&'a Need> {
    needs
        .iter()
        .copied()
        .filter(|need| !(need.present)())
        .collect()
}

/// What a person who is not root, or not on Debian, has to do.
fn what_to_install(missing: &[&Need]) -> String {
    let mut text = String::from("something is missing on this machine:\n");
    for need in missing {
        text.push_str(&format!("  - {}, {}\n", need.what, need.purpose));
    }
    text.push_str(&format!(
        "On Debian, as root: apt-get install {}\n",
        packages(missing).join(" ")
    ));
    text.push_str("Elsewhere: install the same programs with your system's package manager");
    if missing.iter().any(|need| need.package == "docker.io") {
        text.push_str(", and see that a Docker engine runs which you may use (`docker version` shows its server)");
    }
    text.push('.');
    text
}

fn install(missing: &[&Need]) -> Result<()> {
    for need in missing {
        println!("missing: {}, {}", need.what, need.purpose);
    }
    let packages = packages(missing);
    println!("installing with apt-get: {}", packages.join(" "));
    for words in [
        vec!["update", "-q"],
        [
            vec!["install", "-q", "-y", "--no-install-recommends"],
            packages,
        ]
        .concat(),
    ] {
        check_interrupt()?;
        let mut command = Command::new("apt-get");
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        run_within(&mut command, APT_LIMIT)?.success()?;
    }
    Ok(())
}

fn packages(missing: &[&Need]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the Docker engine of `DOCKER_HOST`, or else the system's, answers.
pub(crate) fn engine_answers() -> bool {
    find_program("docker").is_some_and(|docker| {
        let mut command = Command::new(docker);
        command.args(["version", "--format", "{{.Server.Version}}"]);
        run_within(&mut command, std::time::Duration::from_secs(30))
            .is_ok_and(|finished| finished.code() == 0)
    })
}

fn git_is_whole() -> bool {
    let Some(git) = find_program("git") else {
        return false;
    };
    let Ok(finished) = ocluster_tests::run(Command::new(git).arg("--exec-path")) else {
        return false;
    };
    let directory = Path::new(finished.stdout.trim()).to_owned();
    ["git-daemon", "git-http-backend"]
        .iter()
        .all(|name| directory.join(name).is_file())
}

fn succeeds(program: &str, words: &[&str]) -> bool {
    ocluster_tests::run(Command::new(program).args(words))
        .is_ok_and(|finished| finished.code() == 0)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const UNICORN: Need = Need {
        what: "a unicorn",
        purpose: "for luck",
        package: "unicorn",
        part: Some("luck"),
        present: || false,
    };

    #[test]
    fn a_person_without_root_is_told_exactly_what_to_install() {
        let text = what_to_install(&[&UNICORN, &DOCKER, &ENGINE]);
        assert!(text.contains("  - a unicorn, for luck\n"), "{text}");
        assert!(
            text.contains("apt-get install docker.io unicorn\n"),
            "{text}"
        );
        assert!(text.contains("`docker version` shows its server"), "{text}");
    }

    #[test]
    fn a_part_that_is_left_out_needs_nothing() {
        assert!(provide(&[UNICORN], &["luck".to_owned()]).is_ok());
    }

    #[test]
    fn every_need_of_the_demo_is_one_of_the_tests() {
        let names: Vec<&str> = for_tests().iter().map(|need| need.what).collect();
        assert!(for_demo().iter().all(|need| names.contains(&need.what)));
    }
}
