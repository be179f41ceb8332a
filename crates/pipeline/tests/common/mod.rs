//! A small world for the pipeline server: a control plane with faults, a frontend that routes by its
//! dtab, a git repository, and instances that are real processes (this test binary under another
//! role). (A `mod.rs`, because Cargo takes `tests/common.rs` for a test.)
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part.

pub mod control;
pub mod frontend;
pub mod instance;
pub mod node;
pub mod yard;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{self, Answer};
use testkit::process::{self, Process};
use testkit::until::until;

use control::FakeControl;

/// Long enough for a busy machine; nothing waits for it to pass.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const NAMESPACE: &str = "/srv=>/#/io.l5d.fs;/host=>/srv;/tmp=>/srv;/svc=>/host;/host/world=>/srv/world-v1";

/// Everything that a pipeline server needs around it.
pub struct World {
    pub directory: tempfile::TempDir,
    pub control: FakeControl,
    pub frontend: String,
    /// The pipeline file, to be changed before the server is started.
    pub pipeline: String,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::Builder::new().prefix("switchyard-pipeline-").tempdir().unwrap();
        let registrations = directory.path().join("disco");
        std::fs::create_dir(&registrations).unwrap();
        let control = FakeControl::start(NAMESPACE);
        let frontend = frontend::start(control.clone(), &registrations, None);
        let world = World { directory, control, frontend, pipeline: PIPELINE.to_owned() };
        make_repository(&world.path("repo"));
        world.seed();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Commits a new text.
    pub fn commit(&self, text: &str) {
        commit(&self.path("repo"), text);
    }

    /// world-v1, as if an earlier deploy had made it.
    fn seed(&self) {
        let processes = self.path("processes");
        std::fs::create_dir(&processes).unwrap();
        let mut lines = String::new();
        for number in 1..=2 {
            let port = free_port();
            let address = format!("127.0.0.1:{port}");
            lines += &format!("127.0.0.1 {port}\n");
            let spec = json!({
                "name": format!("world-v1-{number}"),
                "group": "world-v1",
                "owner": "demo",
                "argv": [this(), "--exact", "instance", "--nocapture", "text=first"],
                "env": {"INSTANCE_PORT": port.to_string(), "POD_IP": address},
                "log": self.path("log").join(format!("world-v1-{number}.log")),
                "port": port,
                "ready": {"http": format!("http://{address}/")},
            });
            std::fs::write(processes.join(format!("world-v1-{number}.json")), spec.to_string()).unwrap();
        }
        std::fs::write(self.path("disco/world-v1"), lines).unwrap();
    }

    /// Writes the config document; the server's own arguments.
    pub fn config(&self) -> Value {
        let file = self.path("hello_world.yaml");
        std::fs::write(&file, &self.pipeline).unwrap();
        json!({
            "port": 0,
            "state": self.path("state"),
            "processes": self.path("processes"),
            "logs": self.path("log"),
            "registrations": self.path("disco"),
            "controlPlane": self.control.url(),
            "frontend": self.frontend,
            "pipelines": [file],
            "defaults": {"hello_world": {"gitRepo": self.path("repo")}},
        })
    }

    pub fn server(&self) -> Server {
        self.server_with(&self.config())
    }

    pub fn server_with(&self, config: &Value) -> Server {
        start_server(config)
    }

    /// The right side of `/host/world`.
    pub fn entry(&self) -> String {
        self.control.entry("internal", "/host/world")
    }

    /// Names of registered versions.
    pub fn registered(&self) -> Vec<String> {
        names(&self.path("disco"), |name| Some(name.to_owned()))
    }

    /// Names of the processes that should run.
    pub fn processes(&self) -> Vec<String> {
        names(&self.path("processes"), |name| {
            name.strip_suffix(".json").filter(|name| !name.ends_with(".state")).map(str::to_owned)
        })
    }

    /// Dtab, registrations and processes say that this version serves, and nothing else is there.
    #[track_caller]
    pub fn is_at(&self, version: &str, text: &str) {
        assert_eq!(self.entry(), format!("/srv/{version}"));
        assert_eq!(self.registered(), [version]);
        assert_eq!(self.processes(), [format!("{version}-1"), format!("{version}-2")]);
        let answer = http::get(&self.frontend, &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(&format!(" {text} (")), "{}", answer.text());
        assert_eq!(self.control.leases(), [""; 0]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in std::fs::read_dir(self.path("log")).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                eprintln!("-- {}\n{}", file.path().display(), &text[text.len().saturating_sub(500)..]);
            }
        }
        supervise::kill_recorded(&self.path("processes"));
    }
}

fn names(directory: &Path, keep: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = files
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            if name.starts_with('.') { None } else { keep(&name) }
        })
        .collect();
    names.sort();
    names
}

/// A pipeline server: a process of its own.
pub struct Server {
    pub process: Process,
    pub url: String,
}

