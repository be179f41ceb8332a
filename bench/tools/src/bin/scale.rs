//! What names at scale cost: `scale SWITCHYARD [large|small]`. Runs a router with ten names and one with 200,000
//! dtab entries, 10,000 services and 100,000 endpoints (one cluster of 20,000 among them), each in turn, and prints:
//! CPU per request of the worker, the longest turn of housekeeping (`worker/pause_us`), latencies while
//! endpoints and the dtab change, how soon a change of a dtab is served, and memory.
//!
//! Endpoints are addresses of 127.0.0.0/8 with one backend behind all of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bench_tools::{argument, raise_file_limit};

/// Requests of one measurement of CPU.
const REQUESTS: usize = 20_000;
const ROUNDS: usize = 5;
/// Endpoints of the large cluster: as many as a file of `io.l5d.fs` may hold, about.
const LARGE_CLUSTER: usize = 20_000;

/// How many of everything.
#[derive(Clone, Copy)]
struct Scale {
    name: &'static str,
    entries: usize,
    services: usize,
    endpoints: usize,
}

const SMALL: Scale = Scale { name: "10 entries, 10 services, 100 endpoints", entries: 10, services: 10, endpoints: 100 };
const LARGE: Scale = Scale {
    name: "200,000 entries, 10,000 services, 100,000 endpoints",
    entries: 200_000,
    services: 10_000,
    endpoints: 100_000,
};

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let switchyard: PathBuf = argument(1, "SWITCHYARD")?;
    let base = std::env::temp_dir().join(format!("scale-{}", std::process::id()));
    let backend_port = free_port()?;
    let _backend = Running(
        Command::new(std::env::current_exe()?.with_file_name("backend"))
            .arg(format!("0.0.0.0:{backend_port}"))
            .spawn()
            .context("the backend stands beside this program")?,
    );
    let mut bases = Vec::new();
    for (number, scale) in [SMALL, LARGE].into_iter().enumerate() {
        bases.push(Router::start(&switchyard, &base.join(number.to_string()), scale, backend_port)?);
    }
    let mut costs = vec![Vec::new(); bases.len()];
    for _ in 0..ROUNDS {
        for (router, costs) in bases.iter().zip(&mut costs) {
            costs.push(router.cost(|_| 1)?);
        }
    }
    for (router, costs) in bases.iter_mut().zip(costs) {
        println!("== {}", router.scale.name);
        println!("start to first answer: {:.0} ms", router.first.as_secs_f64() * 1e3);
        println!("RSS before most names are bound: {:.1} MiB", router.memory()?);
        println!("worker CPU per request, one name: {}", micros(costs));
        let services = router.scale.services;
        let began = Instant::now();
        let mut connection = router.connect()?;
        for number in 0..services {
            router.ask(&mut connection, &format!("s{number}"))?;
        }
        println!("all {services} names bound one after the other in {:.2} s", began.elapsed().as_secs_f64());
        println!("RSS with all names bound: {:.1} MiB", router.memory()?);
        let spread = (0..ROUNDS).map(|_| router.cost(|n| n * 7919 % services)).collect::<Result<Vec<_>, _>>()?;
        println!("worker CPU per request, all names in turn: {}", micros(spread));
        println!("longest turn so far: {} us", router.longest_turn()?);
        let quiet = router.latencies(Duration::from_secs(3), |_| Ok(()))?;
        println!("latency, nothing changes: {}", shown(quiet));
        let files = router.directory.join("disco");
        let changed = router.latencies(Duration::from_secs(5), |turn| {
            let endpoints = endpoints(0, LARGE_CLUSTER.min(services * 2) - turn % 2, backend_port);
            replace(&files.join("s0"), &endpoints)
        })?;
        println!("latency, the large cluster changes: {}; longest turn {} us", shown(changed), router.longest_turn()?);
        let (dtab, table) = (router.directory.join("dtab"), table(router.scale));
        let mut lags = Vec::new();
        let edited = router.latencies(Duration::from_secs(8), |turn| {
            if turn % 4 != 0 {
                return Ok(());
            }
            // Where s2 leads is told by the client's id in the answer of a name of its own.
            let target = if turn % 8 == 0 { "s3" } else { "s2" };
            replace(&dtab, &format!("{table}/svc/moving => /#/io.l5d.fs/{target};\n"))?;
            let began = Instant::now();
            let mut connection = router.connect()?;
            let wanted = format!("/#/io.l5d.fs/{target}");
            while router.led_to(&mut connection, "moving")? != wanted {
                ensure!(began.elapsed() < Duration::from_secs(20), "the new dtab is not served");
            }
            lags.push(began.elapsed().as_secs_f64() * 1e3);
            Ok(())
        })?;
        lags.sort_by(f64::total_cmp);
        println!("latency, the dtab changes: {}; longest turn {} us", shown(edited), router.longest_turn()?);
        println!("a changed dtab file is served after {:.0} ms (median)", lags[lags.len() / 2]);
        println!("RSS at the end: {:.1} MiB\n", router.memory()?);
    }
    drop(bases);
    fs::remove_dir_all(&base)?;
    Ok(())
}

