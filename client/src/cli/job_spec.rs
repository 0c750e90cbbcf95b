//! From the command line to a job description: reads the files it names, and refuses options that do not go together.
//!
//! The content of secrets and passwords must never reach a message.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ocluster_api::{
    Action, DockerBuild, Dockerfile, GitSource, ImageTarget, JobSpec, Push, RegistryLogin, Secret,
    SecretBytes,
};
use ocluster_cli::Failure;

use super::args::{JobArgs, NAME, SubmitDocker, SubmitOBuilder};

/// The most that the files and build arguments of a job may have together, in bytes: a description travels in one message, for which
/// schedulers allow 64 MiB, and there is more in it than these.
const MAX_BYTES: u64 = 60 << 20;

/// The Docker build that the command line describes.
pub(crate) fn docker_spec(docker: &SubmitDocker) -> Result<JobSpec, Failure> {
    spec(&docker.job, |room| {
        Ok(Action::Docker(docker_build(docker, room)?))
    })
}

/// The OBuilder build that the command line describes.
pub(crate) fn obuilder_spec(obuilder: &SubmitOBuilder) -> Result<JobSpec, Failure> {
    spec(&obuilder.job, |room| {
        let spec = room.read_text(&obuilder.local_file)?;
        Ok(Action::OBuilder { spec })
    })
}

fn spec(
    job: &JobArgs,
    action: impl FnOnce(&mut Room) -> Result<Action, Failure>,
) -> Result<JobSpec, Failure> {
    // Before any file is read: what does not go together comes first.
    let source = source(job)?;
    let mut room = Room { left: MAX_BYTES };
    Ok(JobSpec {
        action: action(&mut room)?,
        cache_hint: job.cache_hint.clone(),
        source,
        secrets: secrets(job, &mut room)?,
    })
}

fn source(job: &JobArgs) -> Result<Option<GitSource>, Failure> {
    match &job.repository {
        None => Ok(None),
        Some(url) if job.commits.is_empty() => Err(Failure::inconsistent(
            NAME,
            format!("No commits requested from repository {url:?}!"),
        )),
        Some(url) => Ok(Some(GitSource {
            repository: url.clone(),
            commits: job.commits.clone(),
        })),
    }
}

fn docker_build(docker: &SubmitDocker, room: &mut Room) -> Result<DockerBuild, Failure> {
    if docker.local_dockerfile.is_some() && docker.context_dockerfile.is_some() {
        return Err(Failure::usage(
            NAME,
            "Can't use --local-dockerfile and --context-dockerfile together!",
        ));
    }
    let push = push(docker, room)?;
    let dockerfile = match (&docker.local_dockerfile, &docker.context_dockerfile) {
        (Some(file), _) => Dockerfile::Contents(room.read_text(file)?),
        (None, Some(path)) => Dockerfile::Path(path.clone()),
        (None, None) => Dockerfile::Path("Dockerfile".to_owned()),
    };
    for arg in &docker.build_args {
        room.take(arg.len(), "the build arguments")?;
    }
    Ok(DockerBuild {
        dockerfile,
        push,
        build_args: docker.build_args.clone(),
        squash: docker.squash,
        buildkit: docker.buildkit,
        include_git: docker.include_git,
    })
}

fn push(docker: &SubmitDocker, room: &mut Room) -> Result<Option<Push>, Failure> {
    let with = |target: &ImageTarget, login| {
        Ok(Some(Push {
            target: target.clone(),
            login,
        }))
    };
    match (&docker.push_to, &docker.push_user, &docker.push_password) {
        (None, None, None) => Ok(None),
        (None, _, _) => Err(Failure::inconsistent(
            NAME,
            "Must use --push-to with --push-user/--push-password",
        )),
        (Some(target), None, None) => with(target, None),
        (Some(target), Some(user), Some(file)) => with(
            target,
            Some(RegistryLogin {
                user: user.clone(),
                password: room.read_first_line(file)?,
            }),
        ),
        (Some(_), _, _) => Err(Failure::inconsistent(
            NAME,
            "Must use --push-user with --push-password",
        )),
    }
}

