//! Tells the service manager how a server is: the protocol of systemd's `Type=notify` services, spoken over the datagram socket that
//! `NOTIFY_SOCKET` names.
//!
//! The watchdog's pings are sent from the thread that calls [`Service::start`], which is the vat thread: when that one is stuck, they
//! stop, and the manager restarts the program. Nothing here ever waits for the manager, and without one nothing is done at all.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The variables by which a service manager is found. They are this process's own: whatever it starts must not see them, or it could
/// speak in its name.
pub const SERVICE_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How often, and after which time each, it is tried to tell a manager that is too busy to listen.
const READY_TRIES: usize = 600;
const READY_PAUSE: Duration = Duration::from_millis(100);

/// The longest status line that is sent, in bytes.
const MAX_STATUS: usize = 512;

/// A server, as its service manager sees it. Clones are the same one; when the last is dropped, the watchdog is no longer pinged.
#[derive(Clone, Debug)]
pub struct Service(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    manager: Option<Rc<Manager>>,
    /// The status that was sent last.
    status: RefCell<String>,
    tasks: Vec<AbortHandle>,
}

impl Service {
    /// Finds the service manager by the environment, begins to ping its watchdog if it asks for that, and tells it when `shutdown`
    /// fires.
    ///
    /// Must be called inside a [`tokio::task::LocalSet`].
    #[must_use]
    pub fn start(shutdown: &CancellationToken) -> Self {
        let manager = env::var_os("NOTIFY_SOCKET")
            .filter(|name| !name.is_empty())
            .and_then(|name| match Manager::connect(&name) {
                Ok(manager) => Some(Rc::new(manager)),
                Err(error) => {
                    let name = name.to_string_lossy().into_owned();
                    warn!(%error, "Cannot reach the service manager at NOTIFY_SOCKET {name:?}");
                    None
                }
            });
        let asked = watchdog(
            env::var_os("WATCHDOG_USEC"),
            env::var_os("WATCHDOG_PID"),
            std::process::id(),
        );
        Self::with(manager, asked, shutdown)
    }

    fn with(
        manager: Option<Rc<Manager>>,
        watchdog: Option<Duration>,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut tasks = Vec::new();
        if let Some(manager) = &manager {
            tasks.push(tell_of_stopping(manager.clone(), shutdown.clone()));
            tasks.extend(watchdog.map(|limit| ping(manager.clone(), limit)));
        }
        Self(Rc::new(Inner {
            manager,
            status: RefCell::default(),
            tasks,
        }))
    }

    /// The program does what it is for: what was to start after it may start.
    ///
    /// A manager that is too busy to listen is told later: it would wait for this until it gives the program up. Must be called inside
    /// a [`tokio::task::LocalSet`].
    pub fn ready(&self) {
        const READY: &str = "READY=1";
        let Some(manager) = self.0.manager.clone() else {
            return;
        };
        if manager.send(READY) {
            return;
        }
        let inner = Rc::downgrade(&self.0);
        tokio::task::spawn_local(async move {
            for _ in 0..READY_TRIES {
                tokio::time::sleep(READY_PAUSE).await;
                // What has stopped meanwhile is not ready any more.
                if inner.upgrade().is_none() || manager.send(READY) {
                    return;
                }
            }
        });
    }

    /// Says in one line what the program is doing, for `systemctl status`. A line that was sent last time is not sent again.
    pub fn status(&self, line: &str) {
        if self.0.manager.is_none() || *self.0.status.borrow() == line {
            return;
        }
        // A line feed would begin another assignment.
        let mut sent = line.replace('\n', " ");
        sent.truncate(sent.floor_char_boundary(MAX_STATUS));
        if self.send(&format!("STATUS={sent}")) {
            line.clone_into(&mut self.0.status.borrow_mut());
        }
    }

    /// Whether there is a service manager to tell anything.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.0.manager.is_some()
    }

    fn send(&self, state: &str) -> bool {
        let manager = self.0.manager.as_ref();
        manager.is_some_and(|manager| manager.send(state))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // A program that stops at once may not have come to say so; saying it twice does no harm.
        if let Some(manager) = &self.manager {
            manager.send("STOPPING=1");
        }
    }
}

fn tell_of_stopping(manager: Rc<Manager>, shutdown: CancellationToken) -> AbortHandle {
    let told = async move {
        shutdown.cancelled().await;
        manager.send("STOPPING=1");
    };
    tokio::task::spawn_local(told).abort_handle()
}

/// Pings twice as often as asked, so that one late ping does no harm.
fn ping(manager: Rc<Manager>, limit: Duration) -> AbortHandle {
    let pinging = async move {
        let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            manager.send("WATCHDOG=1");
        }
    };
    tokio::task::spawn_local(pinging).abort_handle()
}

