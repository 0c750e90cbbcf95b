//! What tests of builds have in common: a store on a real filesystem, a sandbox and a fetcher that do as they are told, and a log
//! that remembers.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use ocluster_obuilder::build::{
    BuildContext, BuildError, BuildLog, BuildResult, Builder, BuilderOptions, Secrets,
};
use ocluster_obuilder::image::{BaseImage, FetchError, Fetcher, Fetching};
use ocluster_obuilder::sandbox::{Ended, Running, Sandbox, SandboxError, Step};
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Kind, Layer, LayerMeta, Location, Store, StoreOptions};
use ocluster_obuilder::{StepId, StepLog};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened for too long")
}

/// A builder and what is around it.
pub struct Bench {
    pub builder: Builder,
    pub store: Store,
    pub sandbox: Arc<FakeSandbox>,
    pub fetcher: Arc<FakeFetcher>,
    calls: mpsc::UnboundedReceiver<Call>,
    /// The build context.
    pub source: TempDir,
    pub root: TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(BuilderOptions::default()).await
    }

    pub async fn with(options: BuilderOptions) -> Self {
        Self::at(tempfile::tempdir().unwrap(), options).await
    }

    pub async fn at(root: TempDir, options: BuilderOptions) -> Self {
        let store = open(root.path()).await;
        let (sender, calls) = mpsc::unbounded_channel();
        let sandbox = Arc::new(FakeSandbox {
            calls: sender,
            commands: Mutex::default(),
            helps: AtomicBool::new(true),
        });
        let fetcher = Arc::new(FakeFetcher::default());
        fetcher.publish("base", "one", &[("PATH", "/bin")]);
        let builder = Builder::new(store.clone(), sandbox.clone(), fetcher.clone(), options);
        Self {
            builder,
            store,
            sandbox,
            fetcher,
            calls,
            source: tempfile::tempdir().unwrap(),
            root,
        }
    }

    /// The same store, opened again by another builder, as after a restart.
    pub async fn restart(self, options: BuilderOptions) -> Self {
        let Self {
            builder,
            store,
            fetcher,
            root,
            source,
            ..
        } = self;
        drop((builder, store));
        let mut bench = Self::at(root, options).await;
        bench.fetcher = fetcher.clone();
        bench.source = source;
        bench.builder = Builder::new(bench.store.clone(), bench.sandbox.clone(), fetcher, options);
        bench
    }

    /// A build in the background.
    pub fn start(&self, spec: &str) -> Build {
        self.start_with(spec, Setup::default())
    }

    pub fn start_with(&self, spec: &str, setup: Setup) -> Build {
        let spec = parse(spec);
        let cancel = CancellationToken::new();
        let log = Arc::new(setup.log);
        let builder = self.builder.clone();
        let source = self.source.path().to_owned();
        let (told, token) = (log.clone(), cancel.clone());
        let (secrets, env) = (setup.secrets, setup.env);
        let task = tokio::spawn(async move {
            let context = BuildContext {
                source,
                secrets,
                env,
                log: &*told,
                cancel: &token,
            };
            builder.build(&spec, context).await
        });
        Build { task, log, cancel }
    }

    /// Builds to the end.
    pub async fn build(&self, spec: &str) -> (Result<BuildResult, BuildError>, String) {
        self.start(spec).end().await
    }

    /// The next command that is not done by the sandbox itself.
    pub async fn call(&mut self) -> Call {
        within(self.calls.recv()).await.unwrap()
    }

    /// The next command, which must be this one.
    pub async fn expect(&mut self, command: &str) -> Call {
        let call = self.call().await;
        assert_eq!(call.command(), command);
        call
    }

    /// No command is waiting.
    pub fn expect_nothing(&mut self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("unexpected command: {}", call.command());
        }
    }

    /// What a file of a result holds.
    pub async fn read(&self, layer: &Layer, path: &str) -> Option<String> {
        let path = path.to_owned();
        let read = move |root: &Path| std::fs::read_to_string(root.join(path)).ok();
        layer.view().unwrap().with(read).await.unwrap()
    }

    /// The id of a layer, if it is there.
    pub async fn has(&self, id: StepId) -> bool {
        self.store.layer(id).await.is_some()
    }
}

pub async fn open(root: &Path) -> Store {
    let location = Location {
        kind: Kind::Overlayfs,
        root: root.join("store"),
    };
    // A former one may still be closing.
    for _ in 0..600 {
        match Store::open(&location, StoreOptions::default()).await {
            Ok(store) => return store,
            Err(error) if error.to_string().contains("use") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                panic!("these tests need root and a filesystem that overlayfs can be on: {error}")
            }
        }
    }
    panic!("the store is not closed");
}

