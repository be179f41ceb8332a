//! `/deploys/ID`: one layout for all states; only the card under the stages changes.

use std::collections::BTreeMap;

use askama::Template;
use serde_json::json;

use super::{Deploy, DeployState, Event, EventKind, Instance, Level, Stage, StageState};
use crate::parts::{Cmd, Dots, Icon, Mark};
use crate::{Data, Shell};

/// How many lines the timeline shows; the log has all.
const TIMELINE: usize = 40;
/// How many lines of the log a page carries; the endpoint has all.
const LOG: usize = 1000;

/// One deploy.
#[derive(Debug, Template)]
#[template(path = "pipeline/deploy.html")]
pub struct DeployPage {
    pub shell: Shell,
    pub deploy: Deploy,
    /// In their order, as the endpoint has them.
    pub events: Vec<Event>,
    /// A decision that came too late or does not fit, in place of the form.
    pub refused: Option<Refused>,
}

/// Why a decision had no effect.
#[derive(Debug, Clone)]
pub struct Refused {
    pub what: String,
}

/// Instances of one version.
struct Group<'a> {
    version: &'a str,
    is_new: bool,
    instances: Vec<&'a Instance>,
}

impl Group<'_> {
    fn ready(&self) -> usize {
        self.instances.iter().filter(|instance| instance.ready).count()
    }

    fn dots(&self) -> Dots {
        let ready = self.ready();
        let waiting = self.instances.len() - ready;
        Dots { label: format!("{ready} ready, {waiting} not"), good: ready, lagging: waiting, ..Dots::default() }
    }
}

impl DeployPage {
    fn data(&self) -> Data {
        Data(json!({ "yard": super::yard::yard(&self.deploy) }))
    }

    fn title(&self) -> String {
        let deploy = &self.deploy;
        let verb = match deploy.state {
            DeployState::Running if deploy.reverting => "reverts",
            DeployState::Running => "runs",
            DeployState::Waiting => "waits",
            DeployState::Succeeded => "succeeded",
            DeployState::Reverted => "reverted",
            DeployState::Failed => "failed",
        };
        format!("{} #{} {verb}", deploy.pipeline, deploy.id)
    }

    fn heading(&self) -> String {
        let deploy = &self.deploy;
        match (deploy.short(&deploy.version.current), deploy.short(&deploy.version.new)) {
            (current, new) if current.is_empty() && new.is_empty() => deploy.service.clone(),
            (current, new) if new.is_empty() => format!("{}: {current}", deploy.service),
            (current, new) => format!("{}: {current} → {new}", deploy.service),
        }
    }

    fn base(&self) -> String {
        format!("/api/1/deploys/{}", crate::web::segment(&self.deploy.id))
    }

    /// `live` attributes: nothing more happens to a deploy that is over.
    fn is_over(&self) -> bool {
        !matches!(self.deploy.state, DeployState::Running | DeployState::Waiting | DeployState::Failed)
    }

