//! `--help=FMT`, as OCluster's programs take it: `plain`, `pager` and `auto` give the text, `groff` the manual page.

use std::ffi::OsString;

/// Reads the format off the command line, which then says `--help` alone. Says whether the manual page is wanted.
pub(crate) fn take(args: &mut [OsString]) -> bool {
    let mut manual = false;
    for arg in args.iter_mut().skip(1).take_while(|arg| *arg != "--") {
        let format = arg.to_str().and_then(|arg| arg.strip_prefix("--help="));
        match format {
            Some("groff") => manual = true,
            Some("plain" | "pager" | "auto") => {}
            _ => continue,
        }
        *arg = "--help".into();
    }
    manual
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> (bool, String) {
        let mut args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let manual = take(&mut args);
        let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
        (manual, words.join(" "))
    }

    #[test]
    fn only_known_formats_are_taken() {
        assert_eq!(taken("p --help=plain"), (false, "p --help".to_owned()));
        assert_eq!(
            taken("p show --help=groff"),
            (true, "p show --help".to_owned())
        );
        for other in ["p --help=pdf", "p --help", "p exec -- man --help=plain"] {
            assert_eq!(taken(other), (false, other.to_owned()));
        }
    }
}
