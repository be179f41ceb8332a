//! Raw requests and raw answers with their strict reading, run through the codec whole, byte by
//! byte, and cut in two at every position: the reading must always be the same.
//!
//! `corpus/*.json`: strings are Latin-1 bytes. A request reads as `METHOD HOST PATH [BODY] [marks]`
//! (`-` for none), an answer as `STATUS [BODY] [marks]`; `end` says what became of the connection.

use http1::{
    Body, BodyError, Exchange, Form, HeadError, Limits, Method, Progress, RequestHead, ResponseHead, parse_request,
    parse_response,
};
use serde_json::Value;

/// A reader over growing input, as a proxy would drive it.
struct Reader {
    buffer: Vec<u8>,
    state: State,
    read: Vec<String>,
    /// Text and payload of the message that is being read.
    current: (String, Vec<u8>),
    side: Side,
}

enum Side {
    Requests(Box<RequestHead>),
    /// The response head and what was asked.
    Answers(Box<ResponseHead>, Exchange),
}

enum State {
    Head,
    Body(Body, bool),
    End(String),
}

impl Reader {
    fn new(side: Side) -> Reader {
        let current = (String::new(), Vec::new());
        Reader { buffer: Vec::new(), state: State::Head, read: Vec::new(), current, side }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// One head or one run of a body; false when more input is needed or all is over.
    fn step(&mut self) -> bool {
        match &mut self.state {
            State::End(_) => false,
            State::Head if self.buffer.is_empty() => false,
            State::Head => match self.head() {
                Ok(more) => more,
                Err(error) => {
                    let answers = matches!(self.side, Side::Answers(..));
                    let end = if answers { "error".into() } else { error.status().to_string() };
                    self.state = State::End(end);
                    false
                }
            },
            State::Body(body, keep_alive) => {
                let keep_alive = *keep_alive;
                match body.feed(&self.buffer, Form::Payload, &mut self.current.1) {
                    Ok((used, done)) => {
                        self.buffer.drain(..used);
                        if done {
                            self.finish(keep_alive);
                        }
                        done
                    }
                    Err(error) => {
                        assert_ne!(error, BodyError::Truncated);
                        self.note(" unfinished");
                        self.state = State::End("cut".into());
                        false
                    }
                }
            }
        }
    }

    fn head(&mut self) -> Result<bool, HeadError> {
        let buffer = &self.buffer;
        let (used, body, keep_alive) = match &mut self.side {
            Side::Requests(head) => {
                if parse_request(buffer, &Limits::REQUEST, head)? == Progress::Partial {
                    return Ok(false);
                }
                self.current.0 = describe_request(buffer, head);
                (head.len, Body::new(head.body), head.keep_alive)
            }
            Side::Answers(head, exchange) => {
                let progress = parse_response(buffer, &Limits::RESPONSE, *exchange, head)?;
                if progress == Progress::Partial {
                    return Ok(false);
                }
                self.current.0 = head.status.to_string();
                if head.is_interim() {
                    let used = head.len;
                    self.note("");
                    self.buffer.drain(..used);
                    return Ok(true);
                }
                if head.is_tunnel {
                    self.note(" tunnel");
                    self.state = State::End("tunnel".into());
                    return Ok(false);
                }
                (head.len, Body::new(head.body), head.keep_alive)
            }
        };
        self.buffer.drain(..used);
        self.state = State::Body(body, keep_alive);
        if body.is_done() {
            self.finish(keep_alive);
        }
        Ok(true)
    }

    fn finish(&mut self, keep_alive: bool) {
        self.note("");
        self.state = match (&self.side, keep_alive) {
            (Side::Requests(_), true) => State::Head,
            (Side::Requests(_), false) => State::End("closed".into()),
            // Whatever comes behind an answer, now or later, belongs to nobody.
            (Side::Answers(..), keep_alive) => State::End(if keep_alive { "reusable".into() } else { "close".into() }),
        };
    }

    fn note(&mut self, mark: &str) {
        let (text, payload) = std::mem::take(&mut self.current);
        let body: String = payload.iter().map(|byte| char::from(*byte)).collect();
        let (text, marks) = text.split_once('\t').unwrap_or((&text, ""));
        let gap = if body.is_empty() { "" } else { " " };
        self.read.push(format!("{text}{gap}{body}{marks}{mark}"));
    }

    fn end(mut self) -> (Vec<String>, String) {
        let end = match std::mem::replace(&mut self.state, State::Head) {
            State::End(end) if end == "reusable" && !self.buffer.is_empty() => "leftover".into(),
            State::End(end) if end == "close" && !self.buffer.is_empty() => "leftover".into(),
            State::End(end) => end,
            State::Body(body, _) if body.close().is_ok() => {
                self.note("");
                "until close".into()
            }
            State::Body(..) => {
                self.note(" unfinished");
                "partial".into()
            }
            State::Head if self.buffer.is_empty() && matches!(self.side, Side::Requests(_)) => "idle".into(),
            State::Head => "partial".into(),
        };
        (self.read, end)
    }
}

fn describe_request(buffer: &[u8], head: &RequestHead) -> String {
    let text = |bytes: &[u8]| match bytes {
        [] => "-".to_string(),
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    };
    let slash = if head.path(buffer).starts_with(b"?") { "/" } else { "" };
    let (method, host) = (text(head.method_name(buffer)), text(head.host(buffer)));
    let mut line = format!("{method} {host} {slash}{}\t", text(head.path(buffer)));
    for (mark, set) in
        [(" lacks host", head.lacks_host()), (" expects", head.expect_continue), (" upgrades", head.wants_upgrade)]
    {
        if set {
            line.push_str(mark);
        }
    }
    line
}

fn latin1(text: &Value) -> Vec<u8> {
    text.as_str().expect("string").chars().map(|c| u8::try_from(u32::from(c)).expect("byte")).collect()
}

fn check(file: &str, side: impl Fn(&Value) -> Side) {
    let cases: Vec<Value> = serde_json::from_str(file).expect("corpus");
    let mut wrong = Vec::new();
    for case in &cases {
        let raw = latin1(&case["raw"]);
        let expected: (Vec<String>, String) = (
            serde_json::from_value(case["read"].clone()).expect("read"),
            case["end"].as_str().expect("end").to_string(),
        );
        let run = |pieces: &[&[u8]]| {
            let mut reader = Reader::new(side(case));
            pieces.iter().for_each(|piece| reader.feed(piece));
            reader.end()
        };
        let bytes: Vec<&[u8]> = raw.chunks(1).collect();
        let mut ways = vec![("whole".to_string(), run(&[&raw])), ("bytes".into(), run(&bytes))];
        ways.extend((1..raw.len()).map(|at| (format!("cut at {at}"), run(&[&raw[..at], &raw[at..]]))));
        if let Some((way, got)) = ways.into_iter().find(|(_, got)| *got != expected) {
            wrong.push(format!("{} ({way}): {got:?}, expected {expected:?}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn requests_read_as_the_table_says() {
    check(include_str!("corpus/requests.json"), |_| Side::Requests(Box::default()));
}

#[test]
fn answers_read_as_the_table_says() {
    check(include_str!("corpus/responses.json"), |case| {
        let to = case["to"].as_str().expect("to");
        let exchange = Exchange { method: Method::of(to.as_bytes()), upgrade: to == "UPGRADE" };
        Side::Answers(Box::default(), exchange)
    });
}
