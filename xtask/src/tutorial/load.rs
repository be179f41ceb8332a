//! Steady load on the way in: some clients keep their connection, some open one for each request. Each answer
//! must be a 200 from a `hello` that got its answer from a `world`. Nothing is tried twice.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);
const WITHIN: Duration = Duration::from_secs(10);
/// Kept of each client.
const FAILURES: usize = 10;

pub struct Load {
    begun: Instant,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Counted>>,
}

#[derive(Default)]
struct Counted {
    milliseconds: Vec<f64>,
    failures: Vec<String>,
}

/// What came of it.
pub struct Report {
    pub lasted: Duration,
    pub failures: Vec<String>,
    requests: usize,
    /// Median, 99th percentile, maximum.
    latency: [f64; 3],
}

impl Load {
    pub fn start(address: SocketAddr) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let client = |number: usize| {
            let over = over.clone();
            std::thread::spawn(move || run(address, number.is_multiple_of(2), begun, &over))
        };
        Load { begun, clients: (0..CLIENTS).map(client).collect(), over }
    }

    pub fn stop(self) -> Report {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Counted::default();
        for client in self.clients {
            match client.join() {
                Ok(counted) => {
                    all.milliseconds.extend(counted.milliseconds);
                    all.failures.extend(counted.failures);
                }
                Err(_) => all.failures.push("a client panicked".to_owned()),
            }
        }
        all.milliseconds.sort_by(f64::total_cmp);
        let requests = all.milliseconds.len();
        let at = |share: f64| {
            let index = ((requests as f64 * share) as usize).min(requests.saturating_sub(1));
            all.milliseconds.get(index).copied().unwrap_or_default()
        };
        let latency = [at(0.5), at(0.99), at(1.0)];
        Report { lasted: self.begun.elapsed(), failures: all.failures, requests, latency }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, high, highest] = self.latency;
        write!(
            f,
            "{} requests in {:.0} s, {} failed; median {median:.1} ms, p99 {high:.1} ms, maximum {highest:.1} ms",
            self.requests,
            self.lasted.as_secs_f64(),
            self.failures.len()
        )
    }
}

fn run(address: SocketAddr, keeps: bool, begun: Instant, over: &AtomicBool) -> Counted {
    let mut counted = Counted::default();
    let mut kept = None;
    while !over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match one(address, kept.take(), keeps) {
            Ok(connection) => kept = connection,
            Err(why) if counted.failures.len() < FAILURES => {
                counted.failures.push(format!("after {:.1} s: {why}", begun.elapsed().as_secs_f64()));
            }
            Err(_) => {}
        }
        counted.milliseconds.push(sent.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    counted
}

/// Sends a request; the connection, if it can be used again.
fn one(
    address: SocketAddr,
    kept: Option<BufReader<TcpStream>>,
    keeps: bool,
) -> Result<Option<BufReader<TcpStream>>, String> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(address).map_err(|error| format!("cannot connect: {error}"))?,
    };
    let connection_header = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nhost: hello\r\nconnection: {connection_header}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).map_err(|error| format!("cannot send: {error}"))?;
    let (head, body) = answer(&mut connection).map_err(|error| format!("no answer: {error}"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let is_whole = body.starts_with("Hello (") && body.ends_with(")!!");
    if status != "200" || !is_whole {
        return Err(format!("{status} {}", body.chars().take(300).collect::<String>()));
    }
    let closes = head.to_ascii_lowercase().contains("connection: close");
    Ok((keeps && !closes).then_some(connection))
}

fn connect(address: SocketAddr) -> std::io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    Ok(BufReader::new(stream))
}

/// A head, and a body of which the head tells the length.
fn answer(connection: &mut BufReader<TcpStream>) -> std::io::Result<(String, String)> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what.to_owned());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(broken("the connection was closed"));
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    let mut body = vec![0; length.ok_or_else(|| broken("an answer without a length"))?];
    connection.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}
