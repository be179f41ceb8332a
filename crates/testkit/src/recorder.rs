//! A server that records each request and answers with a script, or passes it on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::http::{Answer, Connection, Request};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
pub enum Reply {
    /// Always this.
    Script(Answer),
    /// Whatever `host:port` answers.
    Relay(String),
}

/// The server; its threads end with the process.
pub struct Recorder {
    pub authority: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    pub fn start(reply: Reply) -> Recorder {
        Recorder::start_on(Ipv4Addr::LOCALHOST.into(), reply)
    }

    /// On another address of this machine.
    pub fn start_on(ip: IpAddr, reply: Reply) -> Recorder {
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let authority = listener.local_addr().expect("bound").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (reply, record) = (Arc::new(reply), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (reply, record) = (reply.clone(), record.clone());
                std::thread::spawn(move || serve(stream, &reply, &record));
            }
        });
        Recorder { authority, requests }
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().expect("no panic under this lock").clone()
    }
}

fn serve(stream: TcpStream, reply: &Reply, record: &Mutex<Vec<Recorded>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut request = Recorded {
            method: words.next().unwrap_or_default(),
            uri: words.next().unwrap_or_default(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            request.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        stream.by_ref().take(length).read_to_end(&mut request.body)?;
        record.lock().expect("no panic under this lock").push(request.clone());
        let answer = match reply {
            Reply::Script(answer) => answer.clone(),
            Reply::Relay(authority) => relay(authority, &request)?,
        };
        write(stream.get_mut(), &answer)?;
    }
}

fn relay(authority: &str, request: &Recorded) -> io::Result<Answer> {
    let mut headers: Vec<(&str, &str)> = vec![("Host", authority), ("Connection", "close")];
    for (name, value) in &request.headers {
        if !["host", "connection", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
            headers.push((name, value));
        }
    }
    let body = request.header("content-length").map(|_| request.body.as_slice());
    Connection::open(authority)?.send(&Request {
        method: &request.method,
        target: &request.uri,
        headers: &headers,
        body,
    })
}

fn write(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        if !["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if answer.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&answer.body)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        404 => "Not Found",
        409 => "Conflict",
        412 => "Precondition Failed",
        _ => "Answer",
    }
}
