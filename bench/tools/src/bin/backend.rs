//! The server behind the proxies: `backend ADDRESS`. One thread, level-triggered epoll, constant
//! answers, bodies of requests read and dropped. It stands on the load's core, so it has to be cheap.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use bench_tools::{ECHO_PATH, LARGE, LARGE_PATH, SMALL, argument, listen, raise_file_limit};
use http1::{Body, BodyKind, Form, Limits, Method, Progress, RequestHead, parse_request};
use rustix::event::epoll::{self, EventData, EventFlags};

const LISTENER: u64 = u64::MAX;

/// A client, by its descriptor.
struct Connection {
    stream: TcpStream,
    /// Read, but not a whole head yet.
    partial: Vec<u8>,
    /// The body that is being dropped, and then answered.
    body: Option<Body>,
    /// Answers that the socket did not take.
    unsent: Vec<u8>,
}

/// The answers, ready to send.
struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let listener = listen(argument::<SocketAddr>(1, "ADDRESS")?)?;
    let answers = Answers { small: answer(&[b'a'; SMALL]), large: answer(&[b'a'; LARGE]) };
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 128 * 1024];
    let mut head = RequestHead::default();
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let Some(connection) = connections.get_mut(&key) else { continue };
            let before = connection.unsent.is_empty();
            let alive = if before { connection.serve(&mut buffer, &mut head, &answers) } else { connection.flush() };
            if !alive {
                connections.remove(&key);
                continue;
            }
            let after = connection.unsent.is_empty();
            if before != after {
                let interest = if after { EventFlags::IN } else { EventFlags::OUT };
                epoll::modify(&poll, &connection.stream, EventData::new_u64(key), interest)?;
            }
        }
    }
}

fn answer(body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn accept(
    listener: &TcpListener,
    poll: &impl std::os::fd::AsFd,
    connections: &mut HashMap<u64, Connection>,
) -> anyhow::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = stream.as_raw_fd() as u64;
        epoll::add(poll, &stream, EventData::new_u64(key), EventFlags::IN)?;
        connections.insert(key, Connection { stream, partial: Vec::new(), body: None, unsent: Vec::new() });
    }
}

impl Connection {
    /// One read, and the answers to what it completed. False when the connection is at its end.
    fn serve(&mut self, buffer: &mut [u8], head: &mut RequestHead, answers: &Answers) -> bool {
        let held = self.partial.len();
        if held >= buffer.len() {
            return false;
        }
        buffer[..held].copy_from_slice(&self.partial);
        self.partial.clear();
        let length = match self.stream.read(&mut buffer[held..]) {
            Ok(0) => return false,
            Ok(read) => held + read,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            if let Some(body) = &mut self.body {
                let Ok(run) = body.next(rest, Form::Payload) else { return false };
                rest = &rest[run.consumed..];
                if !run.done {
                    continue;
                }
                self.body = None;
            } else {
                match parse_request(rest, &Limits::REQUEST, head) {
                    Ok(Progress::Complete) => {}
                    Ok(Progress::Partial) => {
                        self.partial.extend_from_slice(rest);
                        return true;
                    }
                    Err(_) => return false,
                }
                let whole = &rest[..head.len];
                rest = &rest[head.len..];
                if !matches!(head.body, BodyKind::None | BodyKind::Length(0)) {
                    self.body = Some(Body::new(head.body));
                    continue;
                }
                let sent = match head.path(whole) {
                    path if head.method != Method::Get || path == b"/" => self.send(&answers.small),
                    path if path == LARGE_PATH.as_bytes() => self.send(&answers.large),
                    path if path == ECHO_PATH.as_bytes() => self.send(&answer(&self.echo(whole))),
                    _ => self.send(&answers.small),
                };
                if !sent {
                    return false;
                }
                continue;
            }
            if !self.send(&answers.small) {
                return false;
            }
        }
        true
    }

    /// The head as it came, and which of our addresses it came to.
    fn echo(&self, head: &[u8]) -> Vec<u8> {
        let local = self.stream.local_addr().map(|address| address.ip().to_string()).unwrap_or_default();
        [head, b"local-address: ", local.as_bytes(), b"\r\n"].concat()
    }

    /// Sends at once if nothing waits before it.
    fn send(&mut self, answer: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(answer);
            return true;
        }
        match self.stream.write(answer) {
            Ok(written) => self.unsent.extend_from_slice(&answer[written..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.unsent.extend_from_slice(answer),
            Err(_) => return false,
        }
        true
    }

    fn flush(&mut self) -> bool {
        match self.stream.write(&self.unsent) {
            Ok(written) => {
                self.unsent.drain(..written);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
