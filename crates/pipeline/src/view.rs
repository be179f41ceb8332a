//! A deploy and a pipeline as the API shows them.

use std::time::Duration;

use rollout::{Share, StageState, State};
use supervise::Supervisor;

use crate::api;
use crate::control::Control;
use crate::deploys::Deploys;
use crate::entry::{self, Entry};
use crate::file::{File, GateConfig, SourceConfig};
use crate::plan;
use crate::pods::Pod;
use crate::slot::Slot;
use crate::story::Story;

/// For a list that a person waits for.
const SOON: Duration = Duration::from_secs(2);
const LAST: usize = 20;

pub(crate) fn state(story: &Story) -> api::DeployState {
    match story.deploy.state() {
        State::Running => api::DeployState::Running,
        State::Waiting => api::DeployState::Waiting,
        State::Succeeded => api::DeployState::Succeeded,
        State::Reverted => api::DeployState::Reverted,
        State::Failed => api::DeployState::Failed,
    }
}

/// How it ended: `succeeded`.
pub(crate) fn ending(story: &Story) -> &'static str {
    match story.deploy.state() {
        State::Succeeded => "succeeded",
        State::Reverted => "was reverted",
        State::Failed => "failed, and another deploy took over",
        State::Running | State::Waiting => "ended",
    }
}

pub(crate) fn deploy(deploys: &Deploys, slot: &Slot) -> api::Deploy {
    let story = slot.story();
    let (head, deploy) = (&story.head, &story.deploy);
    let facts = &deploy.facts;
    let commit = facts.commit.clone().map(|(id, subject)| api::Commit { id, subject });
    let change = facts.change.clone().map(|(from, to, version)| api::Change { from, to, version: Some(version) });
    api::Deploy {
        id: head.id.to_string(),
        pipeline: head.file.name.clone(),
        parameters: head.parameters.clone(),
        state: state(&story),
        stage: deploy.stage().map(|stage| deploy.stages[stage].name.clone()),
        gate: deploy.gate().and_then(|stage| gate(deploys, &story, stage)),
        stages: stages(&story),
        version: api::Versions { current: facts.current.clone(), new: facts.new.clone() },
        reason: reason(deploys, &story),
        service: deploy.plan.service.clone(),
        entry: deploy.plan.entry.clone(),
        namespace: head.namespace.clone(),
        actor: head.actor.clone(),
        note: head.note.clone(),
        started: story.started.clone(),
        ended: story.ended.clone(),
        reverting: deploy.is_reverting(),
        abortable: deploy.is_abortable(),
        doing: slot.doing(),
        commit,
        text: facts.text.clone(),
        change,
        lease: slot.lease(),
        instances: instances(deploys, &story),
        instructions: instructions(deploys, &story),
    }
}

fn reason(deploys: &Deploys, story: &Story) -> Option<String> {
    let reason = story.deploy.reason.clone();
    match (story.deploy.state(), &story.deploy.facts.superseded) {
        (State::Failed, Some(by)) => Some(format!("{}. Deploy {by} took over", reason.unwrap_or_default())),
        (State::Failed, None) => {
            let steps: Vec<String> = instructions(deploys, story).into_iter().map(|step| step.text).collect();
            Some(format!("{}. What to do: {}", reason.unwrap_or_default(), steps.join(" ")))
        }
        _ => reason,
    }
}

fn stages(story: &Story) -> Vec<api::Stage> {
    let plan = &story.deploy.plan;
    let shown = story.deploy.stages.iter().enumerate().map(|(index, stage)| {
        let (started, ended) = story.times.get(index).cloned().unwrap_or_default();
        api::Stage {
            name: stage.name.clone(),
            state: match stage.state {
                StageState::Pending => api::StageState::Pending,
                StageState::Running => api::StageState::Running,
                StageState::Waiting => api::StageState::Waiting,
                StageState::Succeeded => api::StageState::Succeeded,
                StageState::Failed => api::StageState::Failed,
                StageState::Skipped => api::StageState::Skipped,
            },
            started,
            ended,
            gated: plan.gate(index).is_some(),
            share: plan.share(index),
            detail: detail(story, index),
            approved_by: stage.approved_by.clone(),
        }
    });
    shown.collect()
}

