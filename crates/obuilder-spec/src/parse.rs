//! From s-expressions to what they mean. The messages are OBuilder's where it has any; the hints beside them are ours.

use bstr::{BString, ByteSlice as _};

use crate::check::{MAX_STAGE_DEPTH, TOO_DEEP};
use crate::error::SpecError;
use crate::fields::{Fields, Kind};
use crate::sexp::{Sexp, Value};
use crate::{Cache, Copy, CopySource, Op, Run, Secret, Spec, User};

const SPEC: &str = "expected ((build NAME SPEC)... (from BASE) OPERATION...)";
const OPERATIONS: &str = "expected comment, workdir, shell, env, user, run or copy";

impl Spec {
    /// Reads a spec, and checks it as [`Spec::check`] does.
    ///
    /// # Errors
    /// If the text is no spec, or one that cannot be built. The error says where and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, SpecError> {
        let sexp = Sexp::parse(text)?;
        let spec = spec(&sexp, 0)?;
        spec.find_fault()
            .map_or(Ok(spec), |fault| Err(fault.locate(&sexp)))
    }
}

fn error(sexp: &Sexp, message: impl Into<String>) -> SpecError {
    SpecError::new(sexp.position(), message)
}

/// Recurses once for each level of stages.
fn spec(sexp: &Sexp, level: usize) -> Result<Spec, SpecError> {
    if level > MAX_STAGE_DEPTH {
        return Err(
            error(sexp, TOO_DEEP).hint(format!("at most {MAX_STAGE_DEPTH} levels are read"))
        );
    }
    let Some(items) = sexp.as_list() else {
        return Err(error(sexp, format!("Invalid spec: {}", sexp.quote())).hint(SPEC));
    };
    let mut stages = Vec::new();
    let mut items = items.iter();
    for item in items.by_ref() {
        let invalid = || error(item, format!("Invalid spec item: {}", item.quote())).hint(SPEC);
        match item.as_list().ok_or_else(invalid)? {
            [keyword, name, child] if is(keyword, b"build") => {
                let name = name.as_atom().ok_or_else(invalid)?;
                stages.push((name.to_owned(), spec(child, level + 1)?));
            }
            [keyword, name] if is(keyword, b"from") => {
                return Ok(Spec {
                    stages,
                    from: name.as_atom().ok_or_else(invalid)?.to_owned(),
                    ops: items.map(op).collect::<Result<_, _>>()?,
                });
            }
            _ => return Err(invalid()),
        }
    }
    Err(error(sexp, "Invalid spec: missing (from)").hint(SPEC))
}

fn is(sexp: &Sexp, keyword: &[u8]) -> bool {
    sexp.as_atom().is_some_and(|atom| atom == keyword)
}

fn op(sexp: &Sexp) -> Result<Op, SpecError> {
    let invalid = || error(sexp, format!("Invalid op: {}", sexp.quote()));
    let Some([keyword, arguments @ ..]) = sexp.as_list() else {
        return Err(invalid().hint("expected (OPERATION ARGUMENT...)"));
    };
    let Some(keyword) = keyword.as_atom() else {
        return Err(invalid().hint(OPERATIONS));
    };
    Ok(match keyword.as_bytes() {
        b"comment" => Op::Comment(only_argument(sexp, "Comment", arguments)?),
        b"workdir" => Op::Workdir(only_argument(sexp, "Workdir", arguments)?),
        b"shell" => Op::Shell(atoms(arguments)?),
        b"env" => {
            let (name, value) = pair(sexp, arguments, "expected (env NAME VALUE)")?;
            Op::Env { name, value }
        }
        b"user" => Op::User(user(sexp, arguments)?),
        b"run" => Op::Run(run(sexp, arguments)?),
        b"copy" => Op::Copy(copy(sexp, arguments)?),
        b"Run" | b"Copy" => {
            return Err(Fields::only_pairs(sexp)
                .blaming(sexp)
                .hint("operations are written in lower case"));
        }
        b"build" => {
            return Err(error(sexp, "no matching variant found")
                .blaming(sexp)
                .hint("stages come before (from ...)"));
        }
        _ => {
            return Err(error(sexp, "no matching variant found")
                .blaming(sexp)
                .hint(OPERATIONS));
        }
    })
}

