//! There and back again.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::upstream::{SMALL, closed, database, dump, files, shell};

#[test]
fn a_round_trip_gives_equal_rows() {
    let shell = shell();
    let old = closed(&shell, "scheduler.db", SMALL);
    insta::assert_snapshot!(shell.run_all([
        "import --from=scheduler.db --state-dir=state --dry-run",
        "import --from=scheduler.db --state-dir=state",
        "export --to=new.db --state-dir=state",
        "import --from=new.db --state-dir=other --output=json",
        "export --to=newer.db --state-dir=other --output=json",
    ]));
    assert_eq!(dump(&shell.directory().join("new.db")), dump(&old));
    assert_eq!(dump(&shell.directory().join("newer.db")), dump(&old));
}

#[test]
fn an_empty_database_goes_there_and_back() {
    let shell = shell();
    let old = closed(&shell, "scheduler.db", "");
    shell.run_all([
        "import --from=scheduler.db --state-dir=state",
        "export --to=new.db --state-dir=state",
    ]);
    assert_eq!(dump(&shell.directory().join("new.db")), dump(&old));
}

/// A scheduler that was killed leaves its last changes in the log beside the database.
#[test]
fn the_write_ahead_log_is_read_too_and_nothing_is_touched() {
    let shell = shell();
    let live = shell.directory().join("live.db");
    let open = database(&live, SMALL);
    for suffix in ["", "-wal"] {
        let from = shell.directory().join(format!("live.db{suffix}"));
        fs::copy(from, shell.directory().join(format!("killed.db{suffix}"))).unwrap();
    }
    drop(open);
    let alone = shell.directory().join("killed.db");
    assert!(
        fs::metadata(&alone).unwrap().len() <= 4096,
        "the rows should be in the log only"
    );
    let before = files(shell.directory());
    let said = shell.run("import --from=killed.db --state-dir=state --dry-run --output=json");
    assert!(said.contains(r#""hints":4"#), "{said}");
    assert_eq!(files(shell.directory()), before);
    let said = shell.run("import --from=killed.db --state-dir=state");
    assert!(said.contains("clients: 2"), "{said}");
    shell.run("export --to=new.db --state-dir=state");
    assert_eq!(dump(&shell.directory().join("new.db")), dump(&live));
}

#[test]
fn a_store_with_something_in_it_is_only_replaced_on_demand() {
    let shell = shell();
    closed(&shell, "old.db", SMALL);
    let new = closed(
        &shell,
        "new.db",
        "INSERT INTO workers VALUES ('linux', 'w1', 1), ('linux', 'w9', 0);
         INSERT INTO cached VALUES ('linux', '', 'w2', '2026-11-03');
         INSERT INTO pool_user_rate VALUES ('linux', 'alice', 3);",
    );
    let said = shell.run_all([
        "import --from=old.db --state-dir=state",
        "import --from=new.db --state-dir=state --dry-run",
        "import --from=new.db --state-dir=state",
        "export --to=kept.db --state-dir=state",
        "import --from=new.db --state-dir=state --replace --dry-run",
        "import --from=new.db --state-dir=state --replace",
        "export --to=replaced.db --state-dir=state",
    ]);
    insta::assert_snapshot!(said);
    let dump = |name: &str| dump(&shell.directory().join(name));
    assert_eq!(dump("kept.db"), dump("old.db"));
    assert_eq!(dump("replaced.db"), crate::upstream::dump(&new));
}

/// A default client whose cap file was lost has got a second secret. OCluster's scheduler takes that for a bug of its own, but only when
/// such a client is to be removed.
#[test]
fn an_export_names_clients_that_ocluster_cannot_remove() {
    let shell = shell();
    let old = closed(
        &shell,
        "scheduler.db",
        &format!(
            "{SMALL} INSERT INTO sturdy_refs VALUES (zeroblob(32), 'ocluster-client', CAST('bob' AS BLOB), '2026-11-20'),
             (randomblob(32), 'ocluster-client', CAST('bob' AS BLOB), '2026-11-20')"
        ),
    );
    shell.run("import --from=scheduler.db --state-dir=state");
    let said = shell.run("export --to=new.db --state-dir=state");
    assert!(said.contains("  clients: 4\n"), "{said}");
    assert!(
        said.contains(
            "cannot remove a client that has got a second secret: bob. Both secrets work."
        ),
        "{said}"
    );
    assert_eq!(dump(&shell.directory().join("new.db")), dump(&old));
}

#[test]
fn an_export_never_overwrites() {
    let shell = shell();
    closed(&shell, "scheduler.db", SMALL);
    shell.run("import --from=scheduler.db --state-dir=state");
    shell.write("other.db-wal", "an old log");
    let before = files(shell.directory());
    insta::assert_snapshot!(shell.run_all([
        "export --to=scheduler.db --state-dir=state",
        "export --to=other.db --state-dir=state",
        "export --to=new.db --state-dir=nowhere",
    ]));
    assert_eq!(files(shell.directory()), before);
    // Nor does it leave half a file where it cannot write.
    assert!(
        shell
            .run("export --to=no/such/directory.db --state-dir=state")
            .contains("cannot write no/such/directory.db")
    );
}

#[test]
fn a_hundred_thousand_hints_take_seconds() {
    let shell = shell();
    let path = closed(&shell, "scheduler.db", SMALL);
    let large = Connection::open(&path).unwrap();
    large
        .execute_batch(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
             INSERT INTO cached SELECT 'linux', 'https://example.org/a/repository/number/' || n, 'w' || (n % 50), '2026-11-01'
             FROM numbers",
        )
        .unwrap();
    large.close().unwrap();
    let begun = Instant::now();
    let said = shell.run("import --from=scheduler.db --state-dir=state");
    let taken = begun.elapsed();
    assert!(said.contains("hints:   100004"), "{said}");
    // A few seconds of work, even unoptimised; the rest is for a machine that is busy with other things.
    assert!(taken < Duration::from_secs(180), "it took {taken:?}");
    shell.run("export --to=new.db --state-dir=state");
    assert_eq!(dump(&shell.directory().join("new.db")), dump(&path));
}
