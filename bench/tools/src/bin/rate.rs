//! Open loop at a fixed rate: `rate ADDRESS REQUESTS_PER_SECOND CONNECTIONS SECONDS`.
//!
//! Request number n is due at n / rate, whatever happened to those before it, and its latency is
//! counted from then: a proxy that stalls pays for every request that should have been sent
//! meanwhile. A request that finds no free connection waits for one; that is part of its latency.
//! Prints one line of JSON, times in microseconds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench_tools::{argument, get, quantile, raise_file_limit};
use http1::{Body, Exchange, Form, Limits, Progress, ResponseHead, parse_response};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

const TIMER: u64 = u64::MAX;
/// How long after the end answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    /// When the request in flight was due.
    due: Duration,
    received: Vec<u8>,
    body: Option<Body>,
}

struct Load {
    request: Vec<u8>,
    connections: Vec<Connection>,
    free: Vec<usize>,
    /// Requests that are due and have no connection.
    waiting: VecDeque<Duration>,
    start: Instant,
    latencies: Vec<u32>,
    errors: u64,
    /// Requests that had to wait for a connection.
    late: u64,
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let address: SocketAddr = argument(1, "ADDRESS")?;
    let rate: u64 = argument(2, "REQUESTS_PER_SECOND")?;
    let count: usize = argument(3, "CONNECTIONS")?;
    let seconds: u64 = argument(4, "SECONDS")?;
    if rate == 0 || count == 0 || seconds == 0 {
        bail!("rate, connections and seconds must not be 0");
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for n in 0..count {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(n as u64), EventFlags::IN)?;
        connections.push(Connection { stream, due: Duration::ZERO, received: Vec::new(), body: None });
    }
    let total = rate * seconds;
    let mut load = Load {
        request: get("/"),
        free: (0..count).collect(),
        connections,
        waiting: VecDeque::new(),
        start: Instant::now(),
        latencies: Vec::with_capacity(total as usize),
        errors: 0,
        late: 0,
    };
    load.run(&poll, rate, total)?;
    load.report(rate, total);
    Ok(())
}

impl Load {
    fn run(&mut self, poll: &impl std::os::fd::AsFd, rate: u64, total: u64) -> anyhow::Result<()> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let tick = Timespec { tv_sec: (1 / rate) as i64, tv_nsec: (1_000_000_000 / rate % 1_000_000_000) as _ };
        epoll::add(poll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        self.start = Instant::now();
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: tick, it_value: tick })?;
        let (mut sent, mut events) = (0, Vec::with_capacity(256));
        let (mut head, mut buffer) = (ResponseHead::default(), vec![0; 64 * 1024]);
        let deadline = Duration::from_secs(total / rate) + PATIENCE;
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while (self.latencies.len() as u64) < total && self.start.elapsed() < deadline {
            events.clear();
            match epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    TIMER => {
                        let mut ticks = [0; 8];
                        if rustix::io::read(&timer, &mut ticks).is_ok() {
                            for _ in 0..u64::from_ne_bytes(ticks).min(total - sent) {
                                sent += 1;
                                self.due(Duration::from_nanos(sent * 1_000_000_000 / rate))?;
                            }
                        }
                    }
                    n => self.receive(n as usize, &mut buffer, &mut head)?,
                }
            }
        }
        Ok(())
    }

    fn due(&mut self, due: Duration) -> anyhow::Result<()> {
        match self.free.pop() {
            Some(n) => self.send(n, due),
            None => {
                self.late += 1;
                self.waiting.push_back(due);
                Ok(())
            }
        }
    }

    fn send(&mut self, n: usize, due: Duration) -> anyhow::Result<()> {
        let connection = &mut self.connections[n];
        connection.due = due;
        connection.stream.write_all(&self.request).context("cannot send a request")
    }

    fn receive(&mut self, n: usize, buffer: &mut [u8], head: &mut ResponseHead) -> anyhow::Result<()> {
        let connection = &mut self.connections[n];
        let read = match connection.stream.read(buffer) {
            Ok(0) => bail!("the proxy closed a connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot read an answer"),
        };
        connection.received.extend_from_slice(&buffer[..read]);
        if connection.body.is_none() {
            let progress = parse_response(&connection.received, &Limits::RESPONSE, Exchange::default(), head)?;
            if progress == Progress::Partial {
                return Ok(());
            }
            self.errors += u64::from(head.status != 200);
            connection.received.drain(..head.len);
            connection.body = Some(Body::new(head.body));
        }
        if let Some(body) = &mut connection.body {
            if !body.is_done() {
                body.feed(&connection.received, Form::Payload, &mut Vec::new())?;
                connection.received.clear();
            }
            if !body.is_done() {
                return Ok(());
            }
        }
        connection.body = None;
        let latency = self.start.elapsed().saturating_sub(connection.due);
        self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        match self.waiting.pop_front() {
            Some(due) => self.send(n, due),
            None => {
                self.free.push(n);
                Ok(())
            }
        }
    }

    fn report(&mut self, rate: u64, total: u64) {
        let seconds = self.start.elapsed().as_secs_f64();
        let answered = self.latencies.len() as u64;
        self.latencies.sort_unstable();
        let at = |q| quantile(&self.latencies, q);
        println!(
            "{{\"rate\":{rate},\"requests\":{answered},\"seconds\":{seconds:.6},\"p50\":{},\"p99\":{},\"p999\":{},\
             \"max\":{},\"late\":{},\"errors\":{}}}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            self.late,
            self.errors + (total - answered)
        );
    }
}
