//! The reference vectors of the HTTP/1.1 router, each on a fresh router over real sockets.
//!
//! `vectors/derived` are cases of the same form that we made of the reference's sentences, one by one.
//! Cases of other protocols, of `io.l5d.ingress` (whose rules `discovery` tests), and of the config document (which
//! `tests/config.rs` reads) are left out by name; everything else must hold, but for [`DIFFERENT`].

mod common;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use common::backend::{Backend, Message, message};
use common::{Proxy, closed_port};
use naming::{BoundTree, ConfiguredInterpreter, Explain, ExplainError, Interpreter, Live, Served};
use regex::Regex;
use serde_json::{Value, json};
use testkit::until::until;

/// Where we differ, and why (docs/compatibility.md has the same list).
const DIFFERENT: &[(&str, &str)] = &[
    ("id-method-lower-case", "methods are case-sensitive (RFC 9110 §9.1)"),
    ("hd-folded-line", "obs-fold is refused (RFC 9112 §5.2)"),
    ("hd-gzip-text", "answers are passed on as they are, never compressed"),
    ("er-length-plus-sign", "a signed length is refused, not forwarded"),
    ("cl-all-connect", "CONNECT takes an authority, not `/` (RFC 9112 §3.2.3)"),
];

fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str::<Vec<Value>>(text).expect("vectors are JSON")
}

