//! What the tests of this crate share: an untyped object to call, a restorer that knows some ids,
//! a server on a free port, and a client that has connected to it.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::{
    Client, DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results,
};
use capnp::private::capability::ClientHook;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use ocluster_vat::{
    Address, Connection, ConnectionOptions, DialOptions, Digest, Limits, Listener, Location,
    PeerInfo, RestoreError, Restorer, RpcError, SecretKey, Server, ServiceId, Stats, Vat,
};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

pub(crate) const INTERFACE: u64 = 0xabcd_ef01_2345_6789;
/// Answers with the text in the parameters.
pub(crate) const ECHO: u16 = 0;
/// Fails with the text in the parameters.
pub(crate) const FAIL: u16 = 1;
/// Never answers.
pub(crate) const HANG: u16 = 2;
/// Panics.
pub(crate) const PANIC: u16 = 3;
/// Answers with a capability: itself once more.
pub(crate) const MYSELF: u16 = 4;
/// Keeps the capability in the parameters, until the object goes.
pub(crate) const KEEP: u16 = 5;
/// Answers with as many bytes as the text in the parameters says.
pub(crate) const BYTES: u16 = 6;
/// Calls FAIL on the capability in the parameters and passes its error on.
pub(crate) const FORWARD_FAIL: u16 = 7;
/// Answers with a fresh object each time.
pub(crate) const FRESH: u16 = 8;
/// Answers with the capability which `Thing::gift` holds.
pub(crate) const GIFT: u16 = 9;

/// Runs a test on a vat thread of its own.
pub(crate) fn vat_test<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test takes too long");
    });
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came true: {what}");
}

/// An object with the methods above.
#[derive(Default)]
pub(crate) struct Thing {
    pub(crate) name: String,
    pub(crate) kept: RefCell<Vec<Client>>,
    pub(crate) gift: RefCell<Option<Client>>,
    pub(crate) hanging: Rc<std::cell::Cell<usize>>,
}

impl Thing {
    pub(crate) fn named(name: &str) -> Rc<Self> {
        Rc::new(Self {
            name: name.to_owned(),
            ..Self::default()
        })
    }

    pub(crate) fn client(self: &Rc<Self>) -> Client {
        capnp_rpc::new_client_from_rc::<ThingClient, Thing>(self.clone()).0
    }
}

pub(crate) fn text_of(params: &Params<any_pointer::Owned>) -> String {
    let content = params.get().unwrap();
    if content.is_null() {
        return String::new();
    }
    let text = content.get_as::<capnp::text::Reader<'_>>().unwrap();
    text.to_string().unwrap()
}

async fn serve(
    thing: Rc<Thing>,
    method: u16,
    params: Params<any_pointer::Owned>,
    mut results: Results<any_pointer::Owned>,
) -> capnp::Result<()> {
    match method {
        ECHO => {
            let text = format!("{}{}", thing.name, text_of(&params));
            results.get().set_as(text.as_str())
        }
        FAIL => Err(ocluster_vat::error::failed(text_of(&params))),
        HANG => {
            struct Count(Rc<std::cell::Cell<usize>>);
            impl Drop for Count {
                fn drop(&mut self) {
                    self.0.set(self.0.get() - 1);
                }
            }
            thing.hanging.set(thing.hanging.get() + 1);
            let _count = Count(thing.hanging.clone());
            std::future::pending().await
        }
        PANIC => panic!("a handler panics, as this test asks it to"),
        MYSELF => {
            results.get().set_as_capability(thing.client().hook);
            Ok(())
        }
        KEEP => {
            let cap: Client = params.get()?.get_as_capability()?;
            thing.kept.borrow_mut().push(cap);
            Ok(())
        }
        BYTES => {
            let size: u32 = text_of(&params).parse().unwrap();
            results.get().initn_as::<capnp::data::Builder<'_>>(size);
            Ok(())
        }
        FORWARD_FAIL => {
            let cap: Client = params.get()?.get_as_capability()?;
            call(&cap, FAIL, "Build failed").await.map(drop)
        }
        FRESH => {
            results
                .get()
                .set_as_capability(Thing::named("fresh").client().hook);
            Ok(())
        }
        GIFT => {
            let gift = thing.gift.borrow().clone().unwrap();
            results.get().set_as_capability(gift.hook);
            Ok(())
        }
        _ => Err(ocluster_vat::error::unimplemented("no such method")),
    }
}

#[derive(Clone)]
pub(crate) struct ThingDispatch(Rc<Thing>);

impl Deref for ThingDispatch {
    type Target = Thing;
    fn deref(&self) -> &Thing {
        &self.0
    }
}

impl capnp::capability::Server for ThingDispatch {
    fn dispatch_call(
        self,
        interface: u64,
        method: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        if interface != INTERFACE {
            let error = ocluster_vat::error::unimplemented("no such interface");
            return DispatchCallResult::new(Promise::err(error), false);
        }
        let answer = serve(self.0, method, params, results);
        DispatchCallResult::new(Promise::from_future(answer), false)
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }
}

pub(crate) struct ThingClient(pub(crate) Client);

impl FromClientHook for ThingClient {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self(Client::new(hook))
    }
    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0.hook
    }
    fn as_client_hook(&self) -> &dyn ClientHook {
        self.0.hook.as_ref()
    }
}

impl FromServer<Thing> for ThingClient {
    type Dispatch = ThingDispatch;
    fn from_server(thing: Rc<Thing>) -> ThingDispatch {
        ThingDispatch(thing)
    }
}

type AnyResponse = capnp::capability::Response<any_pointer::Owned>;

