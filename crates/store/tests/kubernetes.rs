//! What the store in Kubernetes does beyond the contract: objects of others, other replicas, old roles.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{admin, cluster, define, namespace, open};
use names::Dtab;
use serde_json::{Value, json};
use store::{Action, Change, DtabStore, Error, Kubernetes, LeaseRequest, Leased, Note};
use testkit::kube::ControlPlane;
use testkit::until::until;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(10);

fn dtab(text: &str) -> Dtab {
    Dtab::read(text).unwrap()
}

fn object(namespace: &str, name: &str, dentries: Value) -> Value {
    json!({
        "apiVersion": "l5d.io/v1alpha1", "kind": "DTab", "metadata": { "name": name, "namespace": namespace },
        "dentries": dentries,
    })
}

fn shown(store: &Kubernetes, name: &str) -> Option<String> {
    store.observe(name).borrow().as_ref().filter(|revision| revision.exists()).map(|revision| revision.dtab.to_string())
}

#[track_caller]
fn sees(store: &Kubernetes, name: &str, expected: Option<&str>) {
    until(name, SOON, || match shown(store, name) {
        found if found.as_deref() == expected => Ok(()),
        found => Err(found),
    });
}

#[test]
fn objects_of_an_old_namerd_are_read_and_what_is_not_ours_in_them_stays() {
    let runtime = Runtime::new().unwrap();
    let (cluster, ns) = (cluster(), namespace());
    let mut old =
        object(&ns, "internal", json!([{ "prefix": "/svc", "dst": "/host" }, { "prefix": "/host", "dst": "/a | /b" }]));
    old["metadata"]["labels"] = json!({ "team": "blue" });
    old["metadata"]["annotations"] = json!({ "note": "kept" });
    old["extra"] = json!({ "also": "kept" });
    cluster.kubectl(&["create", "-f", "-"], &old.to_string());
    // Entries that Kubernetes takes and no dtab can have.
    let bad = object(&ns, "bad", json!([{ "prefix": "no slash", "dst": "/x" }]));
    cluster.kubectl(&["create", "-f", "-"], &bad.to_string());
    let store = runtime.block_on(open(&ns, admin()));
    assert_eq!(shown(&store, "internal").as_deref(), Some("/svc=>/host;/host=>/a | /b"));
    assert_eq!(shown(&store, "bad"), None, "and it hides nothing");
    assert!(store.state()["unreadable"]["bad"].as_str().unwrap().contains("`no slash`"), "{}", store.state());
    let write = async |name: &str, change| store.write(name, change, Note::now("alice")).await;
    runtime.block_on(write("internal", Change::Put(dtab("/svc => /c")))).unwrap();
    assert_eq!(shown(&store, "internal").as_deref(), Some("/svc=>/c"), "read your writes");
    let now: Value =
        serde_json::from_str(&cluster.kubectl(&["-n", &ns, "get", "dtab", "internal", "-o", "json"], "")).unwrap();
    assert_eq!(now["dentries"], json!([{ "prefix": "/svc", "dst": "/c" }]));
    assert_eq!((&now["metadata"]["labels"]["team"], &now["extra"]["also"]), (&json!("blue"), &json!("kept")));
    assert_eq!(now["metadata"]["annotations"]["note"], "kept");
    let table = cluster.kubectl(&["-n", &ns, "get", "dtabs"], "");
    let line = table.lines().find(|line| line.starts_with("internal")).unwrap();
    assert!(line.contains("alice") && line.contains("/svc"), "{table}");
    until("an event", SOON, || {
        let events = cluster.kubectl(&["-n", &ns, "get", "events"], "");
        if events.contains("update by alice: /svc=>/c") { Ok(()) } else { Err(events) }
    });
    // What cannot be read can be replaced.
    runtime.block_on(write("bad", Change::Put(dtab("/x => /y")))).unwrap();
    assert_eq!(shown(&store, "bad").as_deref(), Some("/x=>/y"));
    let refused = runtime.block_on(write("a/b", Change::Put(dtab("")))).unwrap_err();
    assert!(matches!(refused, Error::BadName(_)), "{refused}");
}

