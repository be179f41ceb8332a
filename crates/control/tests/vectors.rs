//! The HTTP controller against the recorded behaviour of the original, case by case, over real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{LIMIT, Namerd, stream::Stream};
use serde_json::Value;
use testkit::http::{Answer, Connection, Request};

/// Quirks of the original that are mended: status, and the whole body where it says something.
/// `docs/compatibility.md` has the reasons.
const MENDED: &[(&str, u16, Option<&str>)] = &[
    ("bind-missing-path", 400, Some("missing parameter `path`: add ?path=/svc/NAME")),
    ("addr-missing-path", 400, Some("missing parameter `path`: add ?path=/svc/NAME")),
    ("bind-bad-extra-dtab", 400, Some("Invalid dtab: '/' expected but 'o' found at '[o]ops'")),
    ("resolve-bad-extra-dtab", 400, Some("Invalid dtab: '/' expected but 'o' found at '[o]ops'")),
    ("delegate-bad-extra-dtab", 400, Some("Invalid dtab: '/' expected but 'o' found at '[o]ops'")),
    ("delegate-no-ns-missing-path", 400, Some("missing parameter `path`: add ?path=/svc/NAME")),
    ("bound-names-empty-quirk", 200, Some("[]\n")),
    ("put-ifmatch-weak", 412, None),
    ("put-ifmatch-list", 204, None),
    ("delete-ifmatch-ignored", 412, None),
    ("delegate-no-ns-post-charset", 200, Some("{\"type\":\"neg\",\"path\":\"/x\"}")),
    (
        "delegate-no-ns-post-without-query",
        200,
        Some(
            "{\"type\":\"delegate\",\"path\":\"/x\",\"delegate\":{\"type\":\"neg\",\"path\":\"/y\",\
             \"dentry\":{\"prefix\":\"/x\",\"dst\":\"/y\"}}}",
        ),
    ),
];

#[test]
fn every_vector_agrees_or_is_mended() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("vectors/namerd_http.json")).unwrap();
    assert!(cases.len() > 90, "the vectors are there");
    let quirks: BTreeSet<&str> =
        cases.iter().filter(|case| case["quirk"] == true).map(|case| case["id"].as_str().unwrap()).collect();
    let mended: BTreeSet<&str> = MENDED.iter().map(|(id, _, _)| *id).collect();
    assert_eq!(mended, quirks, "each quirk is decided on");

    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let mut wrong = Vec::new();
            check(case, &mut wrong);
            (!wrong.is_empty()).then(|| format!("{}:\n  {}", case["id"], wrong.join("\n  ")))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(case: &Value, wrong: &mut Vec<String>) {
    let namerd = Namerd::with_namespaces(case["given"]["namespaces"].clone());
    for request in case["before"].as_array().into_iter().flatten() {
        assert!(send(&namerd, request).status < 300, "{request}");
    }
    let mended = MENDED.iter().find(|(id, _, _)| case["id"] == *id);
    if let Some((_, status, body)) = mended {
        let answer = send(&namerd, &case["request"]);
        if answer.status != *status || body.is_some_and(|body| body != answer.text()) {
            wrong.push(format!("mended, but {} {:?}", answer.status, answer.text()));
        }
        return;
    }
    if case["expect"].get("stream").is_some() {
        if let Err(problem) = watch(&namerd, &case["request"], &case["expect"]) {
            wrong.push(problem);
        }
    } else {
        compare(&case["expect"], &send(&namerd, &case["request"]), wrong);
    }
    for list in ["more", "after"] {
        for pair in case[list].as_array().into_iter().flatten() {
            compare(&pair[1], &send(&namerd, &pair[0]), wrong);
        }
    }
    namerd.stop();
}

fn headers(request: &Value) -> Vec<(String, String)> {
    let headers = request["headers"].as_object().into_iter().flatten();
    headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn send(namerd: &Namerd, request: &Value) -> Answer {
    let headers = headers(request);
    let mut all = vec![("Host", namerd.authority())];
    all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let method = request["method"].as_str().unwrap();
    let has_length = ["POST", "PUT", "PATCH"].contains(&method);
    let body = request["body"].as_str().or(has_length.then_some(""));
    let target = request["uri"].as_str().unwrap();
    let request = Request { method, target, headers: &all, body: body.map(str::as_bytes) };
    Connection::open(namerd.authority()).unwrap().send(&request).unwrap()
}

fn compare(expect: &Value, answer: &Answer, wrong: &mut Vec<String>) {
    if expect["status"] != answer.status {
        wrong.push(format!("status {} in place of {}", answer.status, expect["status"]));
    }
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        if answer.header(name) != value.as_str() {
            wrong.push(format!("{name}: {:?} in place of {value}", answer.header(name)));
        }
    }
    if let Some(body) = expect["body"].as_str().filter(|body| *body != answer.text()) {
        wrong.push(format!("body {:?} in place of {body:?}", answer.text()));
    }
}

fn watch(namerd: &Namerd, request: &Value, expect: &Value) -> Result<(), String> {
    let (method, target) = (request["method"].as_str().unwrap(), request["uri"].as_str().unwrap());
    let mut stream = Stream::open(namerd.authority(), method, target, &headers(request));
    for step in expect["stream"].as_array().unwrap() {
        if let Some(chunk) = step["chunk"].as_str() {
            let found = stream.bytes(chunk.len(), LIMIT)?;
            if found != chunk {
                return Err(format!("chunk {found:?} in place of {chunk:?}"));
            }
        } else if let Some(names) = step["json_set"].as_array() {
            let found: BTreeSet<String> = serde_json::from_str(&stream.line(LIMIT)?).unwrap();
            let wanted: BTreeSet<String> = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
            if found != wanted {
                return Err(format!("{found:?} in place of {wanted:?}"));
            }
        } else if let Some(time) = step["quiet_ms"].as_u64() {
            stream.quiet(Duration::from_millis(time))?;
        } else {
            let answer = send(namerd, &step["do"]);
            assert!(answer.status < 300, "{}", step["do"]);
        }
    }
    let (status, found) = stream.head.as_ref().ok_or("no head")?;
    if expect["status"] != *status {
        return Err(format!("status {status}"));
    }
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        let line = found.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        if line != value.as_str() {
            return Err(format!("{name}: {line:?} in place of {value}"));
        }
    }
    Ok(())
}
