//! A control plane with a few namespaces, an edit, a fleet with laggards.

use std::collections::BTreeMap;

use admin::control::{
    Checked, DtabPage, EditPage, Fleet, FleetPage, Lease, Namespace, NamespacesPage, Notice, Revision,
};
use admin::diff::Diff;
use admin::explain::{Asked, Choice, Entry, Explained};
use admin::{Count, Links, Part, Shell, web};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::EVIL;

pub fn page(name: &str, headers: &HeaderMap) -> Option<Response> {
    let ok = StatusCode::OK;
    let dtab = |is_explain: bool| DtabPage {
        shell: shell(headers),
        namespace: "internal".into(),
        history: history(),
        has_more: true,
        fleet: fleet(40),
        leases: leases(),
        asked: asked(is_explain),
        is_explain,
        notice: None,
    };
    let edit = || EditPage {
        shell: shell(headers),
        namespace: "internal".into(),
        is_new: false,
        base: "AAAAAAAAACc=".into(),
        draft: "/srv => /#/io.l5d.fs ;\n/host => /srv ;\n/host/world => /tmp/world-v2 | /tmp/world-v1 ;\n".into(),
        author: String::new(),
        comment: EVIL.into(),
        error: None,
        checked: Some(Checked { diff: diff().boxed(), leases: leases() }),
        overtaken: None,
    };
    Some(match name {
        "control" | "control-empty" => {
            let is_empty = name == "control-empty";
            let names = ["internal", "external", "a-namespace/with a slash & <b>"];
            let namespaces = names.map(|name| Namespace {
                name: name.into(),
                current: history().remove(0),
                before: (name != "external").then(|| history().remove(1)),
            });
            let page = NamespacesPage {
                shell: shell(headers),
                namespaces: if is_empty { Vec::new() } else { namespaces.into() },
                fleet: fleet(if is_empty { 0 } else { 6 }),
                leases: if is_empty { Vec::new() } else { leases() },
                store: if is_empty { "io.l5d.inMemory" } else { "io.switchyard.sqlite" }.into(),
                is_durable: !is_empty,
            };
            web::page(ok, &page)
        }
        "dtab" => {
            let mut page = dtab(false);
            page.notice = Some(Notice { what: format!("Version AAAAAAAAACc= is written. {EVIL}"), is_bad: false });
            web::page(ok, &page)
        }
        "dtab-deleted" => {
            let mut page = dtab(false);
            page.history.insert(0, revision("AAAAAAAAACg=", 1, "delete", &[], None));
            page.fleet = fleet(0);
            page.notice = Some(Notice { what: "Somebody else wrote meanwhile.".into(), is_bad: true });
            web::page(ok, &page)
        }
        "dtab-explain" => web::page(ok, &dtab(true)),
        "edit" => web::page(ok, &edit()),
        "edit-conflict" => {
            let mut page = edit();
            page.error = Some(EVIL.into());
            page.checked = None;
            page.overtaken = Some((format!("version AAAAAAAAACg= by {EVIL}"), diff()));
            web::page(ok, &page)
        }
        "edit-new" => {
            let mut page = EditPage { is_new: true, base: String::new(), checked: None, ..edit() };
            page.namespace = String::new();
            web::page(ok, &page)
        }
        "fleet" => web::page(ok, &FleetPage { shell: shell(headers), fleet: fleet(60) }),
        "fleet-empty" => web::page(ok, &FleetPage { shell: shell(headers), fleet: fleet(0) }),
        _ => return None,
    })
}

fn shell(headers: &HeaderMap) -> Shell {
    let link = |port: u16| Some(format!("http://localhost:{port}"));
    let links = Links { pipeline: link(8080), router: link(9990), control: None };
    let count = Count { number: 2, what: "routers behind".into(), is_bad: false };
    Shell { count: Some(count), ..Shell::new(Part::Control, "namerd", headers, links) }
}

fn before(seconds: i64) -> String {
    format!("{:.3}", Timestamp::now() - SignedDuration::from_secs(seconds))
}

