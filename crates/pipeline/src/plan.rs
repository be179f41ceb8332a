//! From a pipeline file and parameters to the plan of one deploy.

use std::collections::BTreeMap;

use rollout::{Gate, Plan, Share, Step};

use crate::file::{File, GateConfig, TargetConfig};
use crate::template::{self, Values};

/// What cannot become a plan, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub(crate) struct PlanError {
    /// A key of the file (`dtab.entry`), or the name of a parameter.
    pub path: String,
    pub message: String,
}

/// The plan, the namespace it edits, and all parameters with their values.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub plan: Plan,
    pub namespace: String,
    pub parameters: BTreeMap<String, String>,
}

/// Longer is no repository and no branch.
const LONGEST_PARAMETER: usize = 4096;

pub(crate) fn with_defaults(file: &File) -> Result<Planned, PlanError> {
    plan(file, &BTreeMap::new())
}

/// `given` are the parameters that somebody gave; the others keep their defaults.
pub(crate) fn plan(file: &File, given: &BTreeMap<String, String>) -> Result<Planned, PlanError> {
    for (name, value) in given {
        let error = |message: String| Err(PlanError { path: name.clone(), message });
        if !file.parameters.iter().any(|parameter| parameter.name == *name) {
            let known: Vec<&str> = file.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            return error(format!("{} has no such parameter; it has: {}", file.name, known.join(", ")));
        }
        if value.len() > LONGEST_PARAMETER || value.contains('\0') {
            return error(format!("must have at most {LONGEST_PARAMETER} bytes, and no NUL among them"));
        }
    }
    let parameters: BTreeMap<String, String> = file
        .parameters
        .iter()
        .map(|parameter| {
            let value = given.get(&parameter.name).unwrap_or(&parameter.default);
            (parameter.name.clone(), value.clone())
        })
        .collect();
    let mut values = Values::default();
    parameters.iter().for_each(|(name, value)| values.set(name, value));
    let fill = |path: &str, text: &str| {
        values.fill(text).map_err(|error| PlanError { path: path.to_owned(), message: error.to_string() })
    };
    let namespace = fill("dtab.namespace", &file.dtab.namespace)?;
    // One segment of a URL and of a store's key.
    if namespace.is_empty() || !namespace.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(PlanError {
            path: "dtab.namespace".to_owned(),
            message: format!("{namespace:?} is no namespace: use letters, digits, `-`, `_` and `.`"),
        });
    }
    if let TargetConfig::Kubernetes(target) = &file.target {
        let namespace = fill("target.namespace", &target.namespace)?;
        if !kubernetes::is_name(&namespace) || namespace.len() > 63 || namespace.contains('.') {
            return Err(PlanError {
                path: "target.namespace".to_owned(),
                message: format!("{namespace:?} is no namespace of a cluster: use lower-case letters, digits and `-`"),
            });
        }
    }
    let entry = path("dtab.entry", fill("dtab.entry", &file.dtab.entry)?)?;
    let live = path("dtab.live", fill("dtab.live", &file.dtab.live)?)?;
    let marker = path("dtab.marker", fill("dtab.marker", &file.dtab.marker)?)?;

    // Gate texts may hold facts that are known later: those stay placeholders, in their own place.
    values.set("service", &file.service);
    values.set("namespace", &namespace);
    values.set("pipeline", &file.name);
    for (name, value) in [("entry", &entry), ("live", &live), ("marker", &marker)] {
        values.set(name, value);
    }
    for later in ["new", "current", "text", "frontend"] {
        values.set(later, format!("{{{later}}}"));
    }
    let gate = |path: &str, gate: &Option<GateConfig>| -> Result<Option<Gate>, PlanError> {
        let Some(gate) = gate else { return Ok(None) };
        let fill = |text: &str| {
            values.fill(text).map_err(|error| PlanError { path: path.to_owned(), message: error.to_string() })
        };
        Ok(Some(Gate { message: fill(&gate.message)?, ok: fill(&gate.ok)?, commands: Vec::new() }))
    };
    let mut steps = Vec::new();
    for (index, step) in file.steps.iter().enumerate() {
        let share = match step.weights {
            Some(ref weights) => Share::Weights { new: weights.new, current: weights.current },
            None => Share::Failover,
        };
        steps.push(Step { stage: step.stage.clone(), share, gate: gate(&format!("steps[{index}].gate"), &step.gate)? });
    }
    let plan = Plan {
        service: file.service.clone(),
        entry,
        live,
        marker,
        test: file.test.stage.clone(),
        test_gate: gate("test.gate", &file.test.gate)?,
        steps,
    };
    plan.check().map_err(|error| PlanError { path: error.path, message: error.message })?;
    Ok(Planned { plan, namespace, parameters })
}

/// The parameter to blame for a wrong key, where the key is made of one.
pub(crate) fn blame<'a>(file: &'a File, path: &'a str) -> &'a str {
    let text = match path {
        "dtab.namespace" => &file.dtab.namespace,
        "dtab.entry" => &file.dtab.entry,
        "dtab.live" => &file.dtab.live,
        "dtab.marker" => &file.dtab.marker,
        "target.namespace" => match &file.target {
            TargetConfig::Kubernetes(target) => &target.namespace,
            TargetConfig::Process(_) => return path,
        },
        _ => return path,
    };
    template::names(text).ok().and_then(|names| names.first().copied()).unwrap_or(path)
}

/// As the original's parser reads it, and shown as it shows it.
fn path(key: &str, text: String) -> Result<String, PlanError> {
    let error = |message: String| PlanError { path: key.to_owned(), message };
    let read = names::Path::read(&text).map_err(|wrong| error(format!("{text:?} is no path: {wrong}")))?;
    if read.is_empty() || read.show() != text {
        return Err(error(format!("{text:?}: write a path such as /host/world")));
    }
    Ok(text)
}
