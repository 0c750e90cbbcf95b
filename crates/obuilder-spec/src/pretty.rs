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
        atom::escape_into(line, &mut escaped);
        boxes.text(escaped);
    }
    boxes.text("\"").close();
}