/// What a stage does, in a few words.
fn detail(story: &Story, stage: usize) -> Option<String> {
    let (plan, facts, file) = (&story.deploy.plan, &story.deploy.facts, &story.head.file);
    let new = facts.new.clone().unwrap_or_else(|| "the new version".to_owned());
    let current = facts.current.clone().unwrap_or_else(|| "the current version".to_owned());
    let last = plan.stages().len() - 1;
    Some(match stage {
        0 => match &facts.commit {
            Some((id, subject)) => format!("{} {subject}", id.get(..10).unwrap_or(id)),
            None => {
                let SourceConfig::Git { repository, branch, .. } = &file.source;
                let values = story.values("");
                format!("{} of {}", values.fill(branch).ok()?, values.fill(repository).ok()?)
            }
        },
        1 => match story.instances() {
            Some(count) => format!("{count} instances of {new}, without traffic"),
            None => format!("an instance of {new} on each node, without traffic"),
        },
        2 => format!("{} requests that only {new} may answer", file.test.requests),
        _ if stage == last => format!("{} => {}/{new}, then {current} is taken away", plan.entry, plan.live),
        _ => format!("{} => {}", plan.entry, plan.destination(stage - 3, &new, &current)?),
    })
}

fn gate_config(file: &File, stage: usize) -> Option<&GateConfig> {
    match stage {
        2 => file.test.gate.as_ref(),
        _ => file.steps.get(stage.checked_sub(3)?)?.gate.as_ref(),
    }
}

fn gate(deploys: &Deploys, story: &Story, stage: usize) -> Option<api::Gate> {
    let config = gate_config(&story.head.file, stage)?;
    let (plan, facts) = (&story.deploy.plan, &story.deploy.facts);
    let (new, current) = (facts.new.as_deref()?, facts.current.as_deref()?);
    let values = story.values(&deploys.config().frontend);
    // Placeholders were checked when the file was read; a text that fails all the same is shown raw.
    let fill = |text: &String| values.fill(text).unwrap_or_else(|_| text.clone());
    let expect = (stage == 2).then(|| {
        let values = values.with(&[("address", "…"), ("port", "…"), ("name", new)]);
        values.fill(&story.head.file.test.proof).ok()
    });
    let commands = config.commands.iter().map(|text| api::Command {
        command: values.fill_command(text).unwrap_or_else(|_| text.clone()),
        expect: expect.clone().flatten(),
    });
    let ok_does = match plan.steps.get(stage - 2) {
        Some(step) => {
            let share = match step.share {
                Share::Weights { .. } => format!("sends {} of the requests to {new}", percent(step.share.of_new())),
                Share::Failover => format!("sends all requests to {new}; {current} stands by"),
            };
            let dst = plan.destination(stage - 2, new, current).unwrap_or_default();
            format!("{share}: {} => {dst}", plan.entry)
        }
        None => format!("makes {new} permanent and takes {current} away: {} => {}/{new}", plan.entry, plan.live),
    };
    let original = facts.original.as_deref().unwrap_or_default();
    Some(api::Gate {
        message: fill(&config.message),
        ok: fill(&config.ok),
        commands: commands.collect(),
        ok_does,
        abort_does: format!("puts {} => {original} back and takes {new} away", plan.entry),
        since: story.waiting_since.clone(),
    })
}

fn percent(share: f64) -> String {
    let percent = (share * 1000.0).round() / 10.0;
    format!("{percent}%")
}

fn instances(deploys: &Deploys, story: &Story) -> Vec<api::Instance> {
    let facts = &story.deploy.facts;
    let versions = [facts.current.as_deref(), facts.new.as_deref()];
    // What became of the versions of an ended deploy is another deploy's business.
    if story.is_final() {
        return Vec::new();
    }
    if let Some(namespace) = story.cluster_namespace() {
        let pods = deploys.cluster().ok().and_then(|cluster| cluster.followed(&namespace));
        let Some(pods) = pods else { return Vec::new() };
        let stale = pods.trouble().map(|why| format!("as it was last seen: {why}"));
        let of = versions.into_iter().flatten().flat_map(|version| pods.of(version));
        return of.map(|known| pod(known, stale.as_deref())).collect();
    }
    let statuses = deploys.supervisor().map(Supervisor::statuses).unwrap_or_default().into_iter();
    let shown = statuses.filter_map(|status| {
        let version = status.spec.group.filter(|group| versions.contains(&Some(group)))?;
        Some(api::Instance {
            name: status.spec.name,
            version,
            address: status.spec.port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
            pid: status.pid,
            ready: status.ready,
            restarts: status.restarts,
            trouble: status.trouble.filter(|_| !status.ready),
        })
    });
    shown.collect()
}

/// A pod as the instance that it is.
fn pod(pod: Pod, stale: Option<&str>) -> api::Instance {
    let fault = pod.fault.map(|fault| fault.text);
    let ending = pod.is_ending.then(|| "it is ending".to_owned());
    let trouble = fault.or(ending).filter(|_| !pod.is_ready || pod.is_ending);
    api::Instance {
        name: pod.name,
        version: pod.version,
        address: pod.address.unwrap_or_default(),
        pid: None,
        ready: pod.is_ready && !pod.is_ending,
        restarts: pod.restarts,
        trouble: trouble.or_else(|| stale.map(str::to_owned)),
    }
}

