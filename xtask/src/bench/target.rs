//! The proxies that are measured: where they come from, and how they are started.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::arguments::Arguments;
use super::envoy;
use super::machine::said;
use super::record::{About, Skipped};
use super::tools::{self, Tools};
use crate::needs::find;

/// All of them, in the order in which they are measured.
pub const NAMES: [&str; 5] = ["switchyard", "floor", "haproxy", "nginx", "envoy"];

pub struct Target {
    pub name: &'static str,
    version: String,
    program: PathBuf,
    /// The config as it stands in `bench/conf`, if there is one.
    config: Option<PathBuf>,
}

/// Free when the run began.
#[derive(Clone, Copy)]
pub struct Ports {
    pub backend: u16,
    pub listen: u16,
    admin: u16,
}

impl Ports {
    pub fn free() -> anyhow::Result<Ports> {
        let listeners =
            [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let port = |n: usize| listeners[n].local_addr().map(|address| address.port());
        Ok(Ports { backend: port(0)?, listen: port(1)?, admin: port(2)? })
    }
}

/// Finds, builds or installs what was asked for. A peer that cannot be had is skipped; that our own
/// router does not build is an error.
pub fn prepare(arguments: &Arguments, root: &Path, tools: &Tools) -> anyhow::Result<(Vec<Target>, Vec<Skipped>)> {
    let (mut targets, mut skipped, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for name in NAMES {
        if !arguments.targets.iter().any(|wanted| wanted == name) || !seen.insert(name) {
            continue;
        }
        match program(name, arguments, root, tools) {
            Ok(program) => {
                let mut target = Target::new(name, program, root);
                if name == "switchyard" && arguments.router.is_some() {
                    // The record names the commit of the sources here, which this may not be of.
                    target.version.push_str(", of a binary that was given");
                }
                targets.push(target);
            }
            Err(error) if name == "switchyard" => return Err(error),
            Err(error) => skipped.push(Skipped { target: name.to_owned(), why: format!("{error:#}") }),
        }
    }
    Ok((targets, skipped))
}

fn program(name: &str, arguments: &Arguments, root: &Path, tools: &Tools) -> anyhow::Result<PathBuf> {
    match name {
        "floor" => Ok(tools.own("floor").into()),
        "envoy" => envoy::obtain(),
        "switchyard" => router(arguments, root),
        name => {
            tools::install(name);
            let daemon = Path::new("/usr/sbin").join(name);
            let found = find(&[name]).or_else(|| daemon.exists().then_some(daemon));
            found.with_context(|| format!("not installed: sudo apt-get install {name}"))
        }
    }
}

/// Our router: the binary that was given, or built like any user builds it.
pub fn router(arguments: &Arguments, root: &Path) -> anyhow::Result<PathBuf> {
    match &arguments.router {
        Some(file) => file.canonicalize().with_context(|| format!("--router {}", file.display())),
        None => build(&arguments.profile, root),
    }
}

fn build(profile: &str, root: &Path) -> anyhow::Result<PathBuf> {
    eprintln!("== building switchyard ({profile})");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "switchyard", "--profile", profile])
        .current_dir(root)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("switchyard does not build");
    }
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(root.join("target").join(directory).join("switchyard"))
}

impl Target {
    fn new(name: &'static str, program: PathBuf, root: &Path) -> Target {
        let path = program.to_string_lossy();
        let version = match name {
            "haproxy" | "nginx" => said(&path, &["-v"]),
            "floor" => "http1 on tokio, current thread".to_owned(),
            _ => said(&path, &["--version"]),
        };
        let line = version.lines().find(|line| !line.is_empty()).unwrap_or_default();
        // The first word that begins like a number, of `nginx version: nginx/1.22.1` or `…/1.40.0/Clean/…`.
        let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        let version = line.split([' ', '/']).find(number).unwrap_or(line).to_owned();
        let file = match name {
            "haproxy" => Some("haproxy.cfg"),
            "nginx" => Some("nginx.conf"),
            "envoy" => Some("envoy.yaml"),
            "switchyard" => Some("switchyard.yaml"),
            _ => None,
        };
        Target { name, version, program, config: file.map(|file| root.join("bench/conf").join(file)) }
    }

    /// Writes the config for these ports, and says what to start.
    pub fn command(&self, ports: Ports, scratch: &Path) -> anyhow::Result<Vec<String>> {
        let mut file = String::new();
        if let Some(config) = &self.config {
            let text = std::fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
            let text = text
                .replace("<<listen_port>>", &ports.listen.to_string())
                .replace("<<backend_port>>", &ports.backend.to_string())
                .replace("<<admin_port>>", &ports.admin.to_string())
                .replace("<<directory>>", &scratch.to_string_lossy());
            let written = scratch.join(config.file_name().context("a config has a name")?);
            std::fs::write(&written, text).with_context(|| format!("cannot write {}", written.display()))?;
            file = written.to_string_lossy().into_owned();
        }
        let (listen, backend) = (format!("127.0.0.1:{}", ports.listen), format!("127.0.0.1:{}", ports.backend));
        let arguments = self.arguments(&file, &listen, &backend);
        let program = self.program.to_string_lossy().into_owned();
        Ok(std::iter::once(program).chain(arguments.into_iter().map(str::to_owned)).collect())
    }

    fn arguments<'a>(&self, config: &'a str, listen: &'a str, backend: &'a str) -> Vec<&'a str> {
        match self.name {
            "switchyard" => vec!["router", config, "--workers", "1"],
            "haproxy" => vec!["-db", "-f", config],
            "nginx" => vec!["-c", config],
            "envoy" => vec!["-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
            _ => vec![listen, backend],
        }
    }

    pub fn about(&self) -> About {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        let arguments = self.arguments("CONFIG", "LISTEN", "BACKEND").join(" ");
        About { name: self.name.to_owned(), version: self.version.clone(), command: format!("{program} {arguments}") }
    }
}
