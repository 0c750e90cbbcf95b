//! A spec as a Dockerfile, for those who want to try it without OBuilder. The text is OBuilder's, with these differences:
//! paths with spaces are copied in Docker's JSON form, and backslashes and control characters in the arguments of a shell are
//! escaped.
//!
//! Some of a spec cannot be said in a Dockerfile and is left out: networks and `exclude`; without `BuildKit` also caches and
//! secrets. A comment of several lines, and quotes in the arguments of a shell, are written as OBuilder writes them, though
//! Docker does not accept them.

use bstr::{BStr, BString, ByteSlice as _};

use crate::{Copy, CopySource, Op, Run, Spec, User};

/// How to write a Dockerfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DockerfileOptions {
    /// Mount caches and secrets, which takes `BuildKit`.
    pub buildkit: bool,
    /// How lines are continued.
    pub escape: Escape,
}

/// The escape character, by the platform that the image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// A backslash.
    #[default]
    Unix,
    /// A backtick, as backslashes separate the parts of paths.
    Windows,
}

impl Escape {
    const fn character(self) -> u8 {
        match self {
            Self::Unix => b'\\',
            Self::Windows => b'`',
        }
    }
}

impl Spec {
    /// As a Dockerfile, each line of which ends. It recurses once for each level of stages.
    #[must_use]
    pub fn to_dockerfile(&self, options: &DockerfileOptions) -> BString {
        let mut writer = Writer {
            options,
            user: root(),
            out: BString::default(),
        };
        if options.escape == Escape::Windows {
            writer.put("#escape=`\n");
        }
        writer.stage(None, self);
        writer.out
    }
}

const fn root() -> User {
    User::Unix { uid: 0, gid: 0 }
}

struct Writer<'a> {
    options: &'a DockerfileOptions,
    user: User,
    out: BString,
}

