//! What names at scale cost: `scale SWITCHYARD [router|control]`. Runs a router with ten names and one with 200,000 dtab entries,
//! 10,000 services and 100,000 endpoints (one cluster of 20,000 among them), each in turn, and then a control plane
//! with a dtab of 200,000 entries and a router that follows it with 10,000 names. What it found out it tells on
//! stderr, and on stdout as a JSON object: see `Facts`.
//!
//! Endpoints are addresses of 127.0.0.0/8 with one backend behind all of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bench_tools::{argument, lower_file_limit, raise_file_limit};

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

const SMALL: Scale = Scale { name: "small", entries: 10, services: 10, endpoints: 100 };
const LARGE: Scale = Scale { name: "large", entries: 200_000, services: 10_000, endpoints: 100_000 };

/// What was measured: `large.cpu us, one name`, and so on. Costs are medians of rounds in which small and large
/// took turns.
#[derive(Default)]
struct Facts(Vec<(String, f64)>);

impl Facts {
    fn add(&mut self, scale: &str, what: &str, value: f64) {
        eprintln!("{scale}: {what}: {value:.2}");
        self.0.push((format!("{scale}.{what}"), value));
    }

    /// Latencies in microseconds.
    fn latencies(&mut self, scale: &str, what: &str, mut all: Vec<f64>) {
        all.sort_by(f64::total_cmp);
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            self.add(scale, &format!("{what}, {name} us"), at(&all, share));
        }
    }

    fn json(&self) -> String {
        let lines = self.0.iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect::<Vec<_>>();
        format!("{{\n{}\n}}", lines.join(",\n"))
    }
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let switchyard: PathBuf = argument(1, "SWITCHYARD")?;
    let base = std::env::temp_dir().join(format!("scale-{}", std::process::id()));
    let backend_port = free_port()?;
    let _backend = Running(
        Command::new(std::env::current_exe()?.with_file_name("backend"))
            .arg(format!("0.0.0.0:{backend_port}"))
            .stdout(Stdio::null())
            .spawn()
            .context("the backend stands beside this program")?,
    );
    // The large router is to give up idle connections before the backend is out of descriptors.
    lower_file_limit()?;
    let mut facts = Facts::default();
    let part = std::env::args().nth(2);
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wants("router") {
        let mut routers = Vec::new();
        for scale in [SMALL, LARGE] {
            routers.push(Router::start(&switchyard, &base.join(scale.name), scale, backend_port)?);
        }
        costs(&routers, &mut facts)?;
        for router in &routers {
            changes(router, &mut facts, backend_port)?;
        }
    }
    if wants("control") {
        control_plane(&switchyard, &base.join("control"), &mut facts)?;
    }
    fs::remove_dir_all(&base)?;
    println!("{}", facts.json());
    Ok(())
}

/// What a request costs, small and large in turn.
fn costs(routers: &[Router], facts: &mut Facts) -> anyhow::Result<()> {
    for router in routers {
        facts.add(router.scale.name, "start to first answer, ms", router.first.as_secs_f64() * 1e3);
        facts.add(router.scale.name, "RSS MiB, one name bound", router.process.memory()?);
        let began = Instant::now();
        let mut connection = router.connect()?;
        for number in 0..router.scale.services {
            router.ask(&mut connection, &request(&format!("s{number}"), ""))?;
        }
        facts.add(router.scale.name, "all names bound in turn, us each", micros(began) / router.scale.services as f64);
        facts.add(router.scale.name, "RSS MiB, all names bound", router.process.memory()?);
    }
    type Load = fn(usize, usize) -> String;
    let loads: [(&str, usize, Load); 5] = [
        ("one name", REQUESTS, |_, _| request("s1", "")),
        ("all names in turn", REQUESTS, |n, services| request(&format!("s{}", n * 7919 % services), "")),
        ("one name, one dtab of its own", REQUESTS, |_, _| request("s1", "l5d-dtab: /svc/other => /svc/s2\r\n")),
        ("one name, a new dtab each", REQUESTS / 10, |n, _| {
            request("s1", &format!("l5d-dtab: /svc/other => /svc/s{}\r\n", unique(n)))
        }),
        ("strangers' names", REQUESTS / 10, |n, _| request(&format!("stranger-{}", unique(n)), "")),
    ];
    for (what, requests, load) in loads {
        let mut costs = routers.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        for _ in 0..ROUNDS {
            for (router, costs) in routers.iter().zip(&mut costs) {
                costs.push(router.cost(requests, |number| load(number, router.scale.services))?);
            }
        }
        for (router, costs) in routers.iter().zip(costs) {
            let of = |part: fn(&Cost) -> f64| {
                let mut all = costs.iter().map(part).collect::<Vec<_>>();
                all.sort_by(f64::total_cmp);
                at(&all, 0.5)
            };
            facts.add(router.scale.name, &format!("worker us per request, {what}"), of(|cost| cost.all));
            // In ticks of ten milliseconds: only the sum over all rounds says something.
            let user = costs.iter().map(|cost| cost.user).sum::<f64>() / costs.len() as f64;
            facts.add(router.scale.name, &format!("worker user us per request, {what}"), user);
        }
    }
    for router in routers {
        facts.add(router.scale.name, "RSS MiB, after strangers", router.process.memory()?);
    }
    Ok(())
}

