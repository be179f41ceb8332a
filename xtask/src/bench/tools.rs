//! What measures: our own tools, built, and wrk, installed where we may.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::needs::{find, is_root};

pub struct Tools {
    /// Where the built tools are.
    directory: PathBuf,
    pub wrk: PathBuf,
    /// `bench/wrk.lua`
    pub wrk_script: PathBuf,
    /// Configs and logs of this run.
    pub scratch: PathBuf,
}

impl Tools {
    pub fn prepare(root: &Path) -> anyhow::Result<Tools> {
        let target = root.join("target/bench");
        let manifest = root.join("bench/tools/Cargo.toml");
        eprintln!("== building the tools");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
            .arg(&manifest)
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("{} does not build", manifest.display());
        }
        install("wrk");
        let wrk = find(&["wrk"]).context("wrk, the load generator, is not in PATH: sudo apt-get install wrk")?;
        let scratch = target.join("run");
        std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        Ok(Tools { directory: target.join("release"), wrk, wrk_script: root.join("bench/wrk.lua"), scratch })
    }

    /// The path of one of `backend`, `floor`, `hold`, `rate`.
    pub fn own(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}

/// Installs the Debian package of a program if it is missing and we may; says nothing if not.
pub fn install(package: &str) {
    // Not everybody has sbin in PATH, where Debian puts the daemons.
    let daemon = Path::new("/usr/sbin").join(package);
    if find(&[package]).is_some() || daemon.exists() || !is_root() || find(&["apt-get"]).is_none() {
        return;
    }
    eprintln!("== installing {package}");
    let command = format!(
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends {}",
        if package == "nginx" { "nginx-light" } else { package }
    );
    // RUNLEVEL=1 keeps Debian from starting the daemon that it installs.
    let status = Command::new("sh")
        .args(["-ec", &command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdout(std::process::Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("`{command}` failed");
    }
}
