//! A child process whose output is read line by line, and that never outlives its test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A started process.
pub struct Process {
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<(Vec<String>, usize)>,
    news: Condvar,
}

/// A finished command.
#[derive(Debug)]
pub struct Finished {
    /// 128 + the signal's number if a signal ended it, as in a shell.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end with this on standard input.
pub fn run(command: &mut Command, stdin: &[u8]) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A command that does not read its input is no error of the test.
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    let output = child.wait_with_output().expect("the command was started");
    Finished {
        code: code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

impl Process {
    /// Starts it; standard output and standard error are read into one list of lines.
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Output::default());
        output.read(child.stdout.take().expect("piped"));
        output.read(child.stderr.take().expect("piped"));
        Process { child, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub fn line(&self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut lines = self.output.lines.lock().expect("no panic under this lock");
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = lines.1 == 2;
            if left.is_zero() || ended {
                panic!(
                    "no line with {text:?}{}; output:\n{}",
                    if ended { " (it ended)" } else { "" },
                    lines.0.join("\n")
                );
            }
            lines = self.output.news.wait_timeout(lines, left).expect("no panic under this lock").0;
        }
    }

    /// Everything printed so far.
    pub fn text(&self) -> String {
        self.output.lines.lock().expect("no panic under this lock").0.join("\n")
    }

    pub fn signal(&self, name: impl AsRef<OsStr>) {
        signal(self.pid(), name);
    }

    /// Waits for its end and gives its code.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return code(status);
            }
            if Instant::now() > deadline {
                panic!("still running after {limit:?}; output:\n{}", self.text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Output {
    fn read(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                output.lines.lock().expect("no panic under this lock").0.push(line);
                output.news.notify_all();
            }
            output.lines.lock().expect("no panic under this lock").1 += 1;
            output.news.notify_all();
        });
    }
}

/// Sends a signal by name (`TERM`, `KILL`) to one process.
pub fn signal(pid: u32, name: impl AsRef<OsStr>) {
    let status = Command::new("kill").arg("-s").arg(name).arg(pid.to_string()).stderr(Stdio::null()).status();
    assert!(status.is_ok(), "kill is not installed");
}

/// Whether a process with this id is there (and not a zombie).
pub fn is_alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')),
        Err(_) => false,
    }
}
