//! Plays a recorded program against our scheduler: sends what the program sent, after waiting for what it had waited for, and holds
//! each answer of ours against the recorded one.
//!
//! Numbers are translated: the scheduler numbers its own objects and questions as it likes, and the program's messages refer to them.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::capture::{Capture, log_piece};
use crate::content::{JOB_LOG, JOB_RESULT, REPORT, decode};
use crate::message::{Cap, Method, Raw, Say};

/// A recorded program, connected to our scheduler.
pub(crate) struct Player {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// What the program's open questions are about.
    asked: HashMap<u32, Option<(Method, Raw)>>,
    /// Our scheduler's answers that were not looked at yet.
    answers: HashMap<u32, (Raw, Option<String>, Vec<Cap>)>,
    /// Calls of our scheduler that were not looked at yet: question, the program's object, method, message.
    calls: Vec<(u32, u32, Method, Raw)>,
    resolved: HashMap<u32, Result<Cap, String>>,
    /// How often our scheduler has released each of the program's objects, less what was looked at.
    released: HashMap<u32, u32>,
    /// From the recorded scheduler's objects to ours.
    objects: HashMap<u32, Cap>,
    /// Recorded promises for which ours had the object itself at once: one object less to release.
    skipped_promises: Vec<u32>,
    /// From the recorded scheduler's questions to ours; nothing for a question that ours does not ask.
    questions: HashMap<u32, Option<u32>>,
    /// Of the job at hand, by the program's number of it: whether our scheduler has asked for its result.
    result_asked: HashMap<u32, bool>,
    /// All of the log in a client's session.
    log: String,
    /// How many answers were compared.
    pub(crate) compared: usize,
}

