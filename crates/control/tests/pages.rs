//! The pages of the control plane: what they show, and what their forms write and refuse.

#![allow(clippy::unwrap_used)]

mod common;

use common::Namerd;
use serde_json::{Value, json};
use testkit::http::{self, Answer};

fn start() -> Namerd {
    Namerd::with_namespaces(json!({ "internal": "/svc => /host; /host/world => 1 * /srv/v2 & 9 * /srv/v1" }))
}

fn page(namerd: &Namerd, path: &str, status: u16) -> String {
    let answer = http::get(&format!("{}{path}", namerd.admin), &[]);
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert!(answer.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    answer.text()
}

/// Sends a form as a browser does, from a page of this server.
fn form(namerd: &Namerd, path: &str, fields: &[(&str, &str)]) -> Answer {
    form_from(namerd, path, fields, Some(&namerd.admin))
}

fn form_from(namerd: &Namerd, path: &str, fields: &[(&str, &str)], origin: Option<&str>) -> Answer {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let body = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    let body = body.collect::<Vec<_>>().join("&");
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(origin.map(|origin| ("origin", origin)));
    http::request("POST", &format!("{}{path}", namerd.admin), &headers, Some(body.as_bytes())).unwrap()
}

fn version(namerd: &Namerd, namespace: &str) -> String {
    namerd.get(&format!("/api/1/dtabs/{namespace}")).header("etag").unwrap().to_owned()
}

fn history(namerd: &Namerd, namespace: &str) -> Vec<Value> {
    namerd.get(&format!("/api/1/dtabs/{namespace}/history")).json().as_array().unwrap().clone()
}

#[test]
fn pages_show_namespaces_entries_and_how_names_are_bound() {
    let namerd = start();
    let first = page(&namerd, "/", 200);
    assert!(first.contains("internal") && first.contains("Kept in memory"), "{first}");
    let dtab = page(&namerd, "/dtab/internal", 200);
    for shown in ["/host/world", "9 * /srv/v1", "width=\"10%\"", "No router follows this namespace"] {
        assert!(dtab.contains(shown), "{shown} in\n{dtab}");
    }
    let explained = page(&namerd, "/dtab/internal/explain?path=/svc/world&dtab=/srv%3D%3E/$/inet/127.0.0.1", 200);
    assert!(explained.contains("override"), "{explained}");
    assert!(page(&namerd, "/dtab/internal/explain?path=oops", 200).contains("oops is not a path"));
    page(&namerd, "/fleet", 200);
    assert!(page(&namerd, "/dtab/none", 404).contains("There never was a namespace none"));
    page(&namerd, "/dtab/none/edit", 404);
}

#[test]
fn an_edit_replaces_only_what_its_author_saw() {
    let namerd = start();
    let base = version(&namerd, "internal");
    let edit = |step: &str, base: &str, draft: &str| {
        let fields =
            [("step", step), ("base", base), ("draft", draft), ("author", "ada"), ("comment", "why <b>not</b>")];
        form(&namerd, "/dtab/internal/edit", &fields)
    };
    let looked = edit("check", &base, "/svc => /host ; /host/world => /srv/v2 ;");
    assert_eq!(looked.status, 200);
    assert!(
        looked.text().contains("class=\"add\"") && looked.text().contains("why &#60;b&#62;not"),
        "{}",
        looked.text()
    );
    assert_eq!(history(&namerd, "internal").len(), 1, "a look writes nothing");
    let wrong = edit("write", &base, "/svc => ");
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("This is not a dtab") && wrong.text().contains("/svc =&#62; "), "{}", wrong.text());

    let written = edit("write", &base, "/svc => /host ; /host/world => /srv/v2 ;");
    assert_eq!(written.status, 303, "{}", written.text());
    let location = written.header("location").unwrap().to_owned();
    assert!(page(&namerd, &location, 200).contains("is written"));
    let last = history(&namerd, "internal").remove(0);
    assert_eq!((&last["author"], &last["comment"]), (&json!("ada"), &json!("why <b>not</b>")));

    let late = edit("write", &base, "/svc => /elsewhere");
    assert_eq!(late.status, 409);
    assert!(
        late.text().contains("Somebody else wrote meanwhile") && late.text().contains("/elsewhere"),
        "{}",
        late.text()
    );
    assert_eq!(history(&namerd, "internal").len(), 2);
}

#[test]
fn an_earlier_version_is_put_back_as_a_new_one() {
    let namerd = start();
    let first = version(&namerd, "internal");
    namerd.put("internal", "/svc => /other");
    let undo =
        |base: &str, to: &str| form(&namerd, "/dtab/internal/undo", &[("to", to), ("base", base), ("author", "lin")]);
    let late = undo(&first, &first);
    assert_eq!(late.status, 409);
    assert!(late.text().contains("Somebody else wrote meanwhile"), "{}", late.text());
    assert_eq!(undo(&version(&namerd, "internal"), "AAAAAAAAAGM=").status, 404);
    let done = undo(&version(&namerd, "internal"), &first);
    assert_eq!(done.status, 303, "{}", done.text());
    let revisions = history(&namerd, "internal");
    assert_eq!(revisions.len(), 3);
    assert_eq!(revisions[0]["dtab"], revisions[2]["dtab"]);
    assert_eq!(revisions[0]["comment"], json!(format!("put back version {first}")));
    // A deleted namespace is made again in the same way.
    namerd.send("DELETE", "/api/1/dtabs/internal", &[], "");
    assert!(page(&namerd, "/dtab/internal", 200).contains("This namespace is deleted"));
    assert_eq!(undo("", &first).status, 303);
    assert!(version(&namerd, "internal") > first);
}

#[test]
fn a_namespace_is_made_once() {
    let namerd = start();
    let new = |name: &str| form(&namerd, "/new", &[("step", "write"), ("namespace", name), ("draft", "/a => /b")]);
    assert_eq!(new("  ").status, 400);
    let taken = new("internal");
    assert_eq!(taken.status, 409);
    assert!(taken.text().contains("There is a namespace internal already"), "{}", taken.text());
    let made = new("a/b &c");
    assert_eq!(made.status, 303);
    let location = made.header("location").unwrap().to_owned();
    assert!(page(&namerd, &location, 200).contains("a/b &#38;c"));
}

#[test]
fn forms_are_accepted_only_from_our_own_pages() {
    let namerd = start();
    for path in ["/new", "/dtab/internal/edit", "/dtab/internal/undo"] {
        let fields = [("step", "write"), ("namespace", "x"), ("to", "AAAAAAAAAAE="), ("base", "AAAAAAAAAAE=")];
        for origin in [None, Some("http://evil.example"), Some("null")] {
            assert_eq!(form_from(&namerd, path, &fields, origin).status, 403, "{path} from {origin:?}");
        }
    }
    assert_eq!(history(&namerd, "internal").len(), 1);
}