    fn stage_class(&self, stage: &Stage) -> &'static str {
        let is_back = self.deploy.state == DeployState::Reverted || self.deploy.reverting;
        match stage.state {
            StageState::Pending => "pending",
            StageState::Running => "running",
            StageState::Waiting => "waiting",
            StageState::Succeeded => "succeeded",
            StageState::Failed if is_back => "reverted",
            StageState::Failed => "failed",
            StageState::Skipped => "skipped",
        }
    }

    fn stage_mark(&self, stage: &Stage) -> Mark {
        let class = self.stage_class(stage);
        let (icon, word) = match class {
            "pending" => ("ring", "Pending"),
            "running" => ("run", "Running"),
            "waiting" => ("wait", "Waiting"),
            "succeeded" => ("ok", "Succeeded"),
            "reverted" if self.deploy.reverting => ("back", "Reverting"),
            "reverted" => ("back", "Reverted"),
            "failed" => ("bad", "Failed"),
            _ => ("skip", "Skipped"),
        };
        Mark::new(class, icon, word)
    }

    fn is_here(&self, stage: &Stage) -> bool {
        self.deploy.state != DeployState::Succeeded && self.deploy.stage.as_deref() == Some(stage.name.as_str())
    }

    /// `by grace, 3 min 31 s`, or what will happen.
    fn stage_note(&self, stage: &Stage) -> String {
        let length = stage.started.map(|started| started.until(&stage.ended, &self.shell.now));
        let by = stage.approved_by.as_ref().filter(|by| *by != "-").map(|by| format!("by {by}"));
        let detail = stage.detail.clone();
        let parts = match stage.state {
            StageState::Pending => [detail, None],
            StageState::Skipped => [Some("not reached".to_owned()), None],
            StageState::Succeeded => [by, length],
            StageState::Waiting => [None, length],
            StageState::Running | StageState::Failed => [detail, length],
        };
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Newest first.
    fn timeline(&self) -> Vec<&Event> {
        let is_worth = |event: &&Event| matches!(event.kind, EventKind::Decision | EventKind::Fact);
        self.events.iter().rev().filter(is_worth).take(TIMELINE).collect()
    }

    fn log(&self) -> &[Event] {
        &self.events[self.events.len().saturating_sub(LOG)..]
    }

    fn hidden_lines(&self) -> usize {
        self.events.len().saturating_sub(LOG)
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups = BTreeMap::<&str, Vec<&Instance>>::new();
        for instance in &self.deploy.instances {
            groups.entry(&instance.version).or_default().push(instance);
        }
        let is_new = |version: &str| self.deploy.version.new.as_deref() == Some(version);
        let groups = groups.into_iter();
        let mut groups = groups
            .map(|(version, instances)| Group { version, is_new: is_new(version), instances })
            .collect::<Vec<_>>();
        groups.sort_by_key(|group| group.is_new);
        groups
    }

    fn troubles(&self) -> impl Iterator<Item = &Instance> {
        self.deploy.instances.iter().filter(|instance| instance.trouble.is_some() || instance.restarts > 0)
    }

    fn is(&self, state: &str) -> bool {
        self.deploy.state.class() == state
    }

    /// The reason without the steps, which are listed below it.
    fn failed_because(&self) -> &str {
        let reason = self.deploy.reason.as_deref().unwrap_or("Neither the old nor the new state could be reached");
        reason.split(". What to do:").next().unwrap_or(reason)
    }

    /// What the entry says once the deploy is over.
    fn entry_now(&self) -> Option<String> {
        let change = self.deploy.change.as_ref()?;
        Some(format!("{} => {}", self.deploy.entry, change.is()))
    }

    /// Who or what ended it: `Reverted`, `Aborted by ada`.
    fn reverted_title(&self) -> String {
        let aborts = self.events.iter().rev().filter(|event| event.kind == EventKind::Decision);
        let abort = aborts.clone().find(|event| event.text.to_lowercase().contains("abort"));
        match abort.and_then(Event::who) {
            Some(actor) => format!("Aborted by {actor} and reverted"),
            None => "Reverted".to_owned(),
        }
    }
}

impl Event {
    fn icon(&self) -> Icon {
        match (self.kind, self.level) {
            (EventKind::Decision, _) => Icon("user"),
            (_, Level::Error) => Icon("bad"),
            (_, Level::Warning) => Icon("warn"),
            (EventKind::Fact, Level::Info) if self.text.contains("=>") => Icon("edit"),
            _ => Icon("info"),
        }
    }

    fn tone(&self) -> &'static str {
        match (self.kind, self.level) {
            (_, Level::Error) => "t-bad",
            (_, Level::Warning) => "t-warn",
            (EventKind::Fact, _) => "t-run",
            _ => "",
        }
    }

    fn line_class(&self) -> &'static str {
        match (self.kind, self.level) {
            (_, Level::Error) => "error",
            (_, Level::Warning) => "warn",
            (EventKind::State, _) => "head-l",
            _ => "",
        }
    }

    /// Who, if somebody said so.
    fn who(&self) -> Option<&str> {
        self.actor.as_deref().filter(|actor| *actor != "-")
    }

    /// The text without the name that stands before it.
    fn said(&self) -> &str {
        let by = self.actor.as_ref().map(|actor| format!(" (by {actor})"));
        by.and_then(|by| self.text.strip_suffix(&by)).unwrap_or(&self.text)
    }

    fn stage_name(&self) -> &str {
        self.stage.as_deref().unwrap_or("–")
    }
}