fn secrets(job: &JobArgs, room: &mut Room) -> Result<Vec<Secret>, Failure> {
    let read = job.secrets.iter().map(|secret| {
        Ok(Secret {
            id: secret.id.clone(),
            value: SecretBytes::new(room.read(&secret.file)?),
        })
    });
    read.collect()
}

/// How much can still go into the job.
struct Room {
    /// In bytes.
    left: u64,
}

impl Room {
    /// Refuses what does not fit; `what` is named in the message.
    fn take(&mut self, bytes: usize, what: &str) -> Result<(), Failure> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| {
            Failure::failed(format!(
                "the job is too large with {what}: its files and build arguments have more than {MAX_BYTES} bytes together, which \
                 is all that a job can carry"
            ))
        })?;
        Ok(())
    }

    /// The content of a file. One that is too large is not read to its end.
    fn read(&mut self, file: &Path) -> Result<Vec<u8>, Failure> {
        let read = || {
            let mut content = Vec::new();
            File::open(file)?
                .take(self.left + 1)
                .read_to_end(&mut content)?;
            Ok(content)
        };
        let content = read().map_err(|error: io::Error| {
            Failure::failed(format!("cannot read {file:?}: {error}"))
        })?;
        self.take(content.len(), &format!("{file:?}"))?;
        Ok(content)
    }

    fn read_text(&mut self, file: &Path) -> Result<String, Failure> {
        String::from_utf8(self.read(file)?)
            .map_err(|_| Failure::failed(format!("{file:?} is not a text file (UTF-8)")))
    }

    fn read_first_line(&mut self, file: &Path) -> Result<SecretBytes, Failure> {
        let content = SecretBytes::new(self.read(file)?);
        let line = content
            .expose()
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if line.is_empty() {
            return Err(Failure::failed(format!(
                "the first line of {file:?} is empty: it should be the password to push with"
            )));
        }
        Ok(SecretBytes::new(line.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ocluster_cli::ExitCode;

    use super::*;
    use crate::cli::CommandLine;
    use crate::cli::args::Command;

    const CAP: &str = "capnp://insecure@127.0.0.1:9000/c2VjcmV0";

    fn spec(command: &str, args: &[&str]) -> Result<JobSpec, Failure> {
        let fixed = [NAME, command, CAP, "--pool=linux"];
        let line = CommandLine::try_parse_from(fixed.iter().chain(args)).unwrap();
        match &line.command {
            Command::SubmitDocker(docker) => docker_spec(docker),
            Command::SubmitOBuilder(obuilder) => obuilder_spec(obuilder),
            other => panic!("{other:?}"),
        }
    }

    fn docker(args: &[&str]) -> DockerBuild {
        match spec("submit-docker", args).unwrap().action {
            Action::Docker(build) => build,
            other => panic!("{other:?}"),
        }
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn without_options_the_contexts_dockerfile_is_built_plainly() {
        let spec = spec(
            "submit-docker",
            &["https://example.org/app.git", "abc", "def"],
        )
        .unwrap();
        let plain = DockerBuild {
            dockerfile: Dockerfile::Path("Dockerfile".into()),
            push: None,
            build_args: vec![],
            squash: false,
            buildkit: false,
            include_git: false,
        };
        let source = GitSource {
            repository: "https://example.org/app.git".into(),
            commits: vec!["abc".into(), "def".into()],
        };
        let expected = JobSpec {
            action: Action::Docker(plain),
            cache_hint: String::new(),
            source: Some(source),
            secrets: vec![],
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn every_option_is_carried() {
        let dockerfile = file(b"FROM busybox\n");
        let password = file(b"pass word\nsecond line\n");
        let secret = file(&[0, 159, b'\n']);
        let [dockerfile, password, secret] =
            [&dockerfile, &password, &secret].map(|file| file.path().to_str().unwrap().to_owned());
        let spec = spec(
            "submit-docker",
            &[
                "--cache-hint=a hint",
                &format!("--local-dockerfile={dockerfile}"),
                "--push-to=localhost:5000/app:v1",
                "--push-user=ci",
                &format!("--push-password={password}"),
                "--build-arg=A=1",
                "--build-arg=B",
                "--squash",
                "--buildkit",
                "--include-git",
                &format!("--secret=token:{secret}"),
                &format!("--secret=other:{secret}"),
            ],
        )
        .unwrap();
        let Action::Docker(build) = spec.action else {
            panic!()
        };
        assert_eq!(
            build.dockerfile,
            Dockerfile::Contents("FROM busybox\n".into())
        );
        let push = build.push.unwrap();
        assert_eq!(push.target.to_string(), "localhost:5000/app:v1");
        assert_eq!(push.login.unwrap().password.expose(), b"pass word");
        assert_eq!(build.build_args, ["A=1", "B"]);
        assert!(build.squash && build.buildkit && build.include_git);
        assert_eq!(spec.cache_hint, "a hint");
        let secrets: Vec<(&str, &[u8])> = spec
            .secrets
            .iter()
            .map(|secret| (secret.id.as_str(), secret.value.expose()))
            .collect();
        assert_eq!(
            secrets,
            [
                ("token", &[0, 159, b'\n'][..]),
                ("other", &[0, 159, b'\n'][..])
            ]
        );
    }

    #[test]
    fn a_dockerfile_elsewhere_in_the_context_and_a_push_without_login() {
        let build = docker(&["--context-dockerfile=ci/Dockerfile", "--push-to=app:v1"]);
        assert_eq!(build.dockerfile, Dockerfile::Path("ci/Dockerfile".into()));
        assert_eq!(build.push.unwrap().login, None);
    }

    #[test]
    fn a_password_file_must_start_with_the_password() {
        let empty = file(b"\nsecret on the second line");
        let password = format!("--push-password={}", empty.path().display());
        let failure = spec(
            "submit-docker",
            &["--push-to=a:b", "--push-user=ci", &password],
        )
        .unwrap_err();
        assert!(!format!("{failure:?}").contains("second"), "{failure:?}");
    }

    #[test]
    fn all_that_a_job_carries_counts_together() {
        let half = tempfile::NamedTempFile::new().unwrap();
        half.as_file().set_len(MAX_BYTES / 2).unwrap();
        let half = half.path().display();
        let dockerfile = format!("--local-dockerfile={half}");
        let secret = format!("--secret=token:{half}");
        spec("submit-docker", &[&dockerfile, &secret]).unwrap();
        spec("submit-obuilder", &[&format!("--local-file={half}")]).unwrap();

        let one_byte_more = file(b"x");
        let one_byte_more = format!("--secret=other:{}", one_byte_more.path().display());
        let login = format!("--push-password={half}");
        let too_much: [&[&str]; 4] = [
            &[&dockerfile, &secret, &one_byte_more],
            &[&dockerfile, &secret, "--build-arg=A"],
            &[&secret, &secret, &one_byte_more],
            &[
                &dockerfile,
                &secret,
                "--push-to=a:b",
                "--push-user=ci",
                &login,
            ],
        ];
        for args in too_much {
            let failure = format!("{:?}", spec("submit-docker", args).unwrap_err());
            assert!(failure.contains("all that a job can carry"), "{failure}");
        }
    }

    #[test]
    fn obuilder_jobs_carry_the_file() {
        let file = file(b"((from busybox))");
        let local = format!("--local-file={}", file.path().display());
        let action = spec("submit-obuilder", &[&local]).unwrap().action;
        assert_eq!(
            action,
            Action::OBuilder {
                spec: "((from busybox))".into()
            }
        );
    }

    #[test]
    fn binary_dockerfiles_are_refused() {
        let file = file(&[0xff, 0xfe]);
        let local = format!("--local-dockerfile={}", file.path().display());
        assert_eq!(
            spec("submit-docker", &[&local]).unwrap_err().report(),
            ExitCode::Failed
        );
    }
}
