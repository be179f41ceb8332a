//! What only a store on disk can promise: what was acknowledged is there again.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use names::Dtab;
use store::{Change, DtabStore, Error, LeaseRequest, Leased, Note, Sqlite, Version};

fn dtab(text: &str) -> Dtab {
    Dtab::read(text).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn everything_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    let now = jiff::Timestamp::now();
    let request = LeaseRequest {
        namespace: "n".into(),
        entry: "/a".into(),
        owner: "o".into(),
        reason: None,
        lasts: Duration::from_secs(60),
        now,
    };
    block_on(async {
        let store = Sqlite::open(&file).unwrap();
        store.write("n", Change::Create(dtab("/a => 0.001*/b & /c")), Note::now("alice")).await.unwrap();
        store.write("gone", Change::Create(dtab("/x => /y")), Note::now("alice")).await.unwrap();
        store.write("gone", Change::Delete(None), Note::now("bob")).await.unwrap();
        assert!(matches!(store.take_lease(request).await.unwrap(), Leased::Taken(_)));
        store.remember("fleet", "[]".into()).await.unwrap();
    });
    block_on(async {
        let store = Sqlite::open(&file).unwrap();
        let names: Vec<_> = store.names().borrow().iter().map(|name| name.to_string()).collect();
        assert_eq!(names, ["n"]);
        let revision = store.observe("n").borrow().clone().unwrap();
        assert_eq!((revision.dtab.show_exact().as_str(), &*revision.author), ("/a=>0.001*/b & /c", "alice"));
        assert_eq!(store.history("gone", 9).await.unwrap().unwrap().len(), 2);
        let again = store.write("gone", Change::Create(dtab("")), Note::now("carol")).await.unwrap();
        assert_eq!(again.version, Version::from_number(3), "never used twice");
        assert_eq!(store.leases(now).await.unwrap().len(), 1);
        assert_eq!(store.recall("fleet").await.unwrap().as_deref(), Some("[]"));
    });
}

#[test]
fn a_second_control_plane_on_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    let _first = Sqlite::open(&file).unwrap();
    let refused = Sqlite::open(&file).err().unwrap().to_string();
    assert!(refused.ends_with("dtabs.db is in use by another control plane: stop it, or give each its own file"));
}

/// Holds the file as another process with the `sqlite3` command could.
fn hold(file: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    other
}

#[test]
fn a_locked_file_refuses_clearly_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    block_on(async {
        let store = Sqlite::open(&file).unwrap();
        store.write("n", Change::Create(dtab("/a => /b")), Note::now("-")).await.unwrap();
        let other = hold(&file);
        let start = Instant::now();
        let refused = store.write("n", Change::Put(dtab("")), Note::now("-")).await.unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }), "{refused}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(store.observe("n").borrow().as_ref().unwrap().version, Version::FIRST, "reads go on");
        other.execute_batch("ROLLBACK").unwrap();
        let written = store.write("n", Change::Put(dtab("")), Note::now("-")).await.unwrap();
        assert_eq!(written.version, Version::FIRST.next());
    });
}

#[test]
fn files_that_are_no_store_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |file: &Path| {
        let error = Sqlite::open(file).err().unwrap();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database, and it is longer than the header of one would be. ".repeat(40))
        .unwrap();
    assert!(refused(&text).contains("file is not a database"), "{}", refused(&text));
    assert!(refused(&directory.path().join("no/such/dtabs.db")).contains("No such file"));

    let newer = directory.path().join("newer.db");
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(refused(&newer).contains("written by a newer release (format 99, this one knows 1)"));

    let damaged = directory.path().join("damaged.db");
    drop(Sqlite::open(&damaged).unwrap());
    let insert = "INSERT INTO revisions VALUES ('n', 1, 0, '-', NULL, 'create', 'no dtab')";
    rusqlite::Connection::open(&damaged).unwrap().execute_batch(insert).unwrap();
    let text = refused(&damaged);
    assert!(text.contains("version AAAAAAAAAAE= of namespace n cannot be read: '/' expected"), "{text}");
}

/// A file that may not grow stands for a full disk: SQLite answers both with the same code.
#[test]
fn a_full_disk_refuses_clearly_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dtabs.db");
    let store = Sqlite::open_limited(&file, 24).unwrap();
    let long = |number: usize| dtab(&format!("/a => /{}/{number}", "x".repeat(3000)));
    block_on(async {
        let mut written = 0;
        let refused = loop {
            match store.write("n", Change::Put(long(written)), Note::now("-")).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "24 pages are full at some time");
        };
        assert!(written > 3 && matches!(refused, Error::Full { .. }), "{written} {refused}");
        let refused = store.write("m", Change::Put(long(0)), Note::now("-")).await.unwrap_err();
        assert!(refused.to_string().contains("is full; nothing of this was stored"), "{refused}");
        let last = store.observe("n").borrow().clone().unwrap();
        assert_eq!((last.version.number(), last.dtab.clone()), (written as u64, long(written - 1)));
        assert_eq!(store.history("n", 1000).await.unwrap().unwrap().len(), written);
        drop(store);
        // More room, as after a clean-up of the disk.
        let store = Sqlite::open(&file).unwrap();
        assert_eq!(store.observe("n").borrow().as_ref(), Some(&last));
        let next = store.write("n", Change::Put(long(0)), Note::now("-")).await.unwrap();
        assert_eq!(next.version, last.version.next());
    });
}
