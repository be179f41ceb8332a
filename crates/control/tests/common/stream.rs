//! A streamed answer, read byte by byte as it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The body of a chunked answer, undone.
pub struct Stream {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
    /// The head, as soon as it has come.
    pub head: Option<(u16, Vec<(String, String)>)>,
    left_in_chunk: usize,
    pub ended: bool,
}

impl Stream {
    pub fn open(authority: &str, method: &str, target: &str, headers: &[(String, String)]) -> Stream {
        let mut stream = TcpStream::connect(authority).unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all((head + "\r\n").as_bytes()).unwrap();
        Stream::over(stream)
    }

    /// One whose request has been sent.
    pub fn over(stream: TcpStream) -> Stream {
        Stream { reader: BufReader::new(stream), body: Vec::new(), head: None, left_in_chunk: 0, ended: false }
    }

    /// Bytes of the request's body, as they go on the wire.
    pub fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub fn status(&mut self, within: Duration) -> Result<u16, String> {
        if self.head.is_none() {
            self.read_head_within(within)?;
        }
        self.head.as_ref().map(|(status, _)| *status).ok_or_else(|| "no head".to_owned())
    }

    pub fn get(authority: &str, target: &str) -> Stream {
        Stream::open(authority, "GET", target, &[])
    }

    /// The next bytes of the body, exactly so many as `wanted` has.
    pub fn bytes(&mut self, count: usize, within: Duration) -> Result<String, String> {
        while self.body.len() < count {
            self.more(within)?;
        }
        Ok(String::from_utf8_lossy(&self.body.drain(..count).collect::<Vec<_>>()).into_owned())
    }

    /// The next line, without its line feed.
    pub fn line(&mut self, within: Duration) -> Result<String, String> {
        loop {
            if let Some(end) = self.body.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.body.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more(within)?;
        }
    }

    /// No byte of the body for so long, and the stream stays open.
    pub fn quiet(&mut self, time: Duration) -> Result<(), String> {
        if !self.body.is_empty() {
            return Err(format!("not quiet: {:?}", String::from_utf8_lossy(&self.body)));
        }
        if self.head.is_none() {
            match self.read_head_within(time) {
                Err(error) if error == "timeout" => return Ok(()),
                read => read?,
            }
        }
        match self.more(time) {
            Err(error) if error == "timeout" => Ok(()),
            other => Err(format!("not quiet: {other:?} {:?}", String::from_utf8_lossy(&self.body))),
        }
    }

    fn more(&mut self, within: Duration) -> Result<(), String> {
        self.reader.get_ref().set_read_timeout(Some(within)).unwrap();
        if self.head.is_none() {
            self.read_head()?;
            return Ok(());
        }
        if self.ended {
            return Err("ended".into());
        }
        if self.left_in_chunk == 0 {
            let size = self.text_line()?;
            let size = usize::from_str_radix(&size, 16).map_err(|error| format!("{size:?}: {error}"))?;
            self.left_in_chunk = size;
            if size == 0 {
                self.text_line()?;
                self.ended = true;
                return Err("ended".into());
            }
        }
        let mut buffer = vec![0; self.left_in_chunk];
        let read = self.reader.read(&mut buffer).map_err(shown)?;
        if read == 0 {
            return Err("broke off".into());
        }
        self.body.extend_from_slice(&buffer[..read]);
        self.left_in_chunk -= read;
        if self.left_in_chunk == 0 {
            self.text_line()?;
        }
        Ok(())
    }

    fn read_head_within(&mut self, within: Duration) -> Result<(), String> {
        self.reader.get_ref().set_read_timeout(Some(within)).unwrap();
        self.read_head()
    }

    fn read_head(&mut self) -> Result<(), String> {
        let line = self.text_line()?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.text_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        self.head = Some((status, headers));
        Ok(())
    }

    fn text_line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).map_err(shown)? {
            0 => Err("broke off".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

fn shown(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "timeout".into(),
        _ => error.to_string(),
    }
}
