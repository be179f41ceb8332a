//! What is read from and written to the tables. No transactions here.

use std::{path::Path, str::FromStr, sync::Arc};

use jiff::Timestamp;
use names::Dtab;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use crate::{Action, Error, Lease, Revision, Version};

/// What goes wrong below the level of a file name.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Damaged(Damaged),
}

#[derive(Debug, thiserror::Error)]
#[error("version {version} of {namespace}: {why}")]
pub(super) struct Damaged {
    namespace: String,
    version: Version,
    why: String,
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Problem::Damaged(Damaged { namespace, version, why }) => Error::Damaged { path, namespace, version, why },
            Problem::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Error::Full { path },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked { path },
                _ => Error::Failed { path, source: Arc::new(error) },
            },
        }
    }
}

const COLUMNS: &str = "namespace, number, time, author, comment, action, dtab";

/// A row as it stands; texts are read outside of SQLite's callbacks.
struct Raw {
    namespace: String,
    number: i64,
    time: i64,
    author: String,
    comment: Option<String>,
    action: String,
    dtab: String,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        namespace: row.get(0)?,
        number: row.get(1)?,
        time: row.get(2)?,
        author: row.get(3)?,
        comment: row.get(4)?,
        action: row.get(5)?,
        dtab: row.get(6)?,
    })
}

impl Raw {
    fn revision(self) -> Result<Revision, Problem> {
        let version = Version::from_number(self.number.unsigned_abs());
        let damaged = |why: String| Problem::Damaged(Damaged { namespace: self.namespace.clone(), version, why });
        Ok(Revision {
            time: Timestamp::from_millisecond(self.time).map_err(|error| damaged(error.to_string()))?,
            action: Action::from_str(&self.action).map_err(|_| damaged(format!("unknown action {}", self.action)))?,
            dtab: Dtab::read(&self.dtab).map_err(|error| damaged(error.to_string()))?,
            namespace: self.namespace.as_str().into(),
            version,
            author: self.author.as_str().into(),
            comment: self.comment.as_deref().map(Arc::from),
        })
    }
}

pub(super) fn last_revisions(connection: &Connection) -> Result<Vec<Revision>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM revisions AS r
         WHERE number = (SELECT max(number) FROM revisions WHERE namespace = r.namespace)"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<Raw>, _>>()?;
    rows.into_iter().map(Raw::revision).collect()
}

pub(super) fn last_revision(connection: &Connection, namespace: &str) -> Result<Option<Revision>, Problem> {
    Ok(history(connection, namespace, 1)?.pop())
}

/// Newest first.
pub(super) fn history(connection: &Connection, namespace: &str, limit: usize) -> Result<Vec<Revision>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM revisions WHERE namespace = ?1 ORDER BY number DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![namespace, limit], raw)?.collect::<Result<Vec<Raw>, _>>()?;
    rows.into_iter().map(Raw::revision).collect()
}

pub(super) fn revision(
    connection: &Connection,
    namespace: &str,
    version: Version,
) -> Result<Option<Revision>, Problem> {
    // A version of a client may be larger than what the column can hold.
    let Ok(number) = i64::try_from(version.number()) else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM revisions WHERE namespace = ?1 AND number = ?2");
    let row = connection.prepare_cached(&sql)?.query_row(params![namespace, number], raw).optional()?;
    row.map(Raw::revision).transpose()
}

pub(super) fn insert(connection: &Connection, revision: &Revision) -> Result<(), Problem> {
    let sql = format!("INSERT INTO revisions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    connection.prepare_cached(&sql)?.execute(params![
        &*revision.namespace,
        revision.version.number().cast_signed(),
        revision.time.as_millisecond(),
        &*revision.author,
        revision.comment.as_deref(),
        revision.action.to_string(),
        revision.dtab.show_exact(),
    ])?;
    Ok(())
}

fn lease_row(row: &Row<'_>) -> rusqlite::Result<Lease> {
    let time = |column| {
        let millis: i64 = row.get(column)?;
        Ok::<_, rusqlite::Error>(Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH))
    };
    Ok(Lease {
        namespace: row.get(0)?,
        entry: row.get(1)?,
        owner: row.get(2)?,
        reason: row.get(3)?,
        since: time(4)?,
        expires: time(5)?,
    })
}

pub(super) fn leases(connection: &Connection, now: Timestamp) -> Result<Vec<Lease>, Problem> {
    let sql = "SELECT namespace, entry, owner, reason, since, expires FROM leases WHERE expires > ?1
               ORDER BY namespace, entry";
    let mut statement = connection.prepare_cached(sql)?;
    let leases = statement.query_map([now.as_millisecond()], lease_row)?.collect::<Result<Vec<_>, _>>()?;
    Ok(leases)
}

pub(super) fn lease(connection: &Connection, namespace: &str, entry: &str) -> Result<Option<Lease>, Problem> {
    let sql = "SELECT namespace, entry, owner, reason, since, expires FROM leases WHERE namespace = ?1 AND entry = ?2";
    Ok(connection.prepare_cached(sql)?.query_row([namespace, entry], lease_row).optional()?)
}

/// Puts a lease in place of one that may be there; those that have expired at `now` go.
pub(super) fn put_lease(connection: &Connection, lease: &Lease, now: Timestamp) -> Result<(), Problem> {
    connection.prepare_cached("DELETE FROM leases WHERE expires <= ?1")?.execute([now.as_millisecond()])?;
    let sql = "INSERT OR REPLACE INTO leases (namespace, entry, owner, reason, since, expires)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        lease.namespace,
        lease.entry,
        lease.owner,
        lease.reason,
        lease.since.as_millisecond(),
        lease.expires.as_millisecond(),
    ])?;
    Ok(())
}

pub(super) fn remove_lease(connection: &Connection, namespace: &str, entry: &str) -> Result<(), Problem> {
    let sql = "DELETE FROM leases WHERE namespace = ?1 AND entry = ?2";
    connection.prepare_cached(sql)?.execute([namespace, entry])?;
    Ok(())
}

pub(super) fn remember(connection: &Connection, key: &str, text: &str) -> Result<(), Problem> {
    connection.prepare_cached("INSERT OR REPLACE INTO notes (key, text) VALUES (?1, ?2)")?.execute([key, text])?;
    Ok(())
}

pub(super) fn recall(connection: &Connection, key: &str) -> Result<Option<String>, Problem> {
    let sql = "SELECT text FROM notes WHERE key = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
}
