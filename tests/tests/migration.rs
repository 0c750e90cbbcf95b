//! A cluster of OCluster's gets our scheduler, with its key, its clients' caps and its database, and goes back again.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use ocluster_tests::{Client, Cluster, Dockerfile, SOON, Story, Submission, run};
use rusqlite::Connection;

/// A key as OCluster's scheduler generates it: RSA of 2048 bits, in PKCS#8. Used nowhere else.
const KEY: &[u8] = include_bytes!("../fixtures/scheduler-key.pem");

/// What OCluster derives from that key. Computed apart from any code here, with openssl and Python's hmac: SHA-256 of the public key
/// in DER form; and, keyed with the SHA-256 of the file's bytes, HMAC-SHA-256 of the names "admin" and "pool-linux".
const FINGERPRINT: &str = "JyHV44mAI2kbj4ejQtkSHzQW69kEiTuUQpjdYX4Ci_0";
const ADMIN_ID: &str = "4CHwRmaPv9xrbQLwGP58vfGI8qpCmU-hJm-aGZpV4pY";
const POOL_ID: &str = "2EjL6i2qPOZLcAyJdS_9mcB00eFbPRmtU9n3EorMOk4";

/// The secret in alice's cap file; its SHA-256 is in the database.
const ALICE_ID: &str = "YWxpY2Ugc2VjcmV0IDIwYnl0ZXM";

/// What is in the state directory of OCluster's scheduler. Its hints are of today, lest they be too old to count.
const DATABASE: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE cached (pool TEXT NOT NULL, cache_hint TEXT NOT NULL, worker TEXT NOT NULL, created DATETIME NOT NULL,
        PRIMARY KEY (pool, cache_hint, worker));
    CREATE TABLE pool_user_rate (pool TEXT NOT NULL, user TEXT NOT NULL, rate REAL NOT NULL, PRIMARY KEY (pool, user));
    CREATE TABLE workers (pool TEXT NOT NULL, id TEXT NOT NULL, paused BOOLEAN DEFAULT 0, PRIMARY KEY (pool, id));
    CREATE TABLE sturdy_refs (hash BLOB NOT NULL, type TEXT NOT NULL, args BLOB NOT NULL, created DATETIME NOT NULL,
        PRIMARY KEY (hash));
    CREATE INDEX sturdy_refs_rev ON sturdy_refs (type, args);
    INSERT INTO workers VALUES ('linux', 'w1', 0), ('linux', 'w2', 0), ('linux', 'w3', 1);
    INSERT INTO cached VALUES ('linux', 'one', 'w1', date('now')), ('linux', 'two', 'w2', date('now'));
    INSERT INTO pool_user_rate VALUES ('linux', 'alice', 7);
    INSERT INTO sturdy_refs VALUES
        (x'b6a210fea2618a1076950a1a15e9632e03abf7d8a4b55103a4242626644f182f', 'ocluster-client', CAST('alice' AS BLOB), '2021-03-04'),
        (zeroblob(32), 'ocluster-client', CAST('bob' AS BLOB), '2021-03-04');
";

/// A cluster whose scheduler was replaced: with the key, the cap of alice and the database of OCluster's.
fn moved_in<'a>(story: &'a Story) -> Result<(Cluster<'a>, Client<'a>)> {
    // The addresses are those of a scheduler that ran here before.
    let mut cluster = Cluster::start(story)?;
    cluster.stop_scheduler()?;
    for old in ["admin.cap", "pool-linux.cap"] {
        fs::remove_file(cluster.secret(old))?;
    }
    fs::write(cluster.secret("key.pem"), KEY)?;
    let state = story.scratch.join("scheduler-state");
    fs::remove_dir_all(&state)?;
    fs::create_dir(&state)?;
    Connection::open(state.join("scheduler.db"))?.execute_batch(DATABASE)?;
    let uri = format!(
        "capnp://sha-256:{FINGERPRINT}@127.0.0.1:{}/{ALICE_ID}\n",
        cluster.port()
    );
    let cap = story.scratch.write("alice.cap", uri)?;
    let alice = Client::new(story, "alice", &cap);
    chore(story, "import", "--from", &state.join("scheduler.db"))?;
    cluster.restart_scheduler()?;
    Ok((cluster, alice))
}

