//! A demo of its own for a test: real processes on locked ports, in a directory that is kept until
//! the test is over, so that a demo can be killed and begun again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::http::{self, Answer};
use testkit::load::{Load, Plan};
use testkit::ports::{self, Offset};
use testkit::process::{self, Finished, Process};
use testkit::until::until;

use super::{LIMIT, switchyard};

/// How many demos of this test binary run at once: each is a dozen processes.
const AT_ONCE: usize = 2;
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Turn;

impl Turn {
    fn take() -> Turn {
        let (count, changed) = &RUNNING;
        let count = count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut count =
            changed.wait_while(count, |count| *count >= AT_ONCE).unwrap_or_else(|poisoned| poisoned.into_inner());
        *count += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        RUNNING.1.notify_one();
    }
}

/// The ports that a demo binds, without offset.
pub const PORTS: &[u16] = &[
    4140, 4141, 4142, 4180, 9990, 9991, 8080, 7711, 7712, 7713, 7721, 7722, 7723, 7724, 7725, 7726, 7727, 7728, 7729,
    7730, 7731, 7732,
];

/// A running demo.
pub struct Demo {
    process: Option<Process>,
    directory: PathBuf,
    /// Removed with it.
    _temporary: Option<tempfile::TempDir>,
    pub offset: Offset,
    _turn: Turn,
}

impl Demo {
    pub fn start() -> Demo {
        let directory = tempfile::Builder::new().prefix("switchyard-e2e-").tempdir().unwrap();
        Demo::new(directory.path().to_owned(), Some(directory))
    }

    /// In a directory of the caller's.
    pub fn start_in(directory: &Path) -> Demo {
        Demo::new(directory.to_owned(), None)
    }

    fn new(directory: PathBuf, temporary: Option<tempfile::TempDir>) -> Demo {
        let turn = Turn::take();
        let offset = ports::take(PORTS);
        let mut demo = Demo { process: None, directory, _temporary: temporary, offset, _turn: turn };
        demo.begin();
        demo
    }

