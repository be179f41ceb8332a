//! Connections that do nothing: `hold ADDRESS`. Each number N on standard input opens connections
//! until there are N, each with one GET behind it, then answers `N`. The end of input closes all.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};
use bench_tools::{argument, get, raise_file_limit};
use http1::{Body, Exchange, Form, Limits, Progress, ResponseHead, parse_response};

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let address: SocketAddr = argument(1, "ADDRESS")?;
    let mut held = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let wanted: usize = line?.trim().parse().context("a number of connections")?;
        while held.len() < wanted {
            held.push(open(address).with_context(|| format!("connection {}", held.len() + 1))?);
        }
        println!("{wanted}");
    }
    Ok(())
}

/// A connection that has had one answer.
fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&get("/"))?;
    let (mut buffer, mut head) = (Vec::new(), ResponseHead::default());
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            bail!("closed before the answer was complete");
        }
        buffer.extend_from_slice(&piece[..read]);
        if parse_response(&buffer, &Limits::RESPONSE, Exchange::default(), &mut head)? == Progress::Partial {
            continue;
        }
        if head.status != 200 {
            bail!("answered {}", head.status);
        }
        let mut body = Body::new(head.body);
        let (_, done) = body.feed(&buffer[head.len..], Form::Payload, &mut Vec::new())?;
        if done {
            return Ok(stream);
        }
    }
}
