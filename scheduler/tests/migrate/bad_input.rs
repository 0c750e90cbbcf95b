//! Databases that are something else, newer, damaged, or in use: each is refused with the reason, and nothing changes.

use std::fs;
use std::io::{BufRead as _, BufReader};

use rusqlite::Connection;

use crate::upstream::{SMALL, closed, database, files, shell};

#[test]
fn what_is_no_database_of_the_scheduler_is_refused() {
    let shell = shell();
    let in_shell = |name: &str| shell.directory().join(name);
    fs::create_dir(in_shell("directory.db")).unwrap();
    shell.write("empty.db", "");
    shell.write("text.db", "This is a text, and not short either.\n");
    shell.write("short.db", "SQLite");
    let other = Connection::open(in_shell("other.db")).unwrap();
    other.execute_batch("CREATE TABLE songs (name)").unwrap();
    drop(other);
    let bare = Connection::open(in_shell("bare.db")).unwrap();
    bare.execute_batch("CREATE TABLE songs (name); DROP TABLE songs")
        .unwrap();
    drop(bare);
    closed(&shell, "fewer.db", "DROP TABLE sturdy_refs");
    closed(
        &shell,
        "narrower.db",
        "DROP TABLE workers; CREATE TABLE workers (pool TEXT, id TEXT)",
    );
    let before = files(shell.directory());
    insta::assert_snapshot!(shell.run_all([
        "import --from=missing.db --state-dir=state",
        "import --from=directory.db --state-dir=state",
        "import --from=empty.db --state-dir=state",
        "import --from=text.db --state-dir=state",
        "import --from=short.db --state-dir=state",
        "import --from=other.db --state-dir=state",
        "import --from=bare.db --state-dir=state",
        "import --from=fewer.db --state-dir=state",
        "import --from=narrower.db --state-dir=state",
    ]));
    assert_eq!(files(shell.directory()), before);
}

#[test]
fn what_is_newer_is_refused_by_its_names() {
    let shell = shell();
    closed(&shell, "table.db", "CREATE TABLE jobs (id)");
    closed(
        &shell,
        "columns.db",
        "ALTER TABLE workers ADD COLUMN capacity; ALTER TABLE cached ADD COLUMN cost; CREATE VIEW v AS SELECT 1",
    );
    closed(
        &shell,
        "type.db",
        "INSERT INTO sturdy_refs VALUES (zeroblob(32), 'ocluster-admin', x'61', '2026-11-20')",
    );
    let before = files(shell.directory());
    insta::assert_snapshot!(shell.run_all([
        "import --from=table.db --state-dir=state",
        "import --from=columns.db --state-dir=state",
        "import --from=type.db --state-dir=state",
    ]));
    assert_eq!(files(shell.directory()), before);
}

#[test]
fn odd_values_are_refused_with_their_table_and_row() {
    let shell = shell();
    let cases = [
        "UPDATE workers SET paused = 'yes' WHERE id = 'w2'",
        "UPDATE workers SET paused = NULL WHERE id = 'w2'",
        "UPDATE workers SET paused = 2 WHERE id = 'w2'",
        "UPDATE workers SET id = x'7732' WHERE id = 'w2'",
        "UPDATE workers SET id = CAST(x'77ff' AS TEXT) WHERE id = 'w2'",
        "UPDATE cached SET created = '2026-02-30' WHERE pool = 'arm'",
        "UPDATE cached SET created = 20260230 WHERE pool = 'arm'",
        "UPDATE cached SET created = '1969-12-31' WHERE pool = 'arm'",
        "UPDATE pool_user_rate SET rate = 0 WHERE user = 'bob'",
        "UPDATE pool_user_rate SET rate = -1.5 WHERE user = 'bob'",
        "UPDATE pool_user_rate SET rate = 9e999 WHERE user = 'bob'",
        "UPDATE pool_user_rate SET rate = 'fast' WHERE user = 'bob'",
        "UPDATE sturdy_refs SET args = 'alice' WHERE created = '2020-02-29'",
        "UPDATE sturdy_refs SET hash = x'0001' WHERE created = '2020-02-29'",
    ];
    let report: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(number, sql)| {
            let name = format!("odd-{number}.db");
            let path = closed(&shell, &name, &format!("{SMALL}; {sql}"));
            let said = shell.run(&format!("import --from={name} --state-dir=state"));
            fs::remove_file(path).unwrap();
            format!("{sql}\n{said}")
        })
        .collect();
    insta::assert_snapshot!(report.join("\n"));
    assert!(files(shell.directory()).is_empty());
}

