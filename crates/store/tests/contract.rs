//! The contract of `DtabStore`, on each kind.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use names::Dtab;
use store::{Action, Change, DtabStore, Error, Lease, LeaseRequest, Leased, Memory, Note, Sqlite, Version};

/// Runs a fact on each kind, on an empty store.
fn check<F: Future<Output = ()>>(fact: impl Fn(Arc<dyn DtabStore>) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&directory.path().join("dtabs.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(common::open(&common::namespace(), common::admin()));
    let kinds: [Arc<dyn DtabStore>; 3] = [Arc::new(Memory::new([])), Arc::new(sqlite), Arc::new(cluster)];
    for store in kinds {
        println!("{}", store.kind());
        runtime.block_on(fact(store));
    }
}

/// Whether versions are counted from 1 in each namespace; a cluster's only grow.
fn counts(store: &Arc<dyn DtabStore>) -> bool {
    store.kind() != "io.l5d.k8s"
}

/// No version, in any kind of store.
fn never() -> Version {
    Version::from_number(u64::MAX)
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
    /// What is asked for; numbers stand for the versions written so far, from 1.
    enum Ask {
        Create(&'static str),
        Update(&'static [usize]),
        Put,
        Delete(Option<&'static [usize]>),
    }
    check(|store| async move {
        let missing = "The dtab namespace n does not exist";
        let exists = "The dtab namespace n already exists";
        let mismatch = "Could not update dtab: current version does not match provided version";
        let done = "";
        let cases = [
            (Ask::Update(&[1]), missing),
            (Ask::Delete(None), missing),
            (Ask::Create("/a => /b"), done),
            (Ask::Create(""), exists),
            (Ask::Update(&[2]), mismatch),
            (Ask::Update(&[]), mismatch),
            (Ask::Update(&[2, 1]), done),
            (Ask::Put, done),
            (Ask::Delete(Some(&[2])), mismatch),
            (Ask::Delete(Some(&[3])), done),
            (Ask::Delete(None), missing),
            (Ask::Update(&[4]), missing),
            (Ask::Create(""), done),
            (Ask::Delete(None), done),
            (Ask::Put, done),
        ];
        let mut written: Vec<Version> = Vec::new();
        for (number, (ask, expected)) in cases.into_iter().enumerate() {
            let versions = |numbers: &[usize]| {
                numbers.iter().map(|number| written.get(number - 1).copied().unwrap_or_else(never)).collect()
            };
            let change = match ask {
                Ask::Create(text) => Change::Create(dtab(text)),
                Ask::Update(numbers) => Change::Update(dtab(""), versions(numbers)),
                Ask::Put => Change::Put(dtab("")),
                Ask::Delete(numbers) => Change::Delete(numbers.map(versions)),
            };
            let found = match store.write("n", change, by("-", 0)).await {
                Ok(revision) => {
                    assert!(Some(&revision.version) > written.last(), "{number}");
                    written.push(revision.version);
                    String::new()
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{number}");
        }
        if counts(&store) {
            assert_eq!(written[0].to_string(), "AAAAAAAAAAE=");
            assert_eq!(written.iter().map(|version| version.number()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        }
    });
}

#[test]
fn history_is_newest_first_and_survives_deletion() {
    check(|store| async move {
        assert_eq!(store.history("n", 9).await.unwrap(), None);
        let comment = |text: &str| Note { comment: Some(text.into()), ..by("bob", 2) };
        let first = store.write("n", Change::Create(dtab("/a => 0.125*/b & /c")), by("alice", 1)).await.unwrap();
        let second = store.write("n", Change::Put(dtab("/a => /d")), comment("why & ünïcode")).await.unwrap();
        let third = store.write("n", Change::Delete(None), by("carol", 3)).await.unwrap();
        let history = store.history("n", 9).await.unwrap().unwrap();
        let shown: Vec<_> = history
            .iter()
            .map(|r| (r.version, r.time, &*r.author, r.comment.as_deref(), r.action, r.dtab.show_exact()))
            .collect();
        assert_eq!(
            shown,
            [
                (third.version, at(3), "carol", None, Action::Delete, String::new()),
                (second.version, at(2), "bob", Some("why & ünïcode"), Action::Update, "/a=>/d".into()),
                (first.version, at(1), "alice", None, Action::Create, "/a=>0.125*/b & /c".into()),
            ]
        );
        let one = store.history("n", 1).await.unwrap().unwrap();
        assert_eq!(one[..], history[..1]);
        assert_eq!(store.history("n", 0).await.unwrap(), Some(vec![]));
        assert_eq!(store.revision("n", second.version).await.unwrap().as_ref(), Some(&history[1]));
        for unknown in [Version::from_number(0), third.version.next(), never()] {
            assert_eq!(store.revision("n", unknown).await.unwrap(), None);
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
        // Not every kind of store takes every name.
        let other = if counts(&store) { "a/b" } else { "a-b" };
        put(&store, other, "").await;
        let sorted: Vec<_> = names.borrow_and_update().iter().map(|name| name.to_string()).collect();
        assert_eq!(sorted, [other, "b"]);
    });
}

#[test]
fn of_concurrent_updates_of_one_version_one_wins() {
    check(|store| async move {
        let mut current = put(&store, "n", "").await;
        for round in 1..20_u64 {
            let writes = (0..8).map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let text = dtab(&format!("/round/{round} => /writer/{writer}"));
                    store.write("n", Change::Update(text, vec![current]), by("-", 0)).await
                })
            });
            let writes: Vec<_> = writes.collect();
            let (mut won, mut lost) = (0, 0);
            let before = current;
            for write in writes {
                match write.await.unwrap() {
                    Ok(revision) => {
                        assert!(revision.version > before);
                        assert!(!counts(&store) || revision.version.number() == round + 1);
                        current = revision.version;
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
