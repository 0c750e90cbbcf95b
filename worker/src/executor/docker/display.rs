//! The engine's messages as `docker build` prints them when its output is not a terminal.
//!
//! There, progress bars are left out, a status gets a line of its own, and what a build step writes is passed on as it is.

use bollard::models::{BuildInfo, ProgressDetail};

use super::units::human_size;

/// The first line, once `bytes` of context have been sent. The odd line end is Docker's.
pub(super) fn context_sent(bytes: u64) -> String {
    format!(
        "Sending build context to Docker daemon {:>8}\r\r\n",
        human_size(bytes)
    )
}

/// What to print for a message, if anything.
pub(super) fn display(message: &BuildInfo) -> Option<String> {
    // An `aux` message is for programs: it names the image.
    if message.aux.is_some()
        || message
            .progress_detail
            .as_ref()
            .is_some_and(is_progress_bar)
    {
        return None;
    }
    let mut text = String::new();
    if let Some(id) = message.id.as_deref().filter(|id| !id.is_empty()) {
        text.push_str(id);
        text.push_str(": ");
    }
    match message
        .stream
        .as_deref()
        .filter(|stream| !stream.is_empty())
    {
        Some(stream) => text.push_str(stream),
        None => {
            text.push_str(message.status.as_deref().unwrap_or_default());
            text.push('\n');
        }
    }
    Some(text)
}

fn is_progress_bar(progress: &ProgressDetail) -> bool {
    progress.current.is_some_and(|current| current > 0)
        || progress.total.is_some_and(|total| total > 0)
}

/// What upstream says when its `docker build` command fails because of the engine's `error`.
///
/// The command's exit code is the failed step's, or one.
pub(super) fn exit_message(error: &str) -> String {
    let code = error
        .rsplit_once("returned a non-zero code: ")
        .and_then(|(_, code)| code.trim_end().parse::<u32>().ok())
        .unwrap_or(1);
    format!("docker-build failed with exit-code {code}")
}

/// The container that a message says a step runs in.
pub(super) fn started_container(message: &BuildInfo) -> Option<&str> {
    container_id(message, " ---> Running in ")
}

/// The container that a message says is removed.
pub(super) fn removed_container(message: &BuildInfo) -> Option<&str> {
    container_id(message, "Removing intermediate container ")
}

fn container_id<'a>(message: &'a BuildInfo, before: &str) -> Option<&'a str> {
    let id = message
        .stream
        .as_deref()?
        .strip_prefix(before)?
        .strip_suffix('\n')?;
    (id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: &str) -> Option<String> {
        display(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn messages_are_printed_as_docker_prints_them() {
        assert_eq!(
            printed(r#"{"stream":"Step 1/1 : FROM x"}"#).unwrap(),
            "Step 1/1 : FROM x"
        );
        assert_eq!(printed(r#"{"stream":"a\r\nb"}"#).unwrap(), "a\r\nb");
        assert_eq!(
            printed(r#"{"status":"Pulling from library/x","id":"latest"}"#).unwrap(),
            "latest: Pulling from library/x\n"
        );
        assert_eq!(
            printed(r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#).unwrap(),
            "abc: Pull complete\n"
        );
        assert_eq!(
            printed(r#"{"status":"Digest: sha256:1"}"#).unwrap(),
            "Digest: sha256:1\n"
        );
    }

    #[test]
    fn progress_bars_and_notes_for_programs_are_not_printed() {
        assert_eq!(
            printed(
                r#"{"status":"Downloading","progressDetail":{"current":1,"total":9},"progress":"[>","id":"a"}"#
            ),
            None
        );
        assert_eq!(
            printed(r#"{"status":"Extracting","progressDetail":{"current":0,"total":9},"id":"a"}"#),
            None
        );
        assert_eq!(printed(r#"{"aux":{"ID":"sha256:1"}}"#), None);
    }

    #[test]
    fn the_context_s_size_is_padded_as_docker_does() {
        assert_eq!(
            context_sent(2048),
            "Sending build context to Docker daemon  2.048kB\r\r\n"
        );
        assert_eq!(
            context_sent(20_480),
            "Sending build context to Docker daemon  20.48kB\r\r\n"
        );
        assert_eq!(
            context_sent(0),
            "Sending build context to Docker daemon       0B\r\r\n"
        );
    }

    #[test]
    fn the_exit_code_is_the_failed_step_s() {
        let step = "The command '/bin/sh -c exit 7' returned a non-zero code: 7";
        assert_eq!(exit_message(step), "docker-build failed with exit-code 7");
        assert_eq!(
            exit_message("pull access denied for x"),
            "docker-build failed with exit-code 1"
        );
    }

    #[test]
    fn only_the_engine_s_own_lines_name_containers() {
        let container = |stream: &str| {
            let message = BuildInfo {
                stream: Some(stream.to_owned()),
                ..Default::default()
            };
            started_container(&message).map(str::to_owned)
        };
        assert_eq!(
            container(" ---> Running in fe9fa5aa42ee\n").unwrap(),
            "fe9fa5aa42ee"
        );
        assert_eq!(container(" ---> Running in ../images/x\n"), None);
        assert_eq!(container("x ---> Running in fe9fa5aa42ee\n"), None);
    }
}
