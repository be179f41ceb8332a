//! What a strict recipient makes of a stream of messages (RFC 9112), written without a look at `http1`:
//! slow, short, and of another mind. An error is what such a recipient would refuse.

#![allow(dead_code)] // Each target uses its half.

/// One message. Field names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// All of its body was there.
    pub complete: bool,
}

impl Message {
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    }
}

/// What an answer is read against.
#[derive(Clone, Copy)]
pub struct Asked {
    pub head: bool,
    pub connect: bool,
}

/// All requests of a stream. A head that has not come in full is an error: nobody forwards half a head.
pub fn requests(mut rest: &[u8]) -> Result<Vec<Message>, String> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut message = head(&mut rest)?;
        let words: Vec<&str> = message.start.split(' ').collect();
        let [method, target, version] = words[..] else { return Err(format!("request line {:?}", message.start)) };
        if method.is_empty() || !method.bytes().all(is_token) || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return Err(format!("request line {:?}", message.start));
        }
        let origin = target.starts_with('/') || (target == "*" && method == "OPTIONS");
        if !(origin || method == "CONNECT") || target.bytes().any(|byte| !(0x21..0x7f).contains(&byte) || byte == b'#')
        {
            return Err(format!("target {target:?}"));
        }
        let hosts = message.all("host").len();
        if hosts > 1 || (hosts == 0 && version == "HTTP/1.1") {
            return Err(format!("{hosts} Host fields"));
        }
        let is_old = version == "HTTP/1.0";
        match framing(&message, is_old)? {
            Some(Framing::Chunked) => chunked(&mut rest, &mut message)?,
            Some(Framing::Length(length)) => counted(&mut rest, &mut message, length),
            None => message.complete = true,
        }
        all.push(message);
    }
    Ok(all)
}

/// The one final answer that a stream holds, and what is left. `closed`: the stream ends there.
pub fn answer<'b>(mut rest: &'b [u8], asked: Asked) -> Result<(Message, &'b [u8]), String> {
    let mut message = head(&mut rest)?;
    let status = status(&message.start)?;
    let tunnel = status == 101 || (asked.connect && (200..300).contains(&status));
    let bodiless = tunnel || asked.head || status < 200 || status == 204 || status == 304;
    let framed = framing(&message, false)?;
    if (status < 200 || status == 204) && framed.is_some() {
        return Err(format!("a {status} with framing fields"));
    }
    match framed {
        _ if bodiless => message.complete = true,
        Some(Framing::Chunked) => chunked(&mut rest, &mut message)?,
        Some(Framing::Length(length)) => counted(&mut rest, &mut message, length),
        None => {
            message.body = rest.to_vec();
            (rest, message.complete) = (b"", true);
        }
    }
    Ok((message, rest))
}

fn status(line: &str) -> Result<u16, String> {
    let wrong = || format!("status line {line:?}");
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(wrong)?;
    let (digits, _) = rest.split_once(' ').ok_or_else(wrong)?;
    let status = digits.parse().map_err(|_| wrong())?;
    if digits.len() == 3 && (100..1000).contains(&status) { Ok(status) } else { Err(wrong()) }
}

enum Framing {
    Chunked,
    Length(usize),
}

fn framing(message: &Message, is_old: bool) -> Result<Option<Framing>, String> {
    let (lengths, codings) = (message.all("content-length"), message.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_old => Ok(Some(Framing::Chunked)),
        ([digits], []) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let text = std::str::from_utf8(digits).map_err(|error| error.to_string())?;
            let length: u64 = text.parse().map_err(|_| format!("length {text}"))?;
            Ok(Some(Framing::Length(usize::try_from(length).map_err(|error| error.to_string())?)))
        }
        _ => Err(format!("Content-Length {lengths:?}, Transfer-Encoding {codings:?}")),
    }
}

fn line(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let end = rest.windows(2).position(|two| two == b"\r\n").ok_or("a line without an end")?;
    let line = rest[..end].to_vec();
    *rest = &rest[end + 2..];
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) { Err(format!("line {line:?}")) } else { Ok(line) }
}

fn head(rest: &mut &[u8]) -> Result<Message, String> {
    let start = String::from_utf8_lossy(&line(rest)?).into_owned();
    let mut message = Message { start, ..Message::default() };
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Ok(message);
        }
        message.fields.push(field(&line)?);
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = || format!("field {:?}", String::from_utf8_lossy(line));
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if name.is_empty() || !name.iter().copied().all(is_token) || value.iter().any(control) {
        return Err(wrong());
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value[from..to].to_vec()))
}

fn counted(rest: &mut &[u8], message: &mut Message, length: usize) {
    let taken = length.min(rest.len());
    message.body = rest[..taken].to_vec();
    message.complete = taken == length;
    *rest = &rest[taken..];
}

/// As far as it has come; what is there must be right.
fn chunked(rest: &mut &[u8], message: &mut Message) -> Result<(), String> {
    loop {
        if !rest.windows(2).any(|two| two == b"\r\n") {
            *rest = b"";
            return Ok(());
        }
        let size = line(rest)?;
        if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("chunk size {:?}", String::from_utf8_lossy(&size)));
        }
        let text = String::from_utf8_lossy(&size).into_owned();
        let size = usize::from_str_radix(&text, 16).map_err(|error| error.to_string())?;
        if size == 0 {
            match *rest {
                [b'\r', b'\n', ..] => (*rest, message.complete) = (&rest[2..], true),
                [] | [b'\r'] => *rest = b"",
                _ => return Err(format!("after the last chunk: {:?}", String::from_utf8_lossy(rest))),
            }
            return Ok(());
        }
        let taken = size.min(rest.len());
        message.body.extend_from_slice(&rest[..taken]);
        *rest = &rest[taken..];
        match *rest {
            _ if taken < size => return Ok(()),
            [b'\r', b'\n', ..] => *rest = &rest[2..],
            [] | [b'\r'] => {
                *rest = b"";
                return Ok(());
            }
            _ => return Err("no line end after a chunk".to_owned()),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
