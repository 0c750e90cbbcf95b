//! `obuilder dockerfile`.

use std::io::Write as _;

use ocluster_cli::Failure;
use ocluster_obuilder::spec::{self, DockerfileOptions};

use super::read_spec;
use crate::args::{Dockerfile, Escape};

pub(super) fn run(args: &Dockerfile) -> Result<(), Failure> {
    let spec = read_spec(&args.file)?;
    let options = DockerfileOptions {
        buildkit: args.buildkit,
        escape: match args.escape {
            Escape::Unix => spec::Escape::Unix,
            Escape::Windows => spec::Escape::Windows,
        },
    };
    let mut text = spec.to_dockerfile(&options);
    text.push(b'\n');
    Ok(std::io::stdout().lock().write_all(&text)?)
}
