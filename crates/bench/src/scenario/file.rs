//! Reading `scenarios.toml`. Anything in it that means nothing is a mistake, and said to be one before anything is measured.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::measure::{Kind, Measured};
use super::threshold::{Bounds, Threshold};
use super::{Figures, Lab, kinds};

/// The scenarios of this project, which are measured unless others are given.
const OURS: &str = include_str!("../../scenarios.toml");

/// How long scenarios may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Long enough for figures to mean something.
    Long,
    /// Seconds: that everything works, and nothing is slower by far.
    Short,
}

/// All scenarios, in the order in which they are measured.
pub struct Scenarios(Vec<Scenario>);

/// One scenario, with the parameters of one form.
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// One line about what is measured.
    pub what: String,
    /// Its kind.
    pub kind: Kind,
    measured: Box<dyn Measured>,
    thresholds: BTreeMap<String, Threshold>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    what: String,
    kind: String,
    #[serde(default)]
    params: toml::Table,
    /// What is different in the short form.
    #[serde(default)]
    short: toml::Table,
    #[serde(default)]
    thresholds: BTreeMap<String, Bounds>,
}

impl Scenarios {
    /// The scenarios of this project.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn ours(form: Form) -> anyhow::Result<Self> {
        Self::parse(OURS, form).context("in the scenarios of this program")
    }

    /// Reads the text of a file with scenarios.
    ///
    /// # Errors
    /// Names the scenario, and what about it is wrong.
    pub fn parse(text: &str, form: Form) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        let mut scenarios: Vec<Scenario> = Vec::new();
        for entry in file.scenario {
            let name = entry.name.clone();
            ensure!(
                scenarios.iter().all(|other| other.name != name),
                "there are two scenarios with the name {name}"
            );
            let scenario = Scenario::new(entry, form);
            scenarios.push(scenario.with_context(|| format!("in the scenario {name}"))?);
        }
        Ok(Self(scenarios))
    }

    /// Only those with these names, or all if there are none.
    ///
    /// # Errors
    /// If there is no scenario with one of the names.
    pub fn only(mut self, names: &[String]) -> anyhow::Result<Self> {
        for name in names {
            ensure!(
                self.0.iter().any(|scenario| scenario.name == *name),
                "there is no scenario {name}: there are {}",
                self.names().join(", ")
            );
        }
        self.0
            .retain(|scenario| names.is_empty() || names.contains(&scenario.name));
        Ok(self)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Scenario> {
        self.0.iter()
    }

    fn names(&self) -> Vec<&str> {
        self.0
            .iter()
            .map(|scenario| scenario.name.as_str())
            .collect()
    }
}

impl Scenario {
    fn new(entry: Entry, form: Form) -> anyhow::Result<Self> {
        let Some(kind) = kinds::ALL.iter().find(|kind| kind.name == entry.kind) else {
            let names: Vec<&str> = kinds::ALL.iter().map(|kind| kind.name).collect();
            bail!(
                "there is no kind {}: there are {}",
                entry.kind,
                names.join(", ")
            );
        };
        for (name, bounds) in &entry.thresholds {
            ensure!(
                kind.figures.iter().any(|figure| figure.name == name),
                "the kind {} gives no figure {name}",
                kind.name
            );
            let checked = bounds.check();
            checked.with_context(|| format!("in the threshold of {name}"))?;
        }
        // Both forms, so that a mistake in either shows at once.
        let long = kind.read(entry.params.clone()).context("in params")?;
        let mut merged = entry.params;
        merge(&mut merged, entry.short);
        let short = kind
            .read(merged)
            .context("in short, together with params")?;
        let thresholds = entry.thresholds.into_iter();
        Ok(Self {
            name: entry.name,
            what: entry.what,
            kind: *kind,
            measured: match form {
                Form::Long => long,
                Form::Short => short,
            },
            thresholds: thresholds
                .filter_map(|(name, bounds)| Some((name, bounds.of(form)?)))
                .collect(),
        })
    }

    /// The threshold of a figure, if it has one.
    #[must_use]
    pub fn threshold(&self, figure: &str) -> Option<Threshold> {
        self.thresholds.get(figure).copied()
    }

    /// Measures.
    ///
    /// # Errors
    /// Whatever kept it from measuring.
    pub async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        self.measured.measure(lab).await
    }
}

/// Puts what `over` has in place of what is there. Tables within are merged likewise.
fn merge(table: &mut toml::Table, over: toml::Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => merge(inner, over),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let error = Scenarios::parse(text, Form::Long).err().unwrap();
        format!("{error:#}")
    }

    fn scenario(rest: &str) -> String {
        format!("[[scenario]]\nname = \"one\"\nwhat = \"this\"\n{rest}")
    }

    #[test]
    fn our_own_scenarios_can_be_read_in_both_forms() {
        for form in [Form::Long, Form::Short] {
            assert!(Scenarios::ours(form).unwrap().iter().count() > 0);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (rest, expected) in [
            ("kind = \"tea\"", "there is no kind tea: there are "),
            ("kind = \"load\"\ntea = 1", "unknown field `tea`"),
            (
                "kind = \"load\"\n[scenario.params]\ntea = 1",
                "unknown field `tea`",
            ),
            (
                "kind = \"load\"\n[scenario.short]\ntea = 1",
                "in short, together with params: unknown field `tea`",
            ),
            (
                "kind = \"load\"\n[scenario.thresholds]\ntea = { at_most = 1 }",
                "the kind load gives no figure tea",
            ),
            (
                "kind = \"load\"\n[scenario.thresholds]\njobs_per_second = { at_mots = 1 }",
                "unknown field `at_mots`",
            ),
            (
                "kind = \"load\"\n[scenario.thresholds]\njobs_per_second = {}",
                "in the threshold of jobs_per_second: it has no bound",
            ),
        ] {
            let told = told(&scenario(rest));
            assert!(told.contains(expected), "{rest}: {told}");
        }
        let one = scenario("kind = \"load\"\n");
        assert!(told(&format!("{one}{one}")).contains("two scenarios"));
    }

    #[test]
    fn the_short_form_differs_in_what_it_says_only() {
        let mut table = toml::toml! { a = 1 in = { b = 2, c = 3 } };
        merge(&mut table, toml::toml! { in = { b = 4 } d = 5 });
        assert_eq!(table, toml::toml! { a = 1 in = { b = 4, c = 3 } d = 5 });
    }

    #[test]
    fn scenarios_are_chosen_by_name() {
        let text = scenario("kind = \"load\"");
        let all = || Scenarios::parse(&text, Form::Long).unwrap();
        assert_eq!(all().only(&[]).unwrap().names(), ["one"]);
        assert_eq!(all().only(&["one".to_owned()]).unwrap().names(), ["one"]);
        let error = all().only(&["tea".to_owned()]).err().unwrap();
        assert_eq!(error.to_string(), "there is no scenario tea: there are one");
    }
}
