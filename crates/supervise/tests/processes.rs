//! Real processes under supervision: started, restarted, adopted, replaced, ended.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use supervise::{Error, Leave, Ready, Running, Spec, Status, Supervisor, kill_recorded};

const LIMIT: Duration = Duration::from_secs(20);

/// A directory whose processes do not outlive the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::Builder::new().prefix("switchyard-supervise-").tempdir().unwrap())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("processes")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default()
    }

    /// A shell script as a process.
    fn spec(&self, name: &str, script: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            group: None,
            owner: None,
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: None,
            log: self.file(&format!("{name}.log")),
            port: None,
            ready: Ready::Started,
            generation: 0,
            grace_ms: 5000,
            dies_with_supervisor: false,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        kill_recorded(&self.directory());
    }
}

/// Waits until the status is as wanted.
async fn status(supervisor: &Supervisor, name: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut changes = supervisor.changes();
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            changes.mark_unchanged();
            if let Some(status) = supervisor.status(name).filter(|status| wanted(status)) {
                return status;
            }
            changes.changed().await.unwrap();
        }
    });
    match waited.await {
        Ok(status) => status,
        Err(_) => panic!("{name} stays {:?}", supervisor.status(name)),
    }
}

async fn pid(supervisor: &Supervisor, name: &str) -> u32 {
    status(supervisor, name, |status| status.ready && status.pid.is_some()).await.pid.unwrap()
}

/// Waits for a fact that nobody announces.
async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

fn written(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_dies_is_started_again_with_the_same_identity() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    let mut spec = place.spec("web-1", "echo \"$NAME $SWITCHYARD_SUPERVISED\"; exec sleep 1000");
    spec.env = BTreeMap::from([("NAME".to_owned(), "it's $me".to_owned())]);
    supervisor.run(spec.clone()).await.unwrap();
    let first = pid(&supervisor, "web-1").await;
    kill(first, "KILL");
    let second = status(&supervisor, "web-1", |status| status.ready && status.pid != Some(first)).await;
    assert_eq!(second.restarts, 1);
    assert_eq!(second.spec, spec);
    let line = format!("it's $me {}/web-1#0\n", place.directory().canonicalize().unwrap().display());
    until("both have written", || place.log("web-1") == line.repeat(2)).await;
    let running = Running::read(&place.directory(), "web-1").unwrap();
    assert_eq!((Some(running.pid), running.restarts), (second.pid, 1));
    supervisor.close(Leave::Stopped).await;
    assert!(!is_alive(second.pid.unwrap()));
    assert_eq!(written(&place.directory()), ["web-1.json"], "what should run is still known");
}

#[tokio::test]
async fn how_it_ended_is_told_and_restarts_slow_down() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    supervisor.run(place.spec("a", "exit 3")).await.unwrap();
    let ended = status(&supervisor, "a", |status| status.restarts >= 3).await;
    assert_eq!(ended.trouble.as_deref(), Some("ended with status 3"));
    assert!(!ended.ready);
    supervisor.run(place.spec("b", "kill -9 $$")).await.unwrap();
    let ended = status(&supervisor, "b", |status| status.trouble.is_some()).await;
    assert_eq!(ended.trouble.as_deref(), Some("ended by signal 9"));
    let mut nothing = place.spec("c", "");
    nothing.argv = vec!["/no/such/program".to_owned()];
    supervisor.run(nothing).await.unwrap();
    let trouble = status(&supervisor, "c", |status| status.trouble.is_some()).await.trouble.unwrap();
    assert!(trouble.contains("cannot start /no/such/program"), "{trouble}");
    let error = supervisor.ready("c", Duration::from_millis(50)).await.unwrap_err();
    assert!(error.to_string().contains("c is not ready after 50ms: cannot start"), "{error}");
    // In a pause as well an order is obeyed at once.
    supervisor.run(place.spec("c", "exec sleep 1000")).await.unwrap();
    pid(&supervisor, "c").await;
    for name in ["a", "b", "c"] {
        supervisor.remove(name).await.unwrap();
    }
    assert_eq!(written(&place.directory()), [""; 0]);
}

