//! The yard: the stages over their rails, drawn by `Chart.yard` from this.

use serde_json::{Value, json};

use super::{Deploy, DeployState, Stage, StageState};

/// `{"names":[…],"stages":[{"cur","fresh","gate","past"}],"back":N|absent}`, as `assets/charts.js` says.
pub(super) fn yard(deploy: &Deploy) -> Value {
    let names = [&deploy.version.current, &deploy.version.new].map(|name| name.clone().unwrap_or_default());
    let is_back = deploy.state == DeployState::Reverted || deploy.reverting;
    let stopped = deploy.stages.iter().position(|stage| stage.state == StageState::Failed);
    let back = stopped.filter(|_| is_back);
    let stages = deploy.stages.iter().enumerate().map(|(n, stage)| {
        let is_after = back.is_some_and(|back| n > back);
        let fresh = stage.share.filter(|_| !is_after);
        json!({
            "cur": fresh.map_or(1.0, |share| 1.0 - share),
            "fresh": fresh,
            "gate": if is_after { None } else { gate(stage) },
            "past": is_after || !matches!(stage.state, StageState::Pending | StageState::Skipped),
        })
    });
    let mut yard = json!({ "names": names, "stages": stages.collect::<Vec<_>>() });
    // A stage that stopped before the new version was there has no rail to lead back.
    if let Some(back) = back.filter(|back| deploy.stages[*back].share.is_some()) {
        yard["back"] = json!(back);
    }
    yard
}

fn gate(stage: &Stage) -> Option<&'static str> {
    stage.gated.then_some(match stage.state {
        StageState::Waiting => "wait",
        StageState::Succeeded => "open",
        StageState::Failed => "shut",
        StageState::Pending | StageState::Running | StageState::Skipped => "ahead",
    })
}
