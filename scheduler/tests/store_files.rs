//! The real program on stores that are in use, gone, cut, altered, foreign or from the future, and what is done about them: each
//! refusal says the way out, and the way works as it is printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command};

use ocluster_api::cluster_capnp::{admin, submission};
use ocluster_cli::testing::Shell;
use ocluster_vat::{DialOptions, Location, Stats, SturdyRef, Vat};
use rustix::process::{Pid, Signal, kill_process};
use support::client::Client;
use support::keeper::Keeper;
use support::{eventually, story};

const SERVE: &str = "--capnp-secret-key-file=key.pem --capnp-disable-tls --state-dir=state --secrets-dir=secrets --pools=pool \
                     --default-clients=client --min-free=0 --export-every=0s";

fn shell() -> Shell {
    let shell = Shell::new(env!("CARGO_BIN_EXE_ocluster-scheduler"));
    fs::create_dir(shell.directory().join("secrets")).unwrap();
    shell
}

/// A scheduler that serves; killed when dropped.
struct Serving {
    child: Child,
    vat: Vat,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts it and waits until it can be connected to.
    async fn start(shell: &Shell) -> Self {
        let _ = fs::remove_file(shell.directory().join("socket"));
        let child = shell
            .command(&format!("{SERVE} --capnp-listen-address=unix:socket"))
            .spawn()
            .unwrap();
        let serving = Self {
            child,
            vat: Vat::client_only(Stats::new()),
        };
        eventually("it serves", async || {
            serving.connect(shell, "admin.cap").await.map(drop)
        })
        .await;
        serving
    }

    async fn connect(
        &self,
        shell: &Shell,
        file: &str,
    ) -> Option<(ocluster_vat::Connection, SturdyRef)> {
        let cap = SturdyRef::load(&shell.directory().join("secrets").join(file)).ok()?;
        let mut address = cap.address.clone();
        address.location = Location::Unix(shell.directory().join("socket"));
        let options = DialOptions::default();
        let connection = self.vat.connect(&address, &options, &mut |_| {}).await;
        Some((connection.ok()?, cap))
    }

    async fn keeper(&self, shell: &Shell) -> Keeper {
        let (connection, cap) = self.connect(shell, "submit-client.cap").await.unwrap();
        let submission: submission::Client = connection.bootstrap(&cap.id);
        Keeper::new(Client {
            connection,
            submission,
        })
    }

    async fn clients(&self, shell: &Shell) -> Vec<String> {
        let (connection, cap) = self.connect(shell, "admin.cap").await.unwrap();
        let admin: admin::Client = connection.bootstrap(&cap.id);
        let response = admin.list_clients_request().send().promise.await.unwrap();
        let names = response.get().unwrap().get_clients().unwrap();
        names
            .iter()
            .map(|name| name.unwrap().to_string().unwrap())
            .collect()
    }

    async fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = eventually("it stops", async || self.child.try_wait().unwrap()).await;
        assert!(ended.success(), "{ended}");
    }
}

/// A store with a client and a durable job, and the job's id.
async fn filled(shell: &Shell) -> String {
    let serving = Serving::start(shell).await;
    let id = serving.keeper(shell).await.keep("example").await.id;
    serving.stop().await;
    id
}

/// Starts a scheduler that must refuse, and gives its words.
async fn refusal(shell: &Shell) -> String {
    let mut refusing = Serving {
        child: shell
            .command(&format!("{SERVE} --capnp-listen-address=unix:socket"))
            .spawn()
            .unwrap(),
        vat: Vat::client_only(Stats::new()),
    };
    let child = &mut refusing.child;
    let ended = eventually("it refuses", async || child.try_wait().unwrap()).await;
    let mut said = String::new();
    let words = child.stderr.as_mut().unwrap().read_to_string(&mut said);
    words.unwrap();
    assert_eq!(ended.code(), Some(125), "{said}");
    assert!(said.starts_with("ocluster-scheduler: "), "{said}");
    said
}