/// Runs `import` or `export` on the scheduler's state directory.
fn chore(story: &Story, name: &str, flag: &str, database: &Path) -> Result<()> {
    let mut command = story.programs.command("ocluster-scheduler");
    command.args([name, flag]).arg(database).arg("--state-dir");
    command.arg(story.scratch.join("scheduler-state"));
    run(&mut command)?.success().map(drop)
}

#[test]
fn the_same_key_file_gives_the_same_caps() -> Result<()> {
    Story::tell(&[], |story| {
        let (cluster, _alice) = moved_in(story)?;
        for (file, id) in [("admin.cap", ADMIN_ID), ("pool-linux.cap", POOL_ID)] {
            let port = cluster.port();
            let expected = format!("capnp://sha-256:{FINGERPRINT}@127.0.0.1:{port}/{id}\n");
            let found = fs::read_to_string(cluster.secret(file))?;
            ensure!(found == expected, "{file} is {found:?}, not {expected:?}");
        }
        ensure!(
            fs::read(cluster.secret("key.pem"))? == KEY,
            "the key file was rewritten"
        );
        Ok(())
    })
}

#[test]
fn clients_pauses_rates_and_hints_move_in_and_out() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a cluster that has just got our scheduler, and its three workers,
        let (mut cluster, alice) = moved_in(story)?;
        let clients = cluster.admin(&["list-clients"])?.success()?.stdout;
        ensure!(clients == "alice\nbob\n", "{clients}");
        let _workers = [
            cluster.add_worker("w1")?,
            cluster.add_worker("w2")?,
            cluster.add_worker("w3")?,
        ];
        // then the paused worker is still paused,
        let state = |worker: &str| -> Result<String> {
            let shown = cluster.admin(&["show", "linux", worker, "--terse"])?;
            Ok(shown.success()?.stdout)
        };
        ensure!(state("w1")? == "Running\n" && state("w3")? == "Paused\n");
        // alice's old cap is good, and her jobs go where their hints say,
        let base = story.base_image()?;
        for (hint, worker) in [("two", "w2"), ("one", "w1"), ("two", "w2")] {
            cluster.wait_for_show("linux", "both workers to be ready", SOON, |show| {
                show.lines().any(|line| {
                    let line = line.trim_start();
                    line.starts_with("queue: (ready)") && line.contains("w1") && line.contains("w2")
                })
            })?;
            let dockerfile = Dockerfile::from(&base).step("RUN echo built");
            let built = alice.submit(&Submission::of(&dockerfile).hint(hint))?;
            let built_on = Client::worker_in(&built.success()?.stdout)?;
            ensure!(built_on == worker, "{hint} went to {built_on}");
        }
        // and her rate is what it was.
        let show = cluster.show("linux")?;
        ensure!(show.contains("alice(7)"), "alice's rate was 7:\n{show}");

        // When an administrator has changed some of it, and all goes back to OCluster's scheduler,
        cluster.admin(&["pause", "linux", "w1"])?.success()?;
        cluster.admin(&["remove-client", "bob"])?.success()?;
        cluster.stop_scheduler()?;
        let back = story.scratch.join("back.db");
        chore(story, "export", "--to", &back)?;
        // then it finds the new state, in its own form.
        let database = Connection::open(&back)?;
        let one = |query: &str| -> rusqlite::Result<String> {
            database.query_row(query, [], |row| row.get(0))
        };
        for (query, expected) in [
            ("PRAGMA journal_mode", "wal"),
            ("PRAGMA integrity_check", "ok"),
            (
                "SELECT group_concat(id || paused || typeof(paused)) FROM (SELECT * FROM workers ORDER BY id)",
                "w11integer,w20integer,w31integer",
            ),
            (
                "SELECT group_concat(hex(args) || typeof(args) || typeof(hash) || type || created) FROM sturdy_refs",
                "616C696365blobblobocluster-client2021-03-04",
            ),
            (
                "SELECT group_concat(user || rate || typeof(rate)) FROM pool_user_rate",
                "alice7.0real",
            ),
            (
                "SELECT group_concat(cache_hint || worker || typeof(created) || length(created))
                    FROM (SELECT * FROM cached ORDER BY cache_hint)",
                "onew1text10,twow2text10",
            ),
        ] {
            let found = one(query)?;
            ensure!(found == expected, "{query}: {found}");
        }
        Ok(())
    })
}