/// A child that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Router {
    scale: Scale,
    directory: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    first: Duration,
    process: Running,
}

impl Router {
    fn start(switchyard: &Path, directory: &Path, scale: Scale, backend: u16) -> anyhow::Result<Router> {
        let disco = directory.join("disco");
        fs::create_dir_all(&disco)?;
        let large = LARGE_CLUSTER.min(scale.services * 2);
        let each = (scale.endpoints - large.min(scale.endpoints)) / (scale.services - 1);
        for service in 0..scale.services {
            let many = if service == 0 { large } else { each.max(1) };
            fs::write(disco.join(format!("s{service}")), endpoints(service, many, backend))?;
        }
        fs::write(directory.join("dtab"), table(scale))?;
        let (listen, admin) = (free_port()?, free_port()?);
        let config = format!(
            "admin: {{ip: 127.0.0.1, port: {admin}}}\nnamers:\n- {{kind: io.l5d.fs, rootDir: {0}/disco}}\nrouters:\n- \
             protocol: http\n  label: scale\n  identifier: {{kind: io.l5d.header.token, header: Host}}\n  interpreter: \
             {{kind: io.l5d.fs, dtabFile: {0}/dtab}}\n  bindingCache: {{paths: 20000, clients: 20000}}\n  servers:\n  - \
             {{ip: 127.0.0.1, port: {listen}}}\n",
            directory.display()
        );
        fs::write(directory.join("config.yaml"), config)?;
        let began = Instant::now();
        let mut command = Command::new(switchyard);
        command.arg("router").arg(directory.join("config.yaml")).args(["--workers", "1"]);
        let process = Running(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (listen, admin) = (address(listen), address(admin));
        let mut router = Router { scale, directory: directory.to_owned(), listen, admin, first: Duration::ZERO, process };
        loop {
            let asked = router.connect().and_then(|mut connection| router.ask(&mut connection, "s1"));
            match asked {
                Ok(_) => break,
                Err(error) if began.elapsed() > Duration::from_secs(60) => return Err(error.context("no answer")),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        router.first = began.elapsed();
        Ok(router)
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.listen)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    fn ask(&self, stream: &mut TcpStream, host: &str) -> anyhow::Result<()> {
        let answer = exchange(stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        Ok(())
    }

    /// The bound id that a request went to: the backend sends back the head that it got.
    fn led_to(&self, stream: &mut TcpStream, host: &str) -> anyhow::Result<String> {
        let answer = exchange(stream, &format!("GET /echo HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        let line = answer.lines().find_map(|line| line.strip_prefix("l5d-dst-client: "));
        Ok(line.unwrap_or_default().to_owned())
    }

    /// Microseconds on the CPU of the worker for one request.
    fn cost(&self, service: impl Fn(usize) -> usize) -> anyhow::Result<f64> {
        let mut connections = (0..16).map(|_| self.connect()).collect::<Result<Vec<_>, _>>()?;
        let many = connections.len();
        for number in 0..2000 {
            self.ask(&mut connections[number % many], &format!("s{}", service(number)))?;
        }
        let before = self.worker_nanos()?;
        for number in 0..REQUESTS {
            self.ask(&mut connections[number % many], &format!("s{}", service(number)))?;
        }
        Ok((self.worker_nanos()? - before) as f64 / REQUESTS as f64 / 1e3)
    }

    fn worker_nanos(&self) -> anyhow::Result<u64> {
        for task in fs::read_dir(format!("/proc/{}/task", self.process.0.id()))? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.trim() == "worker-0" {
                let times = fs::read_to_string(task.join("schedstat"))?;
                return times.split(' ').next().context("schedstat")?.parse().context("schedstat");
            }
        }
        bail!("there is no worker")
    }

    /// MiB.
    fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Rss:")).context("Rss")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// `worker/pause_us.max`.
    fn longest_turn(&self) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET /admin/metrics.json HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let at = text.find("worker/pause_us.max").context("worker/pause_us.max")?;
        let digits = text[at..].split(':').nth(1).context("a number")?.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Ok(digits[..end].parse()?)
    }

    /// Asks one name again and again, and has something changed every tenth of a second meanwhile.
    fn latencies(
        &self,
        time: Duration,
        mut change: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<f64>> {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let (mut stream, mut latencies) = (self.connect()?, Vec::new());
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let began = Instant::now();
                    self.ask(&mut stream, if latencies.len() % 2 == 0 { "s0" } else { "s1" })?;
                    latencies.push(began.elapsed().as_secs_f64() * 1e6);
                    std::thread::sleep(Duration::from_micros(300));
                }
                anyhow::Ok(latencies)
            });
            let (began, mut turn, mut changed) = (Instant::now(), 0, Ok(()));
            while began.elapsed() < time && changed.is_ok() {
                changed = change(turn);
                turn += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let latencies = asking.join().map_err(|_| anyhow::anyhow!("asking panicked"))?;
            changed.and(latencies)
        })
    }
}

/// One request and its answer, whole.
fn exchange(stream: &mut TcpStream, request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "closed before the answer was complete");
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(text.into_owned());
        }
    }
}

