//! Builds every test of the workspace once, then runs them binary by binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::Value;

/// One test binary.
struct Binary {
    name: String,
    file: PathBuf,
    /// The directory of its package, where `cargo test` would run it.
    directory: PathBuf,
}

pub fn run(filters: &[String]) -> anyhow::Result<()> {
    let start = Instant::now();
    println!("== building all tests");
    let binaries = build()?;
    let mut failed = Vec::new();
    for (n, binary) in binaries.iter().enumerate() {
        println!("== [{}/{}] {}", n + 1, binaries.len() + 1, binary.name);
        let begun = Instant::now();
        let status = Command::new(&binary.file)
            .args(filters)
            .current_dir(&binary.directory)
            .env("CARGO_MANIFEST_DIR", &binary.directory)
            .env("INSTA_UPDATE", "no")
            .status()
            .with_context(|| format!("cannot start {}", binary.file.display()))?;
        println!("== {} in {:.1} s", binary.name, begun.elapsed().as_secs_f64());
        if !status.success() {
            failed.push(binary.name.clone());
        }
    }
    if filters.is_empty() {
        println!("== [{0}/{0}] examples in the documentation", binaries.len() + 1);
        if !cargo(&["test", "--workspace", "--doc", "--quiet"]).status()?.success() {
            failed.push("documentation".to_owned());
        }
    }
    println!("== all in {:.0} s", start.elapsed().as_secs_f64());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("== all tests passed");
    Ok(())
}

fn build() -> anyhow::Result<Vec<Binary>> {
    let output = cargo(&["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?
        .wait_with_output()?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut binaries = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages do not read")?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let (Some(file), Some(manifest)) = (message["executable"].as_str(), message["manifest_path"].as_str()) else {
            continue;
        };
        let directory = Path::new(manifest).parent().context("a manifest stands in a directory")?.to_owned();
        let package = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = message["target"]["name"].as_str().unwrap_or("?");
        let is_unit = message["target"]["kind"].as_array().is_some_and(|kinds| !kinds.contains(&"test".into()));
        let name = if is_unit { format!("{package}: unit tests") } else { format!("{package}: {target}") };
        binaries.push(Binary { name, file: file.into(), directory });
    }
    // The quick ones first, end-to-end last: a mistake shows early.
    binaries.sort_by_key(|binary| (binary.name.starts_with("switchyard"), binary.name.clone()));
    Ok(binaries)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}
