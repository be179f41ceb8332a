//! Following a deploy: says each step once, answers gates if it is told to, and turns the end into an
//! exit code.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::Instant;

use super::Session;
use super::remote::{Deploy, Person, Unreachable};
use super::show;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::signals::Interrupts;

/// How often a deploy is asked for.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// How long the server may be away before we give up: a restart takes less.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub struct Follow {
    /// Follow the deploy to its end.
    #[arg(long)]
    wait: bool,
    /// Follow it until then.
    #[arg(long, value_enum, value_name = "WHEN")]
    until: Option<Until>,
    /// Follow it for this long at most; then end with 5. The deploy goes on.
    #[arg(long, value_name = "DURATION", value_parser = crate::dtab::duration)]
    timeout: Option<Duration>,
    /// Say Ok at each gate after this long, `0s`: at once. For those whom nobody watches.
    #[arg(long, value_name = "DURATION", value_parser = crate::dtab::duration, conflicts_with = "until")]
    approve_after: Option<Duration>,
    /// When the time is over, or on Ctrl-C or SIGTERM (a CI job that is cancelled): abort the deploy and
    /// follow it until everything is as it was. Without this it goes on alone.
    #[arg(long)]
    or_abort: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// A gate, where a person is needed (exit 4), or the end.
    Gate,
    /// The end only.
    End,
}

impl Follow {
    pub fn is_wanted(&self) -> bool {
        self.wait || self.until.is_some() || self.timeout.is_some() || self.approve_after.is_some() || self.or_abort
    }

    pub fn always(&self) -> Follow {
        Follow { wait: true, ..self.clone() }
    }
}