fn only_argument(sexp: &Sexp, tag: &str, arguments: &[Sexp]) -> Result<BString, SpecError> {
    match arguments {
        [argument] => atom(argument),
        _ => Err(error(
            sexp,
            format!("polymorphic variant tag \"{tag}\" has incorrect number of arguments"),
        )
        .blaming(sexp)
        .hint("expected one argument; an argument with spaces needs quotes")),
    }
}

fn atom(sexp: &Sexp) -> Result<BString, SpecError> {
    match sexp.value() {
        Value::Atom(bytes) => Ok(bytes.clone()),
        Value::List(_) => Err(error(sexp, "string_of_sexp: atom needed")
            .blaming(sexp)
            .hint("expected an atom, got a list")),
    }
}

fn atoms(sexps: &[Sexp]) -> Result<Vec<BString>, SpecError> {
    sexps.iter().map(atom).collect()
}

fn pair(sexp: &Sexp, items: &[Sexp], hint: &str) -> Result<(BString, BString), SpecError> {
    match items {
        [first, second] => Ok((atom(first)?, atom(second)?)),
        _ => Err(error(sexp, "tuple of size 2 expected")
            .blaming(sexp)
            .hint(hint)),
    }
}

/// The order of `uid` and `gid` matters, as in OBuilder.
fn user(sexp: &Sexp, arguments: &[Sexp]) -> Result<User, SpecError> {
    let named = |field: &'_ Sexp, name: &[u8]| match field.as_list() {
        Some([keyword, _]) => is(keyword, name),
        _ => false,
    };
    match arguments {
        [name] if named(name, b"name") => Ok(User::Named(atom(value_of(name))?)),
        [uid, gid] if named(uid, b"uid") && named(gid, b"gid") => Ok(User::Unix {
            uid: integer(value_of(uid))?,
            gid: integer(value_of(gid))?,
        }),
        _ => {
            let arguments = Sexp::quote_list(arguments);
            Err(error(sexp, format!("Invalid op: {arguments}"))
                .blaming(sexp)
                .hint("expected (user (uid NUMBER) (gid NUMBER)) or (user (name NAME))"))
        }
    }
}

/// The value of a `(name value)`.
fn value_of(field: &Sexp) -> &Sexp {
    match field.as_list() {
        Some([_, value]) => value,
        _ => field,
    }
}

/// OCaml's syntax of integers: a sign, a prefix for the base, and `_` between digits.
fn integer(sexp: &Sexp) -> Result<i64, SpecError> {
    let Value::Atom(bytes) = sexp.value() else {
        return Err(error(sexp, "int_of_sexp: atom needed")
            .blaming(sexp)
            .hint("expected a number"));
    };
    parse_integer(bytes).ok_or_else(|| {
        error(sexp, "int_of_sexp: (Failure int_of_string)")
            .blaming(sexp)
            .hint("expected a number")
    })
}

fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let (negative, unsigned) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (base, digits) = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        [b'0', b'u' | b'U', rest @ ..] => (10, rest),
        rest => (10, rest),
    };
    if digits.first().is_none_or(|&byte| byte == b'_') {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits.iter().filter(|&&byte| byte != b'_') {
        let digit = i64::from(char::from(*digit).to_digit(base)?);
        let digit = if negative { -digit } else { digit };
        value = value.checked_mul(i64::from(base))?.checked_add(digit)?;
    }
    Some(value)
}

