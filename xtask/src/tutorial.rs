//! `cargo xtask tutorial`: follows `docs/tutorial-kubernetes.md` on a real one-node cluster, command by command,
//! and compares what is printed; while it does, requests go through the routers, and none may fail.
//!
//! ```text
//!  the page ─▶ steps ─▶ bash ─▶ output ─▶ compared with the page
//!              │  (`<!-- test: load -->`)
//!              └─▶ load ─▶ the Service l5d-external
//! ```
//! What the page takes for granted is made here: the cluster, images on its node, a volume, and the load
//! balancer, which is the Service's own address.

mod cluster;
mod load;
mod page;
mod shell;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use cluster::{Cluster, Missing};
use load::Load;
use page::{Item, Step};
use shell::Shell;

pub const USAGE: &str = "\
usage: cargo xtask tutorial [--binary FILE] [--keep]

Follows docs/tutorial-kubernetes.md on a cluster of its own, with real pods: root, Debian, one at a time per machine.
Ends with 3 where this machine cannot run containers or the cluster does not come up, and says what is missing.

--binary   put this one into the images [default: the debug build]
--keep     leave the cluster, to look at; how it is ended is printed
";

const PAGE: &str = "docs/tutorial-kubernetes.md";
/// For one block of commands; each waits with a time limit of its own.
const STEP_WITHIN: Duration = Duration::from_secs(150);
/// What steady load for a whole deploy and an abort means at least.
const LOAD_AT_LEAST: Duration = Duration::from_secs(60);

struct Options {
    binary: Option<PathBuf>,
    keep: bool,
}

pub fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut options = Options { binary: None, keep: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--binary" => options.binary = Some(rest.next().context("--binary needs a value")?.into()),
            "--keep" => options.keep = true,
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    let root = root();
    let missing = cluster::missing();
    if !missing.is_empty() {
        eprintln!("the tutorial runs containers, and here it cannot:");
        for Missing { what, how } in missing {
            eprintln!("  {what}: {how}");
        }
        return Ok(ExitCode::from(3));
    }
    let text = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let items = page::read(&text)?;
    let begun = Instant::now();
    let cluster = Cluster::start(&root, options.binary.as_deref(), options.keep)?;
    let followed = follow(&items, &cluster, &root);
    if followed.is_err() {
        cluster.tell();
    }
    drop(cluster);
    followed?;
    println!("== the tutorial is true, in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn follow(items: &[Item], cluster: &Cluster, root: &Path) -> anyhow::Result<()> {
    let mut shell = Shell::start(cluster, root)?;
    let mut load: Option<Load> = None;
    for item in items {
        match item {
            Item::Load => load = Some(Load::start(cluster.frontend()?)),
            Item::LoadEnds => {
                let load = load.take().context("the load ends before it begins")?;
                judge(load)?;
                cluster.memory().iter().for_each(|line| println!("== memory: {line}"));
            }
            Item::Step(step) => {
                one(step, &mut shell)?;
                if step.commands.contains("deploy/k8s/linkerd.yml") && !step.commands.contains("delete") {
                    cluster.balance()?;
                }
            }
        }
    }
    ensure!(load.is_none(), "the page does not end the load");
    Ok(())
}

fn one(step: &Step, shell: &mut Shell) -> anyhow::Result<()> {
    println!("== {}: line {}", step.heading, step.line);
    for line in step.commands.lines() {
        println!("$ {line}");
    }
    let begun = Instant::now();
    let ran = shell.run(&step.commands, STEP_WITHIN).with_context(|| format!("{PAGE}, line {}", step.line))?;
    println!("{}\n== {:.1} s", ran.output.trim_end(), begun.elapsed().as_secs_f64());
    if !step.allows(ran.failed) {
        bail!("{PAGE}, line {}: a command ended with {}", step.line, ran.failed);
    }
    if let Some(line) = page::differs(&step.expected, &ran.output) {
        bail!("{PAGE}, line {}: the output has no line `{line}` where the page has it", step.line);
    }
    Ok(())
}

fn judge(load: Load) -> anyhow::Result<()> {
    let report = load.stop();
    println!("== load: {report}");
    ensure!(report.failures.is_empty(), "requests failed:\n{}", report.failures.join("\n"));
    ensure!(report.lasted >= LOAD_AT_LEAST, "the load lasted {:?} only", report.lasted);
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