impl Server {
    pub fn get(&self, path: &str) -> Answer {
        http::get(&format!("{}{path}", self.url), &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        http::post(&format!("{}{path}", self.url), body)
    }

    pub fn deploy(&self, id: &str) -> Value {
        self.get(&format!("/api/1/deploys/{id}")).json()
    }

    #[track_caller]
    pub fn start(&self, parameters: Value) -> String {
        let body = json!({"pipeline": "hello_world", "parameters": parameters, "actor": "ada"});
        let answer = self.post("/api/1/deploys", &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until it stands still: at a gate, or over.
    #[track_caller]
    pub fn rest(&self, id: &str) -> Value {
        until(&format!("deploy {id} rests"), LIMIT, || {
            let deploy = self.deploy(id);
            if deploy["state"] == "running" { Err(deploy) } else { Ok(deploy) }
        })
    }

    /// Waits until it rests in this stage, or over with this state.
    #[track_caller]
    pub fn rests_at(&self, id: &str, wanted: &str) -> Value {
        let deploy = self.rest(id);
        let at = if deploy["state"] == "waiting" { &deploy["stage"] } else { &deploy["state"] };
        assert_eq!(at, wanted, "{deploy:#}\n{}", self.log(id));
        deploy
    }

    /// Waits for a state, through gates where it stands still first.
    #[track_caller]
    pub fn rests_at_later(&self, id: &str, wanted: &str) -> Value {
        until(&format!("deploy {id} is {wanted}"), LIMIT, || {
            let deploy = self.deploy(id);
            if deploy["state"] == wanted { Ok(deploy) } else { Err(deploy) }
        })
    }

    #[track_caller]
    pub fn approve(&self, id: &str) {
        let answer = self.post(&format!("/api/1/deploys/{id}/approve"), &json!({"actor": "grace"}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    #[track_caller]
    pub fn abort(&self, id: &str) {
        let answer =
            self.post(&format!("/api/1/deploys/{id}/abort"), &json!({"actor": "lin", "reason": "changed my mind"}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn log(&self, id: &str) -> String {
        self.get(&format!("/api/1/deploys/{id}/log")).text()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait(LIMIT);
    }

    pub fn stop(mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.wait(LIMIT), 0, "{}", self.process.text());
    }
}

/// The role of a server, when this binary is started as one.
pub fn serve() {
    let Ok(config) = std::env::var("SERVER_CONFIG") else { return };
    let config = serde_json::from_str(&config).unwrap();
    let surroundings =
        pipeline::Surroundings { switchyard: this(), clusters: kubernetes::Clusters::new(std::env::vars()) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let server = match pipeline::Server::start(config, surroundings).await {
            Ok(server) => server,
            Err(error) => {
                println!("refused: {error}");
                std::process::exit(1);
            }
        };
        println!("serving on {}", server.address());
        end.recv().await;
        server.stop().await;
    });
}

/// This test binary.
pub fn this() -> PathBuf {
    std::env::current_exe().unwrap()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A repository whose text is `second`.
pub fn make_repository(repository: &Path) {
    std::fs::create_dir(repository).unwrap();
    git(repository, &["init", "--quiet", "--initial-branch=master"]);
    commit(repository, "second");
}

pub fn commit(repository: &Path, text: &str) {
    std::fs::write(repository.join("world.txt"), text).unwrap();
    git(repository, &["add", "."]);
    git(repository, &["commit", "--quiet", "--message", "A new text"]);
}

/// A pipeline server with this document.
pub fn start_server(config: &Value) -> Server {
    let mut command = Command::new(this());
    command.args(["--exact", "server", "--nocapture"]).env("SERVER_CONFIG", config.to_string());
    let process = Process::start(&mut command);
    let line = process.line("serving on ", LIMIT);
    let url = format!("http://{}", line.rsplit(' ').next().unwrap());
    Server { process, url }
}

fn git(directory: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
    let finished = process::run(Command::new("git").arg("-C").arg(directory).args(identity).args(arguments), b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

/// Like the tutorial's, and faster.
pub const PIPELINE: &str = r#"
name: hello_world
parameters:
  - name: gitRepo
  - name: gitBranch
    default: master
  - name: namerdNamespace
    default: internal
service: world
dtab:
  namespace: "{namerdNamespace}"
  entry: /host/world
  live: /srv
  marker: /tmp
source:
  kind: git
  repository: "{gitRepo}"
  branch: "{gitBranch}"
  file: world.txt
  timeoutSeconds: 10
target:
  kind: process
  instances: 2
  argv: ["{switchyard}", --exact, instance, --nocapture, "text={text}"]
  environment:
    INSTANCE_PORT: "{port}"
    POD_IP: "{address}"
    INSTANCE_MODE: ""
  ready:
    url: http://{address}/
    timeoutSeconds: 5
  drainSeconds: 1
  graceSeconds: 2
test:
  stage: integration testing
  url: "{frontend}/"
  proof: "{text} ({address})"
  requests: 5
  gate:
    message: Try {new} yourself.
    ok: Ok, I'm done with manual testing
    commands:
      - "curl -H 'l5d-dtab: {entry} => {marker}/{new}' {frontend}"
steps:
  - stage: shift traffic (10%)
    weights: { new: 1, current: 9 }
    gate: { message: "Does {new} look right?", ok: "Ok, success rates look stable" }
  - stage: shift traffic (100%)
    failover: true
    gate: { message: "Does everything look good on {new}?", ok: "Ok, everything looks good" }
limits:
  fleetSeconds: 2
  controlPlaneSeconds: 2
  leaseSeconds: 5
"#;
