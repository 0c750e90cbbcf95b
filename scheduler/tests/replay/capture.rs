//! A recorded session of one of upstream's programs with upstream's scheduler, and what can be learnt from it.
//!
//! A file has one message per line: `>` for one to the scheduler, `<` for one from it, and its bytes in hexadecimal.

use std::collections::{BTreeMap, HashMap};

use ocluster_api::cluster_capnp::job;

use crate::content::{JOB_LOG, JOB_RESULT, QUEUE_POP};
use crate::message::{Method, Raw, Say};

/// One recorded message.
pub(crate) struct Recorded {
    pub(crate) to_scheduler: bool,
    pub(crate) raw: Raw,
}

/// A recorded session.
pub(crate) struct Capture {
    pub(crate) messages: Vec<Recorded>,
}

/// A job as a capture knows it.
#[derive(Default)]
pub(crate) struct RecordedJob {
    /// Where pieces of the log start, and the pieces.
    pub(crate) log: BTreeMap<i64, String>,
    /// The result, if the capture goes that far.
    pub(crate) result: Option<Result<String, String>>,
    /// The answer to `pop`, in a worker's capture.
    pub(crate) popped: Option<Raw>,
}

impl RecordedJob {
    pub(crate) fn whole_log(&self) -> String {
        self.log.values().cloned().collect()
    }
}

impl Capture {
    pub(crate) fn read(name: &str) -> Self {
        let path = format!("{}/tests/captures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let messages = text.lines().map(|line| {
            let (direction, hex) = line.split_once(' ').unwrap();
            Recorded {
                to_scheduler: direction == ">",
                raw: Raw::from_hex(hex),
            }
        });
        Self {
            messages: messages.collect(),
        }
    }

    /// The job of a client's session: what the scheduler answered about it.
    pub(crate) fn submitted_job(&self) -> RecordedJob {
        let mut job = RecordedJob::default();
        self.answers(false, |_, _, method, call, answer| {
            job.learn(method, call, answer);
        });
        job
    }

    /// The jobs of a worker's session, in the order in which they were given.
    pub(crate) fn given_jobs(&self) -> Vec<RecordedJob> {
        let mut jobs: Vec<RecordedJob> = Vec::new();
        self.answers(false, |_, _, method, _, answer| {
            if method == QUEUE_POP {
                jobs.push(RecordedJob {
                    popped: Some(answer.clone()),
                    ..RecordedJob::default()
                });
            }
        });
        // The worker gave its jobs numbers and used a number again when it was released, which is when the log was complete.
        let mut current: HashMap<u32, usize> = HashMap::new();
        let mut complete = vec![false; jobs.len()];
        let mut first = 0;
        self.answers(true, |_, target, method, call, answer| {
            let number = target.unwrap();
            let index = match current.get(&number) {
                Some(index) if !complete[*index] => *index,
                _ => {
                    current.insert(number, first);
                    first += 1;
                    first - 1
                }
            };
            jobs[index].learn(method, call, answer);
            if method == JOB_LOG && jobs[index].log.values().any(String::is_empty) {
                complete[index] = true;
            }
        });
        jobs
    }

    /// Goes through the answers to calls made by the scheduler, or by the program.
    fn answers(
        &self,
        asked_by_scheduler: bool,
        mut look: impl FnMut(u32, Option<u32>, Method, &Raw, &Raw),
    ) {
        let mut open = HashMap::new();
        for message in &self.messages {
            let from_asker = message.to_scheduler != asked_by_scheduler;
            match message.raw.say() {
                Say::Call {
                    question,
                    target,
                    method,
                } if from_asker => {
                    open.insert(question, (target, method, &message.raw));
                }
                Say::Return { question, .. } if !from_asker => {
                    if let Some((target, method, call)) = open.remove(&question) {
                        look(question, target, method, call, &message.raw);
                    }
                }
                _ => {}
            }
        }
    }
}

impl RecordedJob {
    fn learn(&mut self, method: Method, call: &Raw, answer: &Raw) {
        let Say::Return { error, .. } = answer.say() else {
            panic!("not an answer");
        };
        if method == JOB_RESULT {
            self.result = Some(match error {
                Some(error) => Err(error),
                None => Ok(answer.results(|content| {
                    let results: job::result_results::Reader<'_> = content.get_as().unwrap();
                    results.get_output().unwrap().to_string().unwrap()
                })),
            });
        } else if method == JOB_LOG && error.is_none() {
            let (piece, _) = log_piece(answer);
            self.log.insert(call.log_start(), piece);
        }
    }
}

/// The bytes and the next offset in an answer to `Job.log`.
pub(crate) fn log_piece(answer: &Raw) -> (String, i64) {
    answer.results(|content| {
        let results: job::log_results::Reader<'_> = content.get_as().unwrap();
        let log = results.get_log().unwrap().to_vec();
        (String::from_utf8(log).unwrap(), results.get_next())
    })
}
