//! Takes a job's log apart and compares each attempt's part with what the runs of the job printed.

use crate::history::{ExecEnd, Execution};
use crate::work::Work;

/// An attempt's part of a log.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The worker of the attempt.
    pub worker: &'a str,
    /// Its bytes, with what the scheduler says after them.
    pub bytes: &'a [u8],
    /// Whether the run must be there to its end.
    pub whole: bool,
}

/// What the worker wrote for this run, in full.
fn printed(work: &Work, run: &Execution) -> String {
    let mut text = format!("Building on {}\n", run.worker);
    for line in 0..run.lines {
        text.push_str(&work.line(run.number, line));
        text.push('\n');
    }
    text.push_str(match run.ended {
        Some((_, ExecEnd::Passed)) => "Job succeeded\n",
        Some((_, ExecEnd::Failed)) => "it does not build\n",
        Some((_, ExecEnd::Infrastructure)) => "the machine is no good\n",
        Some((_, ExecEnd::Stopped)) | None => "Job cancelled\n",
    });
    text
}

/// Checks that each part is a prefix of what one run on the attempt's worker printed, followed by nothing but words of the scheduler.
///
/// # Errors
/// What is wrong, in words.
pub fn check(work: &Work, parts: &[Part<'_>], runs: &[&Execution]) -> Result<(), String> {
    let mark = format!("{} execution", work.key);
    let mut used = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let number = at + 1;
        let mut best: Option<(usize, usize, Option<usize>)> = None;
        for run in runs {
            if run.worker != part.worker || used.contains(&run.number) {
                continue;
            }
            let expected = printed(work, run);
            let common = common(expected.as_bytes(), part.bytes);
            if best.is_none_or(|(longest, ..)| common > longest) {
                best = Some((common, expected.len(), Some(run.number)));
            }
        }
        // A job may be on a worker and never run there: it is only greeted then.
        let greeting = format!("Building on {}\n", part.worker);
        let (matched, length, run) = best.unwrap_or((
            common(greeting.as_bytes(), part.bytes),
            greeting.len(),
            None,
        ));
        // A greeting alone may be another run's, which a later part tells.
        if matched > greeting.len() {
            used.extend(run);
        }
        let rest = part.bytes.get(matched..).unwrap_or_default();
        let words = String::from_utf8_lossy(rest);
        // Words of others begin on a line of their own.
        let at_line = rest.is_empty()
            || rest.starts_with(b"\n")
            || part
                .bytes
                .get(..matched)
                .is_some_and(|before| before.ends_with(b"\n"));
        let foreign = [mark.as_str(), "Building on", " line "];
        if !at_line || foreign.iter().any(|word| words.contains(word)) {
            return Err(format!(
                "in attempt {number} on {}, after {matched} of {length} bytes of execution {run:?}, comes {:?}",
                part.worker,
                words.chars().take(120).collect::<String>()
            ));
        }
        if part.whole && (matched < length || !rest.is_empty()) {
            return Err(format!(
                "attempt {number} on {} passed, and {matched} of {length} bytes of execution {run:?} are there, and then {:?}",
                part.worker,
                words.chars().take(120).collect::<String>()
            ));
        }
    }
    Ok(())
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;
    use crate::work::Ending;

    fn work() -> Work {
        Work {
            key: "client/1".to_owned(),
            lines: 2,
            padding: 3,
            every_ms: 0,
            ending: Ending::Pass,
        }
    }

    fn run(number: usize, worker: &str) -> Execution {
        Execution {
            number,
            job: "client/1".to_owned(),
            worker: worker.to_owned(),
            started: Duration::ZERO,
            ended: Some((Duration::ZERO, ExecEnd::Passed)),
            lines: 2,
        }
    }

    fn part<'a>(worker: &'a str, text: &'a str, whole: bool) -> Part<'a> {
        Part {
            worker,
            bytes: text.as_bytes(),
            whole,
        }
    }

    #[test]
    fn prefixes_with_words_of_the_scheduler_after_them_are_well() {
        let (one, two) = (run(0, "a"), run(1, "b"));
        let cut = format!("{}\nthe worker was lost\n", &printed(&work(), &one)[..30]);
        let all = printed(&work(), &two);
        let parts = [part("a", &cut, false), part("b", &all, true)];
        check(&work(), &parts, &[&one, &two]).unwrap();
    }

    #[test]
    fn a_part_with_a_greeting_alone_takes_no_run_from_a_later_one() {
        let one = run(0, "a");
        let all = printed(&work(), &one);
        let parts = [
            part("a", "Building on a\n\n[queued again]\n", false),
            part("a", &all, true),
        ];
        check(&work(), &parts, &[&one]).unwrap();
    }

    #[test]
    fn holes_repeats_mixtures_and_missing_ends_are_not() {
        let (one, two) = (run(0, "a"), run(1, "b"));
        let (first, second) = (printed(&work(), &one), printed(&work(), &two));
        let line = format!("{}\n", work().line(0, 0));
        let hole = first.replace(&line, "");
        let repeat = first.replace(&line, &line.repeat(2));
        let mixture = format!("{}{}", &first[..40], &second[40..]);
        for wrong in [&hole, &repeat, &mixture] {
            let wrong = check(&work(), &[part("a", wrong, false)], &[&one, &two]);
            assert!(wrong.is_err(), "{wrong:?}");
        }
        let short = check(&work(), &[part("a", &first[..40], true)], &[&one]);
        assert!(short.is_err());
    }
}
