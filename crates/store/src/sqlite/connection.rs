//! Opening the file: lock, settings, tables.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::Error;

use super::queries::Problem;

/// The format that this release writes, in `PRAGMA user_version`.
const FORMAT: i64 = 1;

/// How long to wait for another process that holds the file.
const PATIENCE: Duration = Duration::from_secs(3);

const TABLES: &str = "
    CREATE TABLE revisions (
        namespace TEXT NOT NULL,
        number    INTEGER NOT NULL,
        time      INTEGER NOT NULL, -- milliseconds since 1970
        author    TEXT NOT NULL,
        comment   TEXT,
        action    TEXT NOT NULL,
        dtab      TEXT NOT NULL,    -- weights with every digit
        PRIMARY KEY (namespace, number)
    ) STRICT;
    CREATE TABLE leases (
        namespace TEXT NOT NULL,
        entry     TEXT NOT NULL,
        owner     TEXT NOT NULL,
        reason    TEXT,
        since     INTEGER NOT NULL,
        expires   INTEGER NOT NULL,
        PRIMARY KEY (namespace, entry)
    ) STRICT;
    CREATE TABLE notes (
        key  TEXT PRIMARY KEY,
        text TEXT NOT NULL
    ) STRICT;
";

/// The connection, and the lock that keeps others out.
pub(super) fn open(path: &Path) -> Result<(Connection, File), Error> {
    let lock = lock(path)?;
    let connection = set_up(path).map_err(|problem| match problem {
        Problem::Sqlite(error) => match Problem::Sqlite(error).at(path) {
            Error::Failed { path, source } => Error::Open { path, source },
            known => known,
        },
        other => other.at(path),
    })?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| Problem::Sqlite(error).at(path))?;
    if found > FORMAT {
        return Err(Error::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    Ok((connection, lock))
}

pub(super) fn limit(connection: &Connection, pages: u32) -> Result<(), Problem> {
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    Ok(())
}

fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let name = PathBuf::from(name);
    let refuse = |source: std::io::Error| Error::Open { path: name.clone(), source: Arc::new(source) };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(refuse)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(refuse(error)),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                // A control plane that is being restarted lets go in a moment.
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
        }
    }
}

fn set_up(path: &Path) -> Result<Connection, Problem> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(%mode, path = %path.display(), "no write-ahead log on this file system; writes are slower");
    }
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format == 0 {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;"))?;
    }
    Ok(connection)
}