/// Cuts the store's files to nothing.
fn cut(state: &Path) {
    let db = fs::File::options().write(true).open(state.join("store/db"));
    db.unwrap().set_len(0).unwrap();
}

/// Replaces what follows each marker and differs from run to run.
fn masked(text: &str, markers: &[&str], differs: impl Fn(char) -> bool) -> String {
    markers.iter().fold(text.to_owned(), |text, marker| {
        let mut parts = text.split(marker);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            format!("{text}{marker}...{}", part.trim_start_matches(&differs))
        })
    })
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_second_scheduler_is_told_whose_the_store_is_and_the_first_goes_on() {
    story(async {
        let shell = shell();
        let first = Serving::start(&shell).await;
        let pid = first.child.id();
        let said = refusal(&shell).await;
        assert_eq!(
            said,
            format!(
                "ocluster-scheduler: state directory state is in use by another scheduler (pid {pid}); stop it first, or give this \
                 one a directory of its own\n"
            )
        );
        for chore in [
            "store check --state-dir=state",
            "store export --state-dir=state --to=file",
            "store compact --state-dir=state",
        ] {
            let told = shell.run(chore);
            assert!(
                told.contains(&format!("in use by another scheduler (pid {pid})"))
                    && told.ends_with("--- exit status: 1\n"),
                "{told}"
            );
        }
        assert!(!shell.directory().join("file").exists());
        first.keeper(&shell).await.keep("example").await;
        first.stop().await;
    });
}

