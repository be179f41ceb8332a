//! `cargo xtask bench`: our router beside other proxies, in turn, on this machine.
//!
//! ```text
//! arguments ─▶ tools, targets (built, found, installed or skipped) ─▶ rounds: A B C, A B C ─▶ record ─▶ table
//!                                                                      │
//!                                      one target: start, idle ─▶ loads ─▶ connections (fresh process)
//! ```
//! Not a microbenchmark: everything goes through real sockets. What is measured, and how to read it,
//! is said in `bench/README.md`.

mod arguments;
mod envoy;
mod machine;
mod process;
mod record;
mod report;
mod scale;
mod scenario;
mod target;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use arguments::{Arguments, Task};
use process::Running;
use record::{Method, Record, Skipped};
use scenario::{Bench, Scenario};
use target::{Ports, Target};
use tools::Tools;

pub use arguments::USAGE;

/// The proxies have this core, and nothing else of ours does.
const PROXY_CORE: usize = 0;
/// The load and the backend share this one.
const LOAD_CORE: usize = 1;

pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    match Arguments::read(arguments)? {
        Task::Show(file) => {
            match scale::Scaled::load(&file) {
                Some(scaled) => print!("{}", scaled.markdown()),
                None => print!("{}", report::markdown(&Record::load(&file)?)),
            }
            Ok(())
        }
        Task::Scale(arguments) => scale::measure(&arguments, &root()?),
        Task::Measure(arguments) => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the bench needs two cores: one for the proxy, one for the load");
    }
    let root = root()?;
    let tools = Tools::prepare(&root)?;
    let (targets, mut skipped) = target::prepare(arguments, &root, &tools)?;
    if targets.is_empty() {
        let why: Vec<String> = skipped.iter().map(|skipped| format!("{}: {}", skipped.target, skipped.why)).collect();
        bail!("there is nothing to measure:\n{}", why.join("\n"));
    }
    let machine = machine::describe(&root);
    machine::pin_this_process(LOAD_CORE)?;
    let ports = Ports::free()?;
    let bench = Bench::start(arguments, &tools, ports)?;
    let mut record = Record {
        machine,
        method: Method {
            rounds: arguments.rounds,
            seconds: arguments.seconds,
            rate: scenario::RATE,
            load_before: machine::load_average(),
            load_after: 0.0,
        },
        targets: targets.iter().map(Target::about).collect(),
        skipped: Vec::new(),
        samples: Vec::new(),
    };
    for round in 1..=arguments.rounds {
        for target in &targets {
            if let Err(error) = one(&bench, target, arguments, round, &mut record) {
                eprintln!("{}: {error:#}", target.name);
                skipped.push(Skipped { target: target.name.to_owned(), why: format!("round {round}: {error:#}") });
            }
        }
    }
    record.skipped = skipped;
    record.method.load_after = machine::load_average();
    print!("{}", report::markdown(&record));
    if record.samples.is_empty() {
        bail!("nothing was measured");
    }
    let file = record.store(&root.join("bench/runs"))?;
    eprintln!("== stored as {}", file.display());
    Ok(())
}

/// One target in one round. What was measured before an error stays.
fn one(
    bench: &Bench<'_>,
    target: &Target,
    arguments: &Arguments,
    round: usize,
    record: &mut Record,
) -> anyhow::Result<()> {
    let mut add = |scenario: Scenario, values| {
        let sample = record::Sample { target: target.name.to_owned(), scenario, round, values };
        eprintln!("== round {round}: {}", report::line(&sample));
        record.samples.push(sample);
    };
    let (started, values) = bench.first_request(target)?;
    if arguments.scenarios.contains(&Scenario::Start) {
        add(Scenario::Start, values);
    }
    for scenario in arguments.scenarios.iter().filter(|scenario| scenario.is_load()) {
        add(*scenario, bench.load(*scenario, &started).with_context(|| scenario.name().to_owned())?);
    }
    Running::stop(started)?;
    if arguments.scenarios.contains(&Scenario::Connections) {
        let (started, _) = bench.first_request(target)?;
        add(Scenario::Connections, bench.connections(&started).context("connections")?);
        Running::stop(started)?;
    }
    Ok(())
}

/// The project's directory.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask stands in the project's directory")?.to_owned())
}
