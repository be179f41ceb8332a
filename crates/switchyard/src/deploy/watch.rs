//! Following a deploy: says each step once, and turns the end into an exit code.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::Instant;

use super::Session;
use super::remote::{Deploy, Unreachable};
use super::show;
use crate::exit::Exit;
use crate::output::{self, Output};

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
        self.wait || self.until.is_some() || self.timeout.is_some()
    }

    pub fn always(&self) -> Follow {
        Follow { wait: true, ..self.clone() }
    }
}

impl Session {
    /// Follows until the end, or the gate; `decided` is a stage whose gate has just been answered.
    pub async fn follow(&self, id: &str, follow: &Follow, decided: Option<&str>) -> anyhow::Result<Exit> {
        let deadline = follow.timeout.map(|timeout| Instant::now() + timeout);
        let mut said = Said::default();
        let mut away: Option<Instant> = None;
        loop {
            match self.pipeline.get(id).await {
                Ok(deploy) => {
                    if away.take().is_some() {
                        eprintln!("the pipeline server is back");
                    }
                    said.news(&deploy).iter().for_each(|line| eprintln!("{line}"));
                    if let Some(exit) = verdict(&deploy, follow, decided) {
                        self.print(&deploy)?;
                        return Ok(exit);
                    }
                }
                Err(error) if error.is::<Unreachable>() => {
                    let since = *away.get_or_insert_with(|| {
                        eprintln!("{error}; waiting for the pipeline server to come back");
                        Instant::now()
                    });
                    if since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                eprintln!("{id} is not over yet and goes on; `switchyard deploy watch {id}` follows it");
                // The code is the answer, also while the server is away.
                match self.pipeline.get(id).await {
                    Ok(deploy) if self.output == Output::Json => output::json(&deploy)?,
                    Err(error) if !error.is::<Unreachable>() => return Err(error),
                    _ => {}
                }
                return Ok(Exit::TimedOut);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
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
}

impl Said {
    /// A line for each stage that changed its state.
    fn news(&mut self, deploy: &Deploy) -> Vec<String> {
        let mut lines = Vec::new();
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
        let gate = Follow { wait: true, until: Some(Until::Gate), timeout: None };
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
        assert_eq!(said.news(&deploy("running", &[("a", "running"), ("b", "pending")])).len(), 1);
        assert_eq!(said.news(&deploy("running", &[("a", "running"), ("b", "pending")])).len(), 0);
        assert_eq!(said.news(&deploy("running", &[("a", "succeeded"), ("b", "running")])).len(), 2);
    }
}
