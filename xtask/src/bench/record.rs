//! A run as it is stored: everything that the table needs, and every sample behind it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;

#[derive(Debug, Deserialize, Serialize)]
pub struct Record {
    pub machine: Machine,
    pub method: Method,
    pub targets: Vec<About>,
    pub skipped: Vec<Skipped>,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Machine {
    /// RFC 3339, UTC.
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: f64,
    pub kernel: String,
    pub commit: String,
    /// The product's sources differ from the commit.
    pub changed: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Method {
    pub rounds: usize,
    /// Length of one load.
    pub seconds: u64,
    /// Requests per second of the open loop.
    pub rate: u64,
    /// Load average of the machine before and after: what else ran here.
    pub load_before: f64,
    pub load_after: f64,
}

/// A target that was measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct About {
    pub name: String,
    pub version: String,
    pub command: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Skipped {
    pub target: String,
    pub why: String,
}

/// What one scenario found out about one target in one round.
#[derive(Debug, Deserialize, Serialize)]
pub struct Sample {
    pub target: String,
    pub scenario: Scenario,
    pub round: usize,
    /// By [`super::report::COLUMNS`].
    pub values: Values,
}

pub type Values = BTreeMap<String, f64>;

/// A new file's name: of the day and the processor.
pub fn free_file(directory: &Path, machine: &Machine, suffix: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let day = machine.date.get(..10).unwrap_or("undated");
    let words = machine.cpu.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let cpu = words.take(4).collect::<Vec<_>>().join("-").to_lowercase();
    let mut file = directory.join(format!("{day}-{cpu}{suffix}.json"));
    for n in 2.. {
        if !file.exists() {
            break;
        }
        file = directory.join(format!("{day}-{cpu}{suffix}-{n}.json"));
    }
    Ok(file)
}

impl Record {
    pub fn load(file: &Path) -> anyhow::Result<Record> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a stored run", file.display()))
    }

    /// Writes a new file, named after the day and the processor.
    pub fn store(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let file = free_file(directory, &self.machine, "")?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}
