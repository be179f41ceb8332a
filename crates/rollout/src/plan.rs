//! What a deploy does, checked: the stages, the shares, the gates.

use serde::{Deserialize, Serialize};

pub const CLONE: &str = "clone";
pub const DEPLOY: &str = "deploy";
pub const CLEANUP: &str = "cleanup";

/// One deploy's plan. All texts are final: placeholders but those of versions are filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Versions are `SERVICE-vN`.
    pub service: String,
    /// `/host/world`
    pub entry: String,
    /// `/srv`
    pub live: String,
    /// `/tmp`
    pub marker: String,
    /// Name of the stage that asks the new version itself.
    pub test: String,
    pub test_gate: Option<Gate>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub stage: String,
    pub share: Share,
    pub gate: Option<Gate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Share {
    Weights {
        new: f64,
        current: f64,
    },
    /// All to the new version; the current one answers where the new one is not there.
    Failover,
}

/// A person is asked. `{new}` and `{current}` in the texts are for whoever shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    pub message: String,
    pub ok: String,
    pub commands: Vec<String>,
}

/// Which part of a plan makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct PlanError {
    /// `steps[1].weights.new`
    pub path: String,
    pub message: String,
}

impl Share {
    /// The new version's share of requests, 0 to 1.
    pub fn of_new(self) -> f64 {
        match self {
            Share::Weights { new, current } => new / (new + current),
            Share::Failover => 1.0,
        }
    }
}

impl Plan {
    pub fn check(&self) -> Result<(), PlanError> {
        let error = |path: String, message: &str| Err(PlanError { path, message: message.to_owned() });
        for (path, value) in [("dtab.entry", &self.entry), ("dtab.live", &self.live), ("dtab.marker", &self.marker)] {
            if !value.starts_with('/') || value.ends_with('/') {
                return error(path.to_owned(), &format!("{value:?}: write a path such as /srv"));
            }
        }
        if self.live == self.marker {
            return error(
                "dtab.marker".to_owned(),
                "must differ from dtab.live, or nobody can see that a deploy is in flight",
            );
        }
        if self.service.is_empty() || self.service.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        {
            return error("service".to_owned(), "use letters, digits, `-`, `_` and `.`");
        }
        if self.steps.is_empty() {
            return error("steps".to_owned(), "at least one step must shift traffic");
        }
        for (index, step) in self.steps.iter().enumerate() {
            let Share::Weights { new, current } = step.share else { continue };
            for (name, weight, positive) in [("new", new, true), ("current", current, false)] {
                if !weight.is_finite() || weight < 0.0 || (positive && weight == 0.0) {
                    return error(
                        format!("steps[{index}].weights.{name}"),
                        &format!("{weight}: must be a number above zero"),
                    );
                }
            }
        }
        let stages = self.stages();
        for (index, stage) in stages.iter().enumerate() {
            if stage.trim().is_empty() || stages[..index].contains(stage) {
                return error("steps".to_owned(), &format!("{stage:?}: stages need names of their own"));
            }
        }
        Ok(())
    }

    /// Names of all stages, in order.
    pub fn stages(&self) -> Vec<&str> {
        let mut stages = vec![CLONE, DEPLOY, self.test.as_str()];
        stages.extend(self.steps.iter().map(|step| step.stage.as_str()));
        stages.push(CLEANUP);
        stages
    }

    /// The gate behind a stage.
    pub fn gate(&self, stage: usize) -> Option<&Gate> {
        match stage {
            2 => self.test_gate.as_ref(),
            _ => self.steps.get(stage.checked_sub(3)?)?.gate.as_ref(),
        }
    }

    /// The new version's share when a stage is done; `None` while it is not up.
    pub fn share(&self, stage: usize) -> Option<f64> {
        match stage {
            0 => None,
            1 | 2 => Some(0.0),
            _ => Some(self.steps.get(stage - 3).map_or(1.0, |step| step.share.of_new())),
        }
    }

    /// What the entry becomes at step `index`, in the tutorial's words.
    pub fn destination(&self, index: usize, new: &str, current: &str) -> Option<String> {
        let marker = &self.marker;
        Some(match self.steps.get(index)?.share {
            Share::Weights { new: new_weight, current: current_weight } => {
                format!("{new_weight} * {marker}/{new} & {current_weight} * {marker}/{current}")
            }
            Share::Failover => format!("{marker}/{new} | {marker}/{current}"),
        })
    }
}
