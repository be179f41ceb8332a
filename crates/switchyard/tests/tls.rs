//! TLS between all parts as processes: callers (curl) → router → control plane, admin ports, the command line.
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use std::path::Path;
use std::process::Command;

use common::{LIMIT, switchyard};
use serde_json::{Value, json};
use testkit::certificates::{Authority, Wish};
use testkit::http::Answer;
use testkit::process::{Process, run};
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

struct Place {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap(), authority: Authority::new("ca") };
        place.authority.write(place.path(), "ca.pem");
        place.authority.issue(&Wish { name: "me", ..Wish::default() }).write(place.path(), "me");
        Authority::new("stranger").issue(&Wish { name: "me", ..Wish::default() }).write(place.path(), "stranger");
        place.issue("server", "localhost");
        place
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn issue(&self, file: &str, name: &str) {
        let issued = self.authority.issue(&Wish { name, names: &[name, "127.0.0.1"], ..Wish::default() });
        issued.write(self.path(), file);
    }

    /// A `tls` section that wants a client's certificate.
    fn section(&self) -> Value {
        json!({
            "certPath": self.file("server.pem"),
            "keyPath": self.file("server.key"),
            "caCertPath": self.file("ca.pem"),
            "requireClientAuth": true,
        })
    }

    fn write(&self, name: &str, document: &Value) -> String {
        std::fs::write(self.path().join(name), document.to_string()).unwrap();
        self.file(name)
    }

    /// curl's exit code, and what it printed.
    fn curl(&self, url: &str, more: &[&str]) -> (i32, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "20", "--cacert", &self.file("ca.pem")]);
        let done = run(command.args(more).arg(url), b"");
        (done.code, format!("{}{}", done.stdout, done.stderr))
    }

    fn known(&self, url: &str, more: &[&str]) -> (i32, String) {
        let (cert, key) = (self.file("me.pem"), self.file("me.key"));
        self.curl(url, &[&["--cert", &cert, "--key", &key], more].concat())
    }
}

fn after(line: &str, text: &str) -> String {
    line.rsplit_once(text).unwrap().1.trim().to_owned()
}

fn port(authority: &str) -> &str {
    authority.rsplit_once(':').unwrap().1
}

