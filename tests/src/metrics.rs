//! A strict reader of the Prometheus text format, version 0.0.4: what it accepts, Prometheus accepts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name, with `_sum`, `_count` or `_bucket` where there is one.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A whole page.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Errors
    ///
    /// Naming the line, when it is not in the format: an unknown comment form, a sample whose family was not announced, a bad name,
    /// a value that is not a number, a family announced twice, a missing last line feed.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(
            text.ends_with('\n'),
            "the last line does not end with a line feed"
        );
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            page.line(line)
                .with_context(|| format!("in the line {line:?}"))?;
        }
        Ok(page)
    }

    /// The type announced for a family: `counter`, `gauge`, ...
    #[must_use]
    pub fn type_of(&self, family: &str) -> Option<&str> {
        self.types.get(family).map(String::as_str)
    }

    /// The help text of a family.
    #[must_use]
    pub fn help_of(&self, family: &str) -> Option<&str> {
        self.helps.get(family).map(String::as_str)
    }

    /// Every sample.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The value of the one sample of `name` that has all of `labels`, and perhaps more.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample| {
            labels
                .iter()
                .all(|(key, value)| sample.labels.get(*key).is_some_and(|its| its == value))
        };
        self.samples
            .iter()
            .find(|sample| sample.name == name && has(sample))
            .map(|sample| sample.value)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            check_name(name)?;
            ensure!(
                self.helps
                    .insert(name.to_owned(), help.to_owned())
                    .is_none(),
                "a second HELP"
            );
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            check_name(name)?;
            ensure!(
                ["counter", "gauge", "summary", "histogram", "untyped"].contains(&kind),
                "no such type"
            );
            ensure!(
                self.types
                    .insert(name.to_owned(), kind.to_owned())
                    .is_none(),
                "a second TYPE"
            );
        } else if line.starts_with('#') {
            bail!("neither HELP nor TYPE");
        } else {
            let sample = parse_sample(line)?;
            ensure!(self.family_of(&sample.name).is_some(), "no TYPE before it");
            self.samples.push(sample);
        }
        Ok(())
    }

    fn family_of(&self, sample: &str) -> Option<&str> {
        let stems = ["", "_sum", "_count", "_bucket"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix));
        stems
            .filter_map(|stem| self.types.get_key_value(stem))
            .map(|(name, _)| name.as_str())
            .next()
    }
}

fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    ensure!(
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(good),
        "a bad name"
    );
    Ok(())
}

fn parse_sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    check_name(name)?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels)?;
    }
    let mut words = rest.split_whitespace();
    let value = match words.next().context("no value")? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().context("the value is not a number")?,
    };
    if let Some(time) = words.next() {
        time.parse::<i64>().context("the time is not a number")?;
    }
    ensure!(words.next().is_none(), "something after the value");
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads `a="b",c="d"}` and returns what follows.
fn parse_labels<'a>(mut rest: &'a str, labels: &mut BTreeMap<String, String>) -> Result<&'a str> {
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        check_name(name)?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters
                .next()
                .context("a label's value without an end")?
            {
                (at, '"') => break at,
                (_, '\\') => match characters
                    .next()
                    .context("a label's value without an end")?
                    .1
                {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    _ => bail!("an unknown escape"),
                },
                (_, character) => value.push(character),
            }
        };
        ensure!(
            labels.insert(name.to_owned(), value).is_none(),
            "a label twice"
        );
        rest = after.get(end + 1..).unwrap_or("");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = "# HELP jobs_total Number of jobs.\n# TYPE jobs_total counter\njobs_total{pool=\"a\",by=\"x \\\"y\\\"\"} 3\n\
                    # TYPE took summary\ntook_sum 1.5\ntook_count 2\n";
        let page = Exposition::parse(page).unwrap();
        assert_eq!(page.value("jobs_total", &[("pool", "a")]), Some(3.0));
        assert_eq!(page.value("jobs_total", &[("by", "x \"y\"")]), Some(3.0));
        assert_eq!(page.value("jobs_total", &[("pool", "b")]), None);
        assert_eq!(
            (page.type_of("took"), page.help_of("jobs_total")),
            (Some("summary"), Some("Number of jobs."))
        );
        assert_eq!(page.samples().len(), 3);
    }

    #[test]
    fn what_prometheus_would_refuse_is_refused() {
        for bad in [
            "#HELP a b\n",
            "a 1\n",
            "# TYPE a gauge\na one\n",
            "# TYPE a gauge\na 1",
            "# TYPE a gauge\na{b=c} 1\n",
        ] {
            assert!(Exposition::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