/// Begins a call with a text parameter.
pub(crate) fn start(
    object: &Client,
    method: u16,
    text: &str,
) -> capnp::capability::RemotePromise<any_pointer::Owned> {
    let mut request =
        object.new_call::<any_pointer::Owned, any_pointer::Owned>(INTERFACE, method, None);
    request.get().set_as(text).unwrap();
    request.send()
}

/// Calls with a text parameter.
pub(crate) async fn call(object: &Client, method: u16, text: &str) -> capnp::Result<AnyResponse> {
    start(object, method, text).promise.await
}

/// Calls with a capability parameter.
pub(crate) async fn call_with(
    object: &Client,
    method: u16,
    cap: Client,
) -> capnp::Result<AnyResponse> {
    let mut request =
        object.new_call::<any_pointer::Owned, any_pointer::Owned>(INTERFACE, method, None);
    request.get().set_as_capability(cap.hook);
    request.send().promise.await
}

/// Asks for an echo and gives the text that came back.
pub(crate) async fn echo(object: &Client, text: &str) -> Result<String, RpcError> {
    let response = call(object, ECHO, text).await?;
    let text = response.get()?.get_as::<capnp::text::Reader<'_>>()?;
    Ok(text.to_string().unwrap())
}

pub(crate) fn cap_of(response: &AnyResponse) -> Client {
    response.get().unwrap().get_as_capability().unwrap()
}

/// Knows some ids; others are unknown. An id may take its time.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) things: RefCell<HashMap<Vec<u8>, Client>>,
    pub(crate) delay: Duration,
    pub(crate) fails: bool,
    pub(crate) seen: RefCell<Vec<PeerInfo>>,
}

impl Known {
    pub(crate) fn with(ids: &[&[u8]]) -> Self {
        let known = Self::default();
        for id in ids {
            let name = format!("{}:", String::from_utf8_lossy(id));
            known.add(id, Thing::named(&name).client());
        }
        known
    }

    pub(crate) fn add(&self, id: &[u8], object: Client) {
        self.things.borrow_mut().insert(id.to_vec(), object);
    }
}

impl Restorer for Known {
    fn restore<'a>(
        &'a self,
        connection: &'a Connection,
        id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>> {
        async move {
            tokio::time::sleep(self.delay).await;
            self.seen.borrow_mut().push(connection.peer().clone());
            if self.fails {
                return Err(RestoreError::Internal("the disk is full".to_owned()));
            }
            let things = self.things.borrow();
            things.get(id).cloned().ok_or(RestoreError::Unknown)
        }
        .boxed_local()
    }
}

/// A server on a free port of the loopback interface.
pub(crate) struct Serving {
    pub(crate) address: Address,
    pub(crate) stats: Stats,
    pub(crate) stop: CancellationToken,
    pub(crate) done: tokio::task::JoinHandle<()>,
}

impl Serving {
    pub(crate) fn port(&self) -> u16 {
        match self.address.location {
            Location::Tcp { port, .. } => port,
            Location::Unix(_) => panic!("not a TCP server"),
        }
    }

    pub(crate) async fn dial(&self) -> Connection {
        dial(&self.address).await
    }
}

pub(crate) async fn dial(address: &Address) -> Connection {
    Vat::client_only(Stats::new())
        .connect(address, &DialOptions::default(), &mut |_| {})
        .await
        .unwrap()
}

/// Serves with TLS on 127.0.0.1.
pub(crate) fn serve_tls(restorer: impl Restorer + 'static, limits: Limits) -> Serving {
    let key = SecretKey::ephemeral().unwrap();
    serve_at(
        &Location::tcp("127.0.0.1", 0),
        Some(key),
        Rc::new(restorer),
        limits,
    )
}

/// Serves without TLS on 127.0.0.1.
pub(crate) fn serve_plain(restorer: impl Restorer + 'static, limits: Limits) -> Serving {
    serve_at(
        &Location::tcp("127.0.0.1", 0),
        None,
        Rc::new(restorer),
        limits,
    )
}

pub(crate) fn serve_at(
    location: &Location,
    key: Option<SecretKey>,
    restorer: Rc<dyn Restorer>,
    limits: Limits,
) -> Serving {
    let here = tokio::runtime::Handle::current();
    serve_with_io(location, key, restorer, limits, here)
}

/// As [`serve_at`], accepting and shaking hands on another runtime.
pub(crate) fn serve_with_io(
    location: &Location,
    key: Option<SecretKey>,
    restorer: Rc<dyn Restorer>,
    limits: Limits,
    io: tokio::runtime::Handle,
) -> Serving {
    let listener = Listener::bind(location).unwrap();
    let digest = key.as_ref().map_or(Digest::Insecure, SecretKey::digest);
    let address = Address::new(listener.local_location().clone(), digest);
    let stats = Stats::new();
    let stop = CancellationToken::new();
    let server = Server {
        listener,
        key,
        limits,
        restorer,
        stats: stats.clone(),
        io,
    };
    let running = server.run(stop.clone());
    let done = tokio::task::spawn_local(async move { running.await.unwrap() });
    Serving {
        address,
        stats,
        stop,
        done,
    }
}

/// Two ends of a pipe, each a connection: `.0` dialled, `.1` accepted with `restorer`.
pub(crate) fn pipe(restorer: Rc<dyn Restorer>, limits: Limits) -> (Connection, Connection) {
    let (one, other) = tokio::io::duplex(64 * 1024);
    let secure = Digest::Sha256([7; 32]);
    let dialled = Connection::from_stream(
        one,
        PeerInfo::local("server end", secure),
        ConnectionOptions::dialled(),
    );
    let mut options = ConnectionOptions::accepted(restorer);
    options.limits = limits;
    let accepted = Connection::from_stream(other, PeerInfo::local("client end", secure), options);
    (dialled, accepted)
}

pub(crate) fn id(text: &str) -> ServiceId {
    ServiceId::new(text.as_bytes())
}
