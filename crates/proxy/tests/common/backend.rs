//! A scripted endpoint that keeps what it gets, byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// One message: its first line, its header lines in order, and its body without its framing.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Word `n` of the first line.
    pub fn word(&self, n: usize) -> &str {
        self.line.split(' ').nth(n).unwrap_or_default()
    }
}

/// What is done with a request: the bytes to answer with, and whether to close behind them. `None`: nothing.
pub type Script = Box<dyn Fn(usize, &Message) -> Option<(Vec<u8>, bool)> + Send + Sync>;

pub struct Backend {
    pub port: u16,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Backend {
    /// `script` gets the number of the request, from 0, over all connections.
    pub fn start(script: Script) -> Backend {
        let requests: Arc<Mutex<Vec<Message>>> = Arc::default();
        let record = requests.clone();
        let port = super::endpoint(move |_, stream| serve(stream, &script, &record));
        Backend { port, requests }
    }

    /// An empty 200, always.
    pub fn ok() -> Backend {
        Backend::start(Box::new(|_, _| Some((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), false))))
    }

    pub fn requests(&self) -> Vec<Message> {
        self.requests.lock().expect("no panic under this lock").clone()
    }
}

fn serve(stream: TcpStream, script: &Script, record: &Mutex<Vec<Message>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = message(&mut stream, true) {
        let number = {
            let mut record = record.lock().expect("no panic under this lock");
            record.push(request.clone());
            record.len() - 1
        };
        match script(number, &request) {
            Some((answer, closes)) => {
                if stream.get_mut().write_all(&answer).is_err() || closes {
                    return;
                }
            }
            None => {
                // Wait for the other side to give up.
                let _ = stream.read(&mut [0]);
                return;
            }
        }
    }
}

/// Reads one message; `None` at the end. `bodiless`: without a length there is no body.
pub fn message(stream: &mut BufReader<TcpStream>, bodiless: bool) -> Option<Message> {
    let mut message = Message { line: line(stream)?, ..Message::default() };
    loop {
        let text = line(stream)?;
        let Some((name, value)) = text.split_once(':') else { break };
        message.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let status = message.word(1).to_owned();
    if message.line.starts_with("HTTP/") && (status.starts_with('1') || status == "204" || status == "304") {
        return Some(message);
    }
    if message.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(line(stream)?.split(';').next()?, 16).ok()?;
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).ok()?;
            message.body.extend(chunk);
            while !line(stream)?.is_empty() {}
            if size == 0 {
                return Some(message);
            }
        }
    }
    match message.header("content-length").and_then(|text| text.parse().ok()) {
        Some(length) => {
            message.body = vec![0; length];
            stream.read_exact(&mut message.body).ok()?;
        }
        None if !bodiless => drop(stream.read_to_end(&mut message.body)),
        None => {}
    }
    Some(message)
}

fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).ok()? == 0 {
        return None;
    }
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}
