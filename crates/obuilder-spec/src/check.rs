//! What a spec must keep to beyond its syntax, the scope of stages above all.
//!
//! A `copy` sees the stages of its own spec, those that were listed before this spec in the specs around it, and nothing inside
//! any of them.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, ByteSlice as _};

use crate::error::SpecError;
use crate::sexp::{Sexp, atom};
use crate::{CopySource, Op, Run, Spec};

/// How deep stages may be nested within stages, so that whoever walks them can recurse.
pub const MAX_STAGE_DEPTH: usize = 100;

/// What is said beyond that.
pub(crate) const TOO_DEEP: &str = "builds are nested too deep";

/// How many stages one spec may have, those within stages included, so that whoever builds it can take all of them up at once.
pub const MAX_STAGES: usize = 1000;

/// The most bytes of a name that an error quotes.
const MAX_NAME: usize = 100;

/// The most stages that an error suggests.
const MAX_SUGGESTIONS: usize = 10;

impl Spec {
    /// Checks what the types do not: that stages are copied from only where they are in scope and have names of their own,
    /// that variables have names without `=`, that targets of caches and secrets are absolute, that no byte is NUL.
    ///
    /// It also checks that there are at most [`MAX_STAGES`] stages, nested no deeper than [`MAX_STAGE_DEPTH`]. [`Spec::parse`] has done
    /// all that.
    ///
    /// # Errors
    /// The first fault that it finds, without a position.
    pub fn check(&self) -> Result<(), SpecError> {
        self.find_fault()
            .map_or(Ok(()), |fault| Err(fault.error(None)))
    }

    pub(crate) fn find_fault(&self) -> Option<Fault> {
        Scope::default().check(self, 0).err()
    }
}

