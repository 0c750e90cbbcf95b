//! RPC messages as the replay looks at them: raw bytes, and the few things in them that matter here.

use capnp::message::{Reader, ReaderOptions};
use capnp::serialize::OwnedSegments;
use capnp_rpc::rpc_capnp::{cap_descriptor, exception, message, message_target, resolve, return_};

/// One message in stream framing.
#[derive(Clone)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

/// A method, by interface and number.
pub(crate) type Method = (u64, u16);

/// A capability in a message, as its sender describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    Hosted(u32),
    Promise(u32),
    Other,
}

impl Cap {
    /// The sender's number of it.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::Hosted(id) | Self::Promise(id) => id,
            Self::Other => panic!("a capability of a kind that no capture has"),
        }
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Bootstrap {
        question: u32,
    },
    Call {
        question: u32,
        /// The callee's number of the object; nothing for the result of an earlier call.
        target: Option<u32>,
        method: Method,
    },
    Return {
        question: u32,
        /// The exception, as programs print it.
        error: Option<String>,
        caps: Vec<Cap>,
    },
    Finish,
    Resolve {
        promise: u32,
        to: Result<Cap, String>,
    },
    Release {
        id: u32,
        count: u32,
    },
    Abort,
    Disembargo,
    Unimplemented,
}

impl Raw {
    pub(crate) fn from_hex(hex: &str) -> Self {
        let digits = hex.as_bytes().chunks(2);
        Self(
            digits
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect(),
        )
    }

    pub(crate) fn reader(&self) -> Reader<OwnedSegments> {
        capnp::serialize::read_message(&mut self.0.as_slice(), ReaderOptions::new()).unwrap()
    }

    /// What it says.
    pub(crate) fn say(&self) -> Say {
        let reader = self.reader();
        let root: message::Reader<'_> = reader.get_root().unwrap();
        match root.which().unwrap() {
            message::Bootstrap(bootstrap) => Say::Bootstrap {
                question: bootstrap.unwrap().get_question_id(),
            },
            message::Call(call) => {
                let call = call.unwrap();
                let target = match call.get_target().unwrap().which().unwrap() {
                    message_target::ImportedCap(id) => Some(id),
                    message_target::PromisedAnswer(_) => None,
                };
                Say::Call {
                    question: call.get_question_id(),
                    target,
                    method: (call.get_interface_id(), call.get_method_id()),
                }
            }
            message::Return(answer) => answer_of(answer.unwrap()),
            message::Finish(_) => Say::Finish,
            message::Resolve(resolve) => resolve_of(resolve.unwrap()),
            message::Release(release) => {
                let release = release.unwrap();
                Say::Release {
                    id: release.get_id(),
                    count: release.get_reference_count(),
                }
            }
            message::Abort(_) => Say::Abort,
            message::Disembargo(_) => Say::Disembargo,
            message::Unimplemented(_) => Say::Unimplemented,
            _ => panic!("a message of a kind that no capture has"),
        }
    }

    /// The parameters of a `Job.log` call.
    pub(crate) fn log_start(&self) -> i64 {
        use ocluster_api::cluster_capnp::job::log_params;
        let reader = self.reader();
        let root: message::Reader<'_> = reader.get_root().unwrap();
        let Ok(message::Call(Ok(call))) = root.which() else {
            panic!("not a call");
        };
        let content = call.get_params().unwrap().get_content();
        content
            .get_as::<log_params::Reader<'_>>()
            .unwrap()
            .get_start()
    }

    /// Looks at the results in an answer.
    pub(crate) fn results<T>(&self, look: impl FnOnce(capnp::any_pointer::Reader<'_>) -> T) -> T {
        let reader = self.reader();
        let root: message::Reader<'_> = reader.get_root().unwrap();
        let Ok(message::Return(Ok(answer))) = root.which() else {
            panic!("not an answer");
        };
        let Ok(return_::Results(Ok(payload))) = answer.which() else {
            panic!("an answer without results");
        };
        look(payload.get_content())
    }

    /// The same message with another first number: the question of a call or an answer, the object of a release.
    pub(crate) fn with_number(mut self, number: u32) -> Self {
        let at = self.body();
        self.put(at, number);
        self
    }

    /// The same call, to another object of the callee's.
    pub(crate) fn with_target(mut self, object: u32) -> Self {
        let (_, pointers) = self.follow(self.pointer_to_body());
        let (target, _) = self.follow(pointers);
        self.put(target, object);
        self
    }

    fn put(&mut self, at: usize, number: u32) {
        self.0[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    /// Where the pointer in the `Message` union is: behind the frame's header and the root pointer.
    fn pointer_to_body(&self) -> usize {
        assert_eq!(self.0[..4], [0; 4], "more than one segment");
        let (_, pointers) = self.follow(8);
        pointers
    }

    fn body(&self) -> usize {
        self.follow(self.pointer_to_body()).0
    }

    /// Follows a struct pointer to the struct's data and pointers. Patching in place keeps capability pointers as they are, which
    /// copying to a new message would not.
    fn follow(&self, at: usize) -> (usize, usize) {
        let word = u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap());
        assert_eq!(word & 3, 0, "not a struct pointer");
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
        let offset = (word as u32 as i32) >> 2;
        let data_words = usize::try_from((word >> 32) & 0xffff).unwrap();
        let data = (at + 8).checked_add_signed(offset as isize * 8).unwrap();
        (data, data + data_words * 8)
    }
}

fn answer_of(answer: return_::Reader<'_>) -> Say {
    let (error, caps) = match answer.which().unwrap() {
        return_::Results(payload) => {
            let table = payload.unwrap().get_cap_table().unwrap();
            (None, table.iter().map(cap_of).collect())
        }
        return_::Exception(why) => (Some(print(why.unwrap())), Vec::new()),
        return_::Canceled(()) => (Some("canceled".to_owned()), Vec::new()),
        _ => panic!("an answer of a kind that no capture has"),
    };
    Say::Return {
        question: answer.get_answer_id(),
        error,
        caps,
    }
}

fn resolve_of(resolve: resolve::Reader<'_>) -> Say {
    Say::Resolve {
        promise: resolve.get_promise_id(),
        to: match resolve.which().unwrap() {
            resolve::Cap(cap) => Ok(cap_of(cap.unwrap())),
            resolve::Exception(why) => Err(print(why.unwrap())),
        },
    }
}

fn cap_of(descriptor: cap_descriptor::Reader<'_>) -> Cap {
    match descriptor.which().unwrap() {
        cap_descriptor::SenderHosted(id) => Cap::Hosted(id),
        cap_descriptor::SenderPromise(id) => Cap::Promise(id),
        _ => Cap::Other,
    }
}

fn print(why: exception::Reader<'_>) -> String {
    let reason = why.get_reason().unwrap().to_str().unwrap();
    format!("{:?}: {reason}", why.get_type().unwrap())
}