#[test]
fn what_is_foreign_newer_or_gone_is_refused_with_the_way_out() {
    story(async {
        let shell = shell();
        filled(&shell).await;
        let state = shell.directory().join("state");
        copy(&state, &shell.directory().join("right"));
        let cases: [(&str, &dyn Fn(), &str); 6] = [
            (
                "another engine's",
                &|| {
                    fs::write(
                        state.join("store.json"),
                        r#"{"format":1,"engine":"postgres","batch":1}"#,
                    )
                    .unwrap();
                },
                "state does not hold a store of this program: its data is kept by \"postgres\"; give another state directory\n",
            ),
            (
                "another program's",
                &|| {
                    fs::remove_dir_all(state.join("store")).unwrap();
                    fs::create_dir(state.join("store")).unwrap();
                    fs::write(state.join("store/ledger.dat"), "theirs").unwrap();
                    fs::remove_file(state.join("store.json")).unwrap();
                },
                "state does not hold a store of this program: there is \"ledger.dat\" in its \"store\" directory; give another state \
                 directory\n",
            ),
            (
                "from the future",
                &|| {
                    fs::write(
                        state.join("store.json"),
                        r#"{"format":99,"engine":"sled","batch":1}"#,
                    )
                    .unwrap();
                },
                "the store in state was made by a newer version of this program (format 99, and this one knows up to ",
            ),
            (
                "gone",
                &|| fs::remove_dir_all(state.join("store")).unwrap(),
                "the store in state is gone: state/store.json says that there was one; ",
            ),
            (
                "no marker to be read",
                &|| fs::write(state.join("store.json"), "{").unwrap(),
                "the store in state is damaged: store.json cannot be read ",
            ),
            ("cut", &|| cut(&state), "the store in state is damaged: "),
        ];
        for (what, harm, expected) in cases {
            harm();
            let said = refusal(&shell).await;
            let said = said.strip_prefix("ocluster-scheduler: ").unwrap();
            assert!(said.starts_with(expected), "{what}: {said}");
            if what == "gone" || what == "cut" || what == "no marker to be read" {
                for step in [
                    "mv state/store.json state/store.json.old",
                    "mv state/store state/store.old",
                    "ocluster-scheduler store import --state-dir",
                ] {
                    assert!(said.contains(step), "{what}: {said}");
                }
            }
            let checked = shell.run("store check --state-dir=state");
            assert!(
                checked.ends_with("--- exit status: 1\n"),
                "{what}: {checked}"
            );
            let checked = shell.run("store check --state-dir=state --output=json");
            assert!(
                checked.contains(r#""version":1,"#) && checked.contains(r#""can_start":false"#),
                "{what}: {checked}"
            );
            fs::remove_dir_all(&state).unwrap();
            copy(&shell.directory().join("right"), &state);
        }
        // Nothing of all that has touched the right one.
        let serving = Serving::start(&shell).await;
        assert_eq!(serving.clients(&shell).await, ["client"]);
        serving.stop().await;
    });
}

#[test]
fn a_damaged_store_is_replaced_from_an_export_by_the_printed_steps() {
    story(async {
        let shell = shell();
        let id = filled(&shell).await;
        let exports = shell.directory().join("state/export");
        fs::create_dir_all(&exports).unwrap();
        let exported = shell.run("store export --state-dir=state --to=state/export/2026.jsonl.zst");
        assert!(
            exported.contains("Exported ") && exported.ends_with("status: 0\n"),
            "{exported}"
        );
        let again = shell.run("store export --state-dir=state --to=state/export/2026.jsonl.zst");
        assert!(
            again.contains(
                "state/export/2026.jsonl.zst exists already: move it away, or give another name"
            ),
            "{again}"
        );
        cut(&shell.directory().join("state"));
        refusal(&shell).await;

        let checked = shell.run("store check --state-dir=state");
        assert!(checked.ends_with("--- exit status: 1\n"), "{checked}");
        let steps: Vec<&str> = checked
            .lines()
            .skip_while(|line| !line.starts_with("To go on from the last export:"))
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .collect();
        assert_eq!(steps.len(), 2, "{checked}");
        let program = Path::new(env!("CARGO_BIN_EXE_ocluster-scheduler"));
        let path = format!(
            "{}:{}",
            program.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let done = Command::new("sh")
            .args(["-ec", &steps.join("\n")])
            .env("PATH", path)
            .current_dir(shell.directory())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");

        let serving = Serving::start(&shell).await;
        assert_eq!(serving.clients(&shell).await, ["client"]);
        let keeper = serving.keeper(&shell).await;
        let found = keeper.find(&id).await.unwrap();
        assert_eq!(found.info().await.state, "queued");
        assert_ne!(keeper.keep("later").await.id, id);
        serving.stop().await;
    });
}

#[test]
fn chores_say_what_they_did_and_mistakes_what_is_wrong() {
    story(async {
        let shell = shell();
        filled(&shell).await;
        let told = shell.run_all([
            "store check --state-dir=state",
            "store check --state-dir=state --output=json",
            "store export --state-dir=state --to=export.jsonl.zst",
            "store export --state-dir=state --to=export.jsonl.zst",
            "store export --state-dir=state --to=no/such/directory/file",
            "store compact --state-dir=state",
            "store check --state-dir=state",
            "store import --state-dir=state --from=export.jsonl.zst",
            "store import --state-dir=other --from=export.jsonl.zst",
            "store check --state-dir=other",
            "store import --state-dir=third --from=key.pem",
            "store import --state-dir=third --from=nowhere",
            "store import --state-dir=third --from=secrets",
            "store check --state-dir=nowhere",
            "store check --state-dir=nowhere --output=json",
            "store export --state-dir=secrets --to=another",
            "store compact --state-dir=secrets",
        ]);
        let told = masked(
            &told,
            &["Compacted the store in state: ", " before, "],
            char::is_numeric,
        );
        let told = masked(&told, &["\"changes\":"], char::is_numeric);
        let told = masked(
            &told,
            &["next job is ", "\"next_job\":\""],
            char::is_alphanumeric,
        );
        insta::assert_snapshot!(told);
        // A cut one leaves nothing that could be taken for a store.
        let bytes = fs::read(shell.directory().join("export.jsonl.zst")).unwrap();
        for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            shell.write("cut", &bytes[..length]);
            let told = shell.run("store import --state-dir=third --from=cut");
            assert!(told.ends_with("--- exit status: 1\n"), "{length}: {told}");
            let kept = shell.directory().join("third");
            assert!(
                !kept.join("store").exists() && !kept.join("store.json").exists(),
                "{length}: {told}"
            );
        }
    });
}
