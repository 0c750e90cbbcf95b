//! What jobs look like, for people and for programs.

use std::time::Duration;

use super::*;
use crate::output;

/// A job with everything, which ran twice.
fn finished() -> JobInfo {
    JobInfo {
        id: "j31n03".to_owned(),
        pool: "linux-x86_64".to_owned(),
        client: "alice".to_owned(),
        hint: "app\u{1b}[2J".to_owned(),
        urgent: true,
        kind: "docker".to_owned(),
        state: JobState::Failed,
        cause: Some(JobCause {
            code: "build-failed".to_owned(),
            sentence: "the build ended with exit code 2".to_owned(),
        }),
        attempt: 2,
        worker: Some("w2".to_owned()),
        queued_at: Some(1_700_000_000_000),
        assigned_at: Some(1_700_000_060_500),
        started_at: Some(1_700_000_061_000),
        ended_at: Some(1_700_000_161_000),
        output: String::new(),
        log_length: 12_345,
        log_digest: Some("ab".repeat(32)),
        durable: true,
        key: Some("nightly-17".to_owned()),
        limits: JobLimits {
            running: Some(Duration::from_secs(7200)),
            queued: None,
            silent: Some(Duration::from_secs(900)),
        },
        attempts: vec![Attempt {
            number: 1,
            worker: "w1".to_owned(),
            started_at: Some(1_700_000_001_000),
            ended_at: Some(1_700_000_060_000),
            cause: Some(JobCause {
                code: "worker-lost".to_owned(),
                sentence: "w1 gave no sign of life for 12 s".to_owned(),
            }),
            log_start: 0,
        }],
        waits_for_worker: false,
        log_start: 4_200,
    }
}

/// A job about which there is little to say.
fn queued() -> JobInfo {
    JobInfo {
        id: "j12".to_owned(),
        hint: String::new(),
        urgent: false,
        kind: "obuilder".to_owned(),
        state: JobState::Queued,
        cause: None,
        attempt: 0,
        worker: None,
        assigned_at: None,
        started_at: None,
        ended_at: None,
        log_length: 0,
        log_start: 0,
        log_digest: None,
        durable: false,
        key: None,
        limits: JobLimits::default(),
        attempts: vec![],
        ..finished()
    }
}

fn running() -> JobInfo {
    JobInfo {
        id: "j24".to_owned(),
        state: JobState::Running,
        cause: None,
        ended_at: None,
        log_digest: None,
        waits_for_worker: true,
        ..finished()
    }
}

/// Times are shown in the zone of whoever looks, which is not the same on every machine.
fn without_times(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let is_date = word.starts_with("2023-11-1");
        let bare = word.trim_end_matches([',', '\n']);
        let is_time = bare.len() == 8 && bare.matches(':').count() == 2;
        words.push(if is_date {
            "DATE".to_owned()
        } else if is_time {
            word.replace(bare, "TIME")
        } else if let Some((bare, rest)) = word.split_once('\n')
            && bare.len() == 8
            && bare.matches(':').count() == 2
        {
            format!("TIME\n{rest}")
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}

#[test]
fn a_list_is_a_table() {
    let jobs = [finished(), running(), queued()];
    insta::assert_snapshot!(without_times(&format!(
        "{}\n{}",
        job_table(&jobs, false),
        job_table(&jobs, true)
    )));
}

#[test]
fn the_status_of_a_job_tells_its_story() {
    let passed = JobInfo {
        state: JobState::Passed,
        cause: None,
        output: "team/app@sha256:\"12\"".to_owned(),
        ..finished()
    };
    let texts: Vec<String> = [finished(), running(), queued(), passed]
        .iter()
        .map(|job| without_times(&status_text(job)))
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn jobs_for_programs() {
    let page = JobPage {
        jobs: vec![finished(), queued()],
        more: Some("j12".to_owned()),
    };
    let explanation = Explanation {
        summary: "It waits for a worker.".to_owned(),
        details: vec!["12 jobs come before it.".to_owned()],
        job: queued(),
    };
    insta::assert_snapshot!(
        [
            output::to_json(JsonJob::from(&running())).unwrap(),
            output::to_json(JsonJobList::from(&page)).unwrap(),
            output::to_json(JsonExplanation::from(&explanation)).unwrap(),
        ]
        .join("\n")
    );
}

#[test]
fn an_explanation_is_a_sentence_and_a_list() {
    let explanation = Explanation {
        summary: "It waits for a worker.".to_owned(),
        details: vec![
            "12 jobs come before it.".to_owned(),
            "w1 is paused: \u{7}disk full.".to_owned(),
        ],
        job: queued(),
    };
    assert_eq!(
        explanation.to_string(),
        "It waits for a worker.\n- 12 jobs come before it.\n- w1 is paused: \\u{7}disk full.\n"
    );
}