/// Entries for all services, among many that nobody asks for.
fn table(scale: Scale) -> String {
    let entry = |number: usize| match number * scale.services / scale.entries {
        service if number * scale.services % scale.entries < scale.services => {
            format!("/svc/s{service} => /#/io.l5d.fs/s{service};\n")
        }
        _ => format!("/svc/other{number} => /srv/other{number} | /srv/default;\n"),
    };
    (0..scale.entries).map(entry).collect()
}

fn endpoints(service: usize, many: usize, port: u16) -> String {
    let line = |number: usize| {
        let host = 0x7f01_0000 + ((service * 10 + number) % 0x00f0_0000) as u32;
        format!("{} {port}\n", std::net::Ipv4Addr::from(host))
    };
    (0..many).map(line).collect()
}

fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let next = file.with_file_name(".next");
    fs::write(&next, text)?;
    fs::rename(&next, file)?;
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn micros(mut costs: Vec<f64>) -> String {
    costs.sort_by(f64::total_cmp);
    format!("{:.2} us (smallest {:.2}, largest {:.2})", costs[costs.len() / 2], costs[0], costs[costs.len() - 1])
}

fn shown(mut latencies: Vec<f64>) -> String {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    format!("p50 {:.0} p99 {:.0} max {:.0} us of {}", at(0.5), at(0.99), at(1.0), latencies.len())
}