impl Session {
    /// Follows until the end, or the gate.
    pub async fn follow(&self, id: &str, follow: &Follow, by: &Person, since: Since) -> anyhow::Result<Exit> {
        let mut interrupts = Interrupts::new()?;
        let mut following = Following {
            deadline: follow.timeout.map(|timeout| Instant::now() + timeout),
            decided: since.decided,
            said: since.said,
            ..Following::default()
        };
        loop {
            if let Some(exit) = self.look(id, follow, by, &mut following).await? {
                return Ok(exit);
            }
            if following.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                following.deadline = None;
                if !follow.or_abort {
                    return self.leave(id).await;
                }
                following.abort = Abort::Wanted("the time is over");
            }
            let interrupt = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => continue,
                interrupt = interrupts.next() => interrupt,
            };
            if !follow.or_abort || following.abort != Abort::No {
                eprintln!("{id} goes on; `switchyard deploy watch {id}` follows it");
                interrupt.end_by_it();
            }
            following.abort = Abort::Wanted(interrupt.name());
        }
    }

    /// One look at the deploy, and what has to be done then.
    async fn look(
        &self,
        id: &str,
        follow: &Follow,
        by: &Person,
        following: &mut Following,
    ) -> anyhow::Result<Option<Exit>> {
        let looked = match self.pipeline.get(id).await {
            // Read after the state: what led to the end is in it.
            Ok(deploy) => self.pipeline.log(id).await.map(|log| (deploy, log)),
            Err(error) => Err(error),
        };
        let (deploy, log) = match looked {
            Ok(looked) => looked,
            Err(error) if error.is::<Unreachable>() => {
                let since = *following.away.get_or_insert_with(|| {
                    eprintln!("{error}; waiting for the pipeline server to come back");
                    Instant::now()
                });
                return if since.elapsed() > PATIENCE { Err(error) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        if following.away.take().is_some() {
            eprintln!("the pipeline server is back");
        }
        following.said.news(&deploy, &log).iter().for_each(|line| eprintln!("{line}"));
        if let Some(exit) = verdict(&deploy, follow, following.decided.as_deref()) {
            self.print(&deploy)?;
            return Ok(Some(exit));
        }
        self.act(&deploy, follow, by, following).await?;
        Ok(None)
    }

    /// Aborts, or answers a gate. Somebody else may have done it a moment ago.
    async fn act(
        &self,
        deploy: &Deploy,
        follow: &Follow,
        by: &Person,
        following: &mut Following,
    ) -> anyhow::Result<()> {
        let (id, stage) = (&deploy.id, deploy.stage.as_deref());
        if let Abort::Wanted(why) = following.abort {
            eprintln!("{why}: aborting {id} and following it; once more, and it is left alone");
            let by = Person { reason: format!("{why}: --or-abort"), ..by.clone() };
            if settled(self.pipeline.decide(id, "abort", &by, None).await)? {
                following.abort = Abort::Done;
            }
            return Ok(());
        }
        let is_waiting = deploy.state == "waiting" && stage != following.decided.as_deref();
        let (Some(after), Some(stage), true) = (follow.approve_after, stage, is_waiting) else {
            following.gate = None;
            return Ok(());
        };
        let since = match &following.gate {
            Some((gate, since)) if gate == stage => *since,
            _ => following.gate.insert((stage.to_owned(), Instant::now())).1,
        };
        if since.elapsed() >= after && settled(self.pipeline.decide(id, "approve", by, Some(stage)).await)? {
            following.decided = Some(stage.to_owned());
        }
        Ok(())
    }

    /// The time is over, and the deploy goes on.
    async fn leave(&self, id: &str) -> anyhow::Result<Exit> {
        eprintln!("{id} is not over yet and goes on; `switchyard deploy watch {id}` follows it");
        // The code is the answer, also while the server is away.
        match self.pipeline.get(id).await {
            Ok(deploy) if self.output == Output::Json => output::json(&deploy)?,
            Err(error) if !error.is::<Unreachable>() => return Err(error),
            _ => {}
        }
        Ok(Exit::TimedOut)
    }
}

/// Whether a decision needs no second try: it was taken, or it is not to be taken any more.
fn settled(decided: anyhow::Result<()>) -> anyhow::Result<bool> {
    match decided {
        Ok(()) => Ok(true),
        Err(error) if error.is::<Unreachable>() => Ok(false),
        Err(error) => match error.downcast_ref::<Failure>().map(|failure| failure.exit) {
            Some(Exit::Conflict) => {
                eprintln!("{error}");
                Ok(true)
            }
            _ => Err(error),
        },
    }
}

/// Whether the deploy is to be aborted, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Abort {
    #[default]
    No,
    Wanted(&'static str),
    Done,
}

/// Where a follower begins: at the start, or at a decision just taken, before which everything is known.
#[derive(Default)]
pub struct Since {
    said: Said,
    /// The stage whose gate was answered.
    decided: Option<String>,
}

impl Since {
    /// From a deploy and its log as they were when it was decided.
    pub fn decision(deploy: &Deploy, log: &str) -> Since {
        let mut said = Said::default();
        said.news(deploy, log);
        Since { said, decided: deploy.stage.clone() }
    }
}

/// What a follower remembers from look to look.
#[derive(Default)]
struct Following {
    said: Said,
    away: Option<Instant>,
    deadline: Option<Instant>,
    /// The stage whose gate was answered.
    decided: Option<String>,
    /// Since when it waits at which gate.
    gate: Option<(String, Instant)>,
    abort: Abort,
}

fn verdict(deploy: &Deploy, follow: &Follow, decided: Option<&str>) -> Option<Exit> {
    match deploy.state.as_str() {
        "succeeded" => Some(Exit::Ok),
        "reverted" => Some(Exit::Reverted),
        "failed" => Some(Exit::Failed),
        "waiting" if follow.until == Some(Until::Gate) && deploy.stage.as_deref() != decided => Some(Exit::Waiting),
        _ => None,
    }
}

/// What was said already.
#[derive(Default)]
struct Said {
    stages: Vec<String>,
    /// Bytes of the log.
    log: usize,
}

impl Said {
    /// A line for each line of the log, and for each stage that changed its state.
    fn news(&mut self, deploy: &Deploy, log: &str) -> Vec<String> {
        let mut lines = show::progress(log.get(self.log..).unwrap_or(""));
        self.log = self.log.max(log.len());
        for (n, stage) in deploy.stages.iter().enumerate() {
            if self.stages.get(n) == Some(&stage.state) {
                continue;
            }
            if stage.state != "pending" {
                lines.push(show::stage_line(deploy, stage));
            }
            self.stages.resize(self.stages.len().max(n + 1), "pending".to_owned());
            self.stages[n].clone_from(&stage.state);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(state: &str, stages: &[(&str, &str)]) -> Deploy {
        let stages: Vec<_> =
            stages.iter().map(|(name, state)| serde_json::json!({"name": name, "state": state})).collect();
        let stage = stages.iter().find(|stage| stage["state"] == "waiting").map(|stage| stage["name"].clone());
        serde_json::from_value(
            serde_json::json!({"id": "d", "pipeline": "p", "state": state, "stage": stage, "stages": stages}),
        )
        .unwrap()
    }

    #[test]
    fn the_exit_code_says_how_it_ended() {
        let gate = Follow { wait: true, until: Some(Until::Gate), timeout: None, approve_after: None, or_abort: false };
        let end = Follow { until: None, ..gate.clone() };
        let waiting = deploy("waiting", &[("deploy", "succeeded"), ("testing", "waiting")]);
        assert_eq!(verdict(&deploy("succeeded", &[]), &end, None), Some(Exit::Ok));
        assert_eq!(verdict(&deploy("reverted", &[]), &end, None), Some(Exit::Reverted));
        assert_eq!(verdict(&deploy("failed", &[]), &end, None), Some(Exit::Failed));
        assert_eq!(verdict(&waiting, &end, None), None);
        assert_eq!(verdict(&waiting, &gate, None), Some(Exit::Waiting));
        assert_eq!(verdict(&waiting, &gate, Some("testing")), None, "the gate just answered does not count");
    }

    #[test]
    fn each_step_is_said_once() {
        let mut said = Said::default();
        let log = "T info  [a] a: started\nT info  [a] 1 of 2 pods are ready\n";
        assert_eq!(
            said.news(&deploy("running", &[("a", "running"), ("b", "pending")]), log),
            ["           1 of 2 pods are ready", "running    a"]
        );
        assert_eq!(said.news(&deploy("running", &[("a", "running"), ("b", "pending")]), log).len(), 0);
        assert_eq!(said.news(&deploy("running", &[("a", "succeeded"), ("b", "running")]), log).len(), 2);

        // Who answers a gate has read what led to it.
        let gate = [("a", "waiting"), ("b", "pending")];
        let mut since = Since::decision(&deploy("waiting", &gate), log);
        assert_eq!(since.decided.as_deref(), Some("a"));
        let log = format!("{log}T info  [b] weights written\n");
        assert_eq!(
            since.said.news(&deploy("running", &[("a", "succeeded"), ("b", "running")]), &log),
            ["           weights written", "succeeded  a", "running    b"]
        );
    }
}
