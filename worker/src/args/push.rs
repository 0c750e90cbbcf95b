//! The flags about pushing images.

use clap::Args;

use crate::executor::docker::{AllowedRepository, PushConfig};

/// Where jobs may push to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pushing images")]
pub(super) struct PushArgs {
    /// Repositories that jobs may push images to, without tags: registry.example:5000/team/app. Names must match exactly.
    #[arg(long, value_name = "REPO", value_delimiter = ',')]
    allow_push: Vec<AllowedRepository>,
}

impl PushArgs {
    /// The configuration they ask for.
    pub(super) fn config(&self) -> PushConfig {
        PushConfig {
            allowed: self.allow_push.iter().cloned().collect(),
            ..PushConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        push: PushArgs,
    }

    fn allowed(flags: &[&str]) -> Result<usize, String> {
        let words = std::iter::once(&"worker").chain(flags);
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(program.push.config().allowed.len())
    }

    #[test]
    fn repositories_come_in_lists_or_one_by_one() {
        assert_eq!(allowed(&[]), Ok(0));
        assert_eq!(allowed(&["--allow-push=a/b,host:5000/c"]), Ok(2));
        assert_eq!(allowed(&["--allow-push=a/b", "--allow-push", "c"]), Ok(2));
        let error = allowed(&["--allow-push=a/b,c:v1"]).unwrap_err();
        assert!(
            error.contains("\"c:v1\" is not the name of a repository"),
            "{error}"
        );
    }
}
