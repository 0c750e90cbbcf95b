//! The secrets of one build, given to the engine when a step asks for one, and to nobody else.
//!
//! Values stay in memory, and are wiped with the job. They are never written to a file, a log, an error or a command line.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bytes::Bytes;
use ocluster_api::{Secret, SecretBytes};
use zeroize::Zeroize;

use super::grpc::{self, Code, Status};
use crate::executor::Failure;

/// The largest secret that BuildKit takes, in bytes.
const MAX_SECRET: usize = 500 * 1024;

/// What a build's steps may ask for.
#[derive(Debug, Default)]
pub(in crate::executor::docker) struct Secrets {
    values: BTreeMap<String, SecretBytes>,
}

impl Secrets {
    /// Takes a job's secrets. Of two with one id the later one holds, as with the Docker command line.
    ///
    /// # Errors
    /// If BuildKit could not give one of them to a step.
    pub(in crate::executor::docker) fn new(secrets: &[Secret]) -> Result<Self, Failure> {
        let mut values = BTreeMap::new();
        for secret in secrets {
            if secret.id.is_empty() {
                return Err(Failure::request(
                    "a secret of this job has no id, so that no build step could ask for it",
                ));
            }
            let size = secret.value.expose().len();
            if size > MAX_SECRET {
                return Err(Failure::request(format!(
                    "the secret {:?} has {size} bytes, and BuildKit takes {MAX_SECRET} at most: \
                     give the build a smaller one, such as a key to fetch the rest with",
                    secret.id
                )));
            }
            values.insert(secret.id.clone(), secret.value.clone());
        }
        Ok(Self { values })
    }

    /// What to say about empty ones: BuildKit takes them for missing.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let empty = self
            .values
            .iter()
            .filter(|(_, value)| value.expose().is_empty());
        empty.map(|(id, _)| {
            format!(
                "Note: the secret {id:?} is empty, and BuildKit gives build steps no file for it"
            )
        })
    }

    /// Answers a step's request.
    pub(super) fn get(&self, request: &GetSecretRequest) -> Result<Bytes, Status> {
        let Some(value) = self.values.get(&request.id) else {
            let message = format!("the job has no secret {:?}", request.id);
            return Err(Status::new(Code::NotFound, message));
        };
        let mut response = GetSecretResponse {
            data: value.expose().to_vec(),
        };
        let framed = grpc::frame(&response);
        response.data.zeroize();
        Ok(framed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, value: &[u8]) -> Secret {
        Secret {
            id: id.to_owned(),
            value: SecretBytes::new(value.to_vec()),
        }
    }

    fn value(secrets: &Secrets, id: &str) -> Option<Vec<u8>> {
        let request = GetSecretRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let mut unframed = grpc::Unframed::default();
        unframed.push(&secrets.get(&request).ok()?);
        let response: GetSecretResponse = unframed.next().unwrap().unwrap();
        Some(response.data)
    }

    #[test]
    fn odd_ids_and_any_bytes_are_given_as_they_are() {
        let job = [
            secret("a", b"first"),
            secret("a", b"second"),
            secret("../etc, passwd\n", b"\0\xff\n"),
            secret("empty", b""),
            secret("big", &[b'x'; MAX_SECRET]),
        ];
        let secrets = Secrets::new(&job).unwrap();
        assert_eq!(value(&secrets, "a").unwrap(), b"second");
        assert_eq!(value(&secrets, "../etc, passwd\n").unwrap(), b"\0\xff\n");
        assert_eq!(value(&secrets, "empty").unwrap(), b"");
        assert_eq!(value(&secrets, "big").unwrap().len(), MAX_SECRET);
        assert_eq!(value(&secrets, "missing"), None);
    }

    #[test]
    fn what_no_step_could_get_is_refused_without_showing_it() {
        let error = Secrets::new(&[secret("big", &[b'x'; MAX_SECRET + 1])]).unwrap_err();
        assert!(
            error
                .message
                .starts_with("the secret \"big\" has 512001 bytes"),
            "{error:?}"
        );
        assert!(!error.message.contains("xx"), "{error:?}");
        let error = Secrets::new(&[secret("", b"hunter2")]).unwrap_err();
        assert!(error.message.contains("has no id"), "{error:?}");
        assert!(!error.message.contains("hunter2"), "{error:?}");
    }
}
