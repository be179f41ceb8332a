//! All that is known of one deploy: how it began, where it stands, what happened.
//!
//! A story is a fold over the lines of its journal file; nothing in it comes from anywhere else.

use std::collections::BTreeMap;

use rollout::{Note, State};
use serde::{Deserialize, Serialize};

use crate::api;
use crate::file::{File, Manifests, TargetConfig};
use crate::manifests;
use crate::template::Values;

/// What is fixed when a deploy is started. The pipeline file is kept as it was then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub id: u64,
    pub file: File,
    pub parameters: BTreeMap<String, String>,
    pub namespace: String,
    pub actor: String,
    pub note: Option<String>,
}

/// The machine after an event, and what it said about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub time: String,
    pub deploy: rollout::Deploy,
    pub notes: Vec<Note>,
}

/// Head, latest state and everything that was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Story {
    pub head: Head,
    pub deploy: rollout::Deploy,
    pub events: Vec<api::Event>,
    pub started: String,
    pub ended: Option<String>,
    /// When the current gate was reached.
    pub waiting_since: Option<String>,
    /// When each stage began and ended.
    pub times: Vec<(Option<String>, Option<String>)>,
}

impl Story {
    pub fn begin(head: Head, step: Step) -> Story {
        let mut story = Story {
            head,
            times: vec![(None, None); step.deploy.stages.len()],
            deploy: step.deploy.clone(),
            events: Vec::new(),
            started: step.time.clone(),
            ended: None,
            waiting_since: None,
        };
        story.step(step);
        story
    }

    pub fn step(&mut self, step: Step) {
        let Step { time, deploy, notes } = step;
        for note in notes {
            let sequence = self.events.len() as u64 + 1;
            self.events.push(event(sequence, &time, note));
        }
        for (times, stage) in self.times.iter_mut().zip(&deploy.stages) {
            use rollout::StageState::{Failed, Pending, Skipped, Succeeded};
            if !matches!(stage.state, Pending | Skipped) && times.0.is_none() {
                times.0 = Some(time.clone());
            }
            if matches!(stage.state, Succeeded | Failed) && times.1.is_none() {
                times.1 = Some(time.clone());
            }
        }
        let waits = deploy.gate().is_some();
        let waits_on = waits && deploy.gate() == self.deploy.gate() && self.waiting_since.is_some();
        if !waits_on {
            self.waiting_since = waits.then(|| time.clone());
        }
        let over = matches!(deploy.state(), State::Succeeded | State::Reverted | State::Failed);
        if !over {
            self.ended = None;
        } else if self.ended.is_none() {
            self.ended = Some(time.clone());
        }
        self.deploy = deploy;
    }

    pub fn id(&self) -> u64 {
        self.head.id
    }

    /// Nothing will happen any more, whatever comes.
    pub fn is_final(&self) -> bool {
        matches!(self.deploy.state(), State::Succeeded | State::Reverted) || self.deploy.facts.superseded.is_some()
    }

    /// How it signs leases and processes. `server` tells pipeline servers apart.
    pub fn owner(&self, server: &str) -> String {
        format!("deploy {} of pipeline {server}", self.head.id)
    }

    /// What texts of the file are filled with; facts that are not known yet are `…`.
    pub fn values(&self, frontend: &str) -> Values {
        let (head, plan, facts) = (&self.head, &self.deploy.plan, &self.deploy.facts);
        let mut values = Values::default();
        head.parameters.iter().for_each(|(name, value)| values.set(name, value));
        for (name, value) in [
            ("service", &plan.service),
            ("entry", &plan.entry),
            ("live", &plan.live),
            ("marker", &plan.marker),
            ("namespace", &head.namespace),
            ("pipeline", &head.file.name),
        ] {
            values.set(name, value);
        }
        values.set("frontend", frontend.trim_end_matches('/'));
        for (name, value) in [("current", &facts.current), ("new", &facts.new), ("text", &facts.text)] {
            values.set(name, value.as_deref().unwrap_or("…"));
        }
        values
    }

    /// The namespace of the cluster that it deploys into, if it does.
    pub fn cluster_namespace(&self) -> Option<String> {
        match &self.head.file.target {
            TargetConfig::Process(_) => None,
            // It was checked when the deploy was planned.
            TargetConfig::Kubernetes(target) => self.values("").fill(&target.namespace).ok(),
        }
    }

    /// How many there will be of the new version; `None`: as many as the cluster has nodes for.
    pub fn instances(&self) -> Option<u32> {
        match &self.head.file.target {
            TargetConfig::Process(target) => Some(target.instances),
            TargetConfig::Kubernetes(target) => match &target.manifests {
                Manifests::Objects(objects) => manifests::replicas(objects, target.replicas),
                Manifests::File(_) => None,
            },
        }
    }
}

fn event(sequence: u64, time: &str, note: Note) -> api::Event {
    let kind = match note.kind {
        rollout::Kind::State => api::EventKind::State,
        rollout::Kind::Decision => api::EventKind::Decision,
        rollout::Kind::Fact => api::EventKind::Fact,
        rollout::Kind::Log => api::EventKind::Log,
    };
    let level = match note.level {
        rollout::Level::Info => api::Level::Info,
        rollout::Level::Warning => api::Level::Warning,
        rollout::Level::Error => api::Level::Error,
    };
    let Note { stage, actor, text, .. } = note;
    api::Event { sequence, time: time.to_owned(), kind, stage, level, actor, text }
}

/// Now, as all our texts write it: RFC 3339, UTC, milliseconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