    /// Starts it (again) on its directory.
    pub fn begin(&mut self) {
        let mut command = switchyard();
        command.arg("demo").arg("--dir").arg(self.path()).args(["--port-offset", &self.offset.value.to_string()]);
        let process = Process::start(&mut command);
        process.line("ready", LIMIT);
        until("the line `ready`", LIMIT, || {
            if process.text().lines().any(|line| line == "ready") { Ok(()) } else { Err(()) }
        });
        self.process = Some(process);
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn demo_json(&self) -> Value {
        let text = std::fs::read_to_string(self.file("demo.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn url(&self, name: &str) -> String {
        self.demo_json()[name].as_str().unwrap_or_else(|| panic!("{name} in demo.json")).to_owned()
    }

    /// Process ids by name.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let document = self.demo_json();
        let processes = document["processes"].as_array().unwrap();
        processes
            .iter()
            .map(|process| (process["name"].as_str().unwrap().to_owned(), process["pid"].as_u64().unwrap() as u32))
            .collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.pids().into_keys().collect()
    }

    /// `kill -9` of one of its processes.
    pub fn kill(&self, name: &str) {
        process::signal(self.pids()[name], "KILL");
    }

    /// `kill -9` of the demo itself.
    pub fn kill_demo(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal("KILL");
        process.wait(LIMIT);
    }

    /// Waits until each of these names has a process and `old` is not one of them.
    pub fn back(&self, name: &str, old: u32) {
        until(&format!("{name} is back"), LIMIT, || match self.pids().get(name) {
            Some(pid) if *pid != old && process::is_alive(*pid) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// `switchyard …` against this demo.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = switchyard();
        command
            .args(arguments)
            .env("NAMERCTL_BASE_URL", self.url("namerd"))
            .env("SWITCHYARD_PIPELINE", self.url("pipeline"));
        process::run(&mut command, b"")
    }

    /// The same; it must end with this code. Standard output, trimmed.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let finished = self.run(arguments);
        assert_eq!(finished.code, code, "{arguments:?}\n{}{}{}", finished.stdout, finished.stderr, self.log_tails());
        finished.stdout.trim().to_owned()
    }

    /// A deploy's object.
    pub fn deploy(&self, id: &str) -> Value {
        http::get(&format!("{}/api/1/deploys/{id}", self.url("pipeline")), &[]).json()
    }

    /// One request through the frontend.
    pub fn get(&self, headers: &[(&str, &str)]) -> Answer {
        http::get(&self.url("frontend"), headers)
    }

    /// What the entry `/host/world` says.
    pub fn world(&self) -> String {
        self.expect(0, &["dtab", "get", "internal"])
            .lines()
            .filter_map(|line| line.strip_prefix("/host/world"))
            .map(|rest| rest.trim().trim_start_matches("=>").trim_end_matches(';').trim().to_owned())
            .collect()
    }

    /// Commits a new text for world.
    pub fn commit(&self, text: &str) {
        let repository = self.url("repo");
        std::fs::write(Path::new(&repository).join("k8s-daemonset/helloworld/world.txt"), text).unwrap();
        let finished = process::run(Command::new("git").args(["-C", &repository, "commit", "-qam", "A new text"]), b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }

    /// Starts a deploy and follows it to its first gate.
    #[track_caller]
    pub fn deploy_to_gate(&self) -> String {
        let printed = self.expect(4, &["deploy", "start", "hello_world", "--until", "gate", "--timeout", "60s"]);
        printed.lines().next().unwrap_or_default().to_owned()
    }

    /// Approves and follows to the next gate (4) or the end (0).
    #[track_caller]
    pub fn approve(&self, id: &str, code: i32) {
        self.expect(code, &["deploy", "approve", id, "--until", "gate", "--timeout", "60s"]);
    }

    /// Everything as before the first deploy: dtab, processes, discovery, and requests.
    #[track_caller]
    pub fn is_at(&self, version: &str, text: &str) {
        let of_world =
            |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("world-")).collect::<Vec<_>>();
        let wanted: Vec<String> = (1..=3).map(|number| format!("{version}-{number}")).collect();
        until(&format!("only {version} runs"), LIMIT, || {
            let found = of_world(self.names());
            if found == wanted { Ok(()) } else { Err(found) }
        });
        assert_eq!(self.world(), format!("/srv/{version}"));
        let mut registered: Vec<String> = std::fs::read_dir(self.file("disco"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("world"))
            .collect();
        registered.sort();
        assert_eq!(registered, [version]);
        until("requests are answered", LIMIT, || {
            let answer = self.get(&[]);
            if answer.status == 200 && answer.text().contains(&format!(" {text} (")) {
                Ok(())
            } else {
                Err(answer.text())
            }
        });
    }

    /// Steady load on the frontend, on kept and on new connections.
    pub fn load(&self) -> Load {
        Load::start(&Plan {
            url: self.url("frontend"),
            pause: Duration::from_millis(10),
            keeping: 2,
            opening: 2,
            classify: |answer| match (answer.status, text_of(&answer.text())) {
                (200, Some(text)) => Ok(text),
                _ => Err(format!("{} {}", answer.status, answer.text())),
            },
        })
    }

    /// Ends it as a person does.
    pub fn stop(&mut self) {
        let pids: Vec<u32> = self.pids().into_values().collect();
        let mut process = self.process.take().expect("it runs");
        process.signal("TERM");
        assert_eq!(process.wait(LIMIT), 0, "{}", process.text());
        let left: Vec<u32> = pids.into_iter().filter(|pid| process::is_alive(*pid)).collect();
        assert!(left.is_empty(), "processes left behind: {left:?}");
    }

    /// The ends of all logs, for a failed assertion.
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        for file in std::fs::read_dir(self.file("log")).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(file.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(8)..];
            text.push_str(&format!("\n-- {}\n{}", file.file_name().display(), tail.join("\n")));
        }
        text
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let pids = std::fs::read_to_string(self.file("demo.json"))
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(process) = &mut self.process {
            process.signal("TERM");
            if std::thread::panicking() {
                eprintln!("{}", process.text());
            }
            // A failed test must not hang on top.
            for _ in 0..1000 {
                if !process::is_alive(process.pid()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        for process in pids.iter().flat_map(|document| document["processes"].as_array().into_iter().flatten()) {
            let pid = process["pid"].as_u64().unwrap_or(0) as u32;
            if pid > 1 && process::is_alive(pid) {
                process::signal(pid, "KILL");
            }
        }
    }
}

/// `Hello (…) world (…)!!` → `world`: the text that world answered with.
pub fn text_of(answer: &str) -> Option<String> {
    let rest = answer.strip_prefix("Hello (")?;
    let (_, rest) = rest.split_once(") ")?;
    let (text, rest) = rest.rsplit_once(" (")?;
    rest.ends_with(")!!").then(|| text.to_owned())
}
