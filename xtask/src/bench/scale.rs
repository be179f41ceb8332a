//! `cargo xtask bench scale`: names at scale, measured by `bench/tools/src/bin/scale.rs`, stored like other runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::record::{self, Machine, Values};
use super::tools::Tools;
use super::{machine, target};

/// A run as it is stored.
#[derive(Debug, Deserialize, Serialize)]
pub struct Scaled {
    machine: Machine,
    load_before: f64,
    load_after: f64,
    /// By what the tool calls them: `large.worker us per request, one name`.
    values: Values,
}

pub fn measure(arguments: &Arguments, root: &Path) -> anyhow::Result<()> {
    let tools = Tools::prepare(root)?;
    let router = target::router(arguments, root)?;
    let (machine, load_before) = (machine::describe(root), machine::load_average());
    let output = Command::new(tools.own("scale")).arg(&router).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start bench/tools' scale")?;
    if !output.status.success() {
        bail!("scale: {}", output.status);
    }
    let values = serde_json::from_slice(&output.stdout).context("scale tells something else than facts")?;
    let scaled = Scaled { machine, load_before, load_after: machine::load_average(), values };
    print!("{}", scaled.markdown());
    let file = record::free_file(&root.join("bench/runs"), &scaled.machine, "-scale")?;
    let text = serde_json::to_string_pretty(&scaled)? + "\n";
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("== stored as {}", file.display());
    Ok(())
}

impl Scaled {
    /// A stored run, if that is what the file holds.
    pub fn load(file: &PathBuf) -> Option<Scaled> {
        serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
    }

    /// Small beside large, and then the control plane.
    pub fn markdown(&self) -> String {
        let Machine { date, cpu, cores, commit, .. } = &self.machine;
        let mut text = format!(
            "{date}, {cpu}, {cores} cores, commit {commit}, load average {:.1} to {:.1}\n\n| | small | large |\n|---|---|---|\n",
            self.load_before, self.load_after
        );
        let shown = |scale: &str, what: &str| match self.values.get(&format!("{scale}.{what}")) {
            Some(value) => format!("{value:.2}"),
            None => "–".to_owned(),
        };
        for what in self.values.keys().filter_map(|key| key.strip_prefix("large.")) {
            text.push_str(&format!("| {what} | {} | {} |\n", shown("small", what), shown("large", what)));
        }
        text.push_str("\n| control plane | |\n|---|---|\n");
        for (key, value) in &self.values {
            if let Some(what) = key.strip_prefix("control.") {
                text.push_str(&format!("| {what} | {value:.2} |\n"));
            }
        }
        text
    }
}
