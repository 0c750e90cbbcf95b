//! What a spec says, in plain types.

use bstr::BString;

/// A build: its stages, its base image, and what to do in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The stages that come before `from`, in order. Names are unique among one spec's own stages.
    pub stages: Vec<(BString, Spec)>,
    /// The base image, as written.
    pub from: BString,
    /// The operations, in order.
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A remark, which does nothing.
    Comment(BString),
    /// Changes the working directory; a relative path is joined to the current one.
    Workdir(BString),
    /// Changes the shell of later `run`s: a program and its arguments, to which the command is added.
    Shell(Vec<BString>),
    /// Sets a variable of the environment.
    Env {
        /// Its name.
        name: BString,
        /// Its value.
        value: BString,
    },
    /// Changes the user of later operations.
    User(User),
    /// Runs a command.
    Run(Run),
    /// Copies files from the context or from a stage.
    Copy(Copy),
}

/// Who runs commands, and owns what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By numbers. Negative ones can be written, as in OBuilder, and cannot be built.
    Unix {
        /// The user's id.
        uid: i64,
        /// The group's id.
        gid: i64,
    },
    /// By name, to be looked up in the image.
    Named(BString),
}

/// A `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Directories that outlive the step.
    pub caches: Vec<Cache>,
    /// The networks to join; none of them gives a loopback device only.
    pub network: Vec<BString>,
    /// Files that the step can read and that are in no layer.
    pub secrets: Vec<Secret>,
    /// The command, one argument for the shell.
    pub shell: BString,
}

/// A mutable directory shared by builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its name in the store.
    pub id: BString,
    /// Where the step sees it.
    pub target: BString,
    /// For conversion to a Dockerfile only.
    pub buildkit_options: Vec<(BString, BString)>,
}

/// A secret, to be looked up among those that came with the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub id: BString,
    /// The file in which the step sees it.
    pub target: BString,
    /// For conversion to a Dockerfile only.
    pub buildkit_options: Vec<(BString, BString)>,
}

/// A `copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where the files are.
    pub from: CopySource,
    /// What to copy: paths relative to there.
    pub src: Vec<BString>,
    /// Where to; with a slash at its end it is a directory to copy into.
    pub dst: BString,
    /// Names (not paths) of directory entries to leave out, at every level.
    pub exclude: Vec<BString>,
}

/// Where a `copy` takes files from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CopySource {
    /// The build context.
    #[default]
    Context,
    /// The result of the stage of this name.
    Stage(BString),
}
