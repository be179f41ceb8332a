//! One client that asks again and again: `probe ADDRESS HOST PAUSE_US`. For each line on stdin it prints what the
//! requests since the last one took, a line of JSON with times in microseconds; with the end of stdin it ends.
//!
//! With a real-time priority for it, the backend and the router's worker (`bench/names.py` gives them one if it
//! may), what is slow is the worker, and not a neighbour on the machine; `nothing` happening is the yardstick.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench_tools::{argument, quantile};

fn main() -> anyhow::Result<()> {
    let address: SocketAddr = argument(1, "ADDRESS")?;
    let host: String = argument(2, "HOST")?;
    let pause = Duration::from_micros(argument(3, "PAUSE_US")?);
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let (lines, asked) = mpsc::channel();
    // Detached: it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || lines.send(()).is_err() {
                break;
            }
        }
    });
    let mut took = Vec::new();
    loop {
        match asked.try_recv() {
            Ok(()) => tell(&mut took)?,
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
            Err(mpsc::TryRecvError::Empty) => {}
        }
        let began = Instant::now();
        stream.write_all(&request)?;
        answered(&mut stream)?;
        took.push(began.elapsed().as_micros() as u32);
        std::thread::sleep(pause);
    }
}

fn tell(took: &mut Vec<u32>) -> anyhow::Result<()> {
    took.sort_unstable();
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| quantile(took, share));
    let slow = took.iter().filter(|took| **took > 1000).count();
    let many = took.len();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{{\"requests\": {many}, \"p50\": {p50}, \"p99\": {p99}, \"p999\": {p999}, \"max\": {max}, \"over_1ms\": {slow}}}"
    )?;
    out.flush()?;
    took.clear();
    Ok(())
}

/// Reads one answer with a `Content-Length`.
fn answered(stream: &mut TcpStream) -> anyhow::Result<()> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            bail!("closed before the answer was complete");
        }
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{head}");
        }
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.context("an answer without Content-Length")? {
            return Ok(());
        }
    }
}