/// What a person does about a failed deploy.
fn instructions(deploys: &Deploys, story: &Story) -> Vec<api::Instruction> {
    let deploy = &story.deploy;
    if deploy.state() != State::Failed || story.is_final() {
        return Vec::new();
    }
    let (plan, facts, namespace, id) = (&deploy.plan, &deploy.facts, &story.head.namespace, story.head.id);
    let step = |text: String, command: Option<String>| api::Instruction { text, command };
    let new = facts.new.as_deref().unwrap_or("the new version");
    let mut steps = vec![step(
        format!("Look at what the entry {} of {namespace} names now.", plan.entry),
        Some(format!("switchyard dtab get {namespace}")),
    )];
    // Forward: the new version serves and the old one is half gone. Back: the other way round.
    let wanted = match deploy.is_abortable() {
        true => facts.original.clone(),
        false => Some(format!("{}/{new}", plan.live)),
    };
    if let Some(wanted) = wanted {
        steps.push(step(
            format!("If it is not {wanted}, and nothing else is meant to serve, set it."),
            Some(format!("switchyard dtab edit {namespace} --set '{} => {wanted}'", plan.entry)),
        ));
    }
    steps.push(step(
        "Mend what the reason names. The deploy tries again by itself; this makes it try now.".to_owned(),
        Some(match deploy.is_abortable() {
            true => format!("switchyard deploy abort {id}"),
            false => format!("curl -X POST {}/api/1/deploys/{id}/retry", deploys.url()),
        }),
    ));
    steps
}

pub(crate) async fn pipeline(deploys: &Deploys, file: &File) -> api::Pipeline {
    let parameters = file.parameters.iter().map(|parameter| api::Parameter {
        name: parameter.name.clone(),
        default: parameter.default.clone(),
        description: parameter.description.clone(),
    });
    let mut shown = api::Pipeline {
        name: file.name.clone(),
        description: file.description.clone(),
        service: file.service.clone(),
        entry: file.dtab.entry.clone(),
        namespace: file.dtab.namespace.clone(),
        parameters: parameters.collect(),
        stages: Vec::new(),
        current: None,
        trouble: None,
        holder: None,
        last: deploys.last(&file.name, LAST),
    };
    let planned = match plan::with_defaults(file) {
        Ok(planned) => planned,
        Err(error) => {
            shown.trouble = Some(error.to_string());
            return shown;
        }
    };
    let plan = &planned.plan;
    let stages = plan.stages().into_iter().enumerate().map(|(index, name)| api::Stage {
        name: name.to_owned(),
        state: api::StageState::Pending,
        started: None,
        ended: None,
        gated: plan.gate(index).is_some(),
        share: plan.share(index),
        detail: None,
        approved_by: None,
    });
    shown.stages = stages.collect();
    shown.holder = deploys.holder(&planned.namespace, &plan.entry).map(|id| id.to_string());
    match tokio::time::timeout(SOON, current(deploys.control(), &planned.namespace, &plan.entry)).await {
        Ok(Ok(current)) => shown.current = Some(current),
        Ok(Err(trouble)) => shown.trouble = Some(trouble),
        Err(_) => shown.trouble = Some(format!("{} does not answer", deploys.control().shown())),
    }
    shown.entry = planned.plan.entry;
    shown.namespace = planned.namespace;
    shown
}

/// Last segment of what the entry names; the whole right side if that is more than one name.
async fn current(control: &Control, namespace: &str, wanted: &str) -> Result<String, String> {
    let dtab = control.dtab(namespace).await.map_err(|trouble| trouble.to_string())?;
    let (dtab, _) = dtab.ok_or_else(|| format!("there is no namespace {namespace}"))?;
    match entry::find(&dtab, wanted) {
        Entry::One(names::NameTree::Leaf(path)) => {
            Ok(path.labels().last().map(|label| String::from_utf8_lossy(label).into_owned()).unwrap_or_default())
        }
        Entry::One(tree) => Ok(tree.show_exact()),
        Entry::None => Err(format!("the dtab {namespace} has no entry {wanted}")),
        Entry::Many(_) => Err(format!("the dtab {namespace} has the entry {wanted} more than once")),
    }
}

/// One line of `…/log` per event; a text of several lines is indented, so that lines stay lines.
pub(crate) fn log_line(event: &api::Event) -> String {
    let level = match event.level {
        api::Level::Info => "info ",
        api::Level::Warning => "warn ",
        api::Level::Error => "error",
    };
    let stage = event.stage.as_deref().map(|stage| format!("[{stage}] ")).unwrap_or_default();
    format!("{} {level} {stage}{}\n", event.time, event.text.replace('\n', "\n    "))
}
