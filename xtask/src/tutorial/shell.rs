//! One bash for the whole page: what a step exports, and what it leaves in the background, the next one has.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cluster::Cluster;

/// Ends a step's output; the exit code of the last command that failed stands behind it.
const MARK: &str = "--8<-- step over: ";
/// They would send requests to the cluster elsewhere.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

pub struct Shell {
    bash: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// What came of a step.
pub struct Ran {
    /// Standard output and standard error.
    pub output: String,
    /// 0, or how the last command ended that failed.
    pub failed: i32,
}

impl Shell {
    pub fn start(cluster: &Cluster, directory: &Path) -> anyhow::Result<Shell> {
        let (reader, writer) = std::io::pipe().context("no pipe")?;
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .current_dir(directory)
            .envs(cluster.environment())
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // Whatever it leaves in the background ends with it.
            .process_group(0);
        PROXIES.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut bash = command.spawn().context("cannot start bash")?;
        drop(command);
        let input = bash.stdin.take().context("bash has no input")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                if line.is_err() || line.is_ok_and(|line| sender.send(line).is_err()) {
                    return;
                }
            }
        });
        let mut shell = Shell { bash, input, lines };
        shell.run("set -o pipefail; trap 'failed=$?' ERR", Duration::from_secs(10))?;
        Ok(shell)
    }

    /// Runs commands, and waits for the end of all that are not in the background.
    pub fn run(&mut self, commands: &str, within: Duration) -> anyhow::Result<Ran> {
        // Nothing may read the rest of what bash reads.
        writeln!(self.input, "failed=0\n{{\n{commands}\n}} < /dev/null\necho; echo \"{MARK}$failed\"")?;
        self.input.flush()?;
        let until = Instant::now() + within;
        let mut output = String::new();
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(code) => return Ok(Ran { output, failed: code.trim().parse().context("bash's mark")? }),
                    None => {
                        output.push_str(&line);
                        output.push('\n');
                    }
                },
                Err(RecvTimeoutError::Timeout) => bail!("not over after {} s:\n{output}", within.as_secs()),
                Err(RecvTimeoutError::Disconnected) => bail!("the shell ended:\n{output}"),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.bash.id());
        // Fails where all have ended already.
        let _ = Command::new("kill").args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.bash.wait();
    }
}
