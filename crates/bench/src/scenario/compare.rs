//! Two runs beside each other, for whoever has changed something in between.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use ocluster_cli::Table;
use ocluster_cli::output::JSON_VERSION;
use serde::{Deserialize, Serialize};

use super::report::{Report, show};

/// The figures that both runs have.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: String,
    figure: String,
    unit: String,
    old: f64,
    new: f64,
    /// New by old.
    ratio: f64,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    report: Report,
}

impl Comparison {
    /// Compares two files that `ocluster-bench scenarios --output json` wrote.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn load(old: &Path, new: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(&load(old)?, &load(new)?))
    }

    fn new(old: &Report, new: &Report) -> Self {
        let mut rows = Vec::new();
        for outcome in &new.scenarios {
            let before = old.scenarios.iter().find(|its| its.name == outcome.name);
            for figure in &outcome.figures {
                let mut of_old = before.iter().flat_map(|before| &before.figures);
                let Some(before) = of_old.find(|its| its.name == figure.name) else {
                    continue;
                };
                rows.push(Row {
                    scenario: outcome.name.clone(),
                    figure: figure.name.clone(),
                    unit: figure.unit.clone(),
                    old: before.value,
                    new: figure.value,
                    ratio: figure.value / before.value,
                });
            }
        }
        Self { rows }
    }
}

fn load(path: &Path) -> anyhow::Result<Report> {
    let read = || -> anyhow::Result<Report> {
        let Versioned { version, report } = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        ensure!(
            version == JSON_VERSION,
            "it is of version {version}, not {JSON_VERSION}"
        );
        Ok(report)
    };
    read().with_context(|| format!("cannot read the results in {}", path.display()))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["SCENARIO", "FIGURE", "OLD", "NEW", "UNIT", "RATIO"]);
        let mut last = "";
        for row in &self.rows {
            let name = if row.scenario == last {
                ""
            } else {
                &row.scenario
            };
            last = &row.scenario;
            table.row([
                name,
                &row.figure,
                &show(row.old),
                &show(row.new),
                &row.unit,
                &show(row.ratio),
            ]);
        }
        write!(f, "{}", table.to_string().trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(name: &str, value: f64) -> String {
        format!(
            r#"{{"version":1,"short":false,"scenarios":[{{"name":"{name}","what":"","seconds":1.0,"error":null,"figures":[
            {{"name":"cpu","value":{value},"unit":"us","at_most":null,"at_least":null,"ok":true}}]}}]}}"#
        )
    }

    #[test]
    fn what_both_runs_have_is_compared() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let old = file("old", results("no-op", 200.0));
        let new = file("new", results("no-op", 150.0));
        let other = file("other", results("other", 1.0));
        let future = file(
            "future",
            "{\"version\":2,\"short\":false,\"scenarios\":[]}".into(),
        );
        assert_eq!(
            Comparison::load(&old, &new).unwrap().to_string(),
            "SCENARIO  FIGURE  OLD  NEW  UNIT  RATIO\nno-op     cpu     200  150  us    0.75"
        );
        assert!(Comparison::load(&old, &other).unwrap().rows.is_empty());
        let error = format!("{:#}", Comparison::load(&old, &future).unwrap_err());
        assert!(error.contains("version 2"), "{error}");
    }
}