#[test]
fn every_connection_is_encrypted_and_both_sides_are_known() {
    let place = Place::new();
    let endpoint = Recorder::start(Reply::Script(Answer { status: 200, headers: Vec::new(), body: b"hello".to_vec() }));
    let endpoint_port = endpoint.authority.rsplit(':').next().unwrap().to_owned();
    let namerd = place.write(
        "namerd.json",
        &json!({
            "admin": { "port": 0, "tls": place.section() },
            "storage": { "kind": "io.l5d.inMemory",
                         "namespaces": { "default": format!("/svc => /$/inet/127.1/{endpoint_port}") } },
            "interfaces": [{ "kind": "io.l5d.httpController", "port": 0, "tls": place.section() }],
        }),
    );
    let namerd = Process::start(switchyard().arg("namerd").arg(namerd));
    let api = after(&namerd.line("serving io.l5d.httpController on ", LIMIT), " on ");
    let control_admin = after(&namerd.line("serving admin on ", LIMIT), " on ");
    let router = place.write(
        "linkerd.json",
        &json!({
            "admin": { "port": 0, "tls": place.section() },
            "routers": [{
                "protocol": "http",
                "label": "out",
                "servers": [{ "port": 0, "tls": place.section() }],
                "client": { "forwardClientCert": true },
                "interpreter": {
                    "kind": "io.l5d.namerd.http",
                    "dst": format!("/$/inet/127.0.0.1/{}", port(&api)),
                    "tls": {
                        "commonName": "localhost",
                        "trustCerts": [place.file("ca.pem")],
                        "clientAuth": { "certPath": place.file("me.pem"), "keyPath": place.file("me.key") },
                    },
                },
            }],
        }),
    );
    let router = Process::start(switchyard().arg("router").arg(router).args(["--workers", "1"]));
    let authority = after(&router.line("serving out on ", LIMIT), " on ");
    let admin = after(&router.line("admin on ", LIMIT), " on ");

    // A caller, by name, through the router, which asked the control plane.
    let url = format!("https://localhost:{}/", port(&authority));
    assert_eq!(place.known(&url, &["-H", "host: web"]), (0, "hello".to_owned()));
    let verbose = place.known(&url, &["-v", "--tlsv1.2", "--tls-max", "1.2", "-H", "host: web"]);
    assert!(verbose.1.contains("SSL connection using TLSv1.2"), "{}", verbose.1);
    let sent = endpoint.requests();
    let told = sent[0].header("x-forwarded-client-cert").unwrap_or_default().to_owned();
    assert!(told.starts_with("Hash=") && told.ends_with("Subject=\"CN=me,O=Example\""), "{told}");
    // Nobody else.
    let (stranger, key) = (place.file("stranger.pem"), place.file("stranger.key"));
    for more in [vec![], vec!["--cert", &stranger, "--key", &key]] {
        let (code, text) = place.curl(&url, &more);
        assert!(code == 56 || code == 35, "{code}: {text}");
    }
    let plain = place.curl(&url.replace("https", "http"), &[]);
    assert_eq!(plain, (0, "This port speaks TLS: use https://\n".to_owned()));

    // The admin ports.
    for (authority, path) in [(&admin, "/admin/ping"), (&control_admin, "/admin/ping")] {
        let url = format!("https://localhost:{}{path}", port(authority));
        assert_eq!(place.known(&url, &[]), (0, "pong".to_owned()));
        assert_ne!(place.curl(&url, &[]).0, 0);
        let plain = place.curl(&url.replace("https", "http"), &[]);
        assert_eq!(plain, (0, "This port speaks TLS: use https://\n".to_owned()));
    }
    let (_, sections) = place.known(&format!("https://localhost:{}/admin/tls.json", port(&admin)), &[]);
    let sections: Value = serde_json::from_str(&sections).unwrap();
    for wanted in ["routers[0].servers[0].tls", "admin.tls"] {
        let section = sections.as_array().unwrap().iter().find(|section| section["section"] == wanted);
        assert_eq!(section.expect(wanted)["certificate"]["names"], json!(["localhost", "127.0.0.1"]));
    }

    // The command line, both ways of saying it.
    let base = format!("https://localhost:{}", port(&api));
    let options = ["--cacert", &place.file("ca.pem"), "--cert", &place.file("me.pem"), "--key", &place.file("me.key")]
        .map(str::to_owned);
    let listed = run(switchyard().args(["dtab", "list", "--base-url", &base]).args(&options), b"");
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "default\n"), "{}", listed.stderr);
    let refused = run(switchyard().args(["dtab", "list", "--base-url", &base]).args(&options[..2]), b"");
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    let untrusted = run(switchyard().args(["dtab", "list", "--base-url", &base]), b"");
    assert_ne!(untrusted.code, 0, "{}", untrusted.stdout);
    let missing = run(switchyard().args(["dtab", "list", "--base-url", &base, "--cacert", "/none.pem"]), b"");
    assert_eq!(missing.code, 2);
    assert!(
        missing.stderr.contains("--cacert (SWITCHYARD_CACERT): /none.pem: there is no such file"),
        "{}",
        missing.stderr
    );
    let link = place.path().join("namerctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_switchyard"), &link).unwrap();
    let mut namerctl = Command::new(&link);
    namerctl.env("NAMERCTL_BASE_URL", &base).env("SWITCHYARD_CACERT", place.file("ca.pem"));
    namerctl.env("SWITCHYARD_CERT", place.file("me.pem")).env("SWITCHYARD_KEY", place.file("me.key"));
    let shown = run(namerctl.args(["dtab", "get", "default"]), b"");
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("/$/inet/127.1/"), "{}", shown.stdout);

    // A new certificate is used without a restart.
    place.issue("server", "example.org");
    let resolve = format!("example.org:{}:127.0.0.1", port(&admin));
    until("the admin port has it", LIMIT, || {
        let url = format!("https://example.org:{}/admin/ping", port(&admin));
        match place.known(&url, &["--resolve", &resolve]) {
            (0, text) if text == "pong" => Ok(()),
            other => Err(other),
        }
    });
    router.line("new certificate files are in use", LIMIT);
}

