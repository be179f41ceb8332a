//! A plain blocking HTTP/1.1 client: sends exactly what it is told to, hides nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer, its body whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A request by parts.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// What stands in the request line.
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a [u8]>,
}

/// A connection that may be used again.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// False once the other side said, or showed, that it closes.
    pub is_open: bool,
}

impl Connection {
    pub fn open(authority: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Connection { stream: BufReader::new(stream), is_open: true })
    }

    /// Sends these headers exactly, and `Content-Length` if there is a body; reads the answer.
    pub fn send(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = request.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(request.body.unwrap_or_default());
        self.stream.get_mut().write_all(&message)?;
        self.answer(request.method == "HEAD")
    }

    fn answer(&mut self, has_no_body: bool) -> io::Result<Answer> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(|| broken(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let length =
            answer.header("content-length").map(|text| text.parse::<u64>().map_err(|_| broken(text))).transpose()?;
        let chunked = answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        if has_no_body || status == 204 || status == 304 {
        } else if chunked {
            self.chunks(&mut answer.body)?;
        } else if let Some(length) = length {
            let read = self.stream.by_ref().take(length).read_to_end(&mut answer.body)?;
            if read as u64 != length {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body broke off"));
            }
        } else {
            self.stream.read_to_end(&mut answer.body)?;
            self.is_open = false;
        }
        self.is_open &= !closes;
        Ok(answer)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            if self.stream.by_ref().take(size).read_to_end(body)? as u64 != size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a chunk broke off"));
            }
            self.line()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            self.is_open = false;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed"));
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

/// `http://host:port/path` → (`host:port`, `/path`).
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    }
}

/// One request on a connection of its own.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> io::Result<Answer> {
    let (authority, target) = split(url);
    let mut all = vec![("Host", authority), ("Connection", "close")];
    all.extend_from_slice(headers);
    Connection::open(authority)?.send(&Request { method, target, headers: &all, body })
}

/// A GET that must be answered, whatever the status.
#[track_caller]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    request("GET", url, headers, None).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// A POST with a JSON body that must be answered.
#[track_caller]
pub fn post(url: &str, body: &serde_json::Value) -> Answer {
    let body = body.to_string();
    request("POST", url, &[("Content-Type", "application/json")], Some(body.as_bytes()))
        .unwrap_or_else(|error| panic!("POST {url}: {error}"))
}
