//! Reading the document again: everything is built and bound beside what runs, and only then it changes.
//!
//! ```text
//!  text ─▶ problems? ─▶ difference ─▶ needs a restart? ─▶ namers, interpreters ─▶ sockets ─▶ workers ─▶ admin
//!              │ 400                       │ 409                 │ 400              │ 400
//!              └───────────────────────────┴───── the last good document goes on ───┘
//! ```

use std::time::Instant;

use proxy::admin::Reloaded;
use proxy::config::{Config, Problem};
use proxy::{Change as RouterChange, Next};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::admin;
use super::assembled::{Assembled, unbound};
use super::built::{Built, Place};
use super::difference::{self, Change, label};
use super::ingress;
use super::plan::Plan;
use crate::document::{self, Located, Source};

/// What came of it.
enum Outcome {
    Unchanged,
    Applied,
    /// With what is wrong, each with its line.
    Refused(Vec<(Option<u64>, document::Problem)>),
    NeedsRestart(Vec<(Option<u64>, document::Problem)>),
    /// Half done, which nothing in the document is to blame for.
    Failed(String),
}

impl Assembled {
    /// Reads the document again, serves it if it can, and tells what came of it.
    pub(super) async fn reload(&mut self, by: &str) -> Reloaded {
        let began = Instant::now();
        info!("{by}: reading {} again", self.options.source.name());
        self.systemd.reloading();
        let mut changes = Vec::new();
        let outcome = self.read_again(&mut changes).await;
        let reloaded = self.told(&outcome, &changes, by, began);
        self.shared.reloads.keep(&reloaded);
        self.tell_systemd();
        reloaded
    }

    async fn read_again(&mut self, changes: &mut Vec<Change>) -> Outcome {
        let source = self.options.source.clone();
        let whole =
            |message: String| Outcome::Refused(vec![(None, document::Problem { path: String::new(), message })]);
        if source == Source::StandardInput {
            let message = "the document came from standard input, which cannot be read again: start the router with \
                           a file, or put another in its place with --takeover";
            return Outcome::NeedsRestart(vec![(
                None,
                document::Problem { path: String::new(), message: message.into() },
            )]);
        }
        let reading = tokio::task::spawn_blocking(move || source.text()).await;
        let text = match reading.map_err(anyhow::Error::from).flatten() {
            Ok(text) => text,
            Err(error) => return whole(format!("{error:#}")),
        };
        let located = match Located::parse(&text) {
            Ok(located) => located,
            Err(problem) => return Outcome::Refused(vec![(None, problem)]),
        };
        let placed = |problems: Vec<Problem>| {
            let problem = |Problem { path, message }| document::Problem { path, message };
            located.placed(problems.into_iter().map(problem))
        };
        let plan = match Plan::read(&located.value) {
            Ok(plan) => plan,
            Err(problems) => return Outcome::Refused(placed(problems)),
        };
        *changes = difference::between(&self.document, &plan.config.shown);
        if changes.is_empty() {
            return Outcome::Unchanged;
        }
        let fixed = difference::needs_restart(changes);
        if !fixed.is_empty() {
            return Outcome::NeedsRestart(placed(fixed));
        }
        match self.apply(plan).await {
            Ok(()) => Outcome::Applied,
            Err(Unapplied::Problems(problems)) => Outcome::Refused(placed(problems)),
            Err(Unapplied::Failed(error)) => Outcome::Failed(format!("{error:#}")),
        }
    }

