//! `namerctl` against the recorded behaviour of the original: each case of the vectors, with a
//! control plane of our own behind a relay that records, or with a stub.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::http::{self, Answer};
use testkit::process;
use testkit::recorder::{Recorded, Recorder, Reply};

use common::{Namerd, switchyard};

#[test]
fn every_vector_agrees() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("vectors/namerctl.json")).unwrap();
    assert!(cases.len() > 20, "the vectors are there");
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let wrong = check(case);
            (!wrong.is_empty()).then(|| format!("{}:\n  {}", case["id"], wrong.join("\n  ")))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The same API by our own name, where each kind of trouble has its number.
#[test]
fn our_own_command_tells_troubles_apart() {
    let namerd = Namerd::with_namespaces(&serde_json::json!({ "taken": "/a => /b" }));
    let run = |arguments: &str, stdin: &str| {
        let arguments = arguments.split(' ');
        process::run(switchyard().arg("dtab").args(arguments).env("NAMERCTL_BASE_URL", &namerd.api), stdin.as_bytes())
    };
    for (arguments, stdin, code, told) in [
        ("create taken -", "/a => /c", 6, "exists already"),
        ("create other -", "/a => ", 2, "/a => []"),
        ("update taken - --version AAAAAAAAAAk=", "/a => /c", 6, "changed since"),
        ("delete other", "", 1, "dtabs/other: no such namespace"),
        ("get other", "", 1, "dtabs/other: no such namespace"),
        ("explain other /a", "", 1, "dtabs/other: no such namespace"),
        ("explain taken a", "", 2, "Invalid path: a"),
        ("edit taken --set nonsense", "", 2, "--set nonsense"),
        ("diff taken - --exit-code", "/a => /c", 7, ""),
        ("list --base-url nonsense", "", 2, "--base-url nonsense"),
        ("list --base-url http://127.0.0.1:1", "", 1, "refused"),
    ] {
        let finished = run(arguments, stdin);
        assert_eq!(finished.code, code, "{arguments}: {}{}", finished.stdout, finished.stderr);
        assert!(finished.stderr.contains(told), "{arguments}: {}", finished.stderr);
    }
    assert_eq!(run("explain taken /nope", "").stdout, "/nope   neg: no such name\n");
    let unchanged: Value = serde_json::from_str(&run("edit taken --set /a=>/b -o json", "").stdout).unwrap();
    assert_eq!(unchanged["action"], "unchanged");
}

/// Runs one case; what was wrong.
fn check(case: &Value) -> Vec<String> {
    let namerd = case["given"].get("http").is_none().then(|| Namerd::with_namespaces(&case["given"]["namespaces"]));
    let recorder = Recorder::start(match &namerd {
        Some(namerd) => Reply::Relay(namerd.api.trim_start_matches("http://").to_owned()),
        None => Reply::Script(script(&case["given"]["http"])),
    });
    let base = format!("http://{}", recorder.authority);
    let directory = tempfile::tempdir().unwrap();
    let finished =
        process::run(&mut command(case, &base, directory.path()), text(&case["request"]["stdin"]).as_bytes());

    let expect = &case["expect"];
    let mut wrong = Vec::new();
    if expect["exit"] != finished.code {
        wrong.push(format!("exit {} in place of {}", finished.code, expect["exit"]));
    }
    if let Some(stdout) = expect["stdout"].as_str().filter(|wanted| *wanted != finished.stdout) {
        wrong.push(format!("stdout {:?} in place of {stdout:?}", finished.stdout));
    }
    if let Some(prefix) = expect["stderr_prefix"].as_str().filter(|prefix| !finished.stderr.starts_with(prefix)) {
        wrong.push(format!("stderr {:?} does not start with {prefix:?}", finished.stderr));
    }
    if let Some(requests) = expect["http"].as_array() {
        let found = recorder.requests();
        if requests.len() != found.len() {
            wrong.push(format!("{} requests in place of {}", found.len(), requests.len()));
        }
        for (wanted, found) in requests.iter().zip(&found) {
            compare(wanted, found, &mut wrong);
        }
    }
    for pair in case["after"].as_array().into_iter().flatten() {
        after(&pair[0], &pair[1], &base, &mut wrong);
    }
    wrong
}

fn command(case: &Value, base: &str, directory: &Path) -> Command {
    let place = |value: &Value| text(value).replace("$NAMERD", base).replace("$STUB", base);
    let program = directory.join("bin");
    std::fs::create_dir(&program).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_switchyard"), program.join("namerctl")).unwrap();
    let work = directory.join("work");
    std::fs::create_dir(&work).unwrap();
    for (name, content) in case["request"]["files"].as_object().into_iter().flatten() {
        std::fs::write(work.join(name), text(content)).unwrap();
    }
    let mut command = Command::new(program.join("namerctl"));
    command.current_dir(work).env_clear().env("HOME", directory);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(case["request"]["args"].as_array().unwrap().iter().map(place));
    command.envs(case["request"]["env"].as_object().unwrap().iter().map(|(key, value)| (key, place(value))));
    command
}

fn compare(wanted: &Value, found: &Recorded, wrong: &mut Vec<String>) {
    let mut same = |what: &str, wanted: &Value, found: Option<String>| {
        if wanted.as_str() != found.as_deref() {
            wrong.push(format!("{what} {found:?} in place of {wanted}"));
        }
    };
    same("method", &wanted["method"], Some(found.method.clone()));
    same("uri", &wanted["uri"], Some(found.uri.clone()));
    for (name, value) in wanted["headers"].as_object().into_iter().flatten() {
        same(name, value, found.header(name).map(str::to_owned));
    }
    if !wanted["body"].is_null() {
        same("body", &wanted["body"], Some(String::from_utf8_lossy(&found.body).into_owned()));
    }
}

fn after(request: &Value, expect: &Value, base: &str, wrong: &mut Vec<String>) {
    let headers: Vec<(&str, &str)> = request["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect();
    let url = format!("{base}{}", text(&request["uri"]));
    let answer = http::request(&text(&request["method"]), &url, &headers, None).unwrap();
    if expect["status"] != answer.status || expect["body"].as_str().is_some_and(|body| body != answer.text()) {
        wrong.push(format!("afterwards {} {:?} in place of {expect}", answer.status, answer.text()));
    }
}

fn script(http: &Value) -> Answer {
    let headers = http["headers"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value)));
    Answer {
        status: http["status"].as_u64().unwrap().try_into().unwrap(),
        headers: headers.collect(),
        body: text(&http["body"]).into_bytes(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
