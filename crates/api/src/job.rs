//! A job description as plain data, for those who make one (clients) or act on one (workers).

use capnp::message;
use thiserror::Error;

use crate::cluster_capnp::{custom, docker_build, job_descr, secret};
use crate::descriptor::{Descriptor, DescriptorError};
use crate::image::{ImageTarget, ImageTargetError};
use crate::secret::{Secret, SecretBytes};

/// Everything a client says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// What to do.
    pub action: Action,
    /// Jobs with the same hint like to run on the same worker; empty for no preference.
    pub cache_hint: String,
    /// Where the build context comes from; without it the context is empty.
    pub source: Option<GitSource>,
    /// Values that build steps may ask for.
    pub secrets: Vec<Secret>,
}

/// Commits of one git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// The repository's URL, as the client gave it.
    pub repository: String,
    /// Hashes; never empty. The first is checked out, the others are merged into it.
    pub commits: Vec<String>,
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build a Docker image.
    Docker(DockerBuild),
    /// Run an OBuilder specification.
    OBuilder {
        /// The specification: an S-expression.
        spec: String,
    },
    /// Something only some workers know.
    Custom(CustomJob),
}

/// A Docker build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerBuild {
    /// Where the Dockerfile is.
    pub dockerfile: Dockerfile,
    /// Where to push the image, if anywhere.
    pub push: Option<Push>,
    /// `NAME=value`, or `NAME` alone.
    pub build_args: Vec<String>,
    /// Merge the new layers into one.
    pub squash: bool,
    /// Use BuildKit instead of the classic builder.
    pub buildkit: bool,
    /// Keep `.git` in the build context.
    pub include_git: bool,
}

/// Where the Dockerfile of a build is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dockerfile {
    /// Its text, sent by the client.
    Contents(String),
    /// Its path inside the build context.
    Path(String),
}

/// Where to push a built image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Repository and tag.
    pub target: ImageTarget,
    /// How to log in to the registry.
    pub login: Option<RegistryLogin>,
}

/// A user of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: SecretBytes,
}

/// A job of a kind that the schema does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomJob {
    /// Says how to read the payload.
    pub kind: String,
    /// The payload: a whole Cap'n Proto message in stream framing, whose root is the payload.
    pub payload: Vec<u8>,
}

