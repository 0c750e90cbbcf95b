//! The flags for self-update. OCluster's own image and service names are nobody else's, so there are no defaults.

use ocluster_api::ImageTarget;

use crate::executor::DockerConfig;
use crate::self_update::{ProgramFile, SelfUpdate, ServiceImage};

/// How the worker updates itself when an admin asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Update, for a worker in a container")]
pub(super) struct UpdateArgs {
    /// Image of this worker, pulled by "ocluster-admin update". Needs no login.
    #[arg(long, value_name = "REPO:TAG", requires = "update_service")]
    update_image: Option<ImageTarget>,

    /// Service of a Docker swarm that this worker runs as, which then gets that image. The Docker engine must be a manager.
    #[arg(long, value_name = "NAME", requires = "update_image")]
    update_service: Option<String>,

    /// Update as outside of containers: check the program file, which somebody has replaced, and exit to be started again.
    #[arg(long, conflicts_with_all = ["update_image", "update_service"])]
    update_program: bool,
}

impl UpdateArgs {
    /// What these flags ask for, on this engine.
    pub(super) fn plan(self, engine: &DockerConfig) -> SelfUpdate {
        if self.update_program {
            return SelfUpdate::Program(ProgramFile::of_this_process());
        }
        let service = match (self.update_image, self.update_service) {
            (Some(image), Some(service)) => Some(ServiceImage {
                image,
                service,
                engine: engine.clone(),
            }),
            _ => None,
        };
        SelfUpdate::of_this_process(service)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    const IMAGE: &str = "--update-image=registry.example:5000/worker:live";

    #[test]
    fn image_and_service_go_together() {
        let both = parse(&[IMAGE, "--update-service=builder"]).unwrap();
        let SelfUpdate::Service(service) = both.into_config().unwrap().self_update else {
            panic!("no service");
        };
        assert_eq!(service.image.repository(), "registry.example:5000/worker");
        assert_eq!(service.service, "builder");
        for wrong in [
            &[IMAGE][..],
            &["--update-service=builder"],
            &[IMAGE, "--update-service=builder", "--update-program"],
        ] {
            let ended = parse(wrong).unwrap_err();
            let ocluster_cli::args::Ended::Mistake(text) = &ended else {
                panic!("{ended:?}")
            };
            assert!(text.contains("--update-"), "{text}");
        }
    }

    #[test]
    fn the_program_file_is_taken_in_containers_too_if_asked() {
        let program = parse(&["--update-program"]).unwrap();
        let plan = program.into_config().unwrap().self_update;
        assert!(matches!(plan, SelfUpdate::Program(_)), "{plan:?}");
    }

    #[test]
    fn an_image_without_a_tag_is_a_mistake() {
        let ended = parse(&["--update-image=host:5000/worker", "--update-service=b"]);
        assert!(matches!(ended, Err(ocluster_cli::args::Ended::Mistake(_))));
    }
}
