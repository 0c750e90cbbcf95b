//! Several processes. A test that needs another one runs itself again, with a variable that says what to do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ocluster_obuilder::store::{Kind, Location, Store, StoreOptions, check_closed};

use crate::support::*;

const STORE: &str = "STORE_OF_THE_TEST";

/// The location that another process was told, if this is one.
fn told() -> Option<Location> {
    Some(Location {
        kind: Kind::Overlayfs,
        root: PathBuf::from(std::env::var_os(STORE)?),
    })
}

/// A process that does what the test `name` does when it was told a store. It is killed in the end.
struct Other {
    child: Child,
}

impl Other {
    fn start(name: &str, home: &Home) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(STORE, home.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until it says `word` on its standard error.
    fn wait_for(&mut self, word: &str) {
        let lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        for line in lines {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line == word) {
                return;
            }
        }
        panic!("it never said {word:?}, but {said:?}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str) {
    std::io::stderr()
        .write_all(format!("{word}\n").as_bytes())
        .unwrap();
}

#[tokio::test]
async fn two_processes_cannot_have_one_store_open() {
    if let Some(location) = told() {
        let _store = Store::open(&location, StoreOptions::default())
            .await
            .unwrap();
        say("open");
        std::future::pending::<()>().await;
    }
    let home = Home::new();
    let mut other = Other::start("processes::two_processes_cannot_have_one_store_open", &home);
    other.wait_for("open");
    let pid = other.child.id();
    let expected = format!(
        "another process (pid {pid}) has the store {} open; only one can at a time: wait for it, or use another directory",
        home.root().display()
    );
    assert_eq!(home.try_open().await.unwrap_err().to_string(), expected);
    let error = check_closed(&home.location()).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    // Killed, it does not have it any more.
    drop(other);
    let store = home.open().await;
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_step_leaves_no_mount_and_no_half_layer() {
    if let Some(location) = told() {
        let store = Store::open(&location, StoreOptions::default())
            .await
            .unwrap();
        let base = make(&store, 1, None, |tree| write(tree, "a", "a")).await;
        let one = make(&store, 2, Some(&base), |tree| write(tree, "b", "b")).await;
        let draft = begin(&store, 3, Some(&one)).await;
        let work = |tree: &std::path::Path| {
            write(tree, "c", "c");
            say("mounted");
            std::thread::park();
        };
        draft.rootfs().with(work).await.unwrap();
    }
    let home = Home::new();
    let name = "processes::a_process_that_is_killed_in_a_step_leaves_no_mount_and_no_half_layer";
    let mut other = Other::start(name, &home);
    other.wait_for("mounted");
    assert!(
        home.names("tmp")
            .iter()
            .any(|name| name.starts_with(&id(3).to_string()))
    );
    drop(other);
    assert_eq!(home.mounts(), [""; 0]);
    let store = home.open().await;
    assert_eq!(home.names("tmp"), [""; 0]);
    assert_eq!(store.count(), 2);
    let one = store.layer(id(2)).await.unwrap();
    assert_eq!(look(&one, names).await, ["a", "b"]);
    let three = make(&store, 3, Some(&one), |tree| write(tree, "c", "again")).await;
    assert_eq!(look(&three, names).await, ["a", "b", "c"]);
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_printed() {
    if let Some(location) = told() {
        let store = Store::open(&location, StoreOptions::default())
            .await
            .unwrap();
        let base = make(&store, 1, None, |tree| write(tree, "a", "a")).await;
        make(&store, 2, Some(&base), |tree| write(tree, "a", "b")).await;
        assert!(store.begin(id(3), Some(&base)).await.is_ok());
        let lease = store.cache("name".into(), (0, 0)).await.unwrap();
        lease
            .rootfs()
            .with(|tree| write(tree, "c", "c"))
            .await
            .unwrap();
        assert!(lease.release().await.unwrap());
        drop(base);
        store.delete(id(1), |_| ()).await.unwrap();
        assert!(store.layer(id(1)).await.is_none());
        return;
    }
    let home = Home::new();
    let other = Other::start("processes::nothing_is_printed", &home);
    let mut child = other;
    let (mut out, mut err) = (String::new(), String::new());
    std::io::Read::read_to_string(&mut child.child.stdout.take().unwrap(), &mut out).unwrap();
    std::io::Read::read_to_string(&mut child.child.stderr.take().unwrap(), &mut err).unwrap();
    assert!(child.child.wait().unwrap().success(), "{out}{err}");
    assert_eq!(err, "");
    let lines = out
        .lines()
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>();
    let [first, second, last] = lines[..] else {
        panic!("more than the test's own lines: {out}");
    };
    assert_eq!(first, "running 1 test");
    assert_eq!(second, "test processes::nothing_is_printed ... ok");
    assert!(last.starts_with("test result: ok."));
}