/// Runs the cases that `wanted` picks, and fails with all that differ.
fn run(texts: [&str; 2], least: usize, wanted: impl Fn(&Value) -> bool, check: impl Fn(&Value) -> Result<(), String>) {
    let cases = texts.into_iter().flat_map(cases).filter(|case| wanted(case)).collect::<Vec<_>>();
    assert!(cases.len() >= least, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let id = case["id"].as_str().expect("an id");
        let differs = DIFFERENT.iter().any(|(other, _)| *other == id);
        match (check(case), differs) {
            (Err(why), false) => wrong.push(format!("{id}: {why}\n  {case}")),
            (Ok(()), true) => wrong.push(format!("{id}: holds, so it must not be listed as different")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn is_http(case: &Value) -> bool {
    let kinds = case["config"]["identifier"].to_string();
    case["config"]["protocol"] == "http" && !kinds.contains("ingress")
}

/// Whose names never resolve: what a control plane is that does not answer.
struct Silent;

impl Interpreter for Silent {
    fn bind(&self, _: &names::Dtab, _: &names::Path) -> Live<BoundTree> {
        Live::pending()
    }

    fn explain<'a>(&'a self, _: &'a names::Dtab, _: &'a names::Path) -> naming::Explaining<'a> {
        Box::pin(async { Err::<Arc<Explain>, _>(ExplainError::Failed("silent".into())) })
    }

    fn served(&self) -> Live<Served> {
        Live::constant(Served::default())
    }
}

/// The router of a case, with its places filled in.
fn proxy(config: &Value, backend: &Backend, default_dtab: Option<&str>) -> Proxy {
    let text = config.to_string().replace("{backendPort}", &backend.port.to_string());
    let text = text.replace("{closedPort}", &closed_port().to_string()).replace("{silentPort}", "1");
    let mut router: Value = serde_json::from_str(&text).expect("still JSON");
    router["protocol"] = json!("http");
    if router.get("servers").is_none() {
        router["servers"] = json!([{ "port": 0 }]);
    }
    if let (None, Some(dtab)) = (router.get("dtab"), default_dtab) {
        router["dtab"] = json!(dtab);
    }
    let silent = router.get("interpreter").is_some();
    let draft = proxy::config::read(&json!({ "routers": [router] }));
    let config = draft.finish([]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let router = config.settings.routers.into_iter().next().expect("one router");
    Proxy::with(router, 1, |namers| match silent {
        true => Arc::new(Silent),
        false => Arc::new(ConfiguredInterpreter::new(None, namers)),
    })
}

fn inet_for(config: &Value, backend: &Backend) -> String {
    let prefix = config["dstPrefix"].as_str().unwrap_or("/svc");
    format!("{prefix} => /$/inet/127.0.0.1/{}", backend.port)
}

/// The bytes of a request, in two parts where the body waits for an interim answer.
fn request_bytes(case: &Value) -> (Vec<u8>, Vec<u8>) {
    let request = &case["request"];
    let latin1 = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    if let Some(raw) = request["raw"].as_str() {
        return (latin1(raw), Vec::new());
    }
    let mut uri = request["uri"].as_str().unwrap_or("/").to_owned();
    if let Some(bytes) = case["expand"]["uriBytes"].as_u64() {
        uri = format!("/{}", "a".repeat(bytes as usize - 1));
    }
    let version = request["version"].as_str().unwrap_or("1.1");
    let mut text = format!("{} {uri} HTTP/{version}\r\n", request["method"].as_str().unwrap_or("GET"));
    match &request["headers"] {
        Value::Object(headers) => {
            for (name, value) in headers {
                text.push_str(&format!("{name}: {}\r\n", value.as_str().expect("a text")));
            }
        }
        Value::Array(headers) => {
            for pair in headers {
                text.push_str(&format!(
                    "{}: {}\r\n",
                    pair[0].as_str().expect("a name"),
                    pair[1].as_str().expect("a value")
                ));
            }
        }
        _ => {}
    }
    if let Some(bytes) = case["expand"]["headerBytes"].as_u64() {
        text.push_str(&format!("x-fill: {}\r\n", "a".repeat(bytes as usize)));
    }
    text.push_str("\r\n");
    (latin1(&text), latin1(request["body"].as_str().unwrap_or_default()))
}

/// The scripted answer of a case.
fn backend_of(case: &Value) -> Backend {
    let script = case.get("backend").cloned().unwrap_or_else(|| json!({ "status": 200 }));
    Backend::start(Box::new(move |_, request| {
        (script["hang"] != true).then(|| {
            let closes = script["closeAfter"] == true;
            (answer_bytes(&script, request.word(0) == "HEAD"), closes)
        })
    }))
}

fn answer_bytes(script: &Value, to_head: bool) -> Vec<u8> {
    if let Some(raw) = script["raw"].as_str() {
        return raw.chars().map(|c| c as u8).collect();
    }
    let (version, body) = (script["version"].as_str().unwrap_or("1.1"), script["body"].as_str().unwrap_or_default());
    let mut text = format!("HTTP/{version} {} Answer\r\n", script["status"].as_u64().unwrap_or(200));
    let mut has_length = script["closeAfter"] == true || version == "1.0";
    for (name, value) in script["headers"].as_object().into_iter().flatten() {
        has_length |= name.eq_ignore_ascii_case("content-length");
        text.push_str(&format!("{name}: {}\r\n", value.as_str().expect("a text")));
    }
    if !has_length {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    if !to_head {
        text.push_str(body);
    }
    text.into_bytes()
}

/// What the caller gets.
fn call(proxy: &Proxy, case: &Value) -> Option<(Message, TcpStream)> {
    let (first, second) = request_bytes(case);
    let mut stream = BufReader::new(proxy.connect());
    // The router may have refused, and closed, before all of it was written.
    let _ = stream.get_mut().write_all(&first);
    if let Some(interim) = case["expect"]["interim"].as_u64() {
        let answer = message(&mut stream, true)?;
        assert_eq!(answer.word(1), interim.to_string());
    }
    let _ = stream.get_mut().write_all(&second);
    let to_head = case["request"]["method"] == "HEAD";
    let mut answer = if to_head { head_only(&mut stream) } else { message(&mut stream, false) };
    while let Some(interim) = &answer
        && interim.word(1).starts_with('1')
    {
        answer = message(&mut stream, false);
    }
    Some((answer?, stream.into_inner()))
}

fn head_only(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    use std::io::BufRead;
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned);
    let line = lines.next()?;
    let pair = |line: String| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Some(Message { line, headers: lines.filter_map(pair).collect(), body: Vec::new() })
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: got {got:?}, wanted {wanted:?}")) }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn pairs<'a>(value: &'a Value, backend: &'a Backend) -> impl Iterator<Item = (&'a str, String)> {
    let port = backend.port.to_string();
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(move |(name, value)| (name.as_str(), value.as_str().unwrap_or_default().replace("{backendPort}", &port)))
}

/// The keys that look at headers, on either side.
fn check_headers(message: &Message, expect: &Value, backend: &Backend) -> Result<(), String> {
    for (name, value) in pairs(&expect["headers"], backend) {
        equal(name, message.all(name), vec![value.as_str()])?;
    }
    for (name, values) in expect["list"].as_object().into_iter().flatten() {
        equal(name, message.all(name), strings(values).collect())?;
    }
    for (name, pattern) in pairs(&expect["matches"], backend) {
        let value = message.header(name).unwrap_or_default();
        let matches = Regex::new(&pattern).expect("a pattern").is_match(value);
        matches.then_some(()).ok_or_else(|| format!("{name}: {value:?} does not match {pattern}"))?;
    }
    for (name, value) in pairs(&expect["headersNot"], backend) {
        if message.header(name) == Some(value.as_str()) {
            return Err(format!("{name} is {value}"));
        }
    }
    for name in strings(&expect["absent"]).chain(strings(&expect["headersAbsent"])) {
        equal(name, message.header(name), None)?;
    }
    for name in strings(&expect["present"]).chain(strings(&expect["headersPresent"])) {
        message.header(name).map(drop).ok_or_else(|| format!("{name} is missing"))?;
    }
    if let Some(list) = expect["l5dHeaders"].as_array() {
        let mut names: Vec<_> = message.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.retain(|name| name.starts_with("l5d-"));
        names.sort();
        equal("l5d-*", names, list.iter().filter_map(Value::as_str).map(str::to_owned).collect())?;
    }
    if let Some(version) = expect["version"].as_str() {
        let wanted = format!("HTTP/{version}");
        let found = if message.line.starts_with("HTTP/") { message.word(0) } else { message.word(2) };
        equal("version", found, &wanted)?;
    }
    if let Some(body) = expect["body"].as_str() {
        let body = body.replace("{backendPort}", &backend.port.to_string());
        equal("body", String::from_utf8_lossy(&message.body).into_owned(), body)?;
    }
    if let Some(wanted) = expect.get("trace").filter(|trace| trace.is_object()) {
        check_trace(message, wanted)?;
    }
    Ok(())
}

fn check_trace(message: &Message, expect: &Value) -> Result<(), String> {
    use base64::Engine;
    let value = message.header("l5d-ctx-trace").ok_or("no trace")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).map_err(|error| error.to_string())?;
    let word = |n: usize| bytes[n * 8..n * 8 + 8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if let Some(length) = expect["bytes"].as_u64() {
        equal("bytes", bytes.len() as u64, length)?;
    }
    if let Some(trace) = expect["traceId"].as_str() {
        equal("trace", word(2).as_str(), trace)?;
    }
    if let Some(flags) = expect["flags"].as_u64() {
        equal("flags", u64::from_str_radix(&word(3), 16).unwrap_or(u64::MAX), flags)?;
    }
    for (key, n) in [("spanIdNot", 0), ("parentIdNot", 1)] {
        if expect[key].as_str() == Some(&word(n)) {
            return Err(format!("{key} {}", word(n)));
        }
    }
    Ok(())
}

fn check_answer(answer: &Message, expect: &Value, backend: &Backend) -> Result<(), String> {
    if let Some(status) = expect["status"].as_u64() {
        equal("status", answer.word(1), &status.to_string())?;
    }
    if let Some(kind) = expect["contentType"].as_str() {
        equal("content-type", answer.header("content-type"), Some(kind))?;
    }
    for (name, length) in expect["headerBytes"].as_object().into_iter().flatten() {
        let found = answer.header(name).unwrap_or_default().len() as u64;
        equal(name, Some(found), length.as_u64())?;
    }
    check_headers(answer, expect, backend)
}

#[test]
fn identifiers() {
    let wanted = |case: &Value| case["id"].as_str().is_some_and(|id| id.starts_with("id-")) && is_http(case);
    run(
        [include_str!("vectors/identifier.json"), include_str!("vectors/derived/identifier.json")],
        90,
        wanted,
        |case| {
            let backend = Backend::ok();
            let proxy = proxy(&case["config"], &backend, Some(&inet_for(&case["config"], &backend)));
            let (answer, _) = call(&proxy, case).ok_or("no answer")?;
            let expect = &case["expect"];
            if let Some(reason) = expect["unidentified"].as_str() {
                equal("status", answer.word(1), "400")?;
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return body.ends_with(&format!(" / {reason}")).then_some(()).ok_or(body);
            }
            if expect["error"] == true {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                equal("status", Some(answer.word(1)), expect["status"].as_u64().map(|s| s.to_string()).as_deref())?;
                return body.ends_with(expect["bodyEndsWith"].as_str().unwrap_or_default()).then_some(()).ok_or(body);
            }
            let requests = backend.requests();
            let request = requests.first().ok_or_else(|| format!("not forwarded: {answer:?}"))?;
            equal("dst", request.header("l5d-dst-service"), expect["dst"].as_str())?;
            if let Some(uri) = expect["forwardedUri"].as_str() {
                equal("uri", request.word(1), uri)?;
            }
            if let Some(host) = expect["forwardedHost"].as_str() {
                equal("host", request.all("host"), vec![host])?;
            }
            Ok(())
        },
    );
}

#[test]
fn headers() {
    run([include_str!("vectors/headers.json"), include_str!("vectors/derived/headers.json")], 110, is_http, |case| {
        let backend = backend_of(case);
        let text = case.to_string().replace("{backendPort}", &backend.port.to_string());
        let case = &serde_json::from_str::<Value>(&text).expect("still JSON");
        let proxy = proxy(&case["config"], &backend, None);
        let (answer, _) = call(&proxy, case).ok_or("no answer")?;
        if let Some(expect) = case["expect"].get("forwarded") {
            let requests = backend.requests();
            let request = requests.first().ok_or_else(|| format!("not forwarded: {answer:?}"))?;
            check_headers(request, expect, &backend)?;
        }
        check_answer(&answer, &case["expect"]["response"], &backend)
    });
}

#[test]
fn errors() {
    let wanted = |case: &Value| case["id"].as_str().is_some_and(|id| id.starts_with("er-")) && is_http(case);
    run([include_str!("vectors/errors.json"), include_str!("vectors/derived/errors.json")], 75, wanted, |case| {
        let backend = backend_of(case);
        let closed = closed_port();
        let text = case.to_string().replace("{closedPort}", &closed.to_string());
        let text = text.replace("{backendPort}", &backend.port.to_string());
        let case: Value = serde_json::from_str(&text).expect("still JSON");
        let proxy = proxy(&case["config"], &backend, None);
        let mut others = Vec::new();
        for _ in 1..case["concurrent"].as_u64().unwrap_or(1) {
            let mut other = proxy.connect();
            other.write_all(&request_bytes(&case).0).map_err(|error| error.to_string())?;
            others.push(other);
            until("the endpoint has it", Duration::from_secs(5), || match backend.requests().len() {
                many if many == others.len() => Ok(()),
                many => Err(many),
            });
        }
        let (answer, mut stream) = call(&proxy, &case).ok_or("no answer")?;
        let expect = &case["expect"];
        check_answer(&answer, expect, &backend)?;
        if let Some(pattern) = expect["bodyMatches"].as_str() {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            let matches = Regex::new(pattern).expect("a pattern").is_match(&body);
            matches.then_some(()).ok_or_else(|| format!("body {body:?}"))?;
        }
        if expect["connection"] == "close" && answer.header("connection") != Some("close") {
            use std::io::Read;
            equal("the end", stream.read(&mut [0]).map_err(|error| error.to_string()), Ok(0))?;
        }
        Ok(())
    });
}

#[test]
fn classifiers() {
    let wanted = |case: &Value| case["id"].as_str().is_some_and(|id| id.starts_with("cl-")) && is_http(case);
    run(
        [include_str!("vectors/classifier.json"), include_str!("vectors/derived/classifier.json")],
        110,
        wanted,
        |case| {
            let outcome = case["outcome"].clone();
            let first = outcome.clone();
            let backend = Backend::start(Box::new(move |number, _| {
                let ok = (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), false);
                if number > 0 {
                    return Some(ok);
                }
                match first["exception"].as_str() {
                    Some("timeout" | "attempt-timeout") => None,
                    Some("backend-framing") => {
                        let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi";
                        Some((two.as_bytes().to_vec(), true))
                    }
                    Some(_) => Some((Vec::new(), true)),
                    None => Some((answer_bytes(&first, false), false)),
                }
            }));
            let mut config = json!({ "service": {}, "dtab": inet_for(&json!({}), &backend) });
            if let Some(classifier) = case["config"].get("responseClassifier") {
                config["service"]["responseClassifier"] = classifier.clone();
            }
            if outcome["exception"].as_str().is_some_and(|kind| kind.ends_with("timeout")) {
                config["client"] = json!({ "requestAttemptTimeoutMs": 100 });
            }
            let proxy = proxy(&config, &backend, None);
            let mut asked = case.clone();
            asked["request"]["headers"] = json!({ "Host": "foo" });
            if case["request"]["streamed"] == true {
                asked["request"]["headers"]["Transfer-Encoding"] = json!("chunked");
                asked["request"]["body"] = json!("2\r\nhi\r\n0\r\n\r\n");
            }
            let (answer, _) = call(&proxy, &asked).ok_or("no answer")?;
            let attempts = backend.requests().len();
            match case["expect"]["class"].as_str() {
                Some("retryable-failure") => equal("attempts and status", (attempts, answer.word(1)), (2, "200")),
                Some(class) => {
                    equal("attempts", attempts, 1)?;
                    // Answers of our own carry no class.
                    let wanted = if class == "success" { "1.0" } else { "0.0" };
                    match outcome.get("exception") {
                        Some(_) => equal("class", answer.header("l5d-success-class"), None),
                        None => equal("class", answer.header("l5d-success-class"), Some(wanted)),
                    }
                }
                None => Err("no class".to_owned()),
            }
        },
    );
}