/// Why a job description cannot be acted on. The words are those of OCluster's worker where it has any.
#[derive(Debug, Error)]
pub enum JobSpecError {
    /// The action is of a kind that came after us.
    #[error("Unknown action type {0}")]
    UnknownAction(u16),
    /// The Dockerfile is given in a way that came after us.
    #[error("Unknown Dockerfile file")]
    UnknownDockerfile,
    /// A login without anything to push.
    #[error("push-user and push-password must be given with push-target")]
    LoginWithoutTarget,
    /// Half a login.
    #[error("push-user and push-password must be given (or not given) together")]
    HalfLogin,
    /// The push target is not `repository:tag`.
    #[error(transparent)]
    Target(#[from] ImageTargetError),
    /// A text field is not UTF-8.
    #[error("the job's {0} is not valid UTF-8")]
    NotUtf8(&'static str),
    /// The message itself is broken.
    #[error("the job description cannot be read: {0}")]
    Malformed(#[from] capnp::Error),
}

impl JobSpec {
    /// A job with this action and nothing else: no hint, an empty context, no secrets.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            cache_hint: String::new(),
            source: None,
            secrets: Vec::new(),
        }
    }

    /// Reads and checks a description from its wire form.
    ///
    /// # Errors
    /// A [`JobSpecError`] that names the first thing wrong.
    pub fn read(descr: job_descr::Reader<'_>) -> Result<Self, JobSpecError> {
        let action = match descr.get_action().which() {
            Ok(job_descr::action::DockerBuild(docker)) => Action::Docker(read_docker(docker?)?),
            Ok(job_descr::action::Obuilder(obuilder)) => Action::OBuilder {
                spec: text(obuilder?.get_spec()?, "OBuilder spec")?,
            },
            Ok(job_descr::action::Custom(custom)) => Action::Custom(read_custom(custom?)?),
            Err(capnp::NotInSchema(number)) => return Err(JobSpecError::UnknownAction(number)),
        };
        let commits = texts(descr.get_commits()?, "commits")?;
        let source = if commits.is_empty() {
            None
        } else {
            Some(GitSource {
                repository: text(descr.get_repository()?, "repository")?,
                commits,
            })
        };
        let mut secrets = Vec::new();
        for secret in descr.get_secrets()? {
            secrets.push(read_secret(secret)?);
        }
        Ok(Self {
            action,
            cache_hint: text(descr.get_cache_hint()?, "cache hint")?,
            source,
            secrets,
        })
    }

    /// Writes the description in its wire form.
    ///
    /// # Errors
    /// Only if a custom payload is not a message.
    pub fn write(&self, mut descr: job_descr::Builder<'_>) -> Result<(), JobSpecError> {
        descr.set_cache_hint(&self.cache_hint);
        if let Some(source) = &self.source {
            descr.set_repository(&source.repository);
            write_texts(&source.commits, |len| descr.reborrow().init_commits(len));
        }
        if !self.secrets.is_empty() {
            let mut list = descr.reborrow().init_secrets(length(&self.secrets));
            for (index, secret) in (0..).zip(&self.secrets) {
                let mut entry = list.reborrow().get(index);
                entry.set_id(&secret.id);
                entry.set_value(capnp::text::Reader(secret.value.expose()));
            }
        }
        let mut action = descr.init_action();
        match &self.action {
            Action::Docker(docker) => write_docker(docker, action.init_docker_build()),
            Action::OBuilder { spec } => action.init_obuilder().set_spec(spec),
            Action::Custom(job) => {
                let mut custom = action.reborrow().init_custom();
                custom.set_kind(&job.kind);
                let payload = read_payload(&job.payload)?;
                custom
                    .init_payload()
                    .set_as(payload.get_root::<capnp::any_pointer::Reader<'_>>()?)?;
            }
        }
        Ok(())
    }

    /// The description as a [`Descriptor`], ready to be kept or sent.
    ///
    /// # Errors
    /// As [`JobSpec::write`].
    pub fn to_descriptor(&self) -> Result<Descriptor, JobSpecError> {
        let mut message = message::Builder::new_default();
        self.write(message.init_root())?;
        Ok(Descriptor::copy_of(message.get_root_as_reader()?)?)
    }
}

impl From<DescriptorError> for JobSpecError {
    fn from(DescriptorError::Malformed(error): DescriptorError) -> Self {
        Self::Malformed(error)
    }
}

impl CustomJob {
    /// A payload made by `fill`, which is handed the payload's pointer.
    ///
    /// # Errors
    /// Whatever `fill` fails with.
    pub fn new(
        kind: impl Into<String>,
        fill: impl FnOnce(capnp::any_pointer::Builder<'_>) -> capnp::Result<()>,
    ) -> capnp::Result<Self> {
        let mut message = message::Builder::new_default();
        fill(message.get_root::<capnp::any_pointer::Builder<'_>>()?)?;
        Ok(Self {
            kind: kind.into(),
            payload: capnp::serialize::write_message_to_words(&message),
        })
    }

    /// The payload, ready to be read as whatever [`CustomJob::kind`] says.
    ///
    /// # Errors
    /// If the bytes are not a message.
    pub fn payload(&self) -> capnp::Result<message::Reader<capnp::serialize::OwnedSegments>> {
        read_payload(&self.payload)
    }
}

fn read_payload(bytes: &[u8]) -> capnp::Result<message::Reader<capnp::serialize::OwnedSegments>> {
    capnp::serialize::read_message(bytes, message::ReaderOptions::new())
}

fn read_docker(docker: docker_build::Reader<'_>) -> Result<DockerBuild, JobSpecError> {
    let dockerfile = match docker.get_dockerfile().which() {
        Ok(docker_build::dockerfile::Contents(contents)) => {
            Dockerfile::Contents(text(contents?, "Dockerfile")?)
        }
        Ok(docker_build::dockerfile::Path(path)) => {
            Dockerfile::Path(text(path?, "Dockerfile's path")?)
        }
        Err(capnp::NotInSchema(_)) => return Err(JobSpecError::UnknownDockerfile),
    };
    let target = text(docker.get_push_target()?, "push target")?;
    let user = text(docker.get_push_user()?, "push user")?;
    let password = docker.get_push_password()?.as_bytes();
    let login = match (user.is_empty(), password.is_empty()) {
        (true, true) => None,
        (false, false) => Some(RegistryLogin {
            user,
            password: SecretBytes::new(password.to_vec()),
        }),
        _ => return Err(JobSpecError::HalfLogin),
    };
    let push = match (target.is_empty(), login) {
        (true, None) => None,
        (true, Some(_)) => return Err(JobSpecError::LoginWithoutTarget),
        (false, login) => Some(Push {
            target: target.parse()?,
            login,
        }),
    };
    Ok(DockerBuild {
        dockerfile,
        push,
        build_args: texts(docker.get_build_args()?, "build arguments")?,
        squash: docker.get_squash(),
        buildkit: docker.get_buildkit(),
        include_git: docker.get_include_git(),
    })
}

fn write_docker(docker: &DockerBuild, mut builder: docker_build::Builder<'_>) {
    let mut dockerfile = builder.reborrow().init_dockerfile();
    match &docker.dockerfile {
        Dockerfile::Contents(contents) => dockerfile.set_contents(contents),
        Dockerfile::Path(path) => dockerfile.set_path(path),
    }
    if let Some(push) = &docker.push {
        builder.set_push_target(push.target.to_string());
        if let Some(login) = &push.login {
            builder.set_push_user(&login.user);
            builder.set_push_password(capnp::text::Reader(login.password.expose()));
        }
    }
    write_texts(&docker.build_args, |len| {
        builder.reborrow().init_build_args(len)
    });
    builder.set_squash(docker.squash);
    builder.set_buildkit(docker.buildkit);
    builder.set_include_git(docker.include_git);
}

fn read_custom(custom: custom::Reader<'_>) -> Result<CustomJob, JobSpecError> {
    let kind = text(custom.get_kind()?, "kind")?;
    let payload = custom.get_payload();
    Ok(CustomJob::new(kind, |mut root| root.set_as(payload))?)
}

fn read_secret(secret: secret::Reader<'_>) -> Result<Secret, JobSpecError> {
    Ok(Secret {
        id: text(secret.get_id()?, "secret's id")?,
        value: SecretBytes::new(secret.get_value()?.as_bytes().to_vec()),
    })
}

fn text(reader: capnp::text::Reader<'_>, what: &'static str) -> Result<String, JobSpecError> {
    reader.to_string().map_err(|_| JobSpecError::NotUtf8(what))
}

fn texts(
    list: capnp::text_list::Reader<'_>,
    what: &'static str,
) -> Result<Vec<String>, JobSpecError> {
    list.iter().map(|item| text(item?, what)).collect()
}

fn write_texts<'a>(items: &[String], init: impl FnOnce(u32) -> capnp::text_list::Builder<'a>) {
    if items.is_empty() {
        return;
    }
    let mut list = init(length(items));
    for (index, item) in (0..).zip(items) {
        list.set(index, item);
    }
}

/// Lists on the wire have at most 2^29 elements, so that nothing real is cut here.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker_job() -> JobSpec {
        JobSpec {
            action: Action::Docker(DockerBuild {
                dockerfile: Dockerfile::Contents("FROM busybox\n".into()),
                push: Some(Push {
                    target: "team/app:v1".parse().unwrap(),
                    login: Some(RegistryLogin {
                        user: "ci".into(),
                        password: SecretBytes::new(b"pw".to_vec()),
                    }),
                }),
                build_args: vec!["A=1".into(), "B".into()],
                squash: false,
                buildkit: true,
                include_git: true,
            }),
            cache_hint: "app-FROM busybox".into(),
            source: Some(GitSource {
                repository: "https://example.org/app.git".into(),
                commits: vec!["ab".repeat(20)],
            }),
            secrets: vec![Secret {
                id: "token".into(),
                value: SecretBytes::new(vec![0, 159, 146, 150]),
            }],
        }
    }

    fn round_trip(spec: &JobSpec) -> JobSpec {
        JobSpec::read(spec.to_descriptor().unwrap().message().get().unwrap()).unwrap()
    }

    #[test]
    fn every_field_survives_the_wire() {
        let spec = docker_job();
        assert_eq!(round_trip(&spec), spec);
        let spec = JobSpec {
            action: Action::OBuilder {
                spec: "((from busybox))".into(),
            },
            ..spec
        };
        assert_eq!(round_trip(&spec), spec);
    }

    #[test]
    fn a_custom_payload_survives_the_wire() {
        let job = CustomJob::new("obuilder", |mut root| root.set_as("((from busybox))")).unwrap();
        let spec = JobSpec {
            action: Action::Custom(job),
            cache_hint: String::new(),
            source: None,
            secrets: vec![],
        };
        let Action::Custom(back) = round_trip(&spec).action else {
            panic!("the action changed its kind")
        };
        assert_eq!(back.kind, "obuilder");
        let payload = back.payload().unwrap();
        assert_eq!(
            payload
                .get_root::<capnp::text::Reader<'_>>()
                .unwrap()
                .to_str()
                .unwrap(),
            "((from busybox))"
        );
    }

    fn read_with(change: impl FnOnce(docker_build::Builder<'_>)) -> String {
        let mut message = message::Builder::new_default();
        let descr: job_descr::Builder<'_> = message.init_root();
        let mut docker = descr.init_action().init_docker_build();
        docker
            .reborrow()
            .init_dockerfile()
            .set_contents("FROM busybox");
        change(docker);
        JobSpec::read(message.get_root_as_reader().unwrap())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_login_needs_both_halves_and_a_target() {
        assert_eq!(
            read_with(|mut docker| docker.set_push_user("ci")),
            "push-user and push-password must be given (or not given) together"
        );
        assert_eq!(
            read_with(|mut docker| {
                docker.set_push_user("ci");
                docker.set_push_password("pw");
            }),
            "push-user and push-password must be given with push-target"
        );
        assert_eq!(
            read_with(|mut docker| docker.set_push_target("foo")),
            "Missing ':TAG' in target \"foo\""
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_by_name() {
        let error = read_with(|mut docker| docker.set_push_target(capnp::text::Reader(b"a\xff:b")));
        assert_eq!(error, "the job's push target is not valid UTF-8");
    }

    #[test]
    fn no_commits_means_no_source_whatever_the_repository() {
        let mut message = message::Builder::new_default();
        let mut descr: job_descr::Builder<'_> = message.init_root();
        descr.set_repository("https://example.org/app.git");
        descr.init_action().init_obuilder().set_spec("()");
        assert_eq!(
            JobSpec::read(message.get_root_as_reader().unwrap())
                .unwrap()
                .source,
            None
        );
    }
}
