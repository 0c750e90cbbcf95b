//! What must hold for any bytes at all. Fuzzers call these, and so do plain tests; nothing else may.
//!
//! Each function panics when something does not hold.

use bstr::{BString, ByteSlice as _};
use sha2::{Digest as _, Sha256};

use crate::{
    DockerfileOptions, Escape, MAX_TEXT, RunKey, Sexp, Spec, StepId, User, build_heading,
    from_heading, heading,
};

/// The most that an error may say.
const MAX_ERROR: usize = 4096;

/// Reading gives a spec or a bounded error with a position inside the text; whatever was read can be shown.
pub fn parse(data: &[u8]) {
    match Spec::parse(data) {
        Ok(spec) => show(&spec),
        Err(error) => {
            assert!(error.to_string().len() <= MAX_ERROR, "{error}");
            match error.position() {
                Some((line, column)) => {
                    let width = data.split_str("\n").nth(line - 1).map(<[u8]>::len);
                    assert!(width.is_some_and(|width| column <= width + 1), "{error}");
                }
                None => assert!(data.len() > MAX_TEXT, "no position in {error}"),
            }
        }
    }
}

fn show(spec: &Spec) {
    for escape in [Escape::Unix, Escape::Windows] {
        for buildkit in [false, true] {
            assert!(
                !spec
                    .to_dockerfile(&DockerfileOptions { buildkit, escape })
                    .is_empty()
            );
        }
    }
    for (name, stage) in &spec.stages {
        assert!(build_heading(name).ends_with_str(")"));
        show(stage);
    }
    assert!(from_heading(&spec.from).starts_with_str("(from "));
    for op in &spec.ops {
        for workdir in ["/", &"w".repeat(60), &"w".repeat(70)] {
            let heading = heading(workdir.as_bytes(), op);
            let shown = heading
                .split_once_str(": ")
                .map(|(_, shown)| Sexp::parse(shown));
            assert_eq!(shown, Some(Ok(op.to_sexp())), "{heading}");
        }
    }
}

/// Printing what was read, in any form, and reading that gives the same again.
pub fn roundtrip(data: &[u8]) {
    let atom = Sexp::atom(data);
    assert_reads_as(&atom.to_mach(), &atom);
    assert_reads_as(&atom.to_hum(), &atom);
    if let Ok(sexp) = Sexp::parse(data) {
        assert_reads_as(&sexp.to_mach(), &sexp);
        assert_reads_as(&sexp.to_hum(), &sexp);
    }
    if let Ok(spec) = Spec::parse(data) {
        assert_eq!(spec.check(), Ok(()));
        for text in [spec.to_mach(), spec.pretty()] {
            if text.len() <= MAX_TEXT {
                assert_eq!(Spec::parse(&text), Ok(spec.clone()), "{text}");
            }
        }
    }
}

fn assert_reads_as(text: &BString, sexp: &Sexp) {
    if text.len() <= MAX_TEXT {
        assert_eq!(Sexp::parse(text).as_ref(), Ok(sexp), "{text}");
    }
}

/// The id of a step is the hash of the s-expression that describes it, and differs if the step does.
pub fn ids(data: &[u8]) {
    // Fields end at a byte that is rare in texts.
    let fields: Vec<BString> = data.split_str(b"\xff").map(BString::from).collect();
    let field = |index: usize| fields.get(index).cloned().unwrap_or_default();
    let pairs = |fields: &[BString]| -> Vec<(BString, BString)> {
        fields
            .iter()
            .cloned()
            .zip(fields.iter().rev().cloned())
            .collect()
    };
    let (lists, env) = fields.split_at(fields.len() / 2);
    let number = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let user = match fields.len() % 3 {
        0 => User::Named(field(2)),
        _ => User::Unix {
            uid: number,
            gid: -number,
        },
    };
    let (env, secrets) = (pairs(env), pairs(lists));
    let key = RunKey {
        base: StepId::of_base(&field(0)),
        workdir: &field(1),
        user: &user,
        env: &env,
        command: &field(0),
        shell: lists,
        network: &fields,
        secrets: &secrets,
    };
    let id = key.id();
    assert_eq!(
        id.as_bytes().as_slice(),
        Sha256::digest(description(&key)).as_slice()
    );
    assert_eq!(id.to_string().parse(), Ok(id));
    let more = [key.shell, &[BString::default()]].concat();
    let longer = BString::from([key.command.as_slice(), b" "].concat());
    for changed in [
        RunKey {
            base: id,
            ..key.clone()
        },
        RunKey {
            workdir: &longer,
            command: key.workdir,
            ..key.clone()
        },
        RunKey {
            command: &longer,
            ..key.clone()
        },
        RunKey {
            shell: &more,
            ..key.clone()
        },
        RunKey {
            network: &more,
            shell: key.network,
            ..key.clone()
        },
    ] {
        assert_eq!(changed.id() == id, same(&changed, &key));
    }
}

fn same(one: &RunKey<'_>, other: &RunKey<'_>) -> bool {
    let context = one.base == other.base && one.workdir == other.workdir && one.user == other.user;
    let command = one.command == other.command && one.shell == other.shell && one.env == other.env;
    context && command && one.network == other.network && one.secrets == other.secrets
}

/// The description of a step, by way of an s-expression.
fn description(key: &RunKey<'_>) -> BString {
    let list = |name: &str, item: Sexp| Sexp::list(vec![Sexp::atom(name), item]);
    let word = |name: &str, atom: &BString| list(name, Sexp::atom(atom.clone()));
    let words = |name: &str, atoms: &[BString]| {
        list(
            name,
            Sexp::list(atoms.iter().cloned().map(Sexp::atom).collect()),
        )
    };
    let user = match key.user {
        User::Unix { uid, gid } => vec![
            word("uid", &uid.to_string().into()),
            word("gid", &gid.to_string().into()),
        ],
        User::Named(name) => vec![word("name", name)],
    };
    let env = key
        .env
        .iter()
        .map(|(name, value)| Sexp::list(vec![Sexp::atom(name.clone()), Sexp::atom(value.clone())]));
    let secrets = key
        .secrets
        .iter()
        .map(|(value, target)| Sexp::list(vec![word("value", value), word("target", target)]));
    Sexp::list(vec![
        word("base", &key.base.to_string().into()),
        word("workdir", key.workdir),
        list("user", Sexp::list(user)),
        list("env", Sexp::list(env.collect())),
        word("cmd", key.command),
        words("shell", key.shell),
        words("network", key.network),
        list("mount_secrets", Sexp::list(secrets.collect())),
    ])
    .to_mach()
}