fn run(sexp: &Sexp, arguments: &[Sexp]) -> Result<Run, SpecError> {
    const FIELDS: &[(&str, Kind)] = &[
        ("cache", Kind::Many),
        ("network", Kind::Many),
        ("secrets", Kind::Many),
        ("shell", Kind::One),
    ];
    let fields = Fields::read(sexp, arguments, FIELDS)?;
    let shell = fields.required("shell")?;
    let caches = fields.many("cache").iter().map(|sexp| {
        let (id, target, buildkit_options) = mount(sexp, "cache")?;
        Ok(Cache {
            id,
            target,
            buildkit_options,
        })
    });
    let secrets = fields.many("secrets").iter().map(|sexp| {
        let (id, target, buildkit_options) = mount(sexp, "secret")?;
        Ok(Secret {
            id,
            target,
            buildkit_options,
        })
    });
    Ok(Run {
        caches: caches.collect::<Result<_, SpecError>>()?,
        network: atoms(fields.many("network"))?,
        secrets: secrets.collect::<Result<_, SpecError>>()?,
        shell: atom(shell)?,
    })
}

type Options = Vec<(BString, BString)>;

/// A cache or a secret: its id, its target, and its options.
fn mount(sexp: &Sexp, what: &str) -> Result<(BString, BString, Options), SpecError> {
    const FIELDS: &[(&str, Kind)] = &[("target", Kind::One), ("buildkit_options", Kind::One)];
    let invalid = || {
        error(sexp, format!("Invalid {what}: {}", sexp.quote()))
            .hint(format!("expected a {what} as (ID (target PATH))"))
    };
    let Some([id, arguments @ ..]) = sexp.as_list() else {
        return Err(invalid());
    };
    let id = id.as_atom().ok_or_else(invalid)?.to_owned();
    let fields = Fields::read(sexp, arguments, FIELDS)?;
    let target = fields.required("target")?;
    let options = fields.one("buildkit_options").map(options).transpose()?;
    Ok((id, atom(target)?, options.unwrap_or_default()))
}

fn options(sexp: &Sexp) -> Result<Options, SpecError> {
    const HINT: &str = "expected (buildkit_options ((KEY VALUE)...))";
    let needed = |sexp: &Sexp, message: &str| error(sexp, message).blaming(sexp).hint(HINT);
    let items = sexp
        .as_list()
        .ok_or_else(|| needed(sexp, "list_of_sexp: list needed"))?;
    let option = |item: &Sexp| {
        let fields = item
            .as_list()
            .ok_or_else(|| needed(item, "tuple of size 2 expected"))?;
        pair(item, fields, HINT)
    };
    items.iter().map(option).collect()
}

fn copy(sexp: &Sexp, arguments: &[Sexp]) -> Result<Copy, SpecError> {
    const FIELDS: &[(&str, Kind)] = &[
        ("from", Kind::One),
        ("src", Kind::Many),
        ("dst", Kind::One),
        ("exclude", Kind::Many),
    ];
    let fields = Fields::read(sexp, arguments, FIELDS)?;
    let from = fields.one("from").map(source).transpose()?;
    fields.require(&["src", "dst"])?;
    let dst = fields.required("dst")?;
    Ok(Copy {
        from: from.unwrap_or_default(),
        src: atoms(fields.many("src"))?,
        dst: atom(dst)?,
        exclude: atoms(fields.many("exclude"))?,
    })
}

fn source(sexp: &Sexp) -> Result<CopySource, SpecError> {
    match sexp.value() {
        Value::Atom(word) if word == "context" => return Ok(CopySource::Context),
        Value::List(items) => {
            if let [keyword, name] = items.as_slice()
                && is(keyword, b"build")
                && let Some(name) = name.as_atom()
            {
                return Ok(CopySource::Stage(name.to_owned()));
            }
        }
        Value::Atom(_) => {}
    }
    Err(
        error(sexp, format!("Invalid data source: {}", sexp.quote()))
            .hint("expected (from context) or (from (build NAME))"),
    )
}
