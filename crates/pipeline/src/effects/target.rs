//! Where instances run: what all targets can do, and which one does it.

use std::collections::BTreeSet;

use rollout::Outcome;

use super::kubernetes::Place;
use super::{Job, kubernetes, process};
use crate::file::TargetConfig;

/// What there is of a service's versions, whoever made it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Present {
    /// Names of versions, and what is called like one.
    pub versions: BTreeSet<String>,
    /// Those that dead deploys on the same entry left behind, as far as the target itself can tell.
    pub leftovers: BTreeSet<String>,
}

/// One instance, as the test of a version tells it from the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Instance {
    pub name: String,
    /// `127.0.0.1:7721`; of a pod its IP.
    pub address: String,
    /// Where the target gives each instance one.
    pub port: Option<u16>,
}

pub(super) async fn present(job: &Job) -> Result<Present, String> {
    match &job.story.head.file.target {
        TargetConfig::Process(_) => {
            Ok(Present { versions: process::present(&job.deploys)?, leftovers: BTreeSet::new() })
        }
        TargetConfig::Kubernetes(target) => kubernetes::present(&Place::of(job, target)?).await,
    }
}

/// Starts all instances, waits until they are ready and routers can find them.
pub(super) async fn start(job: &Job, version: &str) -> Result<Outcome, String> {
    match &job.story.head.file.target {
        TargetConfig::Process(target) => process::start(job, target, version).await,
        TargetConfig::Kubernetes(target) => kubernetes::start(&Place::of(job, target)?, version).await,
    }
}

pub(super) async fn instances(job: &Job, version: &str) -> Result<Vec<Instance>, String> {
    match &job.story.head.file.target {
        TargetConfig::Process(_) => Ok(process::addresses(&job.deploys, version)),
        TargetConfig::Kubernetes(target) => kubernetes::instances(&Place::of(job, target)?, version).await,
    }
}

/// Looks once more that nothing names it, then unregisters, drains and stops.
pub(super) async fn remove(job: &Job, version: &str) -> Result<Outcome, String> {
    if let Some((entry, dst)) = super::dtab::user(job, version).await? {
        return Ok(Outcome::StillUsed { entry, dst });
    }
    match &job.story.head.file.target {
        TargetConfig::Process(target) => process::remove(job, target, version).await,
        TargetConfig::Kubernetes(target) => kubernetes::remove(&Place::of(job, target)?, version).await,
    }
}

/// Watches the instances of a version while a deploy rests on them; says what broke.
pub(crate) async fn watch(job: Job, version: String) -> String {
    match &job.story.head.file.target {
        TargetConfig::Process(target) => process::watch(&job.deploys, &version, target.instances).await,
        TargetConfig::Kubernetes(target) => match Place::of(&job, target) {
            Ok(place) => kubernetes::watch(&place, &version).await,
            Err(why) => why,
        },
    }
}