pub fn parse(spec: &str) -> Spec {
    Spec::parse(spec.as_bytes()).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// What differs between builds.
#[derive(Default)]
pub struct Setup {
    pub log: Recorder,
    pub secrets: Secrets,
    pub env: Vec<(BString, BString)>,
}

/// A build in the background.
pub struct Build {
    pub task: tokio::task::JoinHandle<Result<BuildResult, BuildError>>,
    pub log: Arc<Recorder>,
    pub cancel: CancellationToken,
}

impl Build {
    pub async fn end(self) -> (Result<BuildResult, BuildError>, String) {
        let result = within(self.task).await.unwrap();
        (result, self.log.text())
    }

    /// Its result, which must be a good one, and its log.
    pub async fn done(self) -> (BuildResult, String) {
        let (result, log) = self.end().await;
        (result.unwrap_or_else(|error| panic!("{error}\n{log}")), log)
    }

    /// Its error, and its log.
    pub async fn failed(self) -> (BuildError, String) {
        let (result, log) = self.end().await;
        match result {
            Ok(_) => panic!("the build succeeded:\n{log}"),
            Err(error) => (error, log),
        }
    }
}

/// A log that remembers: notes start with a semicolon, ids are shortened to what was made in which order.
#[derive(Default)]
pub struct Recorder {
    bytes: Mutex<Vec<u8>>,
    changed: tokio::sync::Notify,
    /// Output waits for it, if it is there.
    gate: Option<CancellationToken>,
}

impl Recorder {
    /// A log that takes no output until the gate opens.
    pub fn gated(gate: &CancellationToken) -> Self {
        Self {
            gate: Some(gate.clone()),
            ..Self::default()
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.bytes().to_str_lossy().into_owned()
    }

    /// Waits until the log has `text`.
    pub async fn wait_for(&self, text: &str) {
        let seen = async {
            loop {
                let changed = self.changed.notified();
                if self.text().contains(text) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            panic!("no {text:?} in the log:\n{}", self.text());
        }
    }

    fn add(&self, parts: &[&[u8]]) {
        let mut bytes = self.bytes.lock().unwrap();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        drop(bytes);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

impl BuildLog for Recorder {
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&text, b"\n"]);
        async {}.boxed()
    }

    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[b";", &text, b"\n"]);
        async {}.boxed()
    }

    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()> {
        async move {
            if let Some(gate) = &self.gate {
                gate.cancelled().await;
            }
            self.add(&[&bytes]);
        }
        .boxed()
    }
}

/// A sandbox that does a few commands itself (`echo TEXT`, `write FILE TEXT`), and hands all others to the test.
pub struct FakeSandbox {
    calls: mpsc::UnboundedSender<Call>,
    /// All commands so far.
    pub commands: Mutex<Vec<String>>,
    helps: AtomicBool,
}

impl FakeSandbox {
    /// From now on it hands all commands to the test.
    pub fn stop_helping(&self) {
        self.helps.store(false, Ordering::SeqCst);
    }
}

/// A command under way.
pub struct Call {
    pub step: Step,
    pub log: StepLog,
    pub cancel: CancellationToken,
    answer: oneshot::Sender<Result<Ended, SandboxError>>,
}

impl Call {
    pub fn command(&self) -> String {
        command(&self.step)
    }

    pub async fn print(&self, text: impl Into<Bytes>) {
        self.log.write(text).await.unwrap();
    }

    pub async fn write(&self, file: &str, text: &str) {
        write(&self.step, file, text).await;
    }

    pub fn answer(self, ended: Result<Ended, SandboxError>) {
        let _ = self.answer.send(ended);
    }

    pub fn exit(self, code: i32) {
        self.answer(Ok(Ended::Exited(code)));
    }

    /// Waits until it is told to stop.
    pub async fn cancelled(&self) {
        within(self.cancel.cancelled()).await;
    }

    /// The sandbox panics.
    pub fn panic(self) {}
}

fn command(step: &Step) -> String {
    step.argv.last().unwrap().to_string()
}

async fn write(step: &Step, file: &str, text: &str) {
    let (file, text) = (file.to_owned(), text.to_owned());
    let put = move |root: &Path| std::fs::write(root.join(file), text).unwrap();
    step.rootfs.with(put).await.unwrap();
}

impl Sandbox for FakeSandbox {
    fn run<'a>(
        &'a self,
        step: Step,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> Running<'a> {
        Box::pin(async move {
            let command = command(&step);
            self.commands.lock().unwrap().push(command.clone());
            let helps = self.helps.load(Ordering::SeqCst);
            let mut words = command.splitn(3, ' ').filter(|_| helps);
            match (words.next(), words.next(), words.next()) {
                (Some("echo"), Some(text), rest) => {
                    let text = format!(
                        "{text}{}{}\n",
                        if rest.is_some() { " " } else { "" },
                        rest.unwrap_or("")
                    );
                    log.write(text).await.unwrap();
                    Ok(Ended::Exited(0))
                }
                (Some("write"), Some(file), Some(text)) => {
                    write(&step, file, text).await;
                    Ok(Ended::Exited(0))
                }
                _ => {
                    let (answer, answered) = oneshot::channel();
                    let call = Call {
                        step,
                        log: log.clone(),
                        cancel: cancel.clone(),
                        answer,
                    };
                    self.calls
                        .send(call)
                        .unwrap_or_else(|_| panic!("the test is over"));
                    answered.await.expect("panics as it was told")
                }
            }
        })
    }

    fn default_shell(&self) -> Vec<BString> {
        ["/bin/sh", "-c"].map(BString::from).into()
    }
}

