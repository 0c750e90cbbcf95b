//! The named fields of a `run`, a `copy`, a cache or a secret, in any order.

use crate::error::SpecError;
use crate::sexp::Sexp;

/// How many values a field has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exactly one.
    One,
    /// Any number, and none is as good as no field.
    Many,
}

/// What was found, each field at most once.
pub(crate) struct Fields<'a> {
    owner: &'a Sexp,
    known: &'static [(&'static str, Kind)],
    found: Vec<(&'static str, &'a [Sexp])>,
}

impl<'a> Fields<'a> {
    /// Reads these fields of `owner`, and no others.
    pub(crate) fn read(
        owner: &'a Sexp,
        items: &'a [Sexp],
        known: &'static [(&'static str, Kind)],
    ) -> Result<Self, SpecError> {
        let mut fields = Self {
            owner,
            known,
            found: Vec::new(),
        };
        for item in items {
            fields.add(item)?;
        }
        Ok(fields)
    }

    fn add(&mut self, item: &'a Sexp) -> Result<(), SpecError> {
        let not_a_pair = || {
            Self::only_pairs(item)
                .blaming(item)
                .hint(format!("expected {}", self.expectation()))
        };
        let Some([name, values @ ..]) = item.as_list() else {
            return Err(not_a_pair());
        };
        let name = name.as_atom().ok_or_else(not_a_pair)?;
        let Some(&(name, kind)) = self.known.iter().find(|(known, _)| name == *known) else {
            let name = Sexp::atom(name.to_owned()).quote();
            return Err(self.error(item, format!("extra fields: {name}")));
        };
        if self.found.iter().any(|&(found, _)| found == name) {
            return Err(self.error(item, format!("duplicate fields: {name}")));
        }
        if kind == Kind::One && values.len() != 1 {
            return Err(not_a_pair());
        }
        self.found.push((name, values));
        Ok(())
    }

    /// Something that is not a field.
    pub(crate) fn only_pairs(item: &Sexp) -> SpecError {
        SpecError::new(
            item.position(),
            "record conversion: only pairs expected, their first element must be an atom",
        )
    }

    fn error(&self, at: &Sexp, message: String) -> SpecError {
        SpecError::new(at.position(), message)
            .blaming(self.owner)
            .hint(format!("expected {}", self.expectation()))
    }

    /// The fields that there can be.
    fn expectation(&self) -> String {
        let fields: Vec<_> = self
            .known
            .iter()
            .map(|(name, kind)| match kind {
                Kind::One => format!("({name} VALUE)"),
                Kind::Many => format!("({name} VALUE...)"),
            })
            .collect();
        format!("each once: {}", fields.join(", "))
    }

    fn values(&self, name: &str) -> Option<&'a [Sexp]> {
        self.found
            .iter()
            .find(|&&(found, _)| found == name)
            .map(|&(_, values)| values)
    }

    /// The values of a field, which may be left out.
    pub(crate) fn many(&self, name: &str) -> &'a [Sexp] {
        self.values(name).unwrap_or_default()
    }

    /// The value of a field, which may be left out.
    pub(crate) fn one(&self, name: &str) -> Option<&'a Sexp> {
        self.values(name)?.first()
    }

    /// The value of a field that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&'a Sexp, SpecError> {
        self.require(&[name])?;
        self.one(name).ok_or_else(|| self.undefined(name))
    }

    /// Checks that these fields are there, if without a value.
    pub(crate) fn require(&self, names: &[&str]) -> Result<(), SpecError> {
        let is_missing = |name: &&str| self.values(name).is_none();
        let missing: Vec<_> = names.iter().copied().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.undefined(&missing.join(" ")))
    }

    fn undefined(&self, names: &str) -> SpecError {
        self.error(
            self.owner,
            format!("the following record elements were undefined: {names}"),
        )
    }
}
