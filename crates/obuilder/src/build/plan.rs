//! The order of a build: which stages there are, which of them take files from which, and in which order all of it is told.

use std::collections::HashMap;

use bstr::BString;
use ocluster_obuilder_spec::{CopySource, Op, Spec};

/// The stages of a spec in serial order: each after all that it can see. The last one is the spec itself.
pub(super) struct Plan<'a> {
    pub(super) stages: Vec<Stage<'a>>,
    /// What is told, in order.
    pub(super) sections: Vec<Section<'a>>,
}

/// A stage without those within it.
pub(super) struct Stage<'a> {
    pub(super) spec: &'a Spec,
    /// Which stage each name means here. Only names that the stage copies from.
    pub(super) sources: HashMap<&'a BString, usize>,
}

/// A part of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Section<'a> {
    /// The stage of this name begins, with those within it.
    Open(&'a BString),
    /// What the stage with this number does itself.
    Body(usize),
    /// The stage of this name, with this number, ends.
    Close(&'a BString, usize),
}

impl<'a> Plan<'a> {
    pub(super) fn new(spec: &'a Spec) -> Self {
        let mut plan = Self {
            stages: Vec::new(),
            sections: Vec::new(),
        };
        plan.add(spec, &mut HashMap::new());
        plan
    }

    /// Adds `spec` and the stages within it. A stage sees those before it, and those before the stage it is in; what is within a stage
    /// is not seen from outside.
    fn add(&mut self, spec: &'a Spec, scope: &mut HashMap<&'a BString, usize>) -> usize {
        let mut hidden = Vec::with_capacity(spec.stages.len());
        for (name, stage) in &spec.stages {
            self.sections.push(Section::Open(name));
            let number = self.add(stage, scope);
            self.sections.push(Section::Close(name, number));
            hidden.push((name, scope.insert(name, number)));
        }
        let sources = spec
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Copy(copy) => match &copy.from {
                    CopySource::Stage(name) => Some((name, *scope.get(name)?)),
                    CopySource::Context => None,
                },
                _ => None,
            })
            .collect();
        for (name, before) in hidden.into_iter().rev() {
            match before {
                Some(number) => scope.insert(name, number),
                None => scope.remove(name),
            };
        }
        let number = self.stages.len();
        self.stages.push(Stage { spec, sources });
        self.sections.push(Section::Body(number));
        number
    }
}

#[cfg(test)]
mod tests {
    use ocluster_obuilder_spec::Copy;

    use super::*;

    fn spec(stages: Vec<(&str, Spec)>, from: &[&str]) -> Spec {
        Spec {
            stages: stages
                .into_iter()
                .map(|(name, spec)| (name.into(), spec))
                .collect(),
            from: "base".into(),
            ops: from
                .iter()
                .map(|&name| {
                    Op::Copy(Copy {
                        from: CopySource::Stage(name.into()),
                        src: vec!["a".into()],
                        dst: "b".into(),
                        exclude: Vec::new(),
                    })
                })
                .collect(),
        }
    }

    #[test]
    fn names_mean_the_nearest_stage_before() {
        let inner = spec(vec![("a", spec(vec![], &[]))], &["a"]);
        let last = spec(vec![], &["a", "b", "nobody"]);
        let top = spec(
            vec![("a", spec(vec![], &[])), ("b", inner), ("c", last)],
            &["a"],
        );
        let plan = Plan::new(&top);
        let sources: Vec<Vec<(String, usize)>> = plan
            .stages
            .iter()
            .map(|stage| {
                let mut sources: Vec<_> = stage
                    .sources
                    .iter()
                    .map(|(name, number)| (name.to_string(), *number))
                    .collect();
                sources.sort();
                sources
            })
            .collect();
        let named = |name: &str, number| (name.to_owned(), number);
        assert_eq!(
            sources,
            [
                vec![],
                vec![],
                // Within b, a is the one within b.
                vec![named("a", 1)],
                vec![named("a", 0), named("b", 2)],
                vec![named("a", 0)],
            ]
        );
    }

    #[test]
    fn sections_are_in_serial_order() {
        let top = spec(
            vec![
                ("x", spec(vec![("y", spec(vec![], &[]))], &[])),
                ("z", spec(vec![], &[])),
            ],
            &[],
        );
        let (x, y, z) = ("x".into(), "y".into(), "z".into());
        assert_eq!(
            Plan::new(&top).sections,
            [
                Section::Open(&x),
                Section::Open(&y),
                Section::Body(0),
                Section::Close(&y, 0),
                Section::Body(1),
                Section::Close(&x, 1),
                Section::Open(&z),
                Section::Body(2),
                Section::Close(&z, 2),
                Section::Body(3),
            ]
        );
    }
}