#[tokio::test]
async fn the_next_supervisor_adopts_what_runs() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    for name in ["a", "b"] {
        supervisor.run(place.spec(name, "exec sleep 1000")).await.unwrap();
    }
    let (a, b) = (pid(&supervisor, "a").await, pid(&supervisor, "b").await);
    supervisor.close(Leave::Running).await;
    assert!(is_alive(a) && is_alive(b));

    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    assert_eq!((pid(&supervisor, "a").await, pid(&supervisor, "b").await), (a, b));
    // And watches it like its own.
    kill(a, "KILL");
    let again = status(&supervisor, "a", |status| status.ready && status.pid != Some(a)).await;
    assert_eq!(again.restarts, 1);
    supervisor.remove("b").await.unwrap();
    assert!(!is_alive(b));
    supervisor.close(Leave::Stopped).await;
    assert!(!is_alive(again.pid.unwrap()));
}

/// The role of a supervisor of its own process, when this binary is started as one.
#[test]
fn a_supervisor() {
    let Ok(directory) = std::env::var("SUPERVISED_DIRECTORY") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let supervisor = Supervisor::open(Path::new(&directory)).await.unwrap();
        for status in supervisor.statuses() {
            pid(&supervisor, &status.spec.name).await;
        }
        std::fs::write(Path::new(&directory).join("../opened"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

/// Starts it and waits until everything runs.
async fn another_process(place: &Place) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_supervisor", "--nocapture"]).env("SUPERVISED_DIRECTORY", place.directory());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the other supervisor is up", || place.file("opened").exists()).await;
    child
}

#[tokio::test]
async fn processes_outlive_a_supervisor_that_is_killed_and_some_do_not() {
    let place = Place::new();
    std::fs::create_dir(place.directory()).unwrap();
    place.spec("stays", "exec sleep 1000").write(&place.directory()).unwrap();
    let mut dies = place.spec("dies", "exec sleep 1000");
    dies.dies_with_supervisor = true;
    dies.write(&place.directory()).unwrap();
    let mut other = another_process(&place).await;
    let of = |name: &str| Running::read(&place.directory(), name).unwrap().pid;
    let (stays, gone) = (of("stays"), of("dies"));

    // One directory, one supervisor; the other one is named.
    let refused = Supervisor::open(&place.directory()).await.unwrap_err();
    assert!(matches!(&refused, Error::Locked { holder, .. } if *holder == other.id().to_string()), "{refused}");

    other.kill().unwrap();
    other.wait().unwrap();
    until("it dies with its supervisor", || !is_alive(gone)).await;
    assert!(is_alive(stays));
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    assert_eq!(pid(&supervisor, "stays").await, stays);
    assert_ne!(pid(&supervisor, "dies").await, gone);
    supervisor.close(Leave::Stopped).await;
    assert!(!is_alive(stays));
}

#[tokio::test]
async fn a_process_without_a_state_file_is_found_by_its_mark() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    // Its children carry the mark too, and are not taken for it.
    supervisor.run(place.spec("a", "sleep 1000 & wait")).await.unwrap();
    supervisor.run(place.spec("gone", "exec sleep 1000")).await.unwrap();
    let (a, gone) = (pid(&supervisor, "a").await, pid(&supervisor, "gone").await);
    supervisor.close(Leave::Running).await;
    // As if the last supervisor had died right after the fork, and in the middle of a removal.
    std::fs::remove_file(place.directory().join("a.state.json")).unwrap();
    std::fs::remove_file(place.directory().join("gone.json")).unwrap();

    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    assert_eq!(pid(&supervisor, "a").await, a);
    until("what should not run is killed", || !is_alive(gone)).await;
    assert_eq!(supervisor.status("gone"), None);
    supervisor.close(Leave::Running).await;

    // A state file that lies (another boot, a reused process id) counts for nothing.
    let lie = Running { pid: 1, start_time: 1, ..Running::read(&place.directory(), "a").unwrap() };
    std::fs::write(place.directory().join("a.state.json"), serde_json::to_vec(&lie).unwrap()).unwrap();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    assert_eq!(pid(&supervisor, "a").await, a);
    supervisor.close(Leave::Stopped).await;
    assert!(!is_alive(a));
}