impl Writer<'_> {
    fn put(&mut self, bytes: impl AsRef<[u8]>) {
        self.out.extend_from_slice(bytes.as_ref());
    }

    fn stage(&mut self, name: Option<&BStr>, spec: &Spec) {
        for (name, stage) in &spec.stages {
            self.stage(Some(name.as_bstr()), stage);
            self.put("\n");
        }
        self.user = root();
        self.put("FROM ");
        self.put(&spec.from);
        if let Some(name) = name {
            self.put(" as ");
            self.put(name);
        }
        self.put("\n");
        for op in &spec.ops {
            self.op(op);
            self.put("\n");
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Comment(text) => {
                self.put("# ");
                self.put(text);
            }
            Op::Workdir(path) => {
                self.put("WORKDIR ");
                self.put(path);
            }
            Op::Shell(arguments) => {
                let arguments: Vec<_> = arguments.iter().map(|text| quote(text, b"")).collect();
                self.put("SHELL [ ");
                self.put(bstr::join(", ", arguments));
                self.put(" ]");
            }
            Op::Env { name, value } => {
                self.put("ENV ");
                self.put(name);
                self.put("=\"");
                self.env_value(value);
                self.put("\"");
            }
            Op::User(user) => {
                self.put("USER ");
                match user {
                    User::Unix { uid, gid } => self.put(format!("{uid}:{gid}")),
                    User::Named(name) => self.put(name),
                }
                self.user = user.clone();
            }
            Op::Run(run) => self.run(run),
            Op::Copy(copy) => self.copy(copy),
        }
    }

    fn env_value(&mut self, value: &[u8]) {
        let escape = self.options.escape.character();
        for &byte in value {
            if byte == b'"' || byte == escape {
                self.out.push(escape);
            }
            self.out.push(byte);
        }
    }

    fn copy(&mut self, copy: &Copy) {
        self.put("COPY ");
        if let User::Unix { uid, gid } = self.user
            && self.user != root()
        {
            self.put(format!("--chown={uid}:{gid} "));
        }
        if let CopySource::Stage(name) = &copy.from {
            self.put("--from=");
            self.put(name);
            self.put(" ");
        }
        let paths: Vec<_> = copy.src.iter().chain([&copy.dst]).collect();
        if needs_json(&paths) {
            let paths: Vec<_> = paths.iter().map(|path| quote(path, b"\"")).collect();
            self.put("[");
            self.put(bstr::join(", ", paths));
            self.put("]");
        } else {
            self.put(bstr::join(" ", &copy.src));
            self.put(" ");
            self.put(&copy.dst);
        }
    }

    /// The lines of the command are joined by the escape character, each without the spaces around it.
    fn run(&mut self, run: &Run) {
        self.put("RUN ");
        if self.options.buildkit {
            for secret in &run.secrets {
                self.mount(
                    "secret",
                    &secret.id,
                    &secret.target,
                    &secret.buildkit_options,
                );
            }
            for cache in &run.caches {
                self.mount("cache", &cache.id, &cache.target, &cache.buildkit_options);
            }
        }
        for (index, line) in run.shell.split_str("\n").enumerate() {
            if index > 0 {
                self.put(" ");
                self.out.push(self.options.escape.character());
                self.put("\n    ");
            }
            self.put(line.trim_with(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0c')));
        }
    }

    /// A user who has a name only gets no `uid`.
    fn mount(&mut self, kind: &str, id: &[u8], target: &[u8], options: &[(BString, BString)]) {
        self.put("--mount=type=");
        self.put(kind);
        self.put(",id=");
        self.put(id);
        self.put(",target=");
        self.put(target);
        if let User::Unix { uid, .. } = self.user {
            self.put(format!(",uid={uid}"));
        }
        for (key, value) in options {
            self.put(",");
            self.put(key);
            self.put("=");
            self.put(value);
        }
        self.put(" ");
    }
}

/// Whether Docker would take the paths for others. With an empty path Docker fails in either form, and this is OBuilder's.
fn needs_json(paths: &[&BString]) -> bool {
    paths.iter().all(|path| !path.is_empty())
        && paths
            .iter()
            .any(|path| path.iter().any(|byte| byte.is_ascii_whitespace()))
}

/// A string as in JSON, with a backslash before these characters, too.
fn quote(text: &[u8], special: &[u8]) -> BString {
    let mut out = BString::from("\"");
    for &byte in text {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => {
                if special.contains(&byte) {
                    out.push(b'\\');
                }
                out.push(byte);
            }
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(spec: &str, buildkit: bool, escape: Escape) -> String {
        let options = DockerfileOptions { buildkit, escape };
        let spec = Spec::parse(spec.as_bytes()).unwrap();
        spec.to_dockerfile(&options).to_string()
    }

    fn unix(spec: &str) -> String {
        convert(spec, false, Escape::Unix)
    }

    fn windows(spec: &str) -> String {
        convert(spec, false, Escape::Windows)
    }

    mod docker_unix {
        use super::*;

        #[test]
        fn plain() {
            assert_eq!(
                unix(
                    r#"((from base) (comment "A test comment") (workdir /src)
                     (run (shell "command1") (cache (a (target /data)) (b (target /srv))))
                     (copy (src a b) (dst c)) (copy (src a b) (dst c) (exclude .git _build)) (env DEBUG 01)
                     (user (uid 1) (gid 2)) (copy (src a b) (dst c)))"#
                ),
                "FROM base\n# A test comment\nWORKDIR /src\nRUN command1\nCOPY a b c\nCOPY a b c\nENV DEBUG=\"01\"\nUSER 1:2\nCOPY --chown=1:2 a b c\n"
            );
        }

        #[test]
        fn buildkit_mounts_secrets_then_caches_for_the_current_user() {
            let spec = r#"((from base) (user (uid 1) (gid 2))
                (run (cache (a (target /data)) (b (target /srv) (buildkit_options ((sharing private)))))
                     (secrets (s (target /run/s))) (network host) (shell "command1")))"#;
            assert_eq!(
                convert(spec, true, Escape::Unix),
                "FROM base\nUSER 1:2\nRUN --mount=type=secret,id=s,target=/run/s,uid=1 --mount=type=cache,id=a,target=/data,uid=1 \
                 --mount=type=cache,id=b,target=/srv,uid=1,sharing=private command1\n"
            );
            assert_eq!(unix(spec), "FROM base\nUSER 1:2\nRUN command1\n");
        }

        #[test]
        fn each_stage_starts_as_root() {
            assert_eq!(
                unix(
                    "((build tools ((from base) (user (uid 1) (gid 2)) (copy (src a) (dst b)))) (from base)
                      (copy (from (build tools)) (src binary) (dst /opt/)))"
                ),
                "FROM base as tools\nUSER 1:2\nCOPY --chown=1:2 a b\n\nFROM base\nCOPY --from=tools binary /opt/\n"
            );
        }

        #[test]
        fn lines_of_a_command_are_trimmed_and_joined() {
            assert_eq!(
                unix("((from base) (run (shell \"command1 &&\n     command2\n  \")))"),
                "FROM base\nRUN command1 && \\\n    command2 \\\n    \n"
            );
        }

        #[test]
        fn values_of_variables_are_escaped() {
            assert_eq!(
                unix(r#"((from base) (env A "a\"b\\c$d"))"#),
                "FROM base\nENV A=\"a\\\"b\\\\c$d\"\n"
            );
        }

        #[test]
        fn paths_with_spaces_are_copied_in_json() {
            assert_eq!(
                unix(r#"((from base) (copy (src "a b" "c\"d\\") (dst /e/)))"#),
                "FROM base\nCOPY [\"a b\", \"c\\\"d\\\\\", \"/e/\"]\n"
            );
        }
    }

    mod docker_windows {
        use super::*;

        #[test]
        fn lines_are_continued_with_backticks() {
            assert_eq!(
                windows("((from base) (run (shell \"a\nb\")) (env A \"x`y\"))"),
                "#escape=`\nFROM base\nRUN a `\n    b\nENV A=\"x``y\"\n"
            );
        }

        #[test]
        fn drives_and_user_names_are_kept() {
            assert_eq!(
                windows(
                    r#"((build tools ((from base))) (from base) (workdir "C:/src") (user (name ContainerAdministrator))
                      (shell "C:\\cygwin\\bin\\bash.exe" "-lc") (copy (from (build tools)) (src a) (dst "C:/opt/")))"#
                ),
                "#escape=`\nFROM base as tools\n\nFROM base\nWORKDIR C:/src\nUSER ContainerAdministrator\n\
                 SHELL [ \"C:\\\\cygwin\\\\bin\\\\bash.exe\", \"-lc\" ]\nCOPY --from=tools a C:/opt/\n"
            );
        }

        #[test]
        fn a_user_by_name_has_no_uid_in_mounts() {
            assert_eq!(
                convert(
                    r#"((from base) (user (name N)) (run (cache (a (target "C:/a"))) (shell x)))"#,
                    true,
                    Escape::Windows
                ),
                "#escape=`\nFROM base\nUSER N\nRUN --mount=type=cache,id=a,target=C:/a x\n"
            );
        }
    }
}