/// A number that no request had before.
fn unique(number: usize) -> String {
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{number}", ROUND.fetch_add(1, Ordering::Relaxed))
}

/// What requests notice of changes.
fn changes(router: &Router, facts: &mut Facts, backend_port: u16) -> anyhow::Result<()> {
    let scale = router.scale;
    for (what, most) in router.longest_turns()? {
        facts.add(scale.name, &format!("longest turn of housekeeping so far, us {what}"), most);
    }
    let quiet = router.latencies(Duration::from_secs(3), |_| Ok(()))?;
    facts.latencies(scale.name, "latency, nothing changes", quiet);
    let files = router.directory.join("disco");
    let changed = router.latencies(Duration::from_secs(5), |turn| {
        let endpoints = endpoints(0, LARGE_CLUSTER.min(scale.services * 2) - turn % 2, backend_port);
        replace(&files.join("s0"), &endpoints)
    })?;
    facts.latencies(scale.name, "latency, the large cluster changes", changed);
    // An endpoint moves: how soon a request finds it. Every request asks where it went.
    let mut lags = Vec::new();
    for turn in 0..10 {
        let host = format!("127.250.0.{}", turn + 1);
        let mut connection = router.connect()?;
        replace(&files.join("s5"), &format!("{host} {backend_port}\n"))?;
        let began = Instant::now();
        while !router.told(&mut connection, "s5", "local-address: ", Some(&host))? {
            ensure!(began.elapsed() < Duration::from_secs(20), "the new endpoint is not served");
        }
        lags.push(began.elapsed().as_secs_f64() * 1e3);
    }
    lags.sort_by(f64::total_cmp);
    facts.add(scale.name, "a changed endpoint file is served after ms, median", at(&lags, 0.5));
    let (dtab, table) = (router.directory.join("dtab"), table(scale));
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
        while !router.told(&mut connection, "moving", "l5d-dst-client: ", Some(&wanted))? {
            ensure!(began.elapsed() < Duration::from_secs(20), "the new dtab is not served");
        }
        lags.push(began.elapsed().as_secs_f64() * 1e3);
        Ok(())
    })?;
    lags.sort_by(f64::total_cmp);
    facts.latencies(scale.name, "latency, the dtab changes", edited);
    facts.add(scale.name, "a changed dtab file is served after ms, median", at(&lags, 0.5));
    for (what, most) in router.longest_turns()? {
        facts.add(scale.name, &format!("longest turn of housekeeping, us {what}"), most);
    }
    facts.add(scale.name, "RSS MiB, at the end", router.process.memory()?);
    Ok(())
}

