//! From a spec back to s-expressions, fields in OBuilder's order.

use std::fmt;

use bstr::{BStr, BString, ByteSlice as _};

use crate::sexp::Sexp;
use crate::{Cache, Copy, CopySource, Op, Run, Secret, Spec, User};

impl Spec {
    /// As an s-expression. It recurses once for each level of stages.
    #[must_use]
    pub fn to_sexp(&self) -> Sexp {
        let stages = self.stages.iter().map(|(name, stage)| {
            Sexp::list(vec![
                Sexp::atom("build"),
                Sexp::atom(name.clone()),
                stage.to_sexp(),
            ])
        });
        let from = named("from", [Sexp::atom(self.from.clone())]);
        let ops = self.ops.iter().map(Op::to_sexp);
        Sexp::list(stages.chain([from]).chain(ops).collect())
    }

    /// On one line and in the shortest form, which is ASCII.
    #[must_use]
    pub fn to_mach(&self) -> BString {
        self.to_sexp().to_mach()
    }
}

/// On one line and in the shortest form.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(BStr::new(&self.to_mach()), f)
    }
}

impl Op {
    /// As an s-expression.
    #[must_use]
    pub fn to_sexp(&self) -> Sexp {
        match self {
            Self::Comment(text) => named("comment", [Sexp::atom(text.clone())]),
            Self::Workdir(path) => named("workdir", [Sexp::atom(path.clone())]),
            Self::Shell(arguments) => named("shell", atoms(arguments)),
            Self::Env { name, value } => named("env", atoms([name, value])),
            Self::User(User::Unix { uid, gid }) => {
                let id = |name, id: &i64| named(name, [Sexp::atom(id.to_string())]);
                named("user", [id("uid", uid), id("gid", gid)])
            }
            Self::User(User::Named(name)) => {
                named("user", [named("name", [Sexp::atom(name.clone())])])
            }
            Self::Run(run) => run.to_sexp(),
            Self::Copy(copy) => copy.to_sexp(),
        }
    }
}

impl Run {
    fn to_sexp(&self) -> Sexp {
        let caches = self.caches.iter().map(Cache::to_sexp).collect();
        let secrets = self.secrets.iter().map(Secret::to_sexp).collect();
        let network = atoms(&self.network).collect();
        let lists = [
            ("cache", caches),
            ("network", network),
            ("secrets", secrets),
        ];
        let fields = lists
            .into_iter()
            .filter_map(|(name, values)| unless_empty(name, values));
        let shell = named("shell", [Sexp::atom(self.shell.clone())]);
        named("run", fields.chain([shell]))
    }
}

impl Copy {
    fn to_sexp(&self) -> Sexp {
        let from = match &self.from {
            CopySource::Context => None,
            CopySource::Stage(name) => {
                Some(named("from", [named("build", [Sexp::atom(name.clone())])]))
            }
        };
        let src = named("src", atoms(&self.src));
        let dst = named("dst", [Sexp::atom(self.dst.clone())]);
        let exclude = unless_empty("exclude", atoms(&self.exclude).collect());
        named("copy", from.into_iter().chain([src, dst]).chain(exclude))
    }
}

impl Cache {
    fn to_sexp(&self) -> Sexp {
        mount(&self.id, &self.target, &self.buildkit_options)
    }
}

impl Secret {
    fn to_sexp(&self) -> Sexp {
        mount(&self.id, &self.target, &self.buildkit_options)
    }
}

fn mount(id: &BString, target: &BString, options: &[(BString, BString)]) -> Sexp {
    let options = options
        .iter()
        .map(|(key, value)| Sexp::list(atoms([key, value]).collect()));
    let options: Vec<_> = options.collect();
    let mut items = vec![
        Sexp::atom(id.clone()),
        named("target", [Sexp::atom(target.clone())]),
    ];
    if !options.is_empty() {
        items.push(named("buildkit_options", [Sexp::list(options)]));
    }
    Sexp::list(items)
}

/// A list that starts with this word.
fn named(name: &str, items: impl IntoIterator<Item = Sexp>) -> Sexp {
    Sexp::list([Sexp::atom(name)].into_iter().chain(items).collect())
}

fn unless_empty(name: &str, items: Vec<Sexp>) -> Option<Sexp> {
    (!items.is_empty()).then(|| named(name, items))
}

fn atoms<'a>(atoms: impl IntoIterator<Item = &'a BString>) -> impl Iterator<Item = Sexp> {
    atoms.into_iter().map(|atom| Sexp::atom(atom.as_bytes()))
}