    async fn apply(&mut self, plan: Plan) -> Result<(), Unapplied> {
        let address = self.admin.address().map_err(|error| Unapplied::Failed(error.into()))?;
        let (farewell, surroundings) = (&self.farewell, &self.shared.surroundings);
        let place = Place { admin: admin::url(address, self.admin.is_secured()), farewell, surroundings };
        let built =
            Built::of(&plan, Some(&self.built), &place).map_err(|problem| Unapplied::Problems(vec![problem]))?;
        ingress::fill(&plan.config.settings, surroundings).await.map_err(Unapplied::Problems)?;
        let Config { settings, admin, telemetry, shown, .. } = plan.config;
        let next = settings.routers.iter().zip(&built.interpreters).map(|(settings, interpreter)| Next {
            settings: settings.clone(),
            interpreter: interpreter.built.clone(),
            change: change(&self.document, &shown, &settings.label, interpreter.is_kept),
        });
        if let Err(error) = self.running.reload(next.collect()).await {
            return Err(match unbound(&error, &settings.routers) {
                Some(problem) => Unapplied::Problems(vec![problem]),
                None => Unapplied::Failed(error.into()),
            });
        }
        self.built = built;
        self.document = shown.clone();
        self.show_clusters();
        self.grace = admin.shutdown_grace;
        if let Some(identifier) = &self.identifier {
            identifier.swap(proxy::admin::identifier(settings.routers));
        }
        self.admin.swap(self.routes(admin.security, telemetry, shown));
        Ok(())
    }

    /// Into the log, and as an answer.
    fn told(&self, outcome: &Outcome, changes: &[Change], by: &str, began: Instant) -> Reloaded {
        let (status, result, problems) = match outcome {
            Outcome::Unchanged => (200, "unchanged", &[][..]),
            Outcome::Applied => (200, "applied", &[][..]),
            Outcome::Refused(problems) => (400, "refused", problems.as_slice()),
            Outcome::NeedsRestart(problems) => (409, "needsRestart", problems.as_slice()),
            Outcome::Failed(_) => (500, "failed", &[][..]),
        };
        let name = self.options.source.name();
        let took = began.elapsed();
        match outcome {
            Outcome::Unchanged => info!("{name} is as it was: nothing to do"),
            Outcome::Applied => {
                changes.iter().for_each(|change| info!("reload: {change}"));
                info!("{name} is served, after {} ms", took.as_millis());
                self.running
                    .servers()
                    .iter()
                    .for_each(|server| info!("serving {} on {}", server.router, server.address));
            }
            Outcome::Refused(_) | Outcome::NeedsRestart(_) => {
                let place = |line: &Option<u64>| line.map(|line| format!(" (line {line})")).unwrap_or_default();
                problems.iter().for_each(|(line, problem)| error!("{name}: {problem}{}", place(line)));
                warn!("{name} is not served: the document before it goes on");
            }
            Outcome::Failed(why) => error!("reload: {why}; start the router anew"),
        }
        let problem = |(line, problem): &(Option<u64>, document::Problem)| json!({ "key": problem.path, "line": line, "message": problem.message, "words": problem.to_string() });
        let mut document = json!({
            "result": result,
            "time": format!("{:.3}", jiff::Timestamp::now()),
            "by": by,
            "document": name,
            "tookMs": took.as_millis() as u64,
            "changes": changes.iter().map(Change::json).collect::<Vec<_>>(),
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        });
        if let Outcome::Failed(why) = outcome {
            document["error"] = json!(why);
        }
        Reloaded { status, document }
    }
}

/// Why a good document is not served.
enum Unapplied {
    Problems(Vec<Problem>),
    Failed(anyhow::Error),
}

/// What a reload does to one router.
fn change(old: &Value, new: &Value, router: &str, is_kept: bool) -> RouterChange {
    let find = |document: &Value| {
        let routers = document["routers"].as_array();
        routers.into_iter().flatten().find(|value| label(value) == router).cloned()
    };
    let (old, new) = (find(old), find(new));
    if is_kept && old == new {
        return RouterChange::None;
    }
    RouterChange::Some { closing: secured_otherwise(old.as_ref(), new.as_ref()) }
}

/// Servers whose `tls` changed: who is connected was let in by other rules, and has to come again.
fn secured_otherwise(old: Option<&Value>, new: Option<&Value>) -> Vec<std::net::SocketAddr> {
    let servers = |router: Option<&Value>| {
        let servers = router.and_then(|router| router["servers"].as_array()).cloned().unwrap_or_default();
        servers
            .into_iter()
            .filter_map(|server| Some((difference::address(&server)?, server["tls"].clone())))
            .collect::<Vec<_>>()
    };
    let old = servers(old);
    let changed = |(address, tls): &(_, Value)| old.iter().any(|(other, before)| other == address && before != tls);
    servers(new).into_iter().filter(|server| changed(server)).map(|(address, _)| address).collect()
}
