//! Reads the new text: a shallow clone of a branch or tag, and one file of it.
//!
//! Nothing is checked out: no filter, hook or link of a repository that somebody named gets to run
//! or to point anywhere. No argument goes through a shell, and none can be taken for an option.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rollout::Outcome;
use tokio::process::Command;

use super::Job;
use crate::file::SourceConfig;

/// An argument of a program may be 128 KiB long, and the text becomes a part of one.
const LONGEST_TEXT: usize = 100 * 1024;

pub(super) async fn fetch(job: &Job) -> Result<Outcome, String> {
    let SourceConfig::Git { repository, branch, file, timeout_seconds } = &job.story.head.file.source;
    let values = job.story.values(&job.deploys.config().frontend);
    let fill = |text: &str| values.fill(text).map_err(|error| error.to_string());
    let source = Source { repository: fill(repository)?, branch: fill(branch)?, file: fill(file)? };
    let directory = job.deploys.config().state.join("clones").join(job.story.id().to_string());
    let limit = Duration::from_secs(*timeout_seconds);
    let read = tokio::time::timeout(limit, source.read(&directory)).await;
    let read = read.unwrap_or_else(|_| Err(source.error(&format!("not done within {timeout_seconds} s"))));
    // Its text is all that is wanted; what cannot be removed is removed with the next one.
    let removed = remove(&directory);
    let outcome = read?;
    removed?;
    Ok(outcome)
}

struct Source {
    repository: String,
    branch: String,
    file: String,
}

impl Source {
    fn error(&self, why: &str) -> String {
        format!("cannot read {} of branch {} of {}: {why}", self.file, self.branch, self.repository)
    }

    async fn read(&self, directory: &Path) -> Result<Outcome, String> {
        self.read_all(directory).await.map_err(|why| self.error(&why))
    }

    async fn read_all(&self, directory: &Path) -> Result<Outcome, String> {
        for (what, value) in [("the repository", &self.repository), ("the branch", &self.branch)] {
            if value.trim().is_empty() {
                return Err(format!("{what} is empty"));
            }
        }
        remove(directory)?;
        let parent = directory.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        let mut clone = git(parent);
        clone.args(["clone", "--quiet", "--no-checkout", "--depth=1", "--no-tags", "--single-branch"]);
        clone.arg(format!("--branch={}", self.branch)).arg("--").arg(&self.repository).arg(directory);
        run(clone).await?;

        let mut log = git(directory);
        log.args(["log", "--max-count=1", "--no-show-signature", "--format=%H%n%s", "HEAD"]);
        let log = String::from_utf8_lossy(&run(log).await?).into_owned();
        let (commit, subject) = log.trim_end().split_once('\n').unwrap_or((log.trim(), ""));

        let mut list = git(directory);
        list.args(["ls-tree", "-z", "HEAD", "--"]).arg(&self.file);
        let list = String::from_utf8_lossy(&run(list).await?).into_owned();
        match list.split_once(' ').map(|(mode, rest)| (mode, rest.starts_with("blob"))) {
            None => return Err("there is no such file in it".to_owned()),
            Some((mode, true)) if mode.starts_with("100") => {}
            Some(_) => return Err("that is not a plain file".to_owned()),
        }
        let mut show = git(directory);
        show.args(["cat-file", "blob"]).arg(format!("HEAD:{}", self.file));
        let text = text(run(show).await?)?;
        Ok(Outcome::Fetched { commit: Some((commit.to_owned(), subject.to_owned())), text })
    }
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > LONGEST_TEXT {
        return Err(format!("it has {} bytes; {LONGEST_TEXT} are allowed", bytes.len()));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.trim().to_owned();
    match text.as_str() {
        "" => Err("it is empty".to_owned()),
        text if text.contains('\0') => Err("it has a NUL byte in it".to_owned()),
        _ => Ok(text),
    }
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    // A group of its own: what git starts (ssh, git-remote-https) is ended with it.
    command.process_group(0);
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        .env("LC_ALL", "C");
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    }
    // Set by a hook or a wrapper that this server was started from, they would mean its repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
        command.env_remove(name);
    }
    command
}

/// The process group of a command that has not ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // Gone already is well.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

async fn run(mut command: Command) -> Result<Vec<u8>, String> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("cannot start git: {error}"))?;
    let mut group = Group(child.id());
    let output = child.wait_with_output().await.map_err(|error| format!("git: {error}"))?;
    group.0 = None;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines: Vec<&str> = lines[lines.len().saturating_sub(3)..].to_vec();
    Err(format!("git says: {}", lines.join(" ")))
}

fn remove(directory: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}
