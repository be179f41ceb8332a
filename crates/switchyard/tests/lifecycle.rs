//! A router's life as a process: ready, reloaded, replaced by another, drained; nobody who calls notices.
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{LIMIT, switchyard};
use serde_json::{Value, json};
use testkit::http::{self, Answer, Connection, Request};
use testkit::load::{Load, Plan};
use testkit::process::Process;
use testkit::until::until;

/// A document in a directory of its own, where the socket for successors is, too.
struct Yard {
    directory: tempfile::TempDir,
}

impl Yard {
    fn new(document: &Value) -> Yard {
        let yard = Yard { directory: tempfile::tempdir().unwrap() };
        yard.write(document);
        yard
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the document, as an editor does.
    fn write(&self, document: &Value) {
        std::fs::write(self.path("new"), document.to_string()).unwrap();
        std::fs::rename(self.path("new"), self.path("linkerd.json")).unwrap();
    }

    fn start(&self, workers: usize, more: &[&str]) -> Router {
        self.start_with(workers, more, |_| {})
    }

    fn start_with(&self, workers: usize, more: &[&str], change: impl FnOnce(&mut std::process::Command)) -> Router {
        let mut command = switchyard();
        command.arg("router").arg(self.path("linkerd.json")).args(["--workers", &workers.to_string()]);
        command.arg("--handover").arg(self.path("router.sock")).args(more);
        change(&mut command);
        let process = Process::start(&mut command);
        let authority = after(&process.line("serving out on ", LIMIT), "serving out on ");
        let admin = after(&process.line("admin on ", LIMIT), "admin on ");
        Router { process, authority, admin: format!("http://{admin}") }
    }
}

struct Router {
    process: Process,
    authority: String,
    admin: String,
}

impl Router {
    fn get(&self, path: &str) -> Answer {
        http::get(&format!("{}{path}", self.admin), &[])
    }

    #[track_caller]
    fn reload(&self, status: u16) -> Value {
        let answer = http::request("POST", &format!("{}/admin/reload", self.admin), &[], None).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        answer.json()
    }

    fn counter(&self, name: &str) -> u64 {
        self.get("/admin/metrics.json").json()[name].as_u64().unwrap_or(0)
    }

