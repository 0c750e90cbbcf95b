//! The shortest form of an s-expression: what step ids are made of, so not a byte of it may ever change.

use bstr::BString;
use sha2::{Digest as _, Sha256};

use super::atom;

/// Where the text goes.
pub(crate) trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for BString {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Hashing as it is written keeps values of secrets out of any buffer of ours.
impl Sink for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Writes one s-expression, piece by piece.
///
/// A space stands only between two neighbours which are both atoms without quotes.
pub(crate) struct Mach<S> {
    sink: S,
    after_bare_atom: bool,
}

impl<S: Sink> Mach<S> {
    pub(crate) fn new(sink: S) -> Self {
        Self {
            sink,
            after_bare_atom: false,
        }
    }

    /// Starts a list.
    pub(crate) fn open(&mut self) -> &mut Self {
        self.after_bare_atom = false;
        self.sink.put(b"(");
        self
    }

    /// Ends the list that was started last.
    pub(crate) fn close(&mut self) -> &mut Self {
        self.after_bare_atom = false;
        self.sink.put(b")");
        self
    }

    pub(crate) fn atom(&mut self, bytes: &[u8]) -> &mut Self {
        if atom::needs_quotes(bytes) {
            self.after_bare_atom = false;
            self.sink.put(b"\"");
            atom::escape(bytes, |piece| self.sink.put(piece));
            self.sink.put(b"\"");
        } else {
            if self.after_bare_atom {
                self.sink.put(b" ");
            }
            self.after_bare_atom = true;
            self.sink.put(bytes);
        }
        self
    }

    /// A list of two atoms.
    pub(crate) fn pair(&mut self, first: &[u8], second: &[u8]) -> &mut Self {
        self.open().atom(first).atom(second).close()
    }

    /// A list of a name and a list of atoms.
    pub(crate) fn named_list<A: AsRef<[u8]>>(&mut self, name: &[u8], atoms: &[A]) -> &mut Self {
        self.open().atom(name).open();
        for atom in atoms {
            self.atom(atom.as_ref());
        }
        self.close().close()
    }

    /// What was written, or its hash so far.
    pub(crate) fn finish(self) -> S {
        self.sink
    }
}