#[test]
fn replicas_agree_and_a_new_one_knows_the_history() {
    let runtime = Runtime::new().unwrap();
    let ns = namespace();
    let (one, two) = runtime.block_on(async { (open(&ns, admin()).await, open(&ns, admin()).await) });
    let note = |author: &str| Note { comment: Some("why".into()), ..Note::now(author) };
    let first = runtime.block_on(one.write("n", Change::Create(dtab("/a => /b")), note("alice"))).unwrap();
    let second =
        runtime.block_on(two.write("n", Change::Update(dtab("/a => /c"), vec![first.version]), note("bob"))).unwrap();
    sees(&one, "n", Some("/a=>/c"));
    let stale = runtime.block_on(one.write("n", Change::Update(dtab(""), vec![first.version]), note("carol")));
    assert!(matches!(stale, Err(Error::VersionMismatch)), "{stale:?}");
    // By another hand.
    let edit = r#"{"dentries":[{"prefix":"/a","dst":"/d"}]}"#;
    cluster().kubectl(&["-n", &ns, "patch", "dtab", "n", "--type=merge", "-p", edit], "");
    sees(&one, "n", Some("/a=>/d"));
    sees(&two, "n", Some("/a=>/d"));
    let fourth = runtime.block_on(one.write("n", Change::Put(dtab("/a => /e")), note("dave"))).unwrap();
    let late = runtime.block_on(open(&ns, admin()));
    let history = runtime.block_on(late.history("n", 9)).unwrap().unwrap();
    let told: Vec<_> =
        history.iter().map(|revision| (revision.dtab.to_string(), revision.author.to_string())).collect();
    let expected = [("/a=>/e", "dave"), ("/a=>/d", "kubectl-patch"), ("/a=>/c", "bob"), ("/a=>/b", "alice")];
    assert_eq!(told, expected.map(|(dtab, author)| (dtab.to_owned(), author.to_owned())));
    assert_eq!(
        (history[0].version, history[2].version, history[3].version),
        (fourth.version, second.version, first.version)
    );
    assert_eq!((history[3].comment.as_deref(), history[3].action), (Some("why"), Action::Create));
    runtime.block_on(two.write("n", Change::Delete(None), note("erin"))).unwrap();
    sees(&one, "n", None);
    // Claims, too, hold everywhere.
    let now = Note::now("-").time;
    let lease = |owner: &str| LeaseRequest {
        namespace: "n".into(),
        entry: "/a".into(),
        owner: owner.into(),
        reason: None,
        lasts: SOON,
        now,
    };
    assert!(matches!(runtime.block_on(one.take_lease(lease("x"))).unwrap(), Leased::Taken(_)));
    assert!(matches!(runtime.block_on(two.take_lease(lease("y"))).unwrap(), Leased::Held(_)));
}

#[test]
fn an_old_role_is_enough_for_dtabs_and_what_it_forbids_is_named() {
    let runtime = Runtime::new().unwrap();
    let (cluster, ns) = (cluster(), namespace());
    cluster.kubectl(&["-n", &ns, "create", "serviceaccount", "namerd"], "");
    // As the original's manifest had it: no delete, and nothing but dtabs.
    let verbs = "--verb=get,watch,list,update,create";
    cluster.kubectl(&["-n", &ns, "create", "role", "dtab-storage", verbs, "--resource=dtabs.l5d.io"], "");
    let account = format!("--serviceaccount={ns}:namerd");
    cluster.kubectl(&["-n", &ns, "create", "rolebinding", "dtab-storage", "--role=dtab-storage", &account], "");
    let token = cluster.kubectl(&["-n", &ns, "create", "token", "namerd"], "");
    let store = runtime.block_on(open(&ns, cluster.kubeconfig_with(None, Some(token.trim()))));
    runtime.block_on(store.write("n", Change::Create(dtab("/a => /b")), Note::now("alice"))).unwrap();
    let refused = runtime.block_on(store.write("n", Change::Delete(None), Note::now("alice"))).unwrap_err().to_string();
    let wanted = format!(
        "cannot delete dtabs.l5d.io in namespace {ns}: forbidden; a role must allow the verb delete on dtabs.l5d.io"
    );
    assert!(refused.starts_with(&wanted), "{refused}");
    runtime.block_on(store.remember("fleet", "kept here".into())).unwrap();
    assert_eq!(runtime.block_on(store.recall("fleet")).unwrap().as_deref(), Some("kept here"));
}

#[test]
fn without_the_api_server_reads_go_on_and_writes_fail() {
    let runtime = Runtime::new().unwrap();
    let cluster = ControlPlane::start();
    define(&cluster);
    let ns = cluster.namespace("killed");
    let store = runtime.block_on(open(&ns, cluster.kubeconfig()));
    runtime.block_on(store.write("n", Change::Create(dtab("/a => /b")), Note::now("alice"))).unwrap();
    let dead = cluster.kill_api();
    let failed = runtime.block_on(store.write("n", Change::Put(dtab("")), Note::now("alice"))).unwrap_err();
    assert!(failed.to_string().starts_with(&format!("cannot get dtabs.l5d.io in namespace {ns}: ")), "{failed}");
    assert_eq!(shown(&store, "n").as_deref(), Some("/a=>/b"));
    dead.start();
    let limit = Duration::from_secs(60);
    until("a write", limit, || runtime.block_on(store.write("n", Change::Put(dtab("/a => /c")), Note::now("bob"))));
    assert_eq!(shown(&store, "n").as_deref(), Some("/a=>/c"));
    let edit = r#"{"dentries":[{"prefix":"/a","dst":"/d"}]}"#;
    cluster.kubectl(&["-n", &ns, "patch", "dtab", "n", "--type=merge", "-p", edit], "");
    sees(&store, "n", Some("/a=>/d"));
}
