//! What OBuilder itself answers, in `golden.txt`: every line of it is checked here, and none may be skipped.
//!
//! The answers tell their inputs, or are s-expressions which hold them; only the Dockerfile at the end needs an input of ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use bstr::{BString, ByteSlice as _};
use ocluster_obuilder_spec::{
    CopyKey, DockerfileOptions, Escape, Manifest, Op, RunKey, Sexp, Spec, SpecError, StepId, User,
    heading,
};
use support::lines::{Lines, unescape};

/// How many entries of each kind there are, so that one which is not recognised as such is missed.
const ENTRIES: &[(&str, usize)] = &[
    ("atom", 51),
    ("copy width", 20),
    ("dockerfile", 1),
    ("environment", 2),
    ("exn", 21),
    ("heading", 31),
    ("human form", 8),
    ("id", 7),
    ("parse", 34),
    ("spec", 15),
    ("spec failure", 17),
];

#[test]
fn every_answer_is_obuilders() {
    let mut lines = Lines::new(include_bytes!("golden.txt"));
    let mut counts = BTreeMap::<&str, usize>::new();
    while let Some(line) = lines.next() {
        let kind = if line.is_empty() || line.starts_with(b"# ") {
            continue;
        } else if let Some(hex) = line.strip_prefix(b"busybox id ") {
            assert_eq!(StepId::of_base(b"busybox").to_string().as_bytes(), hex);
            "id"
        } else if let Some(text) = line.strip_prefix(b"RUN ") {
            check_run_id(text, lines.next().unwrap());
            "id"
        } else if let Some(text) = line.strip_prefix(b"COPY ") {
            check_copy_id(text, lines.next().unwrap());
            "id"
        } else if let Some(first) = line.strip_prefix(b"ENV ") {
            let text = lines.rest_of_sexp(first);
            assert_eq!(Sexp::parse(&text).unwrap().to_hum(), text);
            "environment"
        } else if let Some(input) = line.strip_prefix(b"----") {
            check_spec(&unescape(input.trim_start()), &mut lines)
        } else if let Some((input, output)) = line.split_once_str("\t=>\t") {
            let atom = Sexp::atom(unescape(input));
            assert_eq!(atom.to_mach(), output);
            assert_eq!(Sexp::parse(output).unwrap(), atom);
            "atom"
        } else if let Some(input) = line.strip_prefix(b"HUM ") {
            let expected =
                lines.until(|line| line.starts_with(b"HUM ") || line.starts_with(b"PARSE "));
            let atom = Sexp::atom(unescape(input));
            assert_eq!(atom.to_hum(), expected);
            assert_eq!(Sexp::parse(&expected).unwrap(), atom);
            "human form"
        } else if let Some(line) = line.strip_prefix(b"PARSE ") {
            let (input, output) = line.split_once_str(" => ").unwrap();
            check_parse(&unescape(input), output, &mut lines);
            "parse"
        } else if let Some(figures) = line.strip_prefix(b"copy n=") {
            check_copy_width(figures.to_str().unwrap());
            "copy width"
        } else if let Some(length) = line.strip_prefix(b"wd len ") {
            let length: usize = length
                .trim_end_with(|c| c == ':')
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(lines.peek().unwrap().find_byte(b':'), Some(length + 1));
            continue;
        } else if line.starts_with(b"/") {
            check_heading(&lines.rest_of_heading(line));
            "heading"
        } else if line.starts_with(b"FROM ") {
            check_dockerfile(line, &mut lines);
            "dockerfile"
        } else {
            panic!("no test for the line {:?}", line.as_bstr());
        };
        *counts.entry(kind).or_default() += 1;
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), ENTRIES);
}

/// The value of a `(name value)` in a list.
fn field<'a>(sexp: &'a Sexp, name: &str) -> &'a Sexp {
    let named = |item: &&Sexp| item.as_list().unwrap()[0].as_atom().unwrap() == name;
    &sexp
        .as_list()
        .unwrap()
        .iter()
        .find(named)
        .unwrap()
        .as_list()
        .unwrap()[1]
}

fn bytes(sexp: &Sexp) -> BString {
    sexp.as_atom().unwrap().to_owned()
}

fn strings(sexp: &Sexp) -> Vec<BString> {
    sexp.as_list().unwrap().iter().map(bytes).collect()
}

fn number(sexp: &Sexp) -> i64 {
    bytes(sexp).to_str().unwrap().parse().unwrap()
}

