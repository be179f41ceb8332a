//! The contract of `DtabStore`, on each kind.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use names::Dtab;
use store::{Action, Change, DtabStore, Error, Lease, LeaseRequest, Leased, Memory, Note, Sqlite, Version};
use tempfile::TempDir;

struct Kind {
    store: Arc<dyn DtabStore>,
    _directory: Option<TempDir>,
}

/// Runs a fact on each kind, on an empty store.
fn check<F: Future<Output = ()>>(fact: impl Fn(Arc<dyn DtabStore>) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&directory.path().join("dtabs.db")).unwrap();
    let kinds = [
        Kind { store: Arc::new(Memory::new([])), _directory: None },
        Kind { store: Arc::new(sqlite), _directory: Some(directory) },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for kind in kinds {
        println!("{}", kind.store.kind());
        runtime.block_on(fact(kind.store));
    }
}

fn dtab(text: &str) -> Dtab {
    Dtab::read(text).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn by(author: &str, second: i64) -> Note {
    Note { author: author.into(), comment: None, time: at(second) }
}

async fn put(store: &Arc<dyn DtabStore>, namespace: &str, text: &str) -> Version {
    store.write(namespace, Change::Put(dtab(text)), by("-", 0)).await.unwrap().version
}

#[test]
fn writes_are_refused_with_the_originals_texts() {
    check(|store| async move {
        let write = async |change| match store.write("n", change, by("-", 0)).await {
            Ok(revision) => revision.version.to_string(),
            Err(error) => error.to_string(),
        };
        let missing = "The dtab namespace n does not exist";
        let mismatch = "Could not update dtab: current version does not match provided version";
        let (first, second) = (Version::FIRST, Version::FIRST.next());
        let cases = [
            (Change::Update(dtab(""), vec![first]), missing),
            (Change::Delete(None), missing),
            (Change::Create(dtab("/a => /b")), "AAAAAAAAAAE="),
            (Change::Create(dtab("")), "The dtab namespace n already exists"),
            (Change::Update(dtab(""), vec![second]), mismatch),
            (Change::Update(dtab(""), vec![]), mismatch),
            (Change::Update(dtab(""), vec![second, first]), "AAAAAAAAAAI="),
            (Change::Put(dtab("")), "AAAAAAAAAAM="),
            (Change::Delete(Some(vec![second])), mismatch),
            (Change::Delete(Some(vec![Version::from_number(3)])), "AAAAAAAAAAQ="),
            (Change::Delete(None), missing),
            (Change::Update(dtab(""), vec![Version::from_number(4)]), missing),
            (Change::Create(dtab("")), "AAAAAAAAAAU="),
            (Change::Delete(None), "AAAAAAAAAAY="),
            (Change::Put(dtab("")), "AAAAAAAAAAc="),
        ];
        for (change, expected) in cases {
            let shown = format!("{change:?}");
            assert_eq!(write(change).await, expected, "{shown}");
        }
    });
}

#[test]
fn history_is_newest_first_and_survives_deletion() {
    check(|store| async move {
        assert_eq!(store.history("n", 9).await.unwrap(), None);
        let comment = |text: &str| Note { comment: Some(text.into()), ..by("bob", 2) };
        store.write("n", Change::Create(dtab("/a => 0.125*/b & /c")), by("alice", 1)).await.unwrap();
        store.write("n", Change::Put(dtab("/a => /d")), comment("why & ünïcode")).await.unwrap();
        store.write("n", Change::Delete(None), by("carol", 3)).await.unwrap();
        let history = store.history("n", 9).await.unwrap().unwrap();
        let shown: Vec<_> = history
            .iter()
            .map(|r| (r.version.number(), r.time, &*r.author, r.comment.as_deref(), r.action, r.dtab.show_exact()))
            .collect();
        assert_eq!(
            shown,
            [
                (3, at(3), "carol", None, Action::Delete, String::new()),
                (2, at(2), "bob", Some("why & ünïcode"), Action::Update, "/a=>/d".into()),
                (1, at(1), "alice", None, Action::Create, "/a=>0.125*/b & /c".into()),
            ]
        );
        let one = store.history("n", 1).await.unwrap().unwrap();
        assert_eq!(one[..], history[..1]);
        assert_eq!(store.history("n", 0).await.unwrap(), Some(vec![]));
        let version = |number| store.revision("n", Version::from_number(number));
        assert_eq!(version(2).await.unwrap().as_ref(), Some(&history[1]));
        for unknown in [0, 4, u64::MAX] {
            assert_eq!(version(unknown).await.unwrap(), None);
        }
        assert_eq!(store.revision("m", Version::FIRST).await.unwrap(), None);
    });
}

#[test]
fn weights_keep_every_digit() {
    check(|store| async move {
        let text = "/a=>0.0001*/b & 0.9999*/c & 0.30000000000000004*/d";
        put(&store, "n", text).await;
        assert_eq!(store.observe("n").borrow().as_ref().unwrap().dtab.show_exact(), text);
        assert_eq!(store.history("n", 1).await.unwrap().unwrap()[0].dtab.show_exact(), text);
    });
}

#[test]
fn observers_see_what_was_answered() {
    check(|store| async move {
        let mut names = store.names();
        let mut early = store.observe("n");
        assert_eq!(*early.borrow_and_update(), None);
        assert!(names.borrow_and_update().is_empty());
        put(&store, "n", "/a => /b").await;
        assert!(early.has_changed().unwrap() && names.has_changed().unwrap());
        let first = early.borrow_and_update().clone().unwrap();
        assert_eq!((first.dtab.to_string().as_str(), first.exists()), ("/a=>/b", true));
        names.borrow_and_update();
        put(&store, "n", "/a => /b").await;
        assert!(early.has_changed().unwrap(), "each write is news, also of the same text");
        assert!(!names.has_changed().unwrap());
        store.write("n", Change::Delete(None), by("-", 0)).await.unwrap();
        assert!(!early.borrow_and_update().as_ref().unwrap().exists());
        assert!(names.borrow_and_update().is_empty());
        put(&store, "b", "").await;
        put(&store, "a/b", "").await;
        let sorted: Vec<_> = names.borrow_and_update().iter().map(|name| name.to_string()).collect();
        assert_eq!(sorted, ["a/b", "b"]);
    });
}

#[test]
fn of_concurrent_updates_of_one_version_one_wins() {
    check(|store| async move {
        put(&store, "n", "").await;
        for round in 1..20_u64 {
            let writes = (0..8).map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let text = dtab(&format!("/round/{round} => /writer/{writer}"));
                    store.write("n", Change::Update(text, vec![Version::from_number(round)]), by("-", 0)).await
                })
            });
            let writes: Vec<_> = writes.collect();
            let (mut won, mut lost) = (0, 0);
            for write in writes {
                match write.await.unwrap() {
                    Ok(revision) => {
                        assert_eq!(revision.version.number(), round + 1);
                        won += 1;
                    }
                    Err(Error::VersionMismatch) => lost += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!((won, lost), (1, 7));
        }
    });
}