#[tokio::test]
async fn a_changed_spec_replaces_the_process_once() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    supervisor.run(place.spec("a", "echo one; exec sleep 1000")).await.unwrap();
    let first = pid(&supervisor, "a").await;
    supervisor.run(place.spec("a", "echo one; exec sleep 1000")).await.unwrap();
    assert_eq!(pid(&supervisor, "a").await, first, "the same spec is no change");
    supervisor.run(place.spec("a", "echo two; exec sleep 1000")).await.unwrap();
    let second = status(&supervisor, "a", |status| status.ready && status.pid != Some(first)).await;
    assert!(!is_alive(first));
    assert_eq!((second.spec.generation, second.restarts), (1, 0));
    until("both have written", || place.log("a") == "one\ntwo\n").await;
    supervisor.close(Leave::Running).await;

    // Changed while nobody looked.
    let mut spec = second.spec.clone();
    spec.argv = vec!["sh".to_owned(), "-c".to_owned(), "echo three; exec sleep 1000".to_owned()];
    spec.generation += 1;
    spec.write(&place.directory()).unwrap();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    let third = status(&supervisor, "a", |status| status.ready && status.pid != second.pid).await;
    assert!(!is_alive(second.pid.unwrap()));
    until("the third has written", || place.log("a") == "one\ntwo\nthree\n").await;
    supervisor.close(Leave::Stopped).await;
    assert!(!is_alive(third.pid.unwrap()));
}

#[tokio::test]
async fn the_end_is_asked_for_and_then_enforced() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    supervisor
        .run(place.spec("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"))
        .await
        .unwrap();
    let mut stubborn = place.spec("stubborn", "trap '' TERM; echo up; while :; do sleep 0.01; done");
    stubborn.grace_ms = 200;
    supervisor.run(stubborn).await.unwrap();
    let (polite, stubborn) = (pid(&supervisor, "polite").await, pid(&supervisor, "stubborn").await);
    until("both have set their traps", || place.log("polite") == "up\n" && place.log("stubborn") == "up\n").await;

    let begin = Instant::now();
    supervisor.remove("polite").await.unwrap();
    assert!(!is_alive(polite) && place.log("polite") == "up\nbye\n");
    supervisor.remove("stubborn").await.unwrap();
    assert!(!is_alive(stubborn) && begin.elapsed() >= Duration::from_millis(200));
    supervisor.remove("stubborn").await.unwrap();
    supervisor.remove("never-there").await.unwrap();
    assert_eq!(written(&place.directory()), [""; 0]);
    assert_eq!(supervisor.statuses(), []);
}

#[tokio::test]
async fn ready_is_what_answers_well() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut spec = place.spec("a", "exec sleep 1000");
    spec.ready = Ready::Http(format!("http://{address}/health"));
    drop(listener);
    supervisor.run(spec.clone()).await.unwrap();
    let status_now = status(&supervisor, "a", |status| status.trouble.is_some()).await;
    assert!(!status_now.ready && status_now.trouble.as_ref().unwrap().contains("refused"), "{status_now:?}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let answer = std::sync::Arc::new(std::sync::Mutex::new("503 Later"));
    let told = answer.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut asked = [0; 256];
            let count = stream.read(&mut asked).await.unwrap();
            assert!(asked[..count].starts_with(b"GET /health HTTP/1.1\r\n"));
            let text = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", told.lock().unwrap());
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    let waits =
        status(&supervisor, "a", |status| status.trouble.as_ref().is_some_and(|text| text.contains("503"))).await;
    assert!(!waits.ready);
    *answer.lock().unwrap() = "204 Yes";
    supervisor.ready("a", LIMIT).await.unwrap();
    assert_eq!(supervisor.status("a").unwrap().trouble, None);
    // It is asked now and then later, too.
    *answer.lock().unwrap() = "500 No";
    status(&supervisor, "a", |status| !status.ready).await;
    supervisor.close(Leave::Stopped).await;
}