    /// Steady load, some of it on kept connections.
    fn load(&self, classify: fn(&Answer) -> Result<String, String>) -> Load {
        let pause = Duration::from_millis(1);
        let url = format!("http://{}/", self.authority);
        Load::start(&Plan { url, pause, keeping: 3, opening: 3, classify })
    }
}

fn after(line: &str, text: &str) -> String {
    line.split_once(text).unwrap().1.split_whitespace().next().unwrap().to_owned()
}

/// The text of a good answer.
fn text(answer: &Answer) -> Result<String, String> {
    if answer.status == 200 { Ok(answer.text()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
}

#[track_caller]
fn flawless(report: &testkit::load::Report, least: u64) {
    assert_eq!(report.failures, Vec::<String>::new(), "{} requests, {:?}", report.requests, report.answers);
    assert!(report.requests >= least, "{report:?}");
}

/// An application that answers `text` and counts connections to it.
struct App {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl App {
    fn start(text: &'static str) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || answer(stream, text));
            }
        });
        App { port, connections }
    }

    fn dtab(&self) -> String {
        format!("/svc => /$/inet/127.0.0.1/{} ;", self.port)
    }
}

/// Heads are short here and come whole.
fn answer(mut stream: TcpStream, text: &str) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..read]);
        while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            if head.starts_with(b"GET /slow") {
                std::thread::sleep(Duration::from_millis(400));
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn router(label: &str, keys: Value) -> Value {
    let mut router = json!({ "protocol": "http", "label": label, "servers": [{ "port": 0 }] });
    router.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    router
}

fn document(routers: &[Value]) -> Value {
    json!({ "admin": { "port": 0, "shutdownGraceMs": 10_000 }, "routers": routers })
}

fn words(reloaded: &Value, list: &str) -> Vec<String> {
    reloaded[list].as_array().unwrap().iter().map(|item| item["words"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_reload_under_load_loses_nothing_and_says_what_changed() {
    let (blue, green) = (App::start("blue"), App::start("green"));
    let other = router("other", json!({ "dtab": green.dtab() }));
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": blue.dtab() })), other.clone()]));
    let running = yard.start(2, &[]);
    let second = after(&running.process.line("serving other on ", LIMIT), "serving other on ");
    assert_eq!(http::get(&format!("http://{second}/"), &[]).text(), "green");
    let (kept, counted) = (green.connections.load(Ordering::Relaxed), "rt/other/service/svc/127.0.0.1:");
    let metric = format!("{counted}{}/requests", second.rsplit(':').next().unwrap());
    // An answer is counted once it is out.
    until("it is counted", LIMIT, || if running.counter(&metric) == 1 { Ok(()) } else { Err("not yet") });
    assert_eq!(running.reload(200)["result"], "unchanged");

    let load = running.load(text);
    for round in 0..6 {
        let app = if round % 2 == 0 { &green } else { &blue };
        let keys = json!({ "dtab": app.dtab(), "maxHeadersKB": 8 + round });
        yard.write(&document(&[router("out", keys), other.clone()]));
        let reloaded = running.reload(200);
        assert_eq!(reloaded["result"], "applied", "{reloaded}");
        let said = words(&reloaded, "changes");
        let (gone, come) = if round % 2 == 0 { (&blue, &green) } else { (&green, &blue) };
        let dtab = format!("- /svc => /$/inet/127.0.0.1/{} + /svc => /$/inet/127.0.0.1/{}", gone.port, come.port);
        assert!(said[0] == format!("router out: dtab: {dtab}") && said.len() == 2, "{said:?}");
        // From the answer on, everybody gets the new one; also who has been connected before.
        let expected = if round % 2 == 0 { "green" } else { "blue" };
        assert_eq!(http::get(&format!("http://{}/", running.authority), &[]).text(), expected);
    }
    let report = load.stop();
    flawless(&report, 50);
    assert_eq!(report.answers.keys().collect::<Vec<_>>(), ["blue", "green"]);
    let server = format!("rt/out/server/127.0.0.1/{}", "0");
    assert!(running.counter(&format!("{server}/requests")) >= report.requests, "counters go on counting");
    until("connections are counted where they are", LIMIT, || {
        match running.get("/admin/metrics.json").json()[&format!("{server}/connections")].as_f64() {
            Some(0.0) => Ok(()),
            other => Err(other),
        }
    });
    // What did not change has its pool and its counters.
    assert_eq!(http::get(&format!("http://{second}/"), &[]).text(), "green");
    assert_eq!(running.counter(&metric), 2);
    let _ = kept;
    let last = running.get("/admin/reload").json();
    assert_eq!((&last["last"]["result"], &last["last"]["by"]), (&json!("applied"), &json!("POST /admin/reload")));
    assert_eq!(running.get("/admin/overview.json").json()["process"]["reload"], last["last"]);
    assert!(running.get("/").text().contains("Last reload"));
}

#[test]
fn a_router_that_did_not_change_keeps_its_connections_upstream() {
    let (app, new) = (App::start("kept"), App::start("new"));
    let keys = json!({ "dtab": app.dtab() });
    let yard = Yard::new(&document(&[router("out", keys.clone())]));
    let running = yard.start(1, &[]);
    let get = || http::get(&format!("http://{}/", running.authority), &[]).text();
    assert_eq!((get(), get()), ("kept".into(), "kept".into()));
    assert_eq!(app.connections.load(Ordering::Relaxed), 1);
    yard.write(&document(&[router("more", json!({ "dtab": new.dtab() })), router("out", keys.clone())]));
    assert_eq!(words(&running.reload(200), "changes"), ["router more is new"]);
    let more = after(&running.process.line("serving more on ", LIMIT), "serving more on ");
    assert_eq!(http::get(&format!("http://{more}/"), &[]).text(), "new");
    assert_eq!(get(), "kept");
    assert_eq!(app.connections.load(Ordering::Relaxed), 1, "the pool went on");
    // One that is gone refuses, and its numbers go.
    let mut idle = TcpStream::connect(&more).unwrap();
    yard.write(&document(&[router("out", keys)]));
    assert_eq!(words(&running.reload(200), "changes"), ["router more is gone"]);
    until("it refuses", LIMIT, || if TcpStream::connect(&more).is_err() { Ok(()) } else { Err("open") });
    idle.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "its connections close");
    until("its metrics go", LIMIT, || {
        let metrics = running.get("/admin/metrics.json").text();
        if metrics.contains("rt/more/") { Err(metrics) } else { Ok(()) }
    });
    assert_eq!(get(), "kept");
}

#[test]
fn what_is_wrong_keeps_the_last_good_document() {
    let (app, taken) = (App::start("good"), TcpListener::bind("127.0.0.1:0").unwrap());
    let good = document(&[router("out", json!({ "dtab": app.dtab() }))]);
    let yard = Yard::new(&good);
    let running = yard.start(2, &[]);
    let port = taken.local_addr().unwrap().port();
    let with = |key: &str, value: Value| {
        let mut document = good.clone();
        document["routers"][0][key] = value;
        document
    };
    let restart = "this cannot be changed without a restart; put it back, or start the router anew";
    let cases = [
        (with("lable", json!(1)), 400, "refused", "routers[0].lable", "unknown key"),
        (
            with("servers", json!([{ "port": 0 }, { "port": port }])),
            400,
            "refused",
            "routers[0].servers[1].port",
            "cannot listen on",
        ),
        (
            with("interpreter", json!({ "kind": "io.l5d.fs", "dtabFile": "/no/such" })),
            400,
            "refused",
            "routers[0].interpreter.dtabFile",
            "is not a file",
        ),
        (json!({ "admin": { "port": 1 }, "routers": good["routers"] }), 409, "needsRestart", "admin.port", restart),
        (
            json!({ "admin": good["admin"], "routers": good["routers"], "telemetry": [{ "kind": "io.l5d.influxdb" }] }),
            409,
            "needsRestart",
            "telemetry",
            restart,
        ),
    ];
    let load = running.load(text);
    for (bad, status, result, key, says) in &cases {
        yard.write(bad);
        let reloaded = running.reload(*status);
        assert_eq!(&reloaded["result"], result);
        let problems = reloaded["problems"].as_array().unwrap();
        let problem = problems.iter().find(|problem| problem["key"] == *key).unwrap_or_else(|| panic!("{reloaded:#}"));
        assert!(problem["message"].as_str().unwrap().contains(says), "{reloaded:#}");
        let shown = running.get("/config.json").json();
        assert_eq!(shown["routers"], good["routers"], "what is served is what is shown");
    }
    std::fs::write(yard.path("linkerd.json"), "routers: [").unwrap();
    running.reload(400);
    std::fs::remove_file(yard.path("linkerd.json")).unwrap();
    assert!(words(&running.reload(400), "problems")[0].contains("cannot read"));
    running.process.line("is not served: the document before it goes on", LIMIT);
    flawless(&load.stop(), 20);

    // By a signal, and with an address that overlaps the one before it.
    let before = running.process.text().matches("is served, after").count();
    let ip = running.authority.rsplit_once(':').unwrap();
    assert_eq!(ip.0, "127.0.0.1");
    yard.write(&with("servers", json!([{ "port": 0, "maxConcurrentRequests": 7 }])));
    running.process.signal("HUP");
    until("the signal is obeyed", LIMIT, || {
        let text = running.process.text();
        if text.matches("is served, after").count() > before { Ok(()) } else { Err(text) }
    });
    running.process.line("reload: router out, server 127.0.0.1:0: maxConcurrentRequests is new: 7", LIMIT);
    assert_eq!(running.get("/admin/reload").json()["last"]["by"], "SIGHUP");
}

#[test]
fn a_document_from_standard_input_cannot_be_read_again() {
    let app = App::start("stdin");
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": app.dtab() }))]));
    let script = format!(
        "exec {} router - --handover off < {}",
        env!("CARGO_BIN_EXE_switchyard"),
        yard.path("linkerd.json").display()
    );
    let process = Process::start(std::process::Command::new("sh").args(["-c", &script]));
    let authority = after(&process.line("serving out on ", LIMIT), "serving out on ");
    let admin = format!("http://{}", after(&process.line("admin on ", LIMIT), "admin on "));
    let running = Router { process, authority, admin };
    assert!(words(&running.reload(409), "problems")[0].contains("standard input"));
    running.process.signal("USR2");
    running.process.line("cannot start a new process: the document came from standard input", LIMIT);
    assert_eq!(http::get(&format!("http://{}/", running.authority), &[]).text(), "stdin");
}

#[test]
fn a_server_may_move_to_an_address_that_overlaps_its_old_one() {
    let app = App::start("moved");
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let at =
        |ip: &str| document(&[router("out", json!({ "dtab": app.dtab(), "servers": [{ "ip": ip, "port": port }] }))]);
    let yard = Yard::new(&at("127.0.0.1"));
    let running = yard.start(2, &[]);
    let load = running.load(text);
    for ip in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
        yard.write(&at(ip));
        assert_eq!(running.reload(200)["result"], "applied");
    }
    flawless(&load.stop(), 10);
}

/// One router after the other, under load, with other numbers of workers.
#[test]
fn a_new_process_takes_over_and_nobody_is_refused() {
    let app = App::start("same");
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": app.dtab() }))]));
    let mut running = yard.start(2, &[]);
    let load = running.load(text);
    for workers in [1, 3, 2] {
        let slow = {
            let authority = running.authority.clone();
            std::thread::spawn(move || http::get(&format!("http://{authority}/slow"), &[]).text())
        };
        let successor = yard.start(workers, &["--takeover"]);
        assert_eq!((&successor.authority, &successor.admin), (&running.authority, &running.admin));
        successor.process.line(&format!("took over from process {}", running.process.pid()), LIMIT);
        assert_eq!(running.process.wait(LIMIT), 0, "{}", running.process.text());
        assert_eq!(slow.join().unwrap(), "same");
        let info = successor.get("/admin/server_info").json();
        assert_eq!(info["pid"], successor.process.pid());
        running = successor;
    }
    flawless(&load.stop(), 50);
    running.process.signal("TERM");
    assert_eq!(running.process.wait(LIMIT), 0);
    assert!(!yard.path("router.sock").exists());
}

#[test]
fn a_successor_that_fails_changes_nothing() {
    let app = App::start("first");
    let good = document(&[router("out", json!({ "dtab": app.dtab() }))]);
    let yard = Yard::new(&good);
    let mut running = yard.start(1, &[]);
    let load = running.load(text);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    yard.write(&document(&[router(
        "out",
        json!({ "dtab": app.dtab(), "servers": [{ "port": 0 }, { "port": port }] }),
    )]));
    let mut command = switchyard();
    command.arg("router").arg(yard.path("linkerd.json")).arg("--handover").arg(yard.path("router.sock"));
    let finished = testkit::process::run(command.arg("--takeover"), b"");
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("routers[0].servers[1].port: cannot listen on"), "{}", finished.stderr);
    running.process.line("the successor went away before it was ready", LIMIT);
    // The same, started by the router itself.
    running.process.signal("USR2");
    running.process.line("the new process ended before it took over", LIMIT);
    yard.write(&good);
    running.process.signal("USR2");
    assert_eq!(running.process.wait(LIMIT), 0, "{}", running.process.text());
    let pid = http::get(&format!("{}/admin/server_info", running.admin), &[]).json()["pid"].as_u64().unwrap();
    flawless(&load.stop(), 20);
    // It is a child of nobody that is left.
    testkit::process::signal(u32::try_from(pid).unwrap(), "TERM");
    until("the successor ends", LIMIT, || {
        if testkit::process::is_alive(u32::try_from(pid).unwrap()) { Err("alive") } else { Ok(()) }
    });
}

#[test]
fn an_end_under_load_resets_nobody() {
    let app = App::start("last");
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": app.dtab() }))]));
    let mut running = yard.start(2, &[]);
    let url = format!("http://{}/", running.authority);
    assert_eq!(running.get("/admin/ready").status, 200);
    let slow = {
        let authority = running.authority.clone();
        std::thread::spawn(move || http::get(&format!("http://{authority}/slow"), &[]))
    };
    let load = running.load(text);
    until("the slow one is under way", LIMIT, || {
        if app.connections.load(Ordering::Relaxed) > 1 { Ok(()) } else { Err("not yet") }
    });
    let began = Instant::now();
    let asked = http::request("POST", &format!("{}/admin/shutdown?grace=8.seconds", running.admin), &[], None).unwrap();
    assert_eq!(asked.status, 200);
    until("it says so", LIMIT, || match http::get(&format!("{}/admin/ready", running.admin), &[]) {
        answer if answer.status == 503 && answer.text() == "draining\n" => Ok(()),
        answer => Err(answer.text()),
    });
    assert_eq!(running.process.wait(LIMIT), 0, "{}", running.process.text());
    assert!(began.elapsed() < Duration::from_secs(8), "it did not wait for the grace to pass");
    let slow = slow.join().unwrap();
    assert_eq!((slow.status, slow.header("connection")), (200, Some("close")));
    let report = load.stop();
    // Nobody listens: new connections are refused. Those who got through got their answers.
    let wrong: Vec<_> = report.failures.iter().filter(|failure| !failure.contains("refused")).collect();
    assert!(wrong.is_empty() && !report.failures.is_empty(), "{wrong:?} of {}", report.requests);
    assert!(TcpStream::connect(url.trim_start_matches("http://").trim_end_matches('/')).is_err());
}

#[test]
fn a_second_signal_ends_at_once() {
    let app = App::start("slow");
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": app.dtab() }))]));
    let mut running = yard.start(1, &[]);
    let mut stuck = TcpStream::connect(&running.authority).unwrap();
    stuck.write_all(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    until("it is under way", LIMIT, || {
        let metrics = running.get("/admin/metrics.json").json();
        let of = |name: &str| metrics[format!("rt/out/server/127.0.0.1/0/{name}")].as_f64();
        if of("received_bytes") > Some(0.0) { Ok(()) } else { Err(metrics.to_string()) }
    });
    running.process.signal("TERM");
    running.process.line("SIGTERM: draining", LIMIT);
    let began = Instant::now();
    running.process.signal("INT");
    assert_eq!(running.process.wait(LIMIT), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// What systemd hears of it.
struct Heard(UnixDatagram);

impl Heard {
    fn at(path: &Path) -> Heard {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Heard(socket)
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let read = self.0.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// The next word that is no sign of life.
    fn word(&self) -> String {
        loop {
            let word = self.next();
            if word != "WATCHDOG=1" {
                return word;
            }
        }
    }
}

#[test]
fn systemd_is_told() {
    let app = App::start("told");
    let yard = Yard::new(&document(&[router("out", json!({ "dtab": app.dtab() }))]));
    let path = yard.path("notify");
    let heard = Heard::at(&path);
    let told = |command: &mut std::process::Command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    };
    let mut running = yard.start_with(1, &[], told);
    let main = |pid: u32| format!("MAINPID={pid}");
    let ready = heard.word();
    assert!(ready.starts_with("READY=1\n") && ready.ends_with(&main(running.process.pid())), "{ready}");
    assert_eq!(heard.next(), "WATCHDOG=1");
    running.process.signal("HUP");
    let reloading = heard.word();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(heard.word().starts_with("READY=1\n"));
    let mut successor = yard.start_with(1, &["--takeover"], told);
    let mut words = vec![heard.word(), heard.word()];
    words.sort();
    assert_eq!(words[0], main(successor.process.pid()), "the old process says who is the service now");
    assert!(words[1].starts_with("READY=1\n") && words[1].ends_with(&words[0]), "{words:?}");
    assert_eq!(running.process.wait(LIMIT), 0);
    successor.process.signal("TERM");
    assert!(heard.word().starts_with("STOPPING=1\n"));
    assert_eq!(successor.process.wait(LIMIT), 0);
}

#[test]
fn sockets_of_systemd_are_served() {
    let app = App::start("activated");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let keys = json!({ "dtab": app.dtab(), "servers": [{ "port": port }] });
    let yard = Yard::new(&document(&[router("out", keys)]));
    // Descriptor 3 is the socket, and the process that the shell becomes is the one that is meant.
    let script = format!(
        "export LISTEN_FDS=1 LISTEN_PID=$$; exec {} router {} --workers 3 --handover off 3<&0 </dev/null",
        env!("CARGO_BIN_EXE_switchyard"),
        yard.path("linkerd.json").display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).stdin(std::os::fd::OwnedFd::from(listener));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    // The socket listens from the start: nobody has to wait for the router to be there.
    for _ in 0..5 {
        let mut connection = Connection::open(&format!("127.0.0.1:{port}")).unwrap();
        let request = Request { method: "GET", target: "/", headers: &[("Host", "web")], body: None };
        assert_eq!(connection.send(&request).unwrap().text(), "activated");
    }
    testkit::process::signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