/// Something that cannot be built.
pub(crate) struct Fault {
    /// Its place: the index of an item of the spec's list, then of one in that stage's list, and so on, innermost first.
    path: Vec<usize>,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(message: String) -> Self {
        Self {
            path: Vec::new(),
            message,
            hint: None,
        }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    fn within(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }

    /// As an error at the item of the list which the spec was read from.
    pub(crate) fn locate(self, sexp: &Sexp) -> SpecError {
        let mut spec = Some(sexp);
        let mut item = sexp;
        for &index in self.path.iter().rev() {
            item = spec
                .and_then(Sexp::as_list)
                .and_then(|items| items.get(index))
                .unwrap_or(item);
            // A stage is a `(build NAME SPEC)`.
            spec = item.as_list().and_then(|items| items.get(2));
        }
        self.error(Some(item))
    }

    fn error(self, item: Option<&Sexp>) -> SpecError {
        let error = SpecError::new(item.and_then(Sexp::position), self.message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What a place in a spec can see.
#[derive(Default)]
struct Scope<'a> {
    /// How often each name of a stage can be seen: a stage may hide another of the same name further out.
    names: BTreeMap<&'a BStr, usize>,
    /// How many stages there were so far, seen or not.
    stages: usize,
}

impl<'a> Scope<'a> {
    fn check(&mut self, spec: &'a Spec, level: usize) -> Result<(), Fault> {
        if level > MAX_STAGE_DEPTH {
            return Err(Fault::new(TOO_DEEP.to_owned())
                .hint(&format!("at most {MAX_STAGE_DEPTH} levels can be built")));
        }
        let mut own = BTreeSet::new();
        for (index, (name, stage)) in spec.stages.iter().enumerate() {
            self.stages += 1;
            if self.stages > MAX_STAGES {
                return Err(Fault::new("too many builds in one spec".to_owned())
                    .hint(&format!(
                        "expected at most {MAX_STAGES}, those within builds included"
                    ))
                    .within(index));
            }
            if !own.insert(name.as_bstr()) {
                let name = quoted(name);
                return Err(Fault::new(format!("there are two builds {name}"))
                    .hint("expected a name that is not taken")
                    .within(index));
            }
            no_nul(&Sexp::atom(name.clone())).map_err(|fault| fault.within(index))?;
            self.check(stage, level + 1)
                .map_err(|fault| fault.within(index))?;
            *self.names.entry(name.as_bstr()).or_default() += 1;
        }
        let from = spec.stages.len();
        if spec.from.is_empty() {
            return Err(Fault::new("the base image has no name".to_owned())
                .hint("expected (from NAME)")
                .within(from));
        }
        no_nul(&Sexp::atom(spec.from.clone())).map_err(|fault| fault.within(from))?;
        for (index, op) in spec.ops.iter().enumerate() {
            self.check_op(op)
                .map_err(|fault| fault.within(from + 1 + index))?;
        }
        for name in own {
            if let Some(count) = self.names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(name);
                }
            }
        }
        Ok(())
    }

    fn check_op(&self, op: &Op) -> Result<(), Fault> {
        no_nul(&op.to_sexp())?;
        match op {
            Op::Env { name, .. } => check_variable(name),
            Op::Run(run) => check_targets(run),
            Op::Copy(copy) => match &copy.from {
                CopySource::Stage(name) if !self.names.contains_key(name.as_bstr()) => {
                    Err(self.unknown_stage(name, op))
                }
                CopySource::Stage(_) | CopySource::Context => Ok(()),
            },
            Op::Comment(_) | Op::Workdir(_) | Op::Shell(_) | Op::User(_) => Ok(()),
        }
    }

    fn unknown_stage(&self, name: &[u8], op: &Op) -> Fault {
        let name = quoted(name);
        let mut message = format!("Unknown build {name} in {}.", op.to_sexp().quote());
        let mut names: Vec<_> = self
            .names
            .keys()
            .take(MAX_SUGGESTIONS)
            .copied()
            .map(quoted)
            .collect();
        let last = names.pop();
        if let Some(last) = last {
            message.push_str("\nDid you mean ");
            message.push_str(&match names.as_slice() {
                [] => last,
                [first] => format!("either {first} or {last}"),
                [..] => format!("one of {} or {last}", names.join(", ")),
            });
            message.push_str(" ?");
        }
        Fault::new(message)
    }
}

/// A name in quotes, bounded.
fn quoted(name: impl AsRef<[u8]>) -> String {
    let text = atom::quoted(name.as_ref());
    match text.get(..MAX_NAME) {
        Some(start) if text.len() > MAX_NAME => format!("{}\u{2026}\"", start.as_bstr()),
        _ => text.to_string(),
    }
}

fn no_nul(sexp: &Sexp) -> Result<(), Fault> {
    if sexp.any_atom(|bytes| bytes.contains(&0)) {
        let culprit = sexp.quote();
        return Err(Fault::new(format!("NUL byte in {culprit}"))
            .hint("expected atoms without it, as programs cannot be given any"));
    }
    Ok(())
}

fn check_variable(name: &[u8]) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(
            Fault::new("a variable has an empty name".to_owned()).hint("expected (env NAME VALUE)")
        );
    }
    if name.contains(&b'=') {
        let name = quoted(name);
        return Err(
            Fault::new(format!("the name of variable {name} contains '='"))
                .hint("expected (env NAME VALUE)"),
        );
    }
    Ok(())
}

fn check_targets(run: &Run) -> Result<(), Fault> {
    let caches = run
        .caches
        .iter()
        .map(|cache| ("cache", &cache.id, &cache.target));
    let secrets = run
        .secrets
        .iter()
        .map(|secret| ("secret", &secret.id, &secret.target));
    for (what, id, target) in caches.chain(secrets) {
        if !is_absolute(target) {
            let (id, target) = (quoted(id), quoted(target));
            return Err(Fault::new(format!(
                "the target {target} of {what} {id} is not absolute"
            ))
            .hint("expected a path that starts with '/', or with a drive like C:/"));
        }
    }
    Ok(())
}

fn is_absolute(path: &[u8]) -> bool {
    match path {
        [b'/', ..] => true,
        [drive, b':', b'/' | b'\\', ..] => drive.is_ascii_alphabetic(),
        _ => false,
    }
}
