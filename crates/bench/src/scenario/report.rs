//! The results of a run: for people a table, for programs (and for comparing two runs) JSON.

use std::fmt;

use ocluster_cli::Table;
use serde::{Deserialize, Serialize};

use super::figures::{FigureKind, Figures};
use super::file::{Form, Scenario};
use super::threshold::Threshold;

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether it was the short form.
    pub short: bool,
    /// One for each scenario, in order.
    pub scenarios: Vec<Outcome>,
}

/// What came of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub name: String,
    /// What it is about.
    pub what: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What kept it from measuring, if anything did. There are no figures then.
    pub error: Option<String>,
    /// What was measured.
    pub figures: Vec<Measured>,
}

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// It must not be larger.
    pub at_most: Option<f64>,
    /// It must not be smaller.
    pub at_least: Option<f64>,
    /// Whether it is good enough; true where there is no threshold.
    pub ok: bool,
}

impl Report {
    /// One without scenarios yet.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self {
            short: form == Form::Short,
            scenarios: Vec::new(),
        }
    }

    /// Whether everything was measured and is good enough.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.scenarios
            .iter()
            .all(|outcome| outcome.error.is_none() && outcome.figures.iter().all(|one| one.ok))
    }
}

impl Outcome {
    /// What came of measuring `scenario`.
    #[must_use]
    pub fn new(scenario: &Scenario, seconds: f64, result: anyhow::Result<Figures>) -> Self {
        let figures = result.and_then(|figures| figures.in_order(scenario.kind.figures));
        let (figures, error) = match figures {
            Ok(figures) => (figures, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let judged = figures.into_iter();
        Self {
            name: scenario.name.clone(),
            what: scenario.what.clone(),
            seconds,
            error,
            figures: judged
                .map(|(kind, value)| Measured::new(kind, value, scenario.threshold(kind.name)))
                .collect(),
        }
    }
}

impl Measured {
    fn new(kind: FigureKind, value: f64, threshold: Option<Threshold>) -> Self {
        let (at_most, at_least) = match threshold {
            Some(Threshold::AtMost(most)) => (Some(most), None),
            Some(Threshold::AtLeast(least)) => (None, Some(least)),
            None => (None, None),
        };
        Self {
            name: kind.name.to_owned(),
            value,
            unit: kind.unit.to_owned(),
            at_most,
            at_least,
            ok: threshold.is_none_or(|threshold| threshold.is_kept_by(value)),
        }
    }

    fn threshold(&self) -> Option<Threshold> {
        let most = self.at_most.map(Threshold::AtMost);
        most.or(self.at_least.map(Threshold::AtLeast))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["SCENARIO", "FIGURE", "VALUE", "UNIT", "THRESHOLD", ""]);
        for outcome in &self.scenarios {
            let mut name = outcome.name.as_str();
            if outcome.error.is_some() {
                table.row([name, "(not measured)", "", "", "", "FAILED"]);
            }
            for figure in &outcome.figures {
                let threshold = figure.threshold();
                let verdict = match threshold {
                    Some(_) if figure.ok => "ok",
                    Some(_) => "MISSED",
                    None => "",
                };
                table.row([
                    name,
                    &figure.name,
                    &show(figure.value),
                    &figure.unit,
                    &threshold.map_or_else(String::new, |threshold| threshold.to_string()),
                    verdict,
                ]);
                name = "";
            }
        }
        write!(f, "{}", table.to_string().trim_end())?;
        for outcome in &self.scenarios {
            if let Some(error) = &outcome.error {
                write!(f, "\n{}: {error}", outcome.name)?;
            }
        }
        Ok(())
    }
}

/// A number with as many places as mean something.
pub(super) fn show(value: f64) -> String {
    let places = match value.abs() {
        large if large >= 100.0 => 0,
        medium if medium >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, value: f64, threshold: Option<Threshold>) -> Measured {
        Measured::new(FigureKind { name, unit: "us" }, value, threshold)
    }

    fn report() -> Report {
        Report {
            short: true,
            scenarios: vec![
                Outcome {
                    name: "first".to_owned(),
                    what: "something".to_owned(),
                    seconds: 1.0,
                    error: None,
                    figures: vec![
                        measured("fast", 72.25, Some(Threshold::AtMost(80.0))),
                        measured("slow", 1234.5, Some(Threshold::AtMost(80.0))),
                        measured("free", 0.321, None),
                    ],
                },
                Outcome {
                    name: "second".to_owned(),
                    what: "something".to_owned(),
                    seconds: 1.0,
                    error: Some("no luck".to_owned()),
                    figures: Vec::new(),
                },
            ],
        }
    }

    #[test]
    fn the_table_says_what_is_good_enough() {
        assert_eq!(
            report().to_string(),
            "SCENARIO  FIGURE          VALUE  UNIT  THRESHOLD\n\
             first     fast            72.2   us    <= 80      ok\n\
             \x20         slow            1234   us    <= 80      MISSED\n\
             \x20         free            0.32   us\n\
             second    (not measured)                          FAILED\n\
             second: no luck"
        );
    }

    #[test]
    fn a_run_is_good_if_all_was_measured_and_nothing_missed() {
        let mut report = report();
        assert!(!report.is_good());
        report.scenarios.truncate(1);
        assert!(!report.is_good());
        report.scenarios[0].figures.remove(1);
        assert!(report.is_good());
    }
}
