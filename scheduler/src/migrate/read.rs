//! OCluster's rows, as plain types. A value of another type or form than OCluster writes is named and refused, never guessed at.

use std::path::Path;

use ocluster_scheduling as scheduling;
use ocluster_store::{Client, Hint, KnownWorker, Rate, Snapshot};
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::error::MigrateError;
use super::schema::{CACHED, CLIENT_TYPE, RATES, STURDY_REFS, Table, WORKERS};
use super::source::{Source, refusal};

/// Everything that the database at `path` remembers.
///
/// # Errors
/// If it cannot be read or trusted, see [`MigrateError`].
pub(super) fn read(path: &Path) -> Result<Snapshot, MigrateError> {
    let source = Source::open(path)?;
    let mut found = Snapshot::default();
    rows(&source, path, &WORKERS, |row| {
        found.workers.push(KnownWorker {
            pool: row.text("pool")?,
            name: row.text("id")?,
            paused: row.flag("paused")?,
            pause: None,
        });
        Ok(())
    })?;
    rows(&source, path, &CACHED, |row| {
        found.hints.push(Hint {
            pool: row.text("pool")?,
            hint: row.text("cache_hint")?,
            worker: row.text("worker")?,
            day: row.day("created")?,
        });
        Ok(())
    })?;
    rows(&source, path, &RATES, |row| {
        found.rates.push(Rate {
            pool: row.text("pool")?,
            client: row.text("user")?,
            rate: row.rate("rate")?,
        });
        Ok(())
    })?;
    rows(&source, path, &STURDY_REFS, |row| {
        row.client_type("type")?;
        found.clients.push(Client {
            client: row.blob_text("args")?,
            hash: row.hash("hash")?,
            created_day: row.day("created")?,
        });
        Ok(())
    })?;
    Ok(found)
}

/// Calls `each` with every row of a table, in the order of its key.
fn rows(
    source: &Source,
    path: &Path,
    table: &'static Table,
    mut each: impl FnMut(&Cells<'_>) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    let unreadable = |error| refusal(path, error);
    let query = format!(
        "SELECT * FROM {} ORDER BY {}",
        table.name,
        table.key.join(", ")
    );
    let mut statement = source.database.prepare(&query).map_err(unreadable)?;
    let mut rows = statement.query([]).map_err(unreadable)?;
    while let Some(row) = rows.next().map_err(unreadable)? {
        each(&Cells { row, table, path })?;
    }
    Ok(())
}

/// A row, and where it is from.
struct Cells<'a> {
    row: &'a Row<'a>,
    table: &'static Table,
    path: &'a Path,
}

impl Cells<'_> {
    fn value(&self, column: &'static str) -> ValueRef<'_> {
        // The columns were checked before any row was read.
        self.row.get_ref(column).unwrap_or(ValueRef::Null)
    }

    fn wrong(&self, column: &'static str, expected: &'static str) -> MigrateError {
        let key = self.table.key.iter().map(|column| {
            let value = self.row.get_ref(*column).unwrap_or(ValueRef::Null);
            format!("{column} {}", shown(value))
        });
        MigrateError::Row {
            path: self.path.to_owned(),
            table: self.table.name,
            row: key.collect::<Vec<_>>().join(", "),
            column,
            found: shown(self.value(column)),
            expected,
        }
    }

    fn text(&self, column: &'static str) -> Result<String, MigrateError> {
        let wrong = || self.wrong(column, "a text in UTF-8");
        match self.value(column) {
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn blob_text(&self, column: &'static str) -> Result<String, MigrateError> {
        let wrong = || self.wrong(column, "a name in UTF-8, stored as a blob");
        match self.value(column) {
            ValueRef::Blob(bytes) => String::from_utf8(bytes.to_vec()).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn hash(&self, column: &'static str) -> Result<[u8; 32], MigrateError> {
        let wrong = || self.wrong(column, "a blob of 32 bytes");
        match self.value(column) {
            ValueRef::Blob(bytes) => bytes.try_into().map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn client_type(&self, column: &'static str) -> Result<(), MigrateError> {
        match self.value(column) {
            ValueRef::Text(text) if text == CLIENT_TYPE.as_bytes() => Ok(()),
            _ => Err(self.wrong(column, "the text 'ocluster-client'")),
        }
    }

    fn flag(&self, column: &'static str) -> Result<bool, MigrateError> {
        match self.value(column) {
            ValueRef::Integer(0) => Ok(false),
            ValueRef::Integer(1) => Ok(true),
            _ => Err(self.wrong(column, "0 or 1")),
        }
    }

    fn rate(&self, column: &'static str) -> Result<f64, MigrateError> {
        match self.value(column) {
            ValueRef::Real(rate) if scheduling::Rate::new(rate).is_ok() => Ok(rate),
            _ => Err(self.wrong(column, "a number greater than 0")),
        }
    }

    /// Days since 1970-01-01.
    fn day(&self, column: &'static str) -> Result<u32, MigrateError> {
        let wrong = || self.wrong(column, "a day such as 2026-01-31, not before 1970");
        let ValueRef::Text(text) = self.value(column) else {
            return Err(wrong());
        };
        let day: scheduling::Day = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(wrong)?;
        u32::try_from(day.0).map_err(|_| wrong())
    }
}

/// A value, for a sentence, as SQL writes it; long ones cut off.
fn shown(value: ValueRef<'_>) -> String {
    const LONGEST: usize = 40;
    let cut = |text: String| match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    };
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => format!("'{}'", cut(on_one_line(text))),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{}'", cut(digits))
        }
    }
}

fn on_one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain = |c: char| -> String {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            c.into()
        }
    };
    text.chars().map(plain).collect()
}