#[tokio::test]
async fn a_spec_that_cannot_be_kept_starts_nothing() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    for name in ["", ".hidden", "a/b", "a b", "a.state"] {
        let mut spec = place.spec("x", "exec sleep 1000");
        spec.name = name.to_owned();
        assert!(supervisor.run(spec).await.is_err(), "{name}");
    }
    let mut empty = place.spec("x", "");
    empty.argv = Vec::new();
    assert!(supervisor.run(empty).await.unwrap_err().to_string().contains("argv is empty"));
    assert_eq!(supervisor.statuses(), []);
    supervisor.close(Leave::Stopped).await;

    // Half a spec is no spec: better no supervisor than one that forgets a process.
    std::fs::write(place.directory().join("x.json"), "{\"name\": \"x\", ").unwrap();
    let refused = Supervisor::open(&place.directory()).await.unwrap_err();
    assert!(refused.to_string().contains("x.json: not a process spec"), "{refused}");
    // The attempt of a supervisor that died while it wrote is not one.
    std::fs::remove_file(place.directory().join("x.json")).unwrap();
    std::fs::write(place.directory().join(".x.json.new"), "{").unwrap();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    assert_eq!(supervisor.statuses(), []);
    supervisor.close(Leave::Stopped).await;
}

#[tokio::test]
async fn a_full_disk_starts_nothing_and_ends_everything() {
    let place = Place::new();
    let directory = place.directory();
    std::fs::create_dir(&directory).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&directory).status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("not tested: only root can mount a small disk");
        return;
    }
    let supervisor = Supervisor::open(&directory).await.unwrap();
    supervisor.run(place.spec("a", "exec sleep 1000")).await.unwrap();
    let a = pid(&supervisor, "a").await;
    let mut ballast = std::fs::File::create(directory.join(".ballast")).unwrap();
    while std::io::Write::write_all(&mut ballast, &[0; 1024]).is_ok() {}
    let refused = supervisor.run(place.spec("b", "exec sleep 1000")).await.unwrap_err();
    let source = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("No space left"), "{refused}: {source}");
    assert_eq!(supervisor.status("b"), None);
    assert_eq!(written(&directory), ["a.json", "a.state.json"]);
    // A restart goes on: the process is found by its mark, if need be.
    kill(a, "KILL");
    let again = status(&supervisor, "a", |status| status.ready && status.pid != Some(a)).await.pid.unwrap();
    supervisor.close(Leave::Running).await;
    let supervisor = Supervisor::open(&directory).await.unwrap();
    assert_eq!(pid(&supervisor, "a").await, again);
    supervisor.remove("a").await.unwrap();
    assert!(!is_alive(again));
    assert_eq!(written(&directory), [""; 0]);
    drop((supervisor, ballast));
    Command::new("umount").arg("-l").arg(&directory).status().unwrap();
}

#[tokio::test]
async fn what_was_left_behind_can_be_killed_without_a_supervisor() {
    let place = Place::new();
    let supervisor = Supervisor::open(&place.directory()).await.unwrap();
    for name in ["a", "b"] {
        supervisor.run(place.spec(name, "exec sleep 1000")).await.unwrap();
    }
    let pids = [pid(&supervisor, "a").await, pid(&supervisor, "b").await];
    supervisor.close(Leave::Running).await;
    assert_eq!(kill_recorded(&place.directory()), 2);
    until("both are gone", || pids.iter().all(|pid| !is_alive(*pid))).await;
    assert_eq!(kill_recorded(&place.directory()), 0);
    assert_eq!(kill_recorded(Path::new("/no/such/directory")), 0);
}
