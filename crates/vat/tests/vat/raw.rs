//! A peer made of bytes: for what no honest RPC system would send, and to see what ours sends.

use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp::serialize::OwnedSegments;
use capnp_rpc::rpc_capnp::{message, return_};
use ocluster_vat::{Connection, ConnectionOptions, Digest, Limits, PeerInfo, Restorer};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::support::INTERFACE;

pub(crate) type Message = Reader<OwnedSegments>;

pub(crate) struct RawPeer {
    pub(crate) stream: DuplexStream,
}

/// A connection accepted from a raw peer.
pub(crate) fn raw_client(restorer: Rc<dyn Restorer>, limits: Limits) -> (RawPeer, Connection) {
    let (one, stream) = tokio::io::duplex(16 * 1024 * 1024);
    let mut options = ConnectionOptions::accepted(restorer);
    options.limits = limits;
    let peer = PeerInfo::local("raw", Digest::Insecure);
    (
        RawPeer { stream },
        Connection::from_stream(one, peer, options),
    )
}

/// A connection dialled to a raw peer.
pub(crate) fn raw_server() -> (RawPeer, Connection) {
    let (one, stream) = tokio::io::duplex(16 * 1024 * 1024);
    let peer = PeerInfo::local("raw", Digest::Insecure);
    let connection = Connection::from_stream(one, peer, ConnectionOptions::dialled());
    (RawPeer { stream }, connection)
}

impl RawPeer {
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The other end may have closed already, which is for the test to see by itself.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn send(&mut self, write: impl FnOnce(message::Builder<'_>)) {
        let mut builder = Builder::new(HeapAllocator::new());
        write(builder.init_root());
        let bytes = capnp::serialize::write_message_to_words(&builder);
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn bootstrap(&mut self, question: u32, id: &[u8]) {
        self.send(|root| {
            let mut bootstrap = root.init_bootstrap();
            bootstrap.set_question_id(question);
            let id = capnp::text::Reader(id);
            bootstrap.init_deprecated_object_id().set_as(id).unwrap();
        })
        .await;
    }

    /// Calls a method on what question `on` answered, with a text.
    pub(crate) async fn call(&mut self, question: u32, on: u32, method: u16, text: &str) {
        self.send(|root| {
            let mut call = root.init_call();
            call.set_question_id(question);
            call.set_interface_id(INTERFACE);
            call.set_method_id(method);
            let target = call.reborrow().init_target();
            target.init_promised_answer().set_question_id(on);
            let mut content = call.init_params().init_content();
            content.set_as(text).unwrap();
        })
        .await;
    }

    pub(crate) async fn finish(&mut self, question: u32, release: bool) {
        self.send(|root| {
            let mut finish = root.init_finish();
            finish.set_question_id(question);
            finish.set_release_result_caps(release);
        })
        .await;
    }

    /// The next message, or nothing at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let receive = async {
            let mut header = vec![0; 4];
            self.stream.read_exact(&mut header).await.ok()?;
            let count = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize + 1;
            let mut table = vec![0; (count * 4 + 4).next_multiple_of(8) - 4];
            self.stream.read_exact(&mut table).await.ok()?;
            let words: usize = table
                .chunks(4)
                .take(count)
                .map(|size| u32::from_le_bytes(size.try_into().unwrap()) as usize)
                .sum();
            let mut body = vec![0; words * 8];
            self.stream.read_exact(&mut body).await.ok()?;
            let mut all = header;
            all.extend(table);
            all.extend(body);
            let message = capnp::serialize::read_message(&all[..], ReaderOptions::new());
            Some(message.unwrap())
        };
        tokio::time::timeout(Duration::from_secs(10), receive)
            .await
            .expect("the connection says nothing")
    }

    /// Reads on until the connection says why it ends.
    pub(crate) async fn abort_reason(&mut self) -> Option<String> {
        while let Some(message) = self.receive().await {
            let root = message.get_root::<message::Reader<'_>>().unwrap();
            if let Ok(message::Abort(abort)) = root.which() {
                let reason = abort.unwrap().get_reason().unwrap();
                return Some(reason.to_string().unwrap());
            }
        }
        None
    }
}

/// One line per message, for comparing with what is expected.
pub(crate) fn describe(message: &Message) -> String {
    let root = message.get_root::<message::Reader<'_>>().unwrap();
    match root.which() {
        Ok(message::Bootstrap(bootstrap)) => {
            let bootstrap = bootstrap.unwrap();
            let id = bootstrap.get_deprecated_object_id();
            let id = if id.is_null() {
                "null".to_owned()
            } else {
                let id = id.get_as::<capnp::text::Reader<'_>>().unwrap();
                format!("{:?}", id.as_bytes())
            };
            format!("bootstrap {} {id}", bootstrap.get_question_id())
        }
        Ok(message::Return(answer)) => {
            let answer = answer.unwrap();
            let what = match answer.which().unwrap() {
                return_::Results(results) => caps(results.unwrap()),
                return_::Exception(exception) => exception_text(exception.unwrap()),
                return_::Canceled(()) => "canceled".to_owned(),
                _ => "something else".to_owned(),
            };
            format!("return {} {what}", answer.get_answer_id())
        }
        Ok(message::Resolve(resolve)) => {
            use capnp_rpc::rpc_capnp::resolve;
            let resolve = resolve.unwrap();
            let what = match resolve.which().unwrap() {
                resolve::Cap(cap) => descriptor(cap.unwrap()),
                resolve::Exception(exception) => exception_text(exception.unwrap()),
            };
            format!("resolve {} {what}", resolve.get_promise_id())
        }
        Ok(message::Abort(abort)) => format!("abort {}", exception_text(abort.unwrap())),
        Ok(message::Unimplemented(_)) => "unimplemented".to_owned(),
        Ok(message::Call(call)) => {
            let call = call.unwrap();
            format!(
                "call {} {:x}",
                call.get_question_id(),
                call.get_interface_id()
            )
        }
        Ok(message::Finish(finish)) => format!("finish {}", finish.unwrap().get_question_id()),
        Ok(message::Release(release)) => format!("release {}", release.unwrap().get_id()),
        _ => "another message".to_owned(),
    }
}

fn exception_text(exception: capnp_rpc::rpc_capnp::exception::Reader<'_>) -> String {
    let reason = exception.get_reason().unwrap().to_string().unwrap();
    format!("{:?}: {reason}", exception.get_type().unwrap())
}

fn caps(payload: capnp_rpc::rpc_capnp::payload::Reader<'_>) -> String {
    let table = payload.get_cap_table().unwrap();
    let caps: Vec<String> = table.iter().map(descriptor).collect();
    format!("results [{}]", caps.join(", "))
}

fn descriptor(cap: capnp_rpc::rpc_capnp::cap_descriptor::Reader<'_>) -> String {
    use capnp_rpc::rpc_capnp::cap_descriptor;
    match cap.which().unwrap() {
        cap_descriptor::SenderHosted(id) => format!("hosted {id}"),
        cap_descriptor::SenderPromise(id) => format!("promise {id}"),
        _ => "another cap".to_owned(),
    }
}