fn user(sexp: &Sexp) -> User {
    let fields = sexp.as_list().unwrap();
    if fields.len() == 1 {
        User::Named(bytes(field(sexp, "name")))
    } else {
        User::Unix {
            uid: number(field(sexp, "uid")),
            gid: number(field(sexp, "gid")),
        }
    }
}

fn base(sexp: &Sexp) -> StepId {
    field(sexp, "base")
        .as_atom()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn check_run_id(text: &[u8], answer: &[u8]) {
    let key = Sexp::parse(text).unwrap();
    let pairs = |sexp: &Sexp| -> Vec<_> {
        let items = sexp.as_list().unwrap().iter().map(strings);
        items
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    };
    let secrets: Vec<_> = field(&key, "mount_secrets")
        .as_list()
        .unwrap()
        .iter()
        .map(|secret| {
            (
                bytes(field(secret, "value")),
                bytes(field(secret, "target")),
            )
        })
        .collect();
    let id = RunKey {
        base: base(&key),
        workdir: &bytes(field(&key, "workdir")),
        user: &user(field(&key, "user")),
        env: &pairs(field(&key, "env")),
        command: &bytes(field(&key, "cmd")),
        shell: &strings(field(&key, "shell")),
        network: &strings(field(&key, "network")),
        secrets: &secrets,
    }
    .id();
    assert_eq!(format!(" => {id}"), answer.to_str().unwrap(), "{key}");
}

fn manifest(sexp: &Sexp) -> Manifest {
    let [kind, fields] = sexp.as_list().unwrap() else {
        panic!("{sexp} is no manifest");
    };
    let fields = fields.as_list().unwrap();
    let path = bytes(&fields[0]);
    match bytes(kind).as_slice() {
        b"File" => Manifest::File {
            path,
            sha256: *bytes(&fields[1])
                .to_str()
                .unwrap()
                .parse::<StepId>()
                .unwrap()
                .as_bytes(),
            executable: false,
        },
        b"Symlink" => Manifest::Symlink {
            path,
            target: bytes(&fields[1]),
        },
        b"Dir" => Manifest::Dir {
            path,
            entries: fields[1].as_list().unwrap().iter().map(manifest).collect(),
        },
        _ => panic!("{sexp} is no manifest"),
    }
}

fn check_copy_id(text: &[u8], answer: &[u8]) {
    let key = Sexp::parse(text).unwrap();
    let op = field(&key, "op").as_list().unwrap();
    let into_directory = op[0].as_atom().unwrap() == "Copy_items";
    let [items, dst] = op[1].as_list().unwrap() else {
        panic!("{key} has no items and destination");
    };
    let items = if into_directory {
        items.as_list().unwrap().iter().map(manifest).collect()
    } else {
        vec![manifest(items)]
    };
    let id = CopyKey {
        base: base(&key),
        user: &user(field(&key, "user")),
        items: &items,
        dst: &bytes(dst),
        into_directory,
    }
    .id();
    assert_eq!(format!(" => {id}"), answer.to_str().unwrap(), "{key}");
}

fn check_spec(input: &[u8], lines: &mut Lines<'_>) -> &'static str {
    let next_entry = |line: &[u8]| line.starts_with(b"----") || line.starts_with(b"# 2");
    let first = lines.next().unwrap();
    if let Some(first) = first.strip_prefix(b"Failure: ") {
        check_failure(
            &Spec::parse(input).unwrap_err(),
            &lines.with_more(first, next_entry),
        );
        return "spec failure";
    }
    if let Some(first) = first.strip_prefix(b"exn: ") {
        let exception = lines.rest_of_sexp(first);
        check_exception(&Spec::parse(input).unwrap_err(), &exception);
        return "exn";
    }
    let spec = Spec::parse(input).unwrap();
    assert_eq!(spec.to_mach(), first.strip_prefix(b"mach: ").unwrap());
    assert_eq!(Spec::parse(&spec.to_mach()).unwrap(), spec);

    let starts = |line: &[u8]| line.starts_with(b"heading: ") || line.starts_with(b"docker(");
    let pretty = lines.next().unwrap().strip_prefix(b"pp: ").unwrap();
    let pretty = lines.with_more(pretty, starts);
    assert_eq!(spec.pretty(), [pretty.as_slice(), b"\n"].concat());
    assert_eq!(Spec::parse(&spec.pretty()).unwrap(), spec);

    for op in &spec.ops {
        let expected = lines.next().unwrap().strip_prefix(b"heading: ").unwrap();
        assert_eq!(heading(b"/", op), lines.with_more(expected, starts));
    }
    for (title, buildkit, escape) in [
        ("docker(bk=false):", false, Escape::Unix),
        ("docker(bk=true):", true, Escape::Unix),
        ("docker(bk=false):", false, Escape::Windows),
    ] {
        assert_eq!(lines.next().unwrap(), title.as_bytes());
        let mut expected = lines.until(|line| starts(line) || next_entry(line));
        // The last answer of the section has the empty line after it.
        if !expected.ends_with(b"\n") {
            expected.push(b'\n');
        }
        let options = DockerfileOptions { buildkit, escape };
        assert_eq!(spec.to_dockerfile(&options), expected);
    }
    "spec"
}

/// Of the reader's messages, the states of its machine are left out.
fn check_failure(error: &SpecError, expected: &[u8]) {
    let expected = expected
        .strip_prefix(b"Sexplib.Sexp.of_string: ")
        .unwrap_or(expected);
    let end = ["; ", " while in state ", " at position "]
        .iter()
        .filter_map(|end| expected.find(end))
        .min();
    assert_eq!(
        error.message().as_bytes(),
        &expected[..end.unwrap_or(expected.len())]
    );
    assert!(error.position().is_some(), "{error}");
}

/// Of messages about types, the name of the function is left out. Columns are counted from 0 there.
fn check_exception(error: &SpecError, exception: &[u8]) {
    let exception = Sexp::parse(exception).unwrap();
    let parts = exception.as_list().unwrap();
    if parts[0].as_atom().unwrap() == "Of_sexp_error" {
        let message = bytes(&parts[1]).to_string();
        let message = match message.split_once("_of_sexp: ") {
            Some((function, message)) if function.starts_with("spec/") => message,
            _ => &message,
        };
        assert_eq!(error.message(), message, "{exception}");
        assert!(error.position().is_some(), "{error}");
    } else {
        assert_eq!(
            error.message(),
            bytes(field(&parts[1], "err_msg")),
            "{exception}"
        );
        let place = |name| usize::try_from(number(field(&parts[1], name))).unwrap();
        assert_eq!(
            error.position(),
            Some((place("text_line"), place("text_char") + 1)),
            "{exception}"
        );
    }
}

fn check_parse(input: &[u8], output: &[u8], lines: &mut Lines<'_>) {
    if let Some(failure) = output.strip_prefix(b"Failure ") {
        check_failure(&Sexp::parse(input).unwrap_err(), failure);
    } else if output.starts_with(b"(Sexplib.Sexp.Parse_error") {
        let exception = lines.rest_of_sexp(output);
        check_exception(&Sexp::parse(input).unwrap_err(), &exception);
    } else {
        assert_eq!(Sexp::parse(input).unwrap().to_mach(), output);
    }
}

fn op_of(text: &[u8]) -> Op {
    let spec = [b"((from x) ".as_slice(), text, b")"].concat();
    Spec::parse(&spec).unwrap().ops.pop().unwrap()
}

fn check_heading(expected: &[u8]) {
    let (workdir, op) = expected.split_once_str(": ").unwrap();
    assert_eq!(heading(workdir, &op_of(op)), expected);
}

/// The heading of a copy of a file with a name of `n` bytes.
fn check_copy_width(figures: &str) {
    let mut figures = figures.split(' ').map(|figure| {
        let (_, figure) = figure.rsplit_once('=').unwrap_or(("", figure));
        figure.parse::<usize>().unwrap()
    });
    let op = format!(
        "(copy (src {}) (dst /b))",
        "a".repeat(figures.next().unwrap())
    );
    let text = heading(b"/", &op_of(op.as_bytes()));
    assert_eq!(text.lines().count(), figures.next().unwrap());
    assert_eq!(text.len(), figures.next().unwrap());
    if let Some(first) = figures.next() {
        assert_eq!(text.lines().next().unwrap().len(), first);
    }
}

fn check_dockerfile(first: &[u8], lines: &mut Lines<'_>) {
    let spec = Spec::parse(
        br#"((from x) (user (uid 5) (gid 6))
            (run (secrets (s (target /run/secrets/s))) (network host)
                 (cache (c (target /t) (buildkit_options ((sharing locked)))))
                 (shell "echo \"hi\"\n\ttab\n\nend\n"))
            (comment "a\nb") (copy (src a b) (dst d/) (exclude e)) (shell "a\"b" c) (env K "a$b`c\\d"))"#,
    )
    .unwrap();
    let options = DockerfileOptions {
        buildkit: true,
        escape: Escape::Unix,
    };
    let mut expected = lines.with_more(first, |_| false);
    expected.push(b'\n');
    assert_eq!(spec.to_dockerfile(&options), expected);
}
