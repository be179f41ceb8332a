//! What the API has beyond the original's: history, exact weights, waits, the fleet, leases, origins.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::router::{Router, becomes, timed};
use common::{LIMIT, Namerd, stream::Stream};
use serde_json::{Value, json};
use testkit::http::Answer;
use testkit::until::until;

const TEXT: (&str, &str) = ("Content-Type", "application/dtab");

/// Method, target, headers and body of a request; the answer's status, and what its body must hold.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

#[track_caller]
fn check(namerd: &Namerd, cases: &[Case<'_>]) {
    for (method, target, headers, body, status, part) in cases {
        let answer = namerd.send(method, target, headers, body);
        let text = answer.text();
        assert!(answer.status == *status && text.contains(part), "{method} {target} {body}\n{} {text}", answer.status);
    }
}

#[test]
fn bodies_are_read_whole_and_mistakes_are_told() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/a => /b" }));
    let json = ("Content-Type", "application/json");
    let big = "x".repeat(6 * 1024 * 1024);
    let large = format!("/a => /b;{}", " ".repeat(6 * 1024 * 1024));
    check(
        &namerd,
        &[
            ("POST", "/api/1/dtabs/x", &[TEXT], "no dtab", 400, "'/' expected but 'n' found at '[n]o dtab'"),
            ("POST", "/api/1/dtabs/x", &[json], r#"[{"prefix":"/a"}]"#, 400, "The dtab contains invalid dentries"),
            ("PUT", "/api/1/dtabs/x", &[json], r#"[{"prefix":"/a","dst":null}]"#, 400, "invalid dentries"),
            ("PUT", "/api/1/dtabs/x", &[json], r#"[{"prefix":"a","dst":"/b"}]"#, 400, "prefix `a`: '/' expected"),
            ("PUT", "/api/1/dtabs/x", &[json], r#"[{"prefix":"/a","dst":"/b |"}]"#, 400, "dst `/b |`"),
            ("PUT", "/api/1/dtabs/x", &[json], r#"{"prefix":"/a"}"#, 400, "expected a sequence"),
            ("PUT", "/api/1/dtabs/x", &[json], r#"[["/a","/b"]]"#, 400, "expected an object"),
            ("POST", "/api/1/delegate", &[json], r#"["n","/a=>/c","/a"]"#, 400, "Malformed delegation request"),
            (
                "POST",
                "/api/1/delegate",
                &[("Content-Type", "Application/JSON; charset=utf-8")],
                r#"{"dtab":"","path":"/a"}"#,
                200,
                r#"{"type":"neg","path":"/a"}"#,
            ),
            ("PUT", "/api/1/leases/n?entry=/a", &[], r#"["me",60,null]"#, 400, "expected an object"),
            ("PUT", "/api/1/dtabs/x", &[], "/a=>/b", 400, "Invalid Content-Type \"\". "),
            ("POST", "/api/1/delegate", &[json], &big, 413, "larger than"),
            ("PUT", "/api/1/dtabs/n", &[TEXT], &large, 204, ""),
            ("PUT", "/api/1/dtabs/n", &[TEXT, ("If-Match", "a")], "", 400, "`a` is not a version"),
            ("PUT", "/api/1/dtabs/n", &[TEXT, ("If-Match", "*")], "", 412, ""),
            ("PUT", "/api/1/dtabs/n?wait=x", &[TEXT], "", 400, "write 500ms, 5s or 1m"),
            ("PUT", "/api/1/dtabs/n", &[TEXT, ("l5d-author", "%ff")], "", 400, "l5d-author"),
            ("GET", "/api/1/dtabs/n", &[("Accept", "text/plain")], "", 200, "/a=>/b"),
            ("GET", "/api/1/dtabs/x", &[], "", 404, ""),
        ],
    );
    // The original stores an empty dtab here.
    let chunked = "7\r\n/c => /\r\n1\r\nd\r\n0\r\n\r\n";
    let mut stream = Stream::open(
        namerd.authority(),
        "PUT",
        "/api/1/dtabs/n",
        &[(TEXT.0.into(), TEXT.1.into()), ("Transfer-Encoding".into(), "chunked".into())],
    );
    stream.write(chunked.as_bytes());
    assert_eq!(stream.status(LIMIT), Ok(204));
    let read = testkit::http::get(&format!("{}/api/1/dtabs/n", namerd.api), &[("Accept", "text/plain")]);
    assert_eq!(read.text(), "/c=>/d\n");
}

#[test]
fn revisions_are_kept_with_author_comment_and_every_digit() {
    let namerd = Namerd::with_namespaces(json!({}));
    let by = |author| [TEXT, ("l5d-author", author), ("l5d-comment", "why%0A%C3%BC")];
    let write = |method, body, author| namerd.send(method, "/api/1/dtabs/n", &by(author), body);
    let etag = |answer: Answer| answer.header("etag").unwrap().to_owned();
    assert_eq!(etag(write("POST", "/a => 0.001*/b & /c", "alice")), "AAAAAAAAAAE=");
    assert_eq!(etag(write("PUT", "/a => /d", "bob%20smith")), "AAAAAAAAAAI=");
    assert_eq!(etag(write("DELETE", "", "carol")), "AAAAAAAAAAM=");
    let created = namerd.send("POST", "/api/1/dtabs/n", &[TEXT], "/e => /f");
    assert_eq!((created.header("etag"), created.header("l5d-version")), (None, Some("AAAAAAAAAAQ=")));

    let history = namerd.get("/api/1/dtabs/n/history").json();
    let shown: Vec<String> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            assert!(line["time"].as_str().unwrap().ends_with('Z'));
            let text = |key: &str| line[key].as_str().unwrap_or("null").to_owned();
            ["version", "author", "comment", "action", "dtab"].map(text).join(" ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "AAAAAAAAAAQ= - null create /e=>/f",
            "AAAAAAAAAAM= carol why\nü delete ",
            "AAAAAAAAAAI= bob smith why\nü update /a=>/d",
            "AAAAAAAAAAE= alice why\nü create /a=>0.001*/b & /c",
        ]
    );
    check(
        &namerd,
        &[
            ("GET", "/api/1/dtabs/n/history?limit=1", &[], "", 200, "AAAAAAAAAAQ="),
            ("GET", "/api/1/dtabs/n/history?limit=x", &[], "", 400, "write a number"),
            ("GET", "/api/1/dtabs/m/history", &[], "", 404, "The dtab namespace m does not exist"),
            ("GET", "/api/1/dtabs/n?version=AAAAAAAAAAE=&exact=true", &[], "", 200, r#""dst":"0.001*/b & /c""#),
            ("GET", "/api/1/dtabs/n?version=AAAAAAAAAAE=", &[], "", 200, r#""dst":"0.00*/b & /c""#),
            ("GET", "/api/1/dtabs/n?version=AAAAAAAAAAM=", &[], "", 404, "no such version"),
            ("GET", "/api/1/dtabs/n?version=AAAAAAAAAAk=", &[], "", 404, "no such version"),
            ("GET", "/api/1/dtabs/n?version=a", &[], "", 400, "is not a version"),
            ("HEAD", "/api/1/dtabs/n?version=AAAAAAAAAAM=", &[], "", 404, ""),
            ("HEAD", "/api/1/dtabs/n?version=a", &[], "", 400, ""),
        ],
    );
    let head = |query: &str| etag(namerd.send("HEAD", &format!("/api/1/dtabs/n{query}"), &[], ""));
    assert_eq!([head(""), head("?version=AAAAAAAAAAI=")], ["AAAAAAAAAAQ=", "AAAAAAAAAAI="]);
    for number in 0..120 {
        namerd.put("long", &format!("/n => /{number}"));
    }
    let length =
        |query: &str| namerd.get(&format!("/api/1/dtabs/long/history{query}")).json().as_array().unwrap().len();
    assert_eq!([length(""), length("?limit=7"), length("?limit=1000")], [100, 7, 120]);
    // A namespace of that name is no history of another one.
    namerd.put("n/history", "/x => /y");
    check(&namerd, &[("GET", "/api/1/dtabs/n/history", &[], "", 200, r#"[{"prefix":"/x","dst":"/y"}]"#)]);
}

/// A router that says what it is told to say.
struct Raw {
    stream: Stream,
}

impl Raw {
    fn follow(namerd: &Namerd, namespace: &str, router: &str) -> Raw {
        let target = format!("/api/1/follow/{namespace}?router={router}&process=raw:1");
        let headers = [("Transfer-Encoding".to_owned(), "chunked".to_owned())];
        Raw { stream: Stream::open(namerd.authority(), "POST", &target, &headers) }
    }

    fn say(&mut self, line: &str) {
        self.stream.write(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes());
    }

    /// The next line that is not empty.
    #[track_caller]
    fn hear(&mut self) -> String {
        loop {
            let line = self.stream.line(LIMIT).unwrap();
            if !line.is_empty() {
                return line;
            }
        }
    }
}

#[test]
fn a_router_that_does_not_acknowledge_is_a_laggard_until_it_is_forgotten() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let mut raw = Raw::follow(&namerd, "n", "slow");
    assert_eq!(raw.hear(), r#"{"hello":{"keepAliveMs":1000}}"#);
    raw.say(r#"{"bind":{"id":1,"path":"/svc/x"}}"#);
    raw.say(r#""ready""#);
    let mut told: Vec<String> = (0..3).map(|_| raw.hear()).collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#"{"addr":{"id":"/$/inet/127.0.0.1/1","addr":{"bound":{"endpoints":[{"addr":"127.0.0.1:1"}]}}}}"#,
            r#"{"tree":{"id":1,"tree":{"leaf":{"id":"/$/inet/127.0.0.1/1","residual":"/x"}}}}"#,
            r#"{"version":"AAAAAAAAAAE="}"#,
        ]
    );
    raw.say(r#"{"ack":"AAAAAAAAAAE="}"#);
    let fleet = |query: &str| namerd.get(&format!("/api/1/dtabs/n/fleet{query}"));
    assert_eq!(fleet("?wait=10s").json(), json!({ "version": "AAAAAAAAAAE=", "routers": 1 }));

    let write = namerd.send("PUT", "/api/1/dtabs/n?wait=300ms", &[TEXT], "/svc => /$/inet/127.0.0.1/2");
    assert_eq!((write.status, write.header("etag")), (504, Some("AAAAAAAAAAI=")));
    let body = write.json();
    let laggard = &body["laggards"][0];
    assert_eq!((&body["version"], &laggard["version"]), (&json!("AAAAAAAAAAI="), &json!("AAAAAAAAAAE=")), "{body}");
    assert_eq!((laggard["router"].as_str(), laggard["process"].as_str()), (Some("slow"), Some("raw:1")));
    assert!(laggard["behindMs"].as_u64().unwrap() >= 300 && laggard["lastWord"].as_str().unwrap().ends_with('Z'));
    assert_eq!(fleet("?version=AAAAAAAAAAE=").status, 200, "an older version is served, too");
    assert_eq!(fleet("").status, 504);
    check(
        &namerd,
        &[
            ("GET", "/api/1/dtabs/n/fleet?version=AAAAAAAAAAk=", &[], "", 404, "never had the version"),
            ("GET", "/api/1/dtabs/m/fleet", &[], "", 404, "does not exist"),
            ("GET", "/api/1/dtabs/n/fleet?wait=1h", &[], "", 400, "write 500ms, 5s or 1m"),
            ("GET", "/api/1/dtabs/n/fleet?wait=11m", &[], "", 400, "at most 10m"),
        ],
    );

    // The connection stays open, and nothing is said on it.
    let begin = Instant::now();
    until("silent", LIMIT, || match namerd.get("/api/1/fleet").json()["routers"][0]["state"].as_str() {
        Some("silent") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (waited, time) = timed(|| fleet("?wait=30s"));
    assert_eq!(waited.json(), json!({ "version": "AAAAAAAAAAI=", "routers": 0 }));
    assert!(begin.elapsed() > Duration::from_secs(8), "{time:?}");
    drop(raw);
    assert_eq!(namerd.get("/api/1/fleet").json()["routers"], json!([]));
}

#[test]
fn nonsense_on_a_follow_stream_is_refused_by_name() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let cases = [
        ("nonsense", "a line that cannot be read"),
        (r#"{"bind":{"id":1,"path":"svc"}}"#, "path svc"),
        (r#"{"bind":{"id":1,"path":"/svc","dtab":"x"}}"#, "dtab x"),
        (r#"{"ack":"AAAAAAAAAAE="}"#, "was not told"),
        (r#"{"ack":"yolo"}"#, "that there is not"),
        (r#"{"unknown":1}"#, "unknown variant"),
        ("\u{0}\u{1}", "cannot be read"),
    ];
    for (line, why) in cases {
        let mut raw = Raw::follow(&namerd, "n", "r");
        raw.hear();
        raw.say(line);
        let told = raw.hear();
        assert!(told.contains("refused") && told.contains(why), "{line}: {told}");
        assert_eq!(raw.stream.line(LIMIT), Err("ended".into()), "{line}");
    }
    check(
        &namerd,
        &[
            ("POST", "/api/1/follow/n?process=p", &[], "", 400, "router: say who follows"),
            ("GET", "/api/1/follow/n?process=p&router=r", &[], "", 405, "POST"),
        ],
    );
}

/// A reader that does not read costs two buffers, not a copy of everything.
#[test]
fn slow_readers_hold_nobody_up_and_little_memory() {
    let big = |number: usize| {
        let entries = (0..100).map(|entry| format!("/{entry} => /{number}/{}", "x".repeat(4000)));
        entries.collect::<Vec<_>>().join(";")
    };
    let namerd = Namerd::with_namespaces(json!({ "n": "" }));
    let mut slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(namerd.authority()).unwrap();
            stream.write_all(b"GET /api/1/dtabs/n?watch=true HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let mut fast =
        Stream::open(namerd.authority(), "GET", "/api/1/dtabs/n?watch=true", &[("Accept".into(), TEXT.1.into())]);
    assert_eq!(fast.line(LIMIT).unwrap(), "");
    let before = resident();
    for number in 0..40 {
        namerd.put("n", &big(number));
        let line = fast.line(LIMIT).unwrap();
        assert!(line.starts_with(&format!("/0=>/{number}/")), "{}", &line[..40]);
    }
    let grown = resident().saturating_sub(before) >> 20;
    // 8 readers x 40 updates x 400 kB are 128 MB; what there is are 40 revisions of the history.
    println!("40 updates of 400 kB, 8 readers that do not read: {grown} MB more");
    assert!(grown < 100, "{grown} MB");
    // One that begins to read gets what is current in the end.
    slow.truncate(1);
    let mut late = Stream::over(slow.pop().unwrap());
    let last = r#""dst":"/39/"#;
    until("the latest", LIMIT, || match late.line(LIMIT) {
        Ok(line) if line.contains(last) => Ok(()),
        other => Err(other.map(|line| line.len())),
    });
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn leases_are_taken_renewed_and_given_back() {
    let namerd = Namerd::with_namespaces(json!({}));
    let target = "/api/1/leases/n?entry=/host/world";
    let taken = namerd.send("PUT", target, &[], r#"{"owner":"deploy 3","seconds":60,"reason":"shift"}"#);
    let lease = taken.json();
    assert_eq!((taken.status, &lease["owner"], &lease["reason"]), (200, &json!("deploy 3"), &json!("shift")));
    let held = namerd.send("PUT", target, &[], r#"{"owner":"deploy 4","seconds":60}"#);
    assert_eq!((held.status, &held.json()["lease"]), (409, &lease));
    assert_eq!(namerd.get("/api/1/leases").json(), json!([lease]));
    check(
        &namerd,
        &[
            ("PUT", target, &[], r#"{"owner":"deploy 3","seconds":90}"#, 200, "deploy 3"),
            ("DELETE", "/api/1/leases/n?entry=/host/world&owner=deploy%204", &[], "", 409, "is leased to deploy 3"),
            ("DELETE", "/api/1/leases/n?entry=/host/world&owner=deploy%203", &[], "", 204, ""),
            ("DELETE", "/api/1/leases/n?entry=/host/world&owner=deploy%203", &[], "", 204, ""),
            ("PUT", target, &[], r#"{"owner":"deploy 4","seconds":60}"#, 200, "deploy 4"),
            ("PUT", target, &[], r#"{"owner":"","seconds":60}"#, 400, "owner"),
            ("PUT", target, &[], r#"{"owner":"x","seconds":0}"#, 400, "seconds: 0 is not between"),
            ("PUT", target, &[], r#"{"owner":"x","seconds":60,"force":true}"#, 400, "unknown field"),
            ("PUT", "/api/1/leases/n", &[], r#"{"owner":"x","seconds":60}"#, 400, "missing parameter `entry`"),
            ("PUT", "/api/1/leases/n?entry=x", &[], r#"{"owner":"x","seconds":60}"#, 400, "entry=x"),
            ("DELETE", target, &[], "", 400, "missing parameter `owner`"),
        ],
    );
}

#[test]
fn pages_of_other_origins_may_read_and_not_write() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/a => /b" }));
    let foreign = ("Origin", "http://evil.example");
    let own = namerd.api.clone();
    check(
        &namerd,
        &[
            ("PUT", "/api/1/dtabs/n", &[TEXT, foreign], "", 403, "another origin"),
            ("DELETE", "/api/1/dtabs/n", &[foreign], "", 403, "another origin"),
            ("PUT", "/api/1/leases/n?entry=/a", &[foreign], r#"{"owner":"x","seconds":1}"#, 403, "another origin"),
            ("PUT", "/api/1/dtabs/n", &[TEXT, ("Origin", "null")], "", 403, "another origin"),
            ("GET", "/api/1/dtabs/n", &[foreign], "", 200, "/a"),
            ("PUT", "/api/1/dtabs/n", &[TEXT, ("Origin", &own)], "/c => /d", 204, ""),
        ],
    );
    let admin = testkit::http::request("POST", &format!("{}/admin/shutdown", namerd.admin), &[foreign], None).unwrap();
    assert_eq!(admin.status, 403);
}

#[test]
fn the_fleet_can_be_watched() {
    let namerd = Namerd::with_namespaces(json!({ "n": "/svc => /$/inet/127.0.0.1/1" }));
    let mut stream = Stream::get(namerd.authority(), "/api/1/fleet?watch=true");
    let mut next = || serde_json::from_str::<Value>(&stream.line(LIMIT).unwrap()).unwrap();
    assert_eq!(next()["routers"], json!([]));
    let router = Router::new(namerd.port(), "n", "r");
    let tree = router.bind("/svc/x");
    becomes(&tree, "/$/inet/127.0.0.1/1[/x]");
    until("shown as current", LIMIT, || {
        let fleet = next();
        if fleet["routers"][0]["namespaces"]["n"]["current"] == true { Ok(()) } else { Err(fleet) }
    });
}

#[test]
fn the_admin_server_tells_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("web"), "127.0.0.1 80\n").unwrap();
    let storage = json!({ "kind": "io.l5d.inMemory", "namespaces": { "n": "/svc => /#/io.l5d.fs" } });
    let namers = json!([{ "kind": "io.l5d.fs", "rootDir": directory.path() }]);
    let namerd = Namerd::start_with(storage, namers, 0, |config| config.influxdb = true);
    until("the namer knows", LIMIT, || match namerd.get("/api/1/bound-names").text().as_str() {
        "[\"/#/io.l5d.fs/web\"]\n" => Ok(()),
        other => Err(other.to_owned()),
    });
    let cases = [
        ("/admin/ping", 200, "pong"),
        ("/admin/index.txt", 200, "/namer_state/io.l5d.fs.json\n"),
        ("/config.json", 200, "io.l5d.inMemory"),
        ("/admin/metrics.json", 200, "dtabstore"),
        ("/admin/metrics.json?tree=1&pretty=1", 200, "\"dtabstore\": {"),
        ("/admin/metrics/prometheus", 200, "# TYPE dtabstore:writes counter\ndtabstore:writes 0\n"),
        ("/admin/metrics/influxdb", 200, "dtabstore,host=127.0.0.1:"),
        ("/admin/index.txt", 200, "/admin/metrics/influxdb\n"),
        ("/storage/dtabs.json", 200, "\"dtab\":\"/svc=>/#/io.l5d.fs\""),
        ("/namer_state/io.l5d.fs.json", 200, "{"),
        ("/namer_state/nope.json", 404, "no such namer"),
        ("/bound-names.json", 200, "/#/io.l5d.fs/web"),
        ("/logging.json", 501, "--log"),
        ("/admin/shutdown", 405, ""),
        ("/api/1/dtabs/n", 200, "/svc"),
        ("/dtab/delegator.json?path=/svc/web&dtab=/svc=%3E/%23/io.l5d.fs", 200, "\"type\":\"delegate\""),
        ("/dtab/delegator.json?path=/svc/web&namespace=n", 200, "{\"type\":\"neg\",\"path\":\"/svc/web\"}"),
        ("/delegator.json?path=/svc/web&namespace=n", 200, "\"id\":\"/#/io.l5d.fs/web\""),
        ("/delegator.json?namespace=n", 400, "missing parameter `path`"),
    ];
    for (target, status, part) in cases {
        let answer = testkit::http::get(&format!("{}{target}", namerd.admin), &[]);
        assert!(
            answer.status == status && answer.text().contains(part),
            "{target}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let scraped = testkit::http::get(&format!("{}/admin/metrics/prometheus", namerd.admin), &accept);
    assert_eq!(scraped.header("content-type"), Some(telemetry::OPENMETRICS_TYPE), "{}", scraped.text());
    assert!(scraped.text().contains("dtabstore:writes_total 0\n"), "{}", scraped.text());
    let write = testkit::http::request("PUT", &format!("{}/api/1/dtabs/n", namerd.admin), &[TEXT], Some(b"")).unwrap();
    assert_eq!(write.status, 405, "writes belong to the API's own port");
}