impl Player {
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer,
            asked: HashMap::new(),
            answers: HashMap::new(),
            calls: Vec::new(),
            resolved: HashMap::new(),
            released: HashMap::new(),
            objects: HashMap::new(),
            skipped_promises: Vec::new(),
            questions: HashMap::new(),
            result_asked: HashMap::new(),
            log: String::new(),
            compared: 0,
        }
    }

    /// Plays the whole session. The connection stays open until the player is dropped.
    pub(crate) async fn play(&mut self, capture: &Capture) {
        self.log = capture.submitted_job().whole_log();
        for message in &capture.messages {
            if message.to_scheduler {
                self.send(&message.raw).await;
            } else {
                self.expect(&message.raw).await;
            }
        }
    }

    // ---- what the program sent ----

    async fn send(&mut self, raw: &Raw) {
        let raw = raw.clone();
        let raw = match raw.say() {
            Say::Bootstrap { question } => {
                self.asked.insert(question, None);
                raw
            }
            Say::Call {
                question,
                target,
                method,
            } => {
                self.asked.insert(question, Some((method, raw.clone())));
                match target {
                    Some(object) => raw.with_target(self.objects[&object].id()),
                    None => raw,
                }
            }
            Say::Return { question, .. } => match self.questions.remove(&question).unwrap() {
                Some(question) => raw.with_number(question),
                None => return,
            },
            Say::Release { id, .. } => {
                if self.skipped_promises.contains(&id) {
                    return;
                }
                raw.with_number(self.objects[&id].id())
            }
            Say::Finish => raw,
            other => panic!("no program was recorded to send {other:?}"),
        };
        self.write(&raw).await;
    }

    async fn write(&mut self, raw: &Raw) {
        self.writer.write_all(&raw.0).await.unwrap();
    }

    // ---- what the recorded scheduler sent, and ours must too ----

    async fn expect(&mut self, raw: &Raw) {
        match raw.say() {
            Say::Return {
                question,
                error,
                caps,
            } => self.expect_answer(question, raw, error, &caps).await,
            Say::Call {
                question,
                target,
                method,
            } => {
                self.expect_call(question, target.unwrap(), method, raw)
                    .await
            }
            Say::Resolve { promise, to } => self.expect_resolve(promise, to).await,
            Say::Release { id, count } => {
                self.receive_until(|this| this.released.get(&id).is_some_and(|n| *n >= count))
                    .await;
                *self.released.get_mut(&id).unwrap() -= count;
                self.result_asked.remove(&id);
            }
            // When the scheduler is done with an answer is its own business; and the recorder stopped the recorded scheduler.
            Say::Finish | Say::Abort => {}
            other => panic!("no scheduler was recorded to send {other:?}"),
        }
    }

    async fn expect_answer(
        &mut self,
        question: u32,
        recorded: &Raw,
        error: Option<String>,
        caps: &[Cap],
    ) {
        self.receive_until(|this| this.answers.contains_key(&question))
            .await;
        let (our, our_error, our_caps) = self.answers.remove(&question).unwrap();
        let asked = self.asked.remove(&question).unwrap();
        assert_eq!(our_error, error, "to {:?}", asked.map(|(method, _)| method));
        self.compared += 1;
        assert_eq!(our_caps.len(), caps.len(), "capabilities");
        for (recorded, our) in caps.iter().zip(our_caps) {
            self.objects.insert(recorded.id(), our);
        }
        match asked {
            _ if error.is_some() => {}
            Some((JOB_LOG, call)) => self.compare_log(call.log_start(), recorded, &our),
            Some((method, _)) => assert_eq!(decode(method, &our), decode(method, recorded)),
            None => assert_eq!(caps.len(), 1, "a sturdy ref is answered with an object"),
        }
    }

    /// The pieces in which a log comes are chance: ours comes from the scheduler's own copy, which may be ahead of the recorded
    /// worker's. But each must be a part of the same log, at its place, and the end must be the end.
    fn compare_log(&self, start: i64, recorded: &Raw, our: &Raw) {
        let (recorded, _) = log_piece(recorded);
        let (our, next) = log_piece(our);
        let start = usize::try_from(start).unwrap();
        assert_eq!(our.is_empty(), recorded.is_empty(), "at {start}: {our:?}");
        assert_eq!(Some(our.as_str()), self.log.get(start..start + our.len()));
        assert_eq!(next, i64::try_from(start + our.len()).unwrap());
    }

    async fn expect_call(&mut self, question: u32, object: u32, method: Method, recorded: &Raw) {
        // The recorded scheduler passes its client's question for the result on to the worker, after asking for itself. Ours asks
        // once, and answers its clients from what it learnt.
        if method == JOB_RESULT && self.result_asked.get(&object) == Some(&true) {
            self.questions.insert(question, None);
            return;
        }
        let same = |call: &(u32, u32, Method, Raw)| {
            let (_, target, asked, raw) = call;
            *target == object
                && *asked == method
                && (method != JOB_LOG || raw.log_start() == recorded.log_start())
        };
        self.receive_until(|this| this.calls.iter().any(same)).await;
        let index = self.calls.iter().position(same).unwrap();
        let (our, _, _, raw) = self.calls.remove(index);
        if method == JOB_RESULT {
            self.result_asked.insert(object, true);
        }
        if method == REPORT {
            assert_eq!(report(&raw), report(recorded));
        }
        self.questions.insert(question, Some(our));
    }

    async fn expect_resolve(&mut self, promise: u32, to: Result<Cap, String>) {
        match (self.objects[&promise], to) {
            (Cap::Promise(our), to) => {
                self.receive_until(|this| this.resolved.contains_key(&our))
                    .await;
                match (self.resolved.remove(&our).unwrap(), to) {
                    (Ok(object), Ok(recorded)) => {
                        self.objects.insert(recorded.id(), object);
                    }
                    (our, recorded) => assert_eq!(our.err(), recorded.err()),
                }
            }
            // A worker was waiting, and our scheduler gave it the job before it answered the client: there is nothing to promise.
            (object @ Cap::Hosted(_), Ok(recorded)) => {
                self.objects.insert(recorded.id(), object);
                self.skipped_promises.push(promise);
            }
            (object, to) => panic!("{object:?} never says what became of it, which was {to:?}"),
        }
    }

    // ---- what ours sends ----

    async fn receive_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            let raw = self.read().await;
            self.file(raw);
        }
    }

    async fn read(&mut self) -> Raw {
        let mut raw = vec![0; 4];
        self.reader
            .read_exact(&mut raw)
            .await
            .expect("our scheduler closed the connection");
        let segments = u32::from_le_bytes(raw[..].try_into().unwrap()) as usize + 1;
        // The table of sizes takes whole words together with the number of segments.
        let table = (4 + 4 * segments).next_multiple_of(8);
        raw.resize(table, 0);
        self.reader.read_exact(&mut raw[4..]).await.unwrap();
        let sizes = raw[4..].chunks(4).take(segments);
        let words: u32 = sizes
            .map(|size| u32::from_le_bytes(size.try_into().unwrap()))
            .sum();
        raw.resize(table + words as usize * 8, 0);
        self.reader.read_exact(&mut raw[table..]).await.unwrap();
        Raw(raw)
    }

    fn file(&mut self, raw: Raw) {
        match raw.say() {
            Say::Return {
                question,
                error,
                caps,
            } => {
                assert!(self.asked.contains_key(&question), "nobody asked");
                self.answers.insert(question, (raw, error, caps));
            }
            Say::Call {
                question,
                target,
                method,
            } => {
                let target = target.expect("a call to a result of ours");
                self.calls.push((question, target, method, raw));
            }
            Say::Resolve { promise, to } => {
                self.resolved.insert(promise, to);
            }
            Say::Release { id, count } => *self.released.entry(id).or_default() += count,
            Say::Finish => {}
            other => panic!("our scheduler sent {other:?}"),
        }
    }
}

fn report(call: &Raw) -> String {
    use capnp_rpc::rpc_capnp::message;
    use ocluster_api::cluster_capnp::progress::report_params;
    let reader = call.reader();
    let root: message::Reader<'_> = reader.get_root().unwrap();
    let Ok(message::Call(Ok(call))) = root.which() else {
        panic!("not a call");
    };
    let content = call.get_params().unwrap().get_content();
    let params: report_params::Reader<'_> = content.get_as().unwrap();
    params.get_status().unwrap().to_string().unwrap()
}
