//! The flags about metrics.

use clap::Args;

use crate::metrics::{AdditionalMetric, DuplicateName, ExporterUrl, Sources};

/// Where metrics come from that are not the worker's own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metrics")]
pub(super) struct MetricsArgs {
    /// Where the machine's metrics are.
    #[arg(long, value_name = "URL", default_value_t = ExporterUrl::default())]
    node_exporter: ExporterUrl,

    /// More metrics to hand on to the scheduler, which shows them as /pool/POOL/worker/ID/NAME.
    #[arg(long, value_name = "NAME:URL,...", value_delimiter = ',')]
    additional_metrics: Vec<AdditionalMetric>,
}

impl MetricsArgs {
    /// The sources these flags name.
    ///
    /// # Errors
    /// If a name is given twice.
    pub(super) fn into_sources(self) -> Result<Sources, DuplicateName> {
        let mut sources = Sources {
            node_exporter: self.node_exporter,
            ..Sources::default()
        };
        sources.add(self.additional_metrics)?;
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        metrics: MetricsArgs,
    }

    fn parse(flags: &[&str]) -> Result<MetricsArgs, String> {
        let words = std::iter::once("ocluster-worker").chain(flags.iter().copied());
        let parsed = Cli::try_parse_from(words);
        parsed
            .map(|cli| cli.metrics)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sources_are_those_of_the_flags() {
        let sources = parse(&[]).unwrap().into_sources().unwrap();
        let node_exporter = sources.node_exporter.to_string();
        assert_eq!(node_exporter, "http://127.0.0.1:9100/metrics");
        assert!(sources.additional.is_empty());

        let flags = [
            "--node-exporter=http://127.0.0.1:9101/metrics",
            "--additional-metrics=gpu:http://127.0.0.1:9400/m,ups:http://127.0.0.1:9995/",
            "--additional-metrics=db:http://127.0.0.1:9187/",
        ];
        let sources = parse(&flags).unwrap().into_sources().unwrap();
        assert!(sources.node_exporter.to_string().contains("9101"));
        let additional: Vec<String> = sources
            .additional
            .iter()
            .map(|(name, url)| format!("{name} {url}"))
            .collect();
        let expected = [
            "db http://127.0.0.1:9187/",
            "gpu http://127.0.0.1:9400/m",
            "ups http://127.0.0.1:9995/",
        ];
        assert_eq!(additional, expected);
    }

    #[test]
    fn mistakes_are_mistakes_in_the_command_line() {
        for (flag, reason) in [
            ("--additional-metrics=gpu", "expected NAME:URL"),
            (
                "--additional-metrics=:http://127.0.0.1/",
                "expected NAME:URL",
            ),
            ("--additional-metrics=gpu:here", "is not a URL"),
            (
                "--additional-metrics=gpu:https://127.0.0.1/",
                "only http://",
            ),
            ("--node-exporter=https://127.0.0.1/", "only http://"),
            ("--node-exporter=9100", "is not a URL"),
        ] {
            let mistake = parse(&[flag]).unwrap_err();
            assert!(mistake.contains(reason), "{flag}: {mistake}");
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_fatal_in_upstream_s_words() {
        let flag = "--additional-metrics=x:http://127.0.0.1/,x:http://127.0.0.2/";
        let refused = parse(&[flag]).unwrap().into_sources().unwrap_err();
        let expected = "Duplicate additional metrics name: x";
        assert_eq!(refused.to_string(), expected);
    }
}
