//! BuildKit's progress as plain lines, in the form of `docker build --progress=plain`.
//!
//! Steps run side by side, so each line begins with its step's number; a step is named once, when it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};

use crate::executor::docker::units::human_size;

/// How many steps are kept apart. Dockerfiles have dozens.
const MAX_STEPS: usize = 10_000;
/// How many parts of one step are told to be done.
const MAX_PARTS: usize = 1_000;
/// How long a line may be before it is broken, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The steps of one build, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Progress {
    steps: BTreeMap<String, Step>,
    numbered: usize,
}

/// Something that has happened to a step.
enum Event<'a> {
    Begin(&'a Vertex),
    Part(&'a VertexStatus),
    Output(&'a VertexLog),
    Warning(&'a VertexWarning),
    End(&'a Vertex),
}

#[derive(Debug)]
struct Step {
    /// Given when it begins.
    number: Option<usize>,
    name: String,
    started: Option<Timestamp>,
    ended: bool,
    /// Output without its line end yet.
    line: Vec<u8>,
    /// When that output came, in seconds since the start.
    line_time: f64,
    /// The parts that are done.
    parts: BTreeSet<String>,
}

impl Progress {
    /// What to print. What is told together is put in the order in which it happened.
    pub(super) fn show(&mut self, status: &StatusResponse) -> Vec<u8> {
        let mut events = Vec::new();
        for vertex in &status.vertexes {
            events.push((vertex.started, Event::Begin(vertex)));
        }
        for part in &status.statuses {
            events.push((part.timestamp, Event::Part(part)));
        }
        for log in &status.logs {
            events.push((log.timestamp, Event::Output(log)));
        }
        for warning in &status.warnings {
            events.push((None, Event::Warning(warning)));
        }
        for vertex in &status.vertexes {
            events.push((vertex.completed, Event::End(vertex)));
        }
        // What has no time comes first; what has the same time stays in the order above.
        events.sort_by_key(|(time, _)| time.map(|time| (time.seconds, time.nanos)));
        let mut text = Vec::new();
        for (_, event) in events {
            self.tell(event, &mut text);
        }
        text
    }

    fn tell(&mut self, event: Event<'_>, text: &mut Vec<u8>) {
        let digest = match event {
            Event::Begin(vertex) => {
                self.begin(vertex, text);
                return;
            }
            Event::End(vertex) => &vertex.digest,
            Event::Part(part) => &part.vertex,
            Event::Output(log) => &log.vertex,
            Event::Warning(warning) => &warning.vertex,
        };
        let Some(step) = self.steps.get_mut(digest) else {
            return;
        };
        match event {
            Event::Begin(_) => {}
            Event::Part(part) => step.part(part, text),
            Event::Output(log) => step.output(log, text),
            Event::Warning(warning) => {
                let warning = String::from_utf8_lossy(&warning.short);
                step.say(format_args!("WARN: {warning}"), text);
            }
            Event::End(vertex) => step.end(vertex, text),
        }
    }

    fn begin(&mut self, vertex: &Vertex, text: &mut Vec<u8>) {
        if !self.steps.contains_key(&vertex.digest) {
            if self.steps.len() >= MAX_STEPS {
                return;
            }
            self.steps
                .insert(vertex.digest.clone(), Step::new(&vertex.name));
        }
        let Some(step) = self.steps.get_mut(&vertex.digest) else {
            return;
        };
        if vertex.started.is_none() && vertex.completed.is_none() && !vertex.cached {
            return;
        }
        step.started = step.started.or(vertex.started);
        if step.number.is_none() {
            self.numbered += 1;
            step.number = Some(self.numbered);
            let name = step.name.clone();
            step.say(format_args!("{name}"), text);
        }
    }
}

impl Step {
    fn new(name: &str) -> Self {
        Self {
            number: None,
            name: name.to_owned(),
            started: None,
            ended: false,
            line: Vec::new(),
            line_time: 0.0,
            parts: BTreeSet::new(),
        }
    }

    /// Prints a line. A step that has not begun says nothing.
    fn say(&self, what: std::fmt::Arguments<'_>, text: &mut Vec<u8>) {
        if let Some(number) = self.number {
            text.extend_from_slice(format!("#{number} {what}\n").as_bytes());
        }
    }

    /// A part of a step, such as a download. It is told once, when it is done: how far it is would fill the log.
    fn part(&mut self, part: &VertexStatus, text: &mut Vec<u8>) {
        if part.completed.is_none()
            || self.parts.len() >= MAX_PARTS
            || !self.parts.insert(part.id.clone())
        {
            return;
        }
        let mut line = part.id.clone();
        let size = |bytes: i64| human_size(bytes.unsigned_abs());
        // Writing to a string cannot fail.
        let _ = match (part.current, part.total) {
            (0, 0) => Ok(()),
            (current, 0) => write!(line, " {}", size(current)),
            (current, total) => write!(line, " {} / {}", size(current), size(total)),
        };
        if let (Some(started), Some(completed)) = (part.started, part.completed) {
            let _ = write!(line, " {:.1}s", seconds(started, completed));
        }
        self.say(format_args!("{line} done"), text);
    }

    /// What a step writes, each line with the time since the step's start.
    fn output(&mut self, log: &VertexLog, text: &mut Vec<u8>) {
        if let (Some(started), Some(now)) = (self.started, log.timestamp) {
            self.line_time = seconds(started, now);
        }
        for piece in log.msg.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > MAX_LINE {
                self.flush(text);
            }
        }
    }

    fn flush(&mut self, text: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return;
        }
        let Some(number) = self.number else {
            return;
        };
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Four digits, whatever the point's place.
        let time = format!("{:.3}", self.line_time);
        let time = time.get(..5).unwrap_or(&time).trim_end_matches('.');
        text.extend_from_slice(format!("#{number} {time} ").as_bytes());
        text.extend_from_slice(line);
        text.push(b'\n');
    }

    fn end(&mut self, vertex: &Vertex, text: &mut Vec<u8>) {
        let Some(completed) = vertex.completed else {
            return;
        };
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.flush(text);
        if vertex.error.ends_with("context canceled") {
            self.say(format_args!("CANCELED"), text);
        } else if !vertex.error.is_empty() {
            self.say(format_args!("ERROR: {}", vertex.error), text);
        } else if vertex.cached {
            self.say(format_args!("CACHED"), text);
        } else {
            let time = self
                .started
                .map_or(0.0, |started| seconds(started, completed));
            self.say(format_args!("DONE {time:.1}s"), text);
        }
        text.push(b'\n');
    }
}

/// From one time to another, or nothing if clocks have jumped.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    let nanos = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let nanos = (nanos(to) - nanos(from)).max(0) as f64;
    nanos / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp {
            seconds: millis / 1000,
            nanos: i32::try_from(millis % 1000).unwrap() * 1_000_000,
        })
    }

    fn vertex(digest: &str, started: Option<Timestamp>, completed: Option<Timestamp>) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: format!("step {digest}"),
            started,
            completed,
            ..Vertex::default()
        }
    }

    fn vertexes(vertexes: impl Into<Vec<Vertex>>) -> StatusResponse {
        StatusResponse {
            vertexes: vertexes.into(),
            ..StatusResponse::default()
        }
    }

    fn output(digest: &str, millis: i64, msg: &[u8]) -> StatusResponse {
        let log = VertexLog {
            vertex: digest.to_owned(),
            timestamp: at(millis),
            stream: 1,
            msg: msg.to_vec(),
        };
        StatusResponse {
            logs: vec![log],
            ..StatusResponse::default()
        }
    }

    fn shown(statuses: &[StatusResponse]) -> String {
        let mut progress = Progress::default();
        let text = statuses.iter().flat_map(|status| progress.show(status));
        String::from_utf8(text.collect()).unwrap()
    }

    #[test]
    fn steps_are_numbered_as_they_begin_and_end_with_how_they_did() {
        let cached = Vertex {
            cached: true,
            ..vertex("c", at(0), at(0))
        };
        let failed = Vertex {
            error: "exit code: 7".into(),
            ..vertex("b", at(2000), at(3000))
        };
        let text = shown(&[
            vertexes([vertex("b", None, None), vertex("a", None, None)]),
            vertexes([vertex("a", at(1000), None), vertex("b", None, None)]),
            vertexes([cached]),
            vertexes([vertex("a", at(1000), at(1340))]),
            vertexes([vertex("a", at(1000), at(1340)), failed]),
        ]);
        assert_eq!(
            text,
            "#1 step a\n#2 step c\n#2 CACHED\n\n#1 DONE 0.3s\n\n#3 step b\n#3 ERROR: exit code: 7\n\n"
        );
    }

    #[test]
    fn what_is_told_together_is_printed_in_the_order_in_which_it_happened() {
        let status = StatusResponse {
            logs: output("a", 1500, b"last words").logs,
            ..vertexes([vertex("b", at(1700), None), vertex("a", at(1000), at(1600))])
        };
        let text = shown(&[vertexes([vertex("a", at(1000), None)]), status]);
        assert_eq!(
            text,
            "#1 step a\n#1 0.500 last words\n#1 DONE 0.6s\n\n#2 step b\n"
        );
    }

    #[test]
    fn output_is_put_together_into_lines_with_their_times() {
        let text = shown(&[
            vertexes([vertex("a", at(1000), None), vertex("b", at(1000), None)]),
            output("a", 1123, b"on"),
            output("b", 13_345, b"other\r\n"),
            output("a", 1500, b"e\ntwo\nthr"),
            output("unknown", 1500, b"nobody's\n"),
            vertexes([vertex("a", at(1000), at(2000))]),
        ]);
        assert_eq!(
            text,
            "#1 step a\n#2 step b\n#2 12.34 other\n#1 0.500 one\n#1 0.500 two\n#1 0.500 thr\n#1 DONE 1.0s\n\n"
        );
    }

    #[test]
    fn parts_are_told_when_they_are_done() {
        let part = |current, total, completed| VertexStatus {
            id: "transferring context:".into(),
            vertex: "a".into(),
            current,
            total,
            started: at(0),
            completed,
            ..VertexStatus::default()
        };
        let statuses = |part| StatusResponse {
            statuses: vec![part],
            ..StatusResponse::default()
        };
        let text = shown(&[
            vertexes([vertex("a", at(0), None)]),
            statuses(part(10, 0, None)),
            statuses(part(2048, 0, at(100))),
            statuses(part(2048, 0, at(100))),
        ]);
        assert_eq!(
            text,
            "#1 step a\n#1 transferring context: 2.048kB 0.1s done\n"
        );
    }

    #[test]
    fn a_line_without_end_does_not_pile_up() {
        let mut progress = Progress::default();
        progress.show(&vertexes([vertex("a", at(0), None)]));
        let status = output("a", 0, &[b'x'; 10_000]);
        let shown: usize = (0..100).map(|_| progress.show(&status).len()).sum();
        assert!(shown > 900_000, "{shown}");
    }
}