/// How long the manager's watchdog waits, if it watches this process.
fn watchdog(limit: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let micros: u64 = limit?.to_str()?.parse().ok()?;
    let for_us = match pid {
        Some(pid) => pid.to_str()?.parse() == Ok(own),
        None => true,
    };
    (for_us && micros > 0).then(|| Duration::from_micros(micros))
}

/// The way to the service manager.
#[derive(Debug)]
struct Manager(UnixDatagram);

impl Manager {
    /// `name` is a path, or `@` and the name of an abstract socket.
    fn connect(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// A manager that is gone, or too busy to listen, changes nothing here. Gives whether it was told.
    fn send(&self, state: &str) -> bool {
        let sent = self.0.send(state.as_bytes());
        if let Err(error) = &sent {
            debug!(%error, state, "Cannot tell the service manager");
        }
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(limit: &str, pid: Option<&str>) -> Option<Duration> {
        watchdog(Some(limit.into()), pid.map(Into::into), 42)
    }

    #[test]
    fn a_watchdog_that_watches_somebody_else_is_none_of_our_business() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(asked("1000000", None), second);
        assert_eq!(asked("1000000", Some("42")), second);
        assert_eq!(asked("1000000", Some("43")), None);
        assert_eq!(asked("1000000", Some("rubbish")), None);
        assert_eq!(asked("0", None), None);
        assert_eq!(asked("soon", None), None);
        assert_eq!(watchdog(None, None, 42), None);
    }

    #[test]
    fn sockets_with_a_path_and_without_are_both_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let received = |socket: &UnixDatagram| {
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned()
        };
        let at_path = UnixDatagram::bind(&path).unwrap();
        Manager::connect(path.as_os_str()).unwrap().send("READY=1");
        assert_eq!(received(&at_path), "READY=1");

        let name = format!("ocluster-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let nowhere = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager::connect(OsStr::new(&format!("@{name}"))).unwrap();
        manager.send("READY=1");
        assert_eq!(received(&nowhere), "READY=1");
    }

    /// A manager's socket, and the way there.
    fn manager(dir: &tempfile::TempDir) -> (UnixDatagram, Rc<Manager>) {
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Rc::new(Manager::connect(path.as_os_str()).unwrap()))
    }

    /// What has arrived since the last look.
    fn arrived(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1024];
        let next = || {
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(buffer.get(..length)?).into_owned())
        };
        std::iter::from_fn(next).collect()
    }

    /// Waits until this arrives.
    async fn arrives(socket: &UnixDatagram, state: &str) {
        let waiting = async {
            while !arrived(socket).iter().any(|its| its == state) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, waiting).await.expect(state);
    }

    #[tokio::test]
    async fn a_stuck_thread_gives_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, manager) = manager(&dir);
        let story = async {
            let limit = Some(Duration::from_millis(20));
            let shutdown = CancellationToken::new();
            let service = Service::with(Some(manager), limit, &shutdown);
            arrives(&socket, "WATCHDOG=1").await;
            arrives(&socket, "WATCHDOG=1").await;
            arrived(&socket);
            // Other threads have all the time that they could need.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(arrived(&socket), Vec::<String>::new());
            arrives(&socket, "WATCHDOG=1").await;
            shutdown.cancel();
            arrives(&socket, "STOPPING=1").await;
            drop(service);
        };
        tokio::task::LocalSet::new().run_until(story).await;
    }

    #[tokio::test]
    async fn a_status_is_one_line_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, manager) = manager(&dir);
        let story = async {
            let service = Service::with(Some(manager), None, &CancellationToken::new());
            service.status("lost\nREADY=1");
            service.status("lost\nREADY=1");
            assert_eq!(arrived(&socket), ["STATUS=lost READY=1"]);
            service.status(&"é".repeat(1000));
            let [long] = &arrived(&socket)[..] else {
                panic!("not one message")
            };
            assert_eq!(long.len(), "STATUS=".len() + MAX_STATUS);
        };
        tokio::task::LocalSet::new().run_until(story).await;
    }

    #[tokio::test]
    async fn a_busy_manager_hears_of_readiness_and_status_later() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, manager) = manager(&dir);
        let story = async {
            let service = Service::with(Some(manager.clone()), None, &CancellationToken::new());
            while manager.send("WATCHDOG=1") {}
            service.ready();
            service.status("busy");
            assert!(arrived(&socket).iter().all(|state| state == "WATCHDOG=1"));
            arrives(&socket, "READY=1").await;
            service.status("busy");
            assert_eq!(arrived(&socket), ["STATUS=busy"]);
        };
        tokio::task::LocalSet::new().run_until(story).await;
    }

    #[test]
    fn a_manager_that_does_not_listen_is_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let deaf = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::connect(path.as_os_str()).unwrap();
        // Far more than a socket holds.
        for _ in 0..10_000 {
            manager.send("WATCHDOG=1");
        }
        drop(deaf);
        manager.send("WATCHDOG=1");
    }
}
