//! What a person asked to leave out, by name, and the record of what was left out because of it.
//!
//! Nothing is ever left out because something is missing: that fails. `cargo xtask test --skip NAME` sets the variable below, and
//! shows the report at the end.

use std::env;
use std::fs::File;
use std::io::Write as _;
use std::thread;

/// Names of real parts to do without, separated by commas: `docker`, `netns`, `registry`, `dockerd`, `obuilder`, `prometheus`,
/// `pycapnp`, `systemd`.
pub const SKIP_VARIABLE: &str = "OCLUSTER_TESTS_SKIP";

/// The file to which every story that is left out adds a line.
pub const SKIP_REPORT: &str = "OCLUSTER_TESTS_SKIP_REPORT";

/// Whether the running test needs a part that it is to do without. If so, that is written down.
#[must_use]
pub fn skipped(needs: &[&str]) -> bool {
    let skip = env::var(SKIP_VARIABLE).unwrap_or_default();
    let Some(part) = needs
        .iter()
        .find(|need| skip.split(',').any(|name| name.trim() == **need))
    else {
        return false;
    };
    let line = format!(
        "{} (needs {part})",
        thread::current().name().unwrap_or("a story")
    );
    if !written(&line) {
        crate::story::show(&format!("NOT RUN: {line}\n"));
    }
    true
}

fn written(line: &str) -> bool {
    let Some(path) = env::var_os(SKIP_REPORT) else {
        return false;
    };
    let file = File::options().append(true).create(true).open(path);
    file.is_ok_and(|mut file| writeln!(file, "{line}").is_ok())
}