/// What a name stands for.
#[derive(Clone)]
struct Image {
    digest: String,
    env: Vec<(BString, BString)>,
}

impl Image {
    fn new(digest: &str, env: &[(&str, &str)]) -> Self {
        Self {
            digest: format!("sha256:{digest}"),
            env: env.iter().map(|&(k, v)| (k.into(), v.into())).collect(),
        }
    }
}

/// A registry in memory. Each image has one layer with one file, `base`, which holds the digest.
#[derive(Default)]
pub struct FakeFetcher {
    images: Mutex<HashMap<String, Image>>,
    away: Mutex<Option<String>>,
    /// What is published once somebody looked a name up.
    next: Mutex<Option<(String, Image)>>,
    pub fetched: AtomicUsize,
    pub resolved: AtomicUsize,
    /// The layers made.
    pub layers: Mutex<Vec<StepId>>,
}

impl FakeFetcher {
    pub fn publish(&self, name: &str, digest: &str, env: &[(&str, &str)]) {
        let image = Image::new(digest, env);
        self.images.lock().unwrap().insert(name.to_owned(), image);
    }

    /// The next look at a name is the last before it means something else.
    pub fn publish_after_a_look(&self, name: &str, digest: &str) {
        *self.next.lock().unwrap() = Some((name.to_owned(), Image::new(digest, &[])));
    }

    pub fn go_away(&self) {
        *self.away.lock().unwrap() = Some("connection refused".to_owned());
    }

    pub fn come_back(&self) {
        *self.away.lock().unwrap() = None;
    }

    pub fn fetches(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }

    pub fn looks(&self) -> usize {
        self.resolved.load(Ordering::SeqCst)
    }

    fn image(&self, name: &BStr) -> Result<Image, FetchError> {
        if let Some(why) = &*self.away.lock().unwrap() {
            return Err(FetchError::Source(format!("registry: {why}")));
        }
        let images = self.images.lock().unwrap();
        let image = images.get(&name.to_string()).cloned();
        image.ok_or_else(|| FetchError::Request(format!("no image {name}")))
    }
}

impl Fetcher for FakeFetcher {
    fn fetch<'a>(
        &'a self,
        name: &'a BStr,
        store: &'a Store,
        log: &'a StepLog,
        _cancel: &'a CancellationToken,
    ) -> Fetching<'a> {
        Box::pin(async move {
            self.fetched.fetch_add(1, Ordering::SeqCst);
            let image = self.image(name)?;
            log.write(format!("fetching {name}\n")).await.unwrap();
            let id = StepId::of_base(image.digest.as_bytes());
            let top = match store.layer(id).await {
                Some(layer) => layer,
                None => {
                    let draft = store.begin(id, None).await?;
                    let digest = image.digest.clone();
                    let put = move |root: &Path| std::fs::write(root.join("base"), digest).unwrap();
                    draft.rootfs().with(put).await.unwrap();
                    self.layers.lock().unwrap().push(id);
                    draft.commit(LayerMeta::default()).await?
                }
            };
            Ok(BaseImage {
                top: Some(top),
                env: image.env,
                digest: Some(image.digest),
            })
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a BStr,
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Option<String>, FetchError>> {
        async move {
            self.resolved.fetch_add(1, Ordering::SeqCst);
            let now = self.image(name)?;
            if let Some((name, image)) = self.next.lock().unwrap().take() {
                self.images.lock().unwrap().insert(name, image);
            }
            Ok(Some(now.digest))
        }
        .boxed()
    }
}

pub fn secrets(values: &[(&str, &str)]) -> Secrets {
    let values = values.iter().map(|(name, value)| {
        let value = value.as_bytes().to_vec();
        ((*name).to_owned(), value.into())
    });
    Secrets(values.collect::<BTreeMap<_, _>>())
}

/// The log without its ids: each is replaced by `1`, `2`, ... in the order of appearance.
pub fn numbered(log: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut out = String::new();
    let mut rest = log;
    while let Some(start) = rest.find('"') {
        let (before, after) = rest.split_at(start + 1);
        out.push_str(before);
        let id = after.get(..64).filter(|id| {
            after.get(64..65) == Some("\"") && id.bytes().all(|b| b.is_ascii_hexdigit())
        });
        match id {
            Some(id) => {
                let place = seen
                    .iter()
                    .position(|known| known == id)
                    .unwrap_or_else(|| {
                        seen.push(id.to_owned());
                        seen.len() - 1
                    });
                out.push_str(&(place + 1).to_string());
                rest = &after[64..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// A path in the store's directory.
pub fn below(bench: &Bench, path: &str) -> PathBuf {
    bench.root.path().join("store").join(path)
}