#[test]
fn the_pipeline_speaks_tls_on_both_sides_and_takes_new_certificates() {
    let place = Place::new();
    let namerd = place.write(
        "namerd.json",
        &json!({
            "admin": { "port": 0 },
            "storage": { "kind": "io.l5d.inMemory", "namespaces": { "internal": "/host/world => /srv/world-v7" } },
            "interfaces": [{ "kind": "io.l5d.httpController", "port": 0, "tls": place.section() }],
        }),
    );
    let namerd = Process::start(switchyard().arg("namerd").arg(namerd));
    let api = after(&namerd.line("serving io.l5d.httpController on ", LIMIT), " on ");
    // Whom the control plane does not know, for now.
    let stranger = Authority::new("stranger").issue(&Wish { name: "pipeline", ..Wish::default() });
    stranger.write(place.path(), "pipeline");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines/hello_world.yaml");
    let document = |own: Value| {
        json!({
            "port": 0,
            "tls": own,
            "socketOptions": { "readTimeoutMs": 20_000, "writeTimeoutMs": 20_000 },
            "state": place.file("state"),
            "processes": place.file("processes"),
            "logs": place.file("log"),
            "registrations": place.file("disco"),
            "controlPlane": format!("https://localhost:{}", port(&api)),
            "controlPlaneTls": {
                "trustCerts": [place.file("ca.pem")],
                "clientAuth": { "certPath": place.file("pipeline.pem"), "keyPath": place.file("pipeline.key") },
            },
            "frontend": "http://127.0.0.1:1",
            "pipelines": [file],
        })
    };
    let mut bad = document(place.section());
    bad["tls"]["keyPath"] = json!(place.file("me.key"));
    let refused = run(switchyard().arg("pipeline").arg(place.write("bad.json", &bad)), b"");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("tls.keyPath: ") && refused.stderr.contains("does not belong"),
        "{}",
        refused.stderr
    );
    let mut bad = document(place.section());
    bad["socketOptions"]["writeTimeoutMs"] = json!(0);
    let refused = run(switchyard().arg("pipeline").arg(place.write("bad.json", &bad)), b"");
    assert!(refused.stderr.contains("socketOptions.writeTimeoutMs: must be greater than 0"), "{}", refused.stderr);

    let pipeline = Process::start(switchyard().arg("pipeline").arg(place.write("p.json", &document(place.section()))));
    let authority = after(&pipeline.line("serving the pipeline on ", LIMIT), " on ");
    let url = format!("https://localhost:{}", port(&authority));
    assert_eq!(place.known(&format!("{url}/admin/ping"), &[]), (0, "pong".to_owned()));
    assert_ne!(place.curl(&format!("{url}/admin/ping"), &[]).0, 0);
    let plain = place.curl(&format!("{}/admin/ping", url.replace("https", "http")), &[]);
    assert_eq!(plain, (0, "This port speaks TLS: use https://\n".to_owned()));
    let pipelines = || {
        let (code, text) = place.known(&format!("{url}/api/1/pipelines"), &[]);
        assert_eq!(code, 0, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    let shown = pipelines();
    assert!(shown["current"].is_null() && shown["trouble"].is_string(), "{shown}");
    let wish = Wish { name: "pipeline", ..Wish::default() };
    place.authority.issue(&wish).write(place.path(), "pipeline");
    until("it shows its new certificate", LIMIT, || match pipelines() {
        shown if shown["current"] == "world-v7" => Ok(()),
        shown => Err(shown),
    });
    let (_, metrics) = place.known(&format!("{url}/admin/metrics.json"), &[]);
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert!(metrics["tls/reloads"].as_f64() >= Some(1.0), "{metrics}");
    assert!(metrics["server/refused/admission"].as_u64() >= Some(2), "{metrics}");
    assert!(metrics["tls/expires_in_seconds"].as_f64() > Some(0.0), "{metrics}");

    // The command line, by https.
    let options = ["--cacert", &place.file("ca.pem"), "--cert", &place.file("me.pem"), "--key", &place.file("me.key")]
        .map(str::to_owned);
    let listed = run(switchyard().args(["deploy", "list", "--server", &url]).args(&options), b"");
    assert_eq!(listed.code, 0, "{}{}", listed.stdout, listed.stderr);
}

#[test]
fn a_bad_section_is_told_with_its_line() {
    let place = Place::new();
    let check = |text: &str, parts: &[&str]| {
        let done = run(switchyard().args(["router", "-"]), text.as_bytes());
        assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
        assert!(parts.iter().all(|part| done.stderr.contains(part)), "{}", done.stderr);
    };
    let (cert, key) = (place.file("server.pem"), place.file("me.key"));
    check(
        &format!(
            "admin: {{port: 0}}\nrouters:\n- protocol: http\n  servers:\n  - port: 0\n    tls:\n      certPath: {cert}\n      keyPath: {key}\n"
        ),
        &["routers[0].servers[0].tls.keyPath: ", "me.key: does not belong to the certificate in", "(line 8)"],
    );
    check(
        "routers:\n- protocol: http\n  servers: [{port: 0}]\n  client:\n    kind: io.l5d.static\n    configs:\n    - prefix: /$/inet/{host}\n      tls: {commonName: '{name}.org', trustCerts: [/none]}\n    - prefix: /\n      tls: {disableValidation: false, kind: x}\n",
        &[
            "routers[0].client.configs[0].tls.commonName: `{name}` is not captured by the prefix",
            "routers[0].client.configs[1].tls.kind: unknown key",
            "routers[0].client.configs[1].tls.commonName: tls is configured with validation but `commonName` is not set",
        ],
    );
    check(
        &format!(
            "admin: {{port: 0, tls: {{certPath: {cert}, keyPath: /none.key}}}}\nrouters:\n- protocol: http\n  servers: [{{port: 0}}]\n"
        ),
        &["admin.tls.keyPath: /none.key: there is no such file", "(line 1)"],
    );
}