#[test]
fn half_a_database_is_refused() {
    let shell = shell();
    let large = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000)
        INSERT INTO cached SELECT 'linux', 'hint ' || n, 'w', '2026-11-01' FROM numbers";
    let whole = fs::read(closed(&shell, "whole.db", large)).unwrap();
    assert!(whole.len() > 20_000);
    let cut = whole.get(..whole.len() / 2).unwrap();
    shell.write("cut.db", cut);
    shell.write("head.db", whole.get(..100).unwrap());
    let mut scribbled = whole.clone();
    scribbled.get_mut(12_288..16_384).unwrap().fill(0xA5);
    shell.write("scribbled.db", &scribbled);
    let mut swapped = whole.clone();
    swapped.copy_within(16_384..20_480, 8_192);
    shell.write("swapped.db", &swapped);
    let before = files(shell.directory());
    for name in ["cut", "head", "scribbled", "swapped"] {
        let said = shell.run(&format!("import --from={name}.db --state-dir=state"));
        assert!(
            said.contains(&format!("{name}.db is damaged: ")) && said.contains("exit status: 1"),
            "{said}"
        );
    }
    assert_eq!(files(shell.directory()), before);
}

#[test]
fn a_database_in_use_is_left_alone() {
    let shell = shell();
    let path = shell.directory().join("scheduler.db");
    let theirs = database(&path, SMALL);
    let said = shell.run("import --from=scheduler.db --state-dir=state");
    let expected = format!(
        "scheduler.db is in use by process {}: stop OCluster's scheduler, then try again",
        std::process::id()
    );
    assert!(said.contains(&expected), "{said}");
    theirs.close().unwrap();
    let said = shell.run("import --from=scheduler.db --state-dir=state");
    assert!(said.contains("exit status: 0"), "{said}");
}

/// Starts a scheduler in the shell's directory.
fn scheduler(shell: &ocluster_cli::testing::Shell) -> std::process::Child {
    let secrets = shell.directory().join("secrets");
    fs::create_dir_all(secrets).unwrap();
    shell
        .command(
            "--capnp-secret-key-file= --capnp-listen-address=tcp:127.0.0.1:0 --secrets-dir=secrets --state-dir=state --pools=linux -v",
        )
        .spawn()
        .unwrap()
}

#[test]
fn a_running_scheduler_keeps_its_store_to_itself() {
    let shell = shell();
    closed(&shell, "old.db", SMALL);
    let mut running = scheduler(&shell);
    let log = BufReader::new(running.stderr.take().unwrap());
    let serves = |line: &String| line.contains("Waiting for (encrypted) connections");
    // Kept open, so that it can go on logging.
    let mut lines = log.lines().map(Result::unwrap);
    lines.find(serves).expect("it should serve");
    let refusal = format!(
        "state directory state is in use by another scheduler (pid {})",
        running.id()
    );
    for chore in [
        "import --from=old.db --state-dir=state",
        "import --from=old.db --state-dir=state --dry-run",
        "export --to=new.db --state-dir=state",
    ] {
        let said = shell.run(chore);
        assert!(said.contains(&refusal), "{said}");
    }
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_scheduler_beside_a_database_that_was_not_imported_refuses_to_start_empty() {
    // One that knows nobody counts as imported, too, once it was.
    for rows in [SMALL, ""] {
        refuses_until_imported(rows);
    }
}

fn refuses_until_imported(rows: &str) {
    let shell = shell();
    fs::create_dir(shell.directory().join("state")).unwrap();
    closed(&shell, "state/scheduler.db", rows);
    let mut refused = scheduler(&shell);
    let log = BufReader::new(refused.stderr.take().unwrap());
    // Until it ends, or until it serves, which it should not.
    let said: Vec<String> = log
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.contains("Wrote capability reference to"))
        .collect();
    let said = said.join("\n");
    // Nothing happens to one that has ended.
    let _ended = refused.kill();
    let status = refused.wait().unwrap();
    assert!(
        said.contains(
            "run `ocluster-scheduler import --from state/scheduler.db --state-dir state` first"
        ),
        "{said}"
    );
    assert_eq!(status.code(), Some(125));
    for made in ["lock", "store", "store.json"] {
        let path = shell.directory().join("state").join(made);
        assert!(!path.exists(), "left behind: {}", path.display());
    }
    let said = shell.run("import --from state/scheduler.db --state-dir state");
    assert!(said.contains("exit status: 0"), "{said}");
    let mut running = scheduler(&shell);
    let log = BufReader::new(running.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let serves = |line: &String| line.contains("Waiting for (encrypted) connections");
    lines.find(serves).expect("it should serve");
    running.kill().unwrap();
    running.wait().unwrap();
}
