//! One log line: `YYYY-MM-DD HH:MM.SS         source [LEVEL] message key=value`, in local time.
//!
//! The layout is that of OCluster's programs, dot before the seconds included: operators' scripts know it.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::logging::APPLICATION;

/// Writes events as lines.
pub(crate) struct LogFormat {
    /// Whether to colour the level.
    pub(crate) color: bool,
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let time = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M.%S").to_string();
        let level = level_name(*meta.level());
        if meta.target() == APPLICATION {
            let mut text = LineFields::default();
            event.record(&mut text);
            return writeln!(writer, "{time} {APPLICATION:>14}  {}", text.message);
        }
        let (on, off) = if self.color {
            (color(*meta.level()), "\u{1b}[0m")
        } else {
            ("", "")
        };
        let mut text = LineFields::default();
        event.record(&mut text);
        let LineFields { message, fields } = text;
        writeln!(
            writer,
            "{time} {:>14} [{on}{level}{off}] {message}{fields}",
            source(meta.target())
        )
    }
}

/// The name operators know a part of a program by: a target that was chosen as such, or else the crate without `ocluster_`.
pub(crate) fn source(target: &str) -> &str {
    let name = target.split("::").next().unwrap_or(target);
    name.strip_prefix("ocluster_").unwrap_or(name)
}

/// The name of a level, in lines and in metrics.
pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[34m",
        Level::DEBUG | Level::TRACE => "\u{1b}[32m",
    }
}

/// The message, and the other fields behind it.
#[derive(Default)]
struct LineFields {
    message: String,
    fields: String,
}

impl LineFields {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for LineFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.add(field, format_args!("{value}"));
        } else {
            self.add(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(color: bool, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let to = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(LogFormat { color })
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_time_source_level_message_and_fields() {
        let line = line(
            false,
            || tracing::info!(target: "pool", worker = "w1", jobs = 2, "{} is waiting", "w1"),
        );
        let (time, rest) = line.split_at("YYYY-MM-DD HH:MM.SS".len());
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00 00:00.00");
        assert_eq!(
            rest,
            "           pool [INFO] w1 is waiting worker=\"w1\" jobs=2\n"
        );
    }

    #[test]
    fn what_the_application_says_has_no_level() {
        let line = line(false, || tracing::info!(target: APPLICATION, "Wrote it"));
        assert!(line.ends_with("    application  Wrote it\n"), "{line:?}");
    }

    #[test]
    fn the_level_is_coloured_on_request() {
        let line = line(true, || tracing::warn!("look"));
        assert!(
            line.ends_with("            cli [\u{1b}[33mWARNING\u{1b}[0m] look\n"),
            "{line:?}"
        );
    }

    #[test]
    fn sources_are_crates_or_chosen_names() {
        assert_eq!(source("ocluster_vat::tls::accept"), "vat");
        assert_eq!(source("pool"), "pool");
        assert_eq!(source("hyper::proto"), "hyper");
    }
}
