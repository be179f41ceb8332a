//! What can be typed after `cargo xtask bench`.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::scenario::Scenario;
use super::target;

pub const USAGE: &str = "\
usage: cargo xtask bench [--only TARGET,…] [--scenarios NAME,…] [--rounds N] [--seconds N]
                         [--profile NAME | --router FILE]
       cargo xtask bench scale [--profile NAME | --router FILE]
       cargo xtask bench --show FILE

Measures the targets in turn on two cores, prints a table, stores the run in bench/runs.
scale: measures names at scale instead.
--only       switchyard, floor, haproxy, nginx, envoy (default: all; one that cannot be had is skipped)
--scenarios  get64, post1k, body64k, get1, rate, start, connections (default: all)
--rounds     how often everything is measured (default: 3)
--seconds    length of one load (default: 4)
--profile    Cargo profile that our router is built with (default: release)
--router     measure this binary instead of building one
--show       print the table of a stored run again
";

pub enum Task {
    Show(PathBuf),
    Measure(Arguments),
    /// Names at scale: which router is all that counts.
    Scale(Arguments),
}

pub struct Arguments {
    /// In the order in which they are measured.
    pub targets: Vec<String>,
    pub scenarios: Vec<Scenario>,
    pub rounds: usize,
    pub seconds: u64,
    pub profile: String,
    /// The router's binary, if none is to be built.
    pub router: Option<PathBuf>,
}

impl Arguments {
    pub fn read(arguments: &[String]) -> anyhow::Result<Task> {
        let mut read = Arguments {
            targets: target::NAMES.map(str::to_owned).to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            rounds: 3,
            seconds: 4,
            profile: "release".to_owned(),
            router: None,
        };
        let is_scale = arguments.first().is_some_and(|word| word == "scale");
        let mut rest = arguments.iter().skip(usize::from(is_scale));
        while let Some(flag) = rest.next() {
            let value = rest.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
            match flag.as_str() {
                "--show" if arguments.len() == 2 => return Ok(Task::Show(value.into())),
                "--profile" => read.profile = value.clone(),
                "--router" => read.router = Some(value.into()),
                _ if is_scale => bail!("unknown argument {flag}\n{USAGE}"),
                "--only" => read.targets = value.split(',').map(known_target).collect::<anyhow::Result<_>>()?,
                "--scenarios" => {
                    read.scenarios = value.split(',').map(Scenario::read).collect::<anyhow::Result<_>>()?
                }
                "--rounds" => read.rounds = at_least_one(flag, value)? as usize,
                "--seconds" => read.seconds = at_least_one(flag, value)?,
                _ => bail!("unknown argument {flag}\n{USAGE}"),
            }
        }
        Ok(if is_scale { Task::Scale(read) } else { Task::Measure(read) })
    }
}

fn known_target(name: &str) -> anyhow::Result<String> {
    if !target::NAMES.contains(&name) {
        bail!("unknown target `{name}`: one of {}", target::NAMES.join(", "));
    }
    Ok(name.to_owned())
}

fn at_least_one(flag: &str, value: &str) -> anyhow::Result<u64> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!("{flag}: `{value}` is not a number above 0"),
    }
}
