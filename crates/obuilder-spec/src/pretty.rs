//! Specs and operations for people: as OBuilder's log headings show them.

use std::slice;

use bstr::{BString, ByteSlice as _};

use crate::boxes::{Boxes, Layout};
use crate::sexp::{Sexp, Visit, atom, walk};
use crate::{Op, Spec};

impl Spec {
    /// On several lines, the last of which ends, too. It reads back as the same spec.
    #[must_use]
    pub fn pretty(&self) -> BString {
        let sexp = self.to_sexp();
        let mut boxes = Boxes::default();
        boxes
            .open(Layout::Vertical, 0)
            .open(Layout::Vertical, 0)
            .text("(")
            .open(Layout::Vertical, 0);
        for (index, item) in sexp.as_list().unwrap_or_default().iter().enumerate() {
            if index > 0 {
                boxes.cut();
            }
            operation(&mut boxes, item);
        }
        boxes.close().close().cut().text(")").close();
        let mut text = boxes.finish();
        text.push(b'\n');
        text
    }
}

impl Sexp {
    /// As sexplib lays it out for people: as much on each line as fits.
    #[must_use]
    pub fn to_hum(&self) -> BString {
        let mut boxes = Boxes::default();
        items(&mut boxes, self, true);
        boxes.finish()
    }
}

/// The heading of an operation in a log: `/src: (workdir build)`.
#[must_use]
pub fn heading(workdir: &[u8], op: &Op) -> BString {
    let mut boxes = Boxes::default();
    boxes.open(Layout::Vertical, 2).text(workdir).text(": ");
    operation(&mut boxes, &op.to_sexp());
    boxes.close();
    boxes.finish()
}

/// The heading of the base image in a log: `(from busybox)`.
#[must_use]
pub fn from_heading(name: &[u8]) -> BString {
    let mut boxes = Boxes::default();
    boxes.text("(from ");
    write_atom(&mut boxes, name);
    boxes.text(")");
    boxes.finish()
}

/// The heading of a stage in a log: `(build "NAME" …)`.
#[must_use]
pub fn build_heading(name: &[u8]) -> BString {
    let mut text = BString::from("(build ");
    text.extend_from_slice(&atom::quoted(name));
    text.extend_from_slice(" \u{2026})".as_bytes());
    text
}

/// An item of a spec. It recurses once for each level of stages.
fn operation(boxes: &mut Boxes, sexp: &Sexp) {
    let Some([keyword, arguments @ ..]) = sexp.as_list() else {
        return flat(boxes, sexp);
    };
    let name = keyword.as_atom().unwrap_or_default();
    match name.as_bytes() {
        b"build" => {
            boxes.text("(build ").open(Layout::Vertical, 0);
            for (index, argument) in arguments.iter().enumerate() {
                if index > 0 {
                    boxes.cut();
                }
                match argument.as_list() {
                    Some(items) => stage(boxes, items),
                    None => flat(boxes, argument),
                }
            }
            boxes.close().text(")");
        }
        b"run" => fields(boxes, "(run ", Layout::Vertical, arguments),
        b"copy" => fields(boxes, "(copy ", Layout::AllOrNone, arguments),
        _ => flat(boxes, sexp),
    }
}

fn stage(boxes: &mut Boxes, items: &[Sexp]) {
    boxes.text("(").open(Layout::Vertical, 0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            boxes.cut();
        }
        operation(boxes, item);
    }
    boxes.close().text(")");
}

fn fields(boxes: &mut Boxes, start: &str, layout: Layout, fields: &[Sexp]) {
    boxes.text(start).open(layout, 0);
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            boxes.space();
        }
        flat(boxes, field);
    }
    boxes.close().text(")");
}

/// All on one line, but for line breaks within atoms.
fn flat(boxes: &mut Boxes, sexp: &Sexp) {
    boxes.open(Layout::Horizontal, 0);
    items(boxes, sexp, false);
    boxes.close();
}