/// A control plane with the large dtab, and a router that follows it with all services' names.
fn control_plane(switchyard: &Path, directory: &Path, facts: &mut Facts) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    let (api, admin) = (free_port()?, free_port()?);
    let document = format!(
        "admin: {{ip: 127.0.0.1, port: {admin}}}\nstorage: {{kind: io.switchyard.sqlite, path: {}/dtabs.db}}\nnamers: \
         []\ninterfaces:\n- {{kind: io.l5d.httpController, ip: 127.0.0.1, port: {api}}}\n",
        directory.display()
    );
    fs::write(directory.join("namerd.yaml"), document)?;
    let mut command = Command::new(switchyard);
    command.arg("namerd").arg(directory.join("namerd.yaml")).stderr(Stdio::null()).stdout(Stdio::null());
    let control = Running(command.spawn()?);
    let api = SocketAddr::from(([127, 0, 0, 1], api));
    let began = Instant::now();
    while TcpStream::connect(api).is_err() {
        ensure!(began.elapsed() < Duration::from_secs(30), "the control plane does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let port = free_port()?;
    let backend = Running(
        Command::new(std::env::current_exe()?.with_file_name("backend"))
            .arg(format!("127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .spawn()?,
    );
    let entry = |number: usize| match number * LARGE.services / LARGE.entries {
        service if number * LARGE.services % LARGE.entries < LARGE.services => {
            format!("/svc/s{service} => /$/inet/127.0.0.1/{port};\n")
        }
        _ => format!("/svc/other{number} => /srv/other{number} | /srv/default;\n"),
    };
    let table = (0..LARGE.entries).map(entry).collect::<String>();
    let name = "control";
    facts.add(name, "bytes of the dtab", table.len() as f64);
    facts.add(name, "first PUT, ms", call(api, "PUT", "/api/1/dtabs/n", &table)?.0);
    let (listen, admin) = (free_port()?, free_port()?);
    let document = format!(
        "admin: {{ip: 127.0.0.1, port: {admin}}}\nrouters:\n- protocol: http\n  label: scale\n  identifier: {{kind: \
         io.l5d.header.token, header: Host}}\n  interpreter: {{kind: io.l5d.namerd.http, experimental: true, dst: \
         /$/inet/127.0.0.1/{}, namespace: n}}\n  bindingCache: {{paths: 20000, trees: 20000, bounds: 20000, clients: \
         20000}}\n  servers:\n  - {{ip: 127.0.0.1, port: {listen}}}\n",
        api.port()
    );
    let mut router = Router::run(switchyard, directory, SMALL, (listen, admin), &document)?;
    router.wait()?;
    let mut connection = router.connect()?;
    let began = Instant::now();
    for number in 0..LARGE.services {
        router.ask(&mut connection, &request(&format!("s{number}"), ""))?;
    }
    facts.add(name, "all names bound through it, us each", micros(began) / LARGE.services as f64);
    for (what, target) in [
        ("GET of the dtab, ms", "/api/1/dtabs/n"),
        ("explain a name, ms", "/api/1/delegate/n?path=/svc/s77"),
        ("explain an unknown name, ms", "/api/1/delegate/n?path=/svc/nobody/knows"),
    ] {
        facts.add(name, what, call(api, "GET", target, "")?.0);
    }
    let cpu = |control: &Running, router: &Router| anyhow::Ok((control.cpu()?, router.process.cpu()?));
    for (what, last) in [
        ("one entry changes, of a name that nobody bound", "/svc/nobody => /$/inet/127.0.0.1/1;\n".to_owned()),
        ("one entry changes, of one bound name", format!("/svc/s77 => /$/inet/127.0.0.2/{port};\n")),
        ("one entry changes, of all bound names", format!("/svc => /$/inet/127.0.0.1/{port};\n")),
    ] {
        let (mut waited, before) = (Vec::new(), cpu(&control, &router)?);
        for turn in 0..ROUNDS {
            let text = if turn % 2 == 0 { format!("{table}{last}") } else { table.clone() };
            let (ms, answer) = call(api, "PUT", "/api/1/dtabs/n?wait=30s", &text)?;
            ensure!(answer.contains("l5d-fleet: 1"), "{answer}");
            waited.push(ms);
        }
        waited.sort_by(f64::total_cmp);
        let after = cpu(&control, &router)?;
        facts.add(name, &format!("{what}: PUT until the router serves it, ms, median"), at(&waited, 0.5));
        facts.add(name, &format!("{what}: CPU of the control plane, ms"), (after.0 - before.0) / 1e3 / ROUNDS as f64);
        facts.add(name, &format!("{what}: CPU of the router, ms"), (after.1 - before.1) / 1e3 / ROUNDS as f64);
    }
    facts.add(name, "RSS MiB of the control plane", control.memory()?);
    facts.add(name, "RSS MiB of its router", router.process.memory()?);
    drop((router, control, backend));
    Ok(())
}

/// Milliseconds until the whole answer is there, and its head.
fn call(address: SocketAddr, method: &str, target: &str, body: &str) -> anyhow::Result<(f64, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let began = Instant::now();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: n\r\nContent-Type: application/dtab\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let head = answer.split(|byte| *byte == b'\n').take_while(|line| *line != b"\r").collect::<Vec<_>>().join(&b'\n');
    let head = String::from_utf8_lossy(&head).into_owned();
    ensure!(head.starts_with("HTTP/1.1 2"), "{method} {target}: {head}");
    Ok((ms, head))
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

impl Running {
    /// MiB.
    fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Rss:")).context("Rss")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Microseconds on the CPU, of all threads that there are.
    fn cpu(&self) -> anyhow::Result<f64> {
        let mut all = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            all += on_cpu(&task?.path())?;
        }
        Ok(all)
    }
}

/// Microseconds that a thread has run.
fn on_cpu(task: &Path) -> anyhow::Result<f64> {
    let times = fs::read_to_string(task.join("schedstat"))?;
    Ok(times.split(' ').next().context("schedstat")?.parse::<f64>().context("schedstat")? / 1e3)
}

/// Of one request, in microseconds of the worker.
struct Cost {
    all: f64,
    user: f64,
}

struct Router {
    scale: Scale,
    directory: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    began: Instant,
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
             {{kind: io.l5d.fs, dtabFile: {0}/dtab}}\n  bindingCache: {{paths: 20000, trees: 20000, bounds: 20000, clients: 20000}}\n  servers:\n  - \
             {{ip: 127.0.0.1, port: {listen}}}\n",
            directory.display()
        );
        let mut router = Router::run(switchyard, directory, scale, (listen, admin), &config)?;
        router.wait()?;
        Ok(router)
    }

    fn run(
        switchyard: &Path,
        directory: &Path,
        scale: Scale,
        (listen, admin): (u16, u16),
        config: &str,
    ) -> anyhow::Result<Router> {
        fs::write(directory.join("config.yaml"), config)?;
        let began = Instant::now();
        let mut command = Command::new(switchyard);
        command.arg("router").arg(directory.join("config.yaml")).args(["--workers", "1"]);
        let process = Running(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (listen, admin) = (address(listen), address(admin));
        Ok(Router { scale, directory: directory.to_owned(), listen, admin, began, first: Duration::ZERO, process })
    }

    /// Until it answers.
    fn wait(&mut self) -> anyhow::Result<()> {
        loop {
            let asked = self.connect().and_then(|mut connection| self.ask(&mut connection, &request("s1", "")));
            match asked {
                Ok(_) => break,
                Err(error) if self.began.elapsed() > Duration::from_secs(60) => return Err(error.context("no answer")),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        self.first = self.began.elapsed();
        Ok(())
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.listen)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// A request for somebody that is there, or that is not.
    fn ask(&self, stream: &mut TcpStream, request: &str) -> anyhow::Result<()> {
        let answer = exchange(stream, request)?;
        let wanted = if request.contains("stranger") { "HTTP/1.1 502" } else { "HTTP/1.1 200" };
        ensure!(answer.starts_with(wanted), "{request}: {answer}");
        Ok(())
    }

    /// Whether a line of the head that the backend got, which it sends back, says this.
    fn told(&self, stream: &mut TcpStream, host: &str, line: &str, wanted: Option<&str>) -> anyhow::Result<bool> {
        let answer = exchange(stream, &format!("GET /echo HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        Ok(answer.lines().find_map(|text| text.strip_prefix(line)) == wanted)
    }

    fn cost(&self, requests: usize, load: impl Fn(usize) -> String) -> anyhow::Result<Cost> {
        let mut connections = (0..16).map(|_| self.connect()).collect::<Result<Vec<_>, _>>()?;
        let many = connections.len();
        for number in 0..requests / 10 {
            self.ask(&mut connections[number % many], &load(number))?;
        }
        let before = self.worker_times()?;
        for number in 0..requests {
            self.ask(&mut connections[number % many], &load(number))?;
        }
        let after = self.worker_times()?;
        let each = |before: f64, after: f64| (after - before) / requests as f64;
        Ok(Cost { all: each(before.0, after.0), user: each(before.1, after.1) })
    }

    fn worker(&self) -> anyhow::Result<PathBuf> {
        for task in fs::read_dir(format!("/proc/{}/task", self.process.0.id()))? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.trim() == "worker-0" {
                return Ok(task);
            }
        }
        bail!("there is no worker")
    }

    /// Of the worker: microseconds on the CPU, and in user mode.
    fn worker_times(&self) -> anyhow::Result<(f64, f64)> {
        let task = self.worker()?;
        let stat = fs::read_to_string(task.join("stat"))?;
        // Behind the name, which may hold anything: state is the first, utime the twelfth, in ticks of 10 ms.
        let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(11)).context("stat")?;
        Ok((on_cpu(&task)?, ticks.parse::<f64>()? * 1e4))
    }

    /// The longest turns of housekeeping in the last minute, in all and on the CPU.
    fn longest_turns(&self) -> anyhow::Result<[(&'static str, f64); 2]> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let head = "GET /admin/metrics.json?q=worker HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let most = |name: &str| {
            let at = text.find(name).with_context(|| format!("{name} in {text}"))?;
            let digits = text[at..].split(':').nth(1).context("a number")?.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            anyhow::Ok(digits[..end].parse::<f64>()?)
        };
        Ok([("in all", most("pause_us.max")?), ("on the CPU", most("pause_cpu_us.max")?)])
    }

    /// Asks one name again and again, and has something changed every tenth of a second meanwhile.
    fn latencies(
        &self,
        time: Duration,
        mut change: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<f64>> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let (mut stream, mut latencies) = (self.connect()?, Vec::new());
                while !done.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    self.ask(&mut stream, &request(if latencies.len() % 2 == 0 { "s0" } else { "s1" }, ""))?;
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
            done.store(true, Ordering::Relaxed);
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

fn request(host: &str, more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
}

fn micros(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e6
}

/// Of sorted values.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