fn revision(version: &str, ago: i64, action: &str, entries: &[(&str, &str)], comment: Option<&str>) -> Revision {
    let value = json!({ "version": version, "time": before(ago), "author": "deploy 12 (ada)", "comment": comment, "action": action });
    let mut revision = serde_json::from_value::<Revision>(value).expect("a revision");
    let entry = |(prefix, dst): &(&str, &str)| Entry { prefix: (*prefix).into(), dst: (*dst).into(), exact: None };
    revision.entries = entries.iter().map(entry).collect();
    revision
}

fn history() -> Vec<Revision> {
    let with = |world: &'static str| {
        [("/srv", "/#/io.l5d.fs"), ("/host", "/srv"), ("/tmp", "/srv"), ("/svc", "/host"), ("/host/world", world)]
    };
    vec![
        revision(
            "AAAAAAAAACc=",
            2,
            "update",
            &with("1 * /tmp/world-v2 & 9 * /tmp/world-v1"),
            Some("shift traffic (10%)"),
        ),
        revision("AAAAAAAAACY=", 3_000, "update", &with("/tmp/world-v1"), Some(EVIL)),
        revision("AAAAAAAAACU=", 300_000, "update", &with("/srv/world-v1"), None),
        revision("AAAAAAAAACQ=", 900_000, "create", &with("/srv/world-v0")[..4], None),
    ]
}

fn diff() -> Diff {
    Diff::of(&history()[1].entries, &history()[0].entries)
}

fn leases() -> Vec<Lease> {
    let lease = json!([{ "namespace": "internal", "entry": "/host/world", "owner": "deploy 12 (ada)", "reason": EVIL, "since": before(60), "expires": before(-60) }]);
    serde_json::from_value(lease).expect("leases")
}

fn asked(is_answered: bool) -> Asked {
    let versions = ["", "AAAAAAAAACY="].map(|version| (version.to_owned(), format!("{version} by ada, 14:02")));
    Asked {
        action: "/dtab/internal/explain".into(),
        path: "/svc/world".into(),
        dtab: String::new(),
        choice: Some(Choice { name: "at", label: "As it was at", values: versions.into(), chosen: String::new() }),
        endpoint: "/api/1/delegate/internal?path=%2Fsvc%2Fworld".into(),
        answer: is_answered.then(|| Ok(Explained::new(&super::router::tree(), &history()[0].entries, &[]))),
    }
}

fn fleet(routers: usize) -> Fleet {
    let router = |n: usize| {
        let (is_behind, is_silent) = (n == 1 || n == 2, n == 2);
        let serves = |namespace: &str| {
            let behind = is_behind && namespace == "internal";
            json!({ "version": if n == 2 { Value::Null } else { "AAAAAAAAACc=".into() }, "current": !behind, "ageMs": 400,
                    "behindMs": behind.then_some(2_100), "waitsFor": if n == 1 { json!(["/svc/world", "/svc/hello"]) } else { json!([]) } })
        };
        let namespaces =
            ["external", "internal"].map(|name| (name, serves(name))).into_iter().collect::<BTreeMap<_, _>>();
        json!({
            "router": if n.is_multiple_of(3) { "outgoing".to_owned() } else { format!("router-eu-{n:02}") }, "process": format!("host-{n}:47{n}"),
            "address": format!("10.196.0.{n}:53422"), "admin": n.is_multiple_of(2).then(|| format!("http://10.196.0.{n}:9990")),
            "since": before(3_000), "lastWord": before(if is_silent { 9 } else { 1 }),
            "state": if is_silent { "silent" } else { "live" }, "namespaces": namespaces,
        })
    };
    let fleet = json!({
        "routers": (0..routers).map(router).collect::<Vec<_>>(),
        "namespaces": { "internal": { "version": "AAAAAAAAACc=" }, "external": { "version": "AAAAAAAAAAQ=" }, "gone": { "version": null } },
        "forgottenAfterMs": 10_000,
    });
    serde_json::from_value(fleet).expect("a fleet")
}