fn items(boxes: &mut Boxes, sexp: &Sexp, boxed: bool) {
    let mut first = true;
    walk(slice::from_ref(sexp), |visit| {
        if !first && !matches!(visit, Visit::Close) {
            boxes.space();
        }
        first = matches!(visit, Visit::Open);
        match visit {
            Visit::Atom(bytes) => write_atom(boxes, bytes),
            Visit::Open => {
                if boxed {
                    boxes.open(Layout::Fill, 1);
                }
                boxes.text("(");
            }
            Visit::Close => {
                boxes.text(")");
                if boxed {
                    boxes.close();
                }
            }
        }
        true
    });
}

/// On several lines if the atom has several; a line break at its end alone does not count.
fn write_atom(boxes: &mut Boxes, bytes: &[u8]) {
    let breaks_inside = bytes
        .find_byte(b'\n')
        .is_some_and(|index| index + 1 < bytes.len());
    if !breaks_inside {
        boxes.text(atom::one_line(bytes));
        return;
    }
    // The space makes room for the backslash before each `n`, so that the lines stand below each other.
    boxes.open(Layout::Fill, 0).text(" \"");
    for (index, line) in bytes.split_str("\n").enumerate() {
        if index > 0 {
            boxes.text("\\").newline().text("\\n");
        }
        let mut escaped = BString::default();
        atom::escape(line, |piece| escaped.extend_from_slice(piece));
        boxes.text(escaped);
    }
    boxes.text("\"").close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Copy, CopySource, Run, Secret, User};

    /// OBuilder's own test `Sexp` has the same parts.
    #[test]
    fn sexp_a_spec_with_everything_is_read_and_printed_both_ways() {
        let copy = |from, src: &str, exclude: &[&str]| {
            Op::Copy(Copy {
                from,
                src: vec![src.into()],
                dst: "/dst".into(),
                exclude: exclude.iter().copied().map(BString::from).collect(),
            })
        };
        let tools = Spec {
            stages: Vec::new(),
            from: "base".into(),
            ops: vec![Op::Run(Run {
                shell: "make tools".into(),
                ..Run::default()
            })],
        };
        let spec = Spec {
            stages: vec![("tools".into(), tools)],
            from: "base".into(),
            ops: vec![
                Op::Comment("A test comment".into()),
                Op::Workdir("/src".into()),
                Op::Shell(vec!["/bin/sh".into(), "-c".into()]),
                Op::Run(Run {
                    caches: vec![Cache {
                        id: "a".into(),
                        target: "/data".into(),
                        buildkit_options: vec![("sharing".into(), "private".into())],
                    }],
                    network: vec!["host".into()],
                    secrets: vec![Secret {
                        id: "key".into(),
                        target: "/run/secrets/key".into(),
                        buildkit_options: Vec::new(),
                    }],
                    shell: "command1 &&\ncommand2".into(),
                }),
                copy(CopySource::Context, "a", &[]),
                copy(CopySource::Context, "b", &[".git", "_build"]),
                copy(CopySource::Stage("tools".into()), "c", &[]),
                Op::Env {
                    name: "DEBUG".into(),
                    value: "0 1".into(),
                },
                Op::User(User::Unix { uid: 1, gid: 2 }),
                Op::User(User::Named("opam".into())),
            ],
        };
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(Spec::parse(&spec.to_mach()), Ok(spec.clone()));
        assert_eq!(Spec::parse(&spec.pretty()), Ok(spec.clone()));
        insta::assert_snapshot!(format!("{spec}\n{}", spec.pretty()));
    }

    #[test]
    fn headings_quote_what_needs_it() {
        assert_eq!(from_heading(b"busybox"), "(from busybox)");
        assert_eq!(from_heading(b"a b\n"), "(from \"a b\\n\")");
        assert_eq!(from_heading(b"a\nb"), "(from  \"a\\\n      \\nb\")");
        assert_eq!(build_heading(b"dev"), "(build \"dev\" \u{2026})");
        assert_eq!(
            build_heading(b"a\"\xc3\xa9\n"),
            "(build \"a\\\"\\195\\169\\n\" \u{2026})"
        );
        let op = Op::Workdir("a".into());
        assert_eq!(heading("/\u{e9}".as_bytes(), &op), "/\u{e9}: (workdir a)");
    }
}
