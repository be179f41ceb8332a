//! What is done to a proxy, and what is looked at meanwhile.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::Arguments;
use super::process::{self, Running};
use super::record::Values;
use super::target::{Ports, Target};
use super::tools::Tools;
use super::{LOAD_CORE, PROXY_CORE, machine};

/// Requests per second of the open loop.
pub const RATE: u64 = 10_000;
/// A proxy that routes nothing after this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Idle memory is looked at this long after the first request.
const SETTLE: Duration = Duration::from_millis(500);
const WARM_UP: u64 = 1;
/// Idle connections between which memory is compared: the first ones pay for what is set up once.
const CONNECTIONS: (usize, usize) = (500, 2500);

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    Get64,
    Post1k,
    Body64k,
    Get1,
    Rate,
    Start,
    Connections,
}

impl Scenario {
    pub const ALL: [Scenario; 7] = [
        Scenario::Get64,
        Scenario::Post1k,
        Scenario::Body64k,
        Scenario::Get1,
        Scenario::Rate,
        Scenario::Start,
        Scenario::Connections,
    ];

    pub fn read(name: &str) -> anyhow::Result<Scenario> {
        let names = Scenario::ALL.map(Scenario::name).join(", ");
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.with_context(|| format!("unknown scenario `{name}`: one of {names}"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Scenario::Get64 => "get64",
            Scenario::Post1k => "post1k",
            Scenario::Body64k => "body64k",
            Scenario::Get1 => "get1",
            Scenario::Rate => "rate",
            Scenario::Start => "start",
            Scenario::Connections => "connections",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Scenario::Get64 => "GET 100 B, 64 connections, closed loop",
            Scenario::Post1k => "POST 1 KiB, 64 connections, closed loop",
            Scenario::Body64k => "GET 64 KiB, 64 connections, closed loop",
            Scenario::Get1 => "GET 100 B, 1 connection, closed loop",
            Scenario::Rate => "GET 100 B at 10 000 requests/s, 64 connections, open loop",
            Scenario::Start => "Start and idle",
            Scenario::Connections => "Idle keep-alive connections",
        }
    }

    pub fn is_load(self) -> bool {
        !matches!(self, Scenario::Start | Scenario::Connections)
    }
}

/// The run's fixed parts: backend, tools, ports.
pub struct Bench<'a> {
    arguments: &'a Arguments,
    tools: &'a Tools,
    ports: Ports,
    _backend: Running,
}

