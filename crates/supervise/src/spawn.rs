//! Starts processes, on one thread that lives as long as ours: `PR_SET_PDEATHSIG` watches the
//! *thread* that forked, and threads of a runtime's pool come and go.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};

use tokio::sync::oneshot;

use crate::Spec;
use crate::kernel::{MARK, mark};

type Job = (Command, oneshot::Sender<io::Result<u32>>);

/// What systemd told us about ourselves, which is not true of what we start.
const OF_OUR_UNIT: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "RUNTIME_DIRECTORY",
];

/// Starts it in a session of its own, with its output appended to its log. The caller reaps it.
pub(crate) async fn spawn(directory: &Path, spec: &Spec) -> io::Result<u32> {
    let command = command(directory, spec)?;
    let (answer, answered) = oneshot::channel();
    spawner()?.send((command, answer)).map_err(|_| io::Error::other("the spawner thread is gone"))?;
    answered.await.map_err(|_| io::Error::other("the spawner thread is gone"))?
}

fn spawner() -> io::Result<mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner.clone());
    }
    let (jobs, received) = mpsc::channel::<Job>();
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for (mut command, answer) in received {
            // Dropping a `Child` neither ends nor reaps it: that is its keeper's work.
            let started = command.spawn().map(|child| child.id());
            if answer.send(started).is_err() {
                tracing::warn!("a process was started for a supervisor that is gone; the next one adopts it");
            }
        }
    })?;
    Ok(SPAWNER.get_or_init(|| jobs).clone())
}

fn command(directory: &Path, spec: &Spec) -> io::Result<Command> {
    if let Some(parent) = spec.log.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .map_err(|error| io::Error::new(error.kind(), format!("log file {}: {error}", spec.log.display())))?;
    let program = spec.argv.first().ok_or_else(|| io::Error::other("argv is empty"))?;
    let mut command = Command::new(program);
    for name in OF_OUR_UNIT {
        command.env_remove(name);
    }
    command.args(&spec.argv[1..]).envs(&spec.env).env(MARK, mark(directory, &spec.name, spec.generation));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let dies_with_us = spec.dies_with_supervisor;
    let supervisor = std::process::id() as i32;
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            // Ours is set for our own sake and would be inherited; without it nothing is lost.
            libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
            if dies_with_us {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                    return Err(io::Error::last_os_error());
                }
                // It may have ended before the line above.
                if libc::getppid() != supervisor {
                    libc::_exit(1);
                }
            }
            Ok(())
        });
    }
    Ok(command)
}