fn lease(owner: &str, second: i64, lasts: u64) -> LeaseRequest {
    LeaseRequest {
        namespace: "n".into(),
        entry: "/host/world".into(),
        owner: owner.into(),
        reason: Some("deploy".into()),
        lasts: Duration::from_secs(lasts),
        now: at(second),
    }
}

#[test]
fn leases_have_one_owner_until_they_end() {
    check(|store| async move {
        let held = |owner: &str, since, expires| Lease {
            namespace: "n".into(),
            entry: "/host/world".into(),
            owner: owner.into(),
            reason: Some("deploy".into()),
            since: at(since),
            expires: at(expires),
        };
        let take = async |owner, second, lasts| store.take_lease(lease(owner, second, lasts)).await.unwrap();
        let release =
            async |owner: &str, second| store.release_lease("n", "/host/world", owner, at(second)).await.unwrap();
        assert_eq!(take("a", 0, 60).await, Leased::Taken(held("a", 0, 60)));
        assert_eq!(take("b", 59, 60).await, Leased::Held(held("a", 0, 60)));
        assert_eq!(take("a", 30, 60).await, Leased::Taken(held("a", 0, 90)), "renewed");
        assert_eq!(release("b", 60).await, Some(held("a", 0, 90)));
        assert_eq!(store.leases(at(89)).await.unwrap(), [held("a", 0, 90)]);
        assert_eq!(store.leases(at(90)).await.unwrap(), []);
        assert_eq!(take("b", 90, 10).await, Leased::Taken(held("b", 90, 100)), "expired");
        assert_eq!(release("b", 95).await, None);
        assert_eq!(store.leases(at(95)).await.unwrap(), []);
        assert_eq!(release("b", 95).await, None, "also when there is none");
        assert_eq!(take("a", 96, 60).await, Leased::Taken(held("a", 96, 156)));
        let other = LeaseRequest { entry: "/host/hello".into(), ..lease("b", 97, 60) };
        assert!(matches!(store.take_lease(other).await.unwrap(), Leased::Taken(_)));
        let entries: Vec<_> = store.leases(at(100)).await.unwrap().into_iter().map(|lease| lease.entry).collect();
        assert_eq!(entries, ["/host/hello", "/host/world"]);
    });
}

#[test]
fn notes_are_kept() {
    check(|store| async move {
        assert_eq!(store.recall("fleet").await.unwrap(), None);
        store.remember("fleet", "a".into()).await.unwrap();
        store.remember("fleet", "b".into()).await.unwrap();
        assert_eq!(store.recall("fleet").await.unwrap().as_deref(), Some("b"));
    });
}