impl<'a> Bench<'a> {
    pub fn start(arguments: &'a Arguments, tools: &'a Tools, ports: Ports) -> anyhow::Result<Bench<'a>> {
        let command = [tools.own("backend"), format!("127.0.0.1:{}", ports.backend)];
        let mut backend = Running::start(&command, LOAD_CORE, &tools.scratch.join("backend.log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports.backend));
        until_routed(&mut backend, address, |_| Ok(())).context("the backend")?;
        Ok(Bench { arguments, tools, ports, _backend: backend })
    }

    /// Starts a target: the time to its first answer, whether it does the work that all have to do,
    /// and its memory when it has come to rest.
    pub fn first_request(&self, target: &Target) -> anyhow::Result<(Running, Values)> {
        let log = self.tools.scratch.join(format!("{}.log", target.name));
        let mut running = Running::start(&target.command(self.ports, &self.tools.scratch)?, PROXY_CORE, &log)?;
        let after = until_routed(&mut running, self.listen(), does_its_work)
            .with_context(|| format!("it does not route (see {})", log.display()))?;
        std::thread::sleep(SETTLE);
        let resident = process::resident(&running.tree());
        Ok((running, values([("start_ms", after.as_secs_f64() * 1e3), ("resident_mib", resident)])))
    }

    pub fn load(&self, scenario: Scenario, running: &Running) -> anyhow::Result<Values> {
        if scenario != Scenario::Rate {
            self.generate(scenario, WARM_UP)?;
        }
        let tree = running.tree();
        let over = AtomicBool::new(false);
        let (cores, cpu) = (machine::cores()?, process::cpu(&tree));
        let (result, peak) = std::thread::scope(|scope| {
            let sampler = scope.spawn(|| peak(&tree, &over));
            let result = self.generate(scenario, self.arguments.seconds);
            over.store(true, Ordering::Relaxed);
            sampler.thread().unpark();
            (result, sampler.join().unwrap_or(0.0))
        });
        let (cpu, after) = (process::cpu(&tree) - cpu, machine::cores()?);
        let result = result?;
        let of = |key: &str| result[key].as_f64().with_context(|| format!("the load says nothing of `{key}`"));
        let (requests, seconds) = (of("requests")?, of("seconds")?);
        if requests < 1.0 {
            bail!("no request was answered");
        }
        let per_request = cpu.total / 1e3 / requests;
        let share = |n: usize, part: fn(machine::Core) -> f64| -> f64 {
            let (Some(before), Some(after)) = (cores.get(n), after.get(n)) else { return 0.0 };
            let total = (after.total - before.total).max(1.0);
            100.0 * (part(*after) - part(*before)) / total
        };
        let busy = |n| share(n, |core| core.total - core.idle);
        let own = 100.0 * cpu.total / 1e9 / seconds;
        Ok(values([
            ("cpu_us", per_request),
            ("user_us", per_request * cpu.user_share()),
            ("system_us", per_request * (1.0 - cpu.user_share())),
            ("per_second", requests / seconds),
            ("p50_us", of("p50")?),
            ("p99_us", of("p99")?),
            ("p999_us", of("p999")?),
            ("proxy_core", own),
            ("others_on_proxy_core", (busy(PROXY_CORE) - own).max(0.0)),
            ("load_core", busy(LOAD_CORE)),
            ("stolen", share(PROXY_CORE, |core| core.stolen).max(share(LOAD_CORE, |core| core.stolen))),
            ("resident_mib", peak),
            ("requests", requests),
            ("errors", of("errors")?),
        ]))
    }

    /// Runs the load generator; what it prints.
    fn generate(&self, scenario: Scenario, seconds: u64) -> anyhow::Result<Value> {
        let listen = self.listen();
        let mut command;
        if scenario == Scenario::Rate {
            command = Command::new(self.tools.own("rate"));
            command.args([listen.to_string(), RATE.to_string(), "64".to_owned(), seconds.to_string()]);
        } else {
            let connections = if scenario == Scenario::Get1 { 1 } else { 64 };
            let path = if scenario == Scenario::Body64k { "/64k" } else { "/" };
            command = Command::new(&self.tools.wrk);
            command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "5s", "-s"]);
            command.arg(&self.tools.wrk_script).arg(format!("http://{listen}{path}"));
            if scenario == Scenario::Post1k {
                command.env("BENCH_BODY", "1024");
            }
        }
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found =
            text.lines().map(|line| line.strip_prefix("RESULT ").unwrap_or(line)).find(|line| line.starts_with('{'));
        match found {
            Some(line) if output.status.success() => Ok(serde_json::from_str(line)?),
            _ => bail!("the load failed: {text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Memory per idle connection, of a process that has served nothing else.
    pub fn connections(&self, running: &Running) -> anyhow::Result<Values> {
        let (few, many) = CONNECTIONS;
        let mut holder = Command::new(self.tools.own("hold"))
            .arg(self.listen().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start hold")?;
        let (Some(mut input), Some(output)) = (holder.stdin.take(), holder.stdout.take()) else {
            bail!("hold has no pipes");
        };
        let mut output = BufReader::new(output).lines();
        let mut at = |count: usize| -> anyhow::Result<f64> {
            writeln!(input, "{count}")?;
            output.next().context("hold could not open its connections")??;
            std::thread::sleep(SETTLE);
            Ok(process::resident(&running.tree()))
        };
        let (before, after) = (at(few)?, at(many)?);
        drop(input);
        holder.wait()?;
        let kib = (after - before) * 1024.0 / (many - few) as f64;
        Ok(values([("connection_kib", kib), ("resident_mib", after)]))
    }

    fn listen(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.listen))
    }
}

fn values<const N: usize>(pairs: [(&str, f64); N]) -> Values {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The most memory seen until it is over.
fn peak(tree: &[u32], over: &AtomicBool) -> f64 {
    let mut peak = process::resident(tree);
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(200));
        peak = peak.max(process::resident(tree));
    }
    peak
}

/// Asks until there is an answer with status 200: how long that took since the start. `check` looks
/// at the body, which is the head that the backend saw.
fn until_routed(
    running: &mut Running,
    address: SocketAddr,
    check: fn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    loop {
        let answer = ask(address);
        let after = running.started.elapsed();
        match answer {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
                check(body)?;
                return Ok(after);
            }
            answer if after > PATIENCE => match answer {
                Ok(answer) => bail!("it answers {}", answer.lines().next().unwrap_or_default()),
                Err(error) => return Err(error).context("no answer"),
            },
            _ => running.check()?,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One request on a connection of its own.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /echo HTTP/1.1\r\nHost: web.bench\r\nConnection: close\r\n\r\n")?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let read = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..read]);
        // The backend keeps the connection: the empty line of the echoed head is the end.
        if read == 0 || answer.windows(4).filter(|four| four == b"\r\n\r\n").count() == 2 {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// The work that all have in common: named by Host, a Via and one header of Linkerd's added.
fn does_its_work(seen: &str) -> anyhow::Result<()> {
    let seen = seen.to_ascii_lowercase();
    for line in ["\r\nvia: ", "\r\nhost: web.bench\r\n", "\r\nl5d-dst-service: /svc/web.bench\r\n"] {
        if !seen.contains(line) {
            bail!("the backend saw no `{}`: {seen:?}", line.trim());
        }
    }
    Ok(())
}
