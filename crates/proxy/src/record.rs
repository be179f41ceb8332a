//! Recent requests, sampled: the first few of each tenth of a second, and failures a little longer.
//!
//! A request that is not kept costs a comparison. Texts are only made for one that is.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http1::{Known, Method, Version};
use naming::State;

use crate::admin::{Attempt, RecentRequest};
use crate::classify::Class;
use crate::connection::Connection;
use crate::exchange::End;
use crate::failure::Failure;
use crate::name::Drawn;
use crate::pool::Endpoint;
use crate::request::Request;
use crate::spans::{self, Exchanged};
use crate::trace;
use crate::wire::Place;
use crate::worker::Worker;

/// Kept per [`WINDOW`] and worker: of all requests, and of those that failed or were overridden.
const ORDINARY: u32 = 4;
const REMARKABLE: u32 = 12;
const WINDOW: u64 = 100_000_000;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How many were kept in the current window.
#[derive(Default)]
pub(crate) struct Sampler {
    window: Cell<u64>,
    kept: Cell<u32>,
}

impl Sampler {
    fn left(&self, now: u64, most: u32) -> bool {
        let window = now / WINDOW;
        if self.window.get() != window {
            self.window.set(window);
            self.kept.set(0);
        }
        self.kept.get() < most
    }

    fn take(&self) {
        self.kept.set(self.kept.get() + 1);
    }
}

/// What one exchange notes while it goes on.
#[derive(Default)]
pub(crate) struct Record {
    current: Option<Trying>,
    /// All attempts before the current one; empty for almost every request.
    past: Vec<Trying>,
    /// The outgoing head's first lines, if the request may be kept.
    head: Option<Box<[u8]>>,
    /// The answer's head, if its span is wanted.
    answer: Option<Box<Answered>>,
}

/// One try at an endpoint.
pub(crate) struct Trying {
    pub drawn: Drawn,
    pub endpoint: SocketAddr,
    /// When it went out, in nanoseconds since the worker's epoch.
    pub began: u64,
    /// The client span: a request that is sent once more because nobody took it keeps it.
    pub span: u64,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub class: Option<Class>,
    pub micros: u64,
}

/// What a span tells of an answer.
pub(crate) struct Answered {
    pub version: Version,
    pub content_type: Option<String>,
    pub content_length: Option<String>,
}

impl Record {
    /// A request goes out, as this client span.
    #[inline]
    pub(crate) fn begin(&mut self, drawn: &Drawn, endpoint: &Endpoint, now: u64, span: u64) {
        self.push_current();
        let drawn = Drawn { leaf: drawn.leaf.clone(), share: drawn.share };
        self.current = Some(Trying {
            drawn,
            endpoint: endpoint.address,
            began: now,
            span,
            status: None,
            error: None,
            class: None,
            micros: 0,
        });
    }

    /// What came of it.
    #[inline]
    pub(crate) fn note(&mut self, status: Option<u16>, error: Option<&str>, now: u64) {
        if let Some(current) = &mut self.current {
            current.status = status;
            current.error = error.map(str::to_owned);
            current.micros = now.saturating_sub(current.began) / 1000;
        }
    }

    /// What the classifier says of this client span.
    #[inline]
    pub(crate) fn classify(&mut self, span: u64, class: Class) {
        if let Some(current) = self.current.as_mut().filter(|current| current.span == span) {
            current.class = Some(class);
        }
    }

    /// An endpoint took no connection for this client span.
    pub(crate) fn refused(&mut self, drawn: &Drawn, endpoint: &Endpoint, now: u64, span: u64, why: (&io::Error, u64)) {
        let (error, nanos) = why;
        self.begin(drawn, endpoint, now, span);
        self.note(None, Some(&error.to_string()), now + nanos);
    }

    fn push_current(&mut self) {
        if let Some(current) = self.current.take() {
            self.past.push(current);
        }
    }

    /// The outgoing head is about to be overwritten; keeps it if the request may be kept.
    #[inline]
    pub(crate) fn keep_head(&mut self, worker: &Worker, out: &[u8], request: &Request, failed: bool) {
        let remarkable = failed || !request.name.local.is_empty();
        let kept = worker.sampler.left(worker.coarse_now(), if remarkable { REMARKABLE } else { ORDINARY });
        if kept || request.wanted != 0 {
            self.head = Some(out[..request.tail.min(out.len())].into());
        }
    }

    /// The answer's head is in the worker's parser.
    pub(crate) fn keep_answer(&mut self, worker: &Worker, place: &Place) {
        let head = worker.response.borrow();
        let text =
            |bytes: &[u8], name| head.first(bytes, name).map(|value| String::from_utf8_lossy(value).into_owned());
        let kept = |bytes: &[u8]| Answered {
            version: head.version,
            content_type: text(bytes, Known::ContentType),
            content_length: text(bytes, Known::ContentLength),
        };
        self.answer = Some(Box::new(match place {
            Place::Read(length) => worker.with_read(*length, kept),
            Place::Kept { bytes, .. } | Place::Whole { bytes, .. } => kept(bytes),
        }));
    }

    /// The exchange is over.
    #[inline]
    pub(crate) fn finish(mut self, connection: &Connection, request: &Request, end: &End) {
        if request.wanted != 0 {
            self.push_current();
            let (head, answer) = (self.head.as_deref(), self.answer.as_deref());
            spans::send(connection, request, &Exchanged { attempts: &self.past, head, answer, end });
        }
        let name = &request.name;
        let remarkable = !matches!(end, End::Answered { status: ..500, .. }) || !name.local.is_empty();
        let worker = &connection.worker;
        let now = worker.coarse_now();
        if !worker.sampler.left(now, if remarkable { REMARKABLE } else { ORDINARY }) {
            return;
        }
        if !remarkable && fastrand::f64() >= connection.server.router.settings.recent.sample_rate {
            return;
        }
        worker.sampler.take();
        self.push_current();
        let head = self.head.take().unwrap_or_default();
        let (method, uri) = request_line(&head);
        let (status, error) = match end {
            End::Answered { status, .. } => (Some(*status), None),
            End::Failed(failure) => (Some(failure.kind.status()), Some(failure.text.clone())),
            End::Gone => (None, None),
        };
        let router = &connection.server.router;
        let version = match router.interpreter.served().get() {
            State::Ok(served) => served.version.map(|version| version.to_string()),
            State::Pending | State::Failed(_) => None,
        };
        let total_micros = worker.now().saturating_sub(request.started) / 1000;
        router.ring.push(RecentRequest {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            time: time_before(total_micros),
            peer: Some(connection.peer),
            method,
            host: header(&head, "host"),
            uri,
            name: Some(name.service.name.clone()),
            local_dtab: name.local.show_exact(),
            bound_under: name.under.clone(),
            dtab_version: version,
            trace_id: Some(trace::shown_id(&request.trace)),
            is_traced: request.wanted != 0,
            attempts: self.past.into_iter().map(Attempt::from).collect(),
            status,
            error,
            total_micros,
        });
    }
}

/// A request that never got a name.
pub(crate) fn rejected(connection: &Connection, failure: &Failure, method: Method) {
    let worker = &connection.worker;
    if !worker.sampler.left(worker.coarse_now(), REMARKABLE) {
        return;
    }
    worker.sampler.take();
    connection.server.router.ring.push(RecentRequest {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        time: SystemTime::now(),
        peer: Some(connection.peer),
        method: format!("{method:?}").to_ascii_uppercase(),
        host: None,
        uri: String::new(),
        name: None,
        local_dtab: String::new(),
        bound_under: names::Dtab::empty(),
        dtab_version: None,
        trace_id: None,
        is_traced: false,
        attempts: Vec::new(),
        status: Some(failure.kind.status()),
        error: Some(failure.text.clone()),
        total_micros: 0,
    });
}

impl From<Trying> for Attempt {
    fn from(trying: Trying) -> Attempt {
        Attempt {
            client: trying.drawn.leaf.client.id.clone(),
            share: trying.drawn.share,
            endpoint: Some(trying.endpoint),
            span_id: Some(format!("{:016x}", trying.span)),
            status: trying.status,
            error: trying.error,
            micros: trying.micros,
        }
    }
}

fn time_before(micros: u64) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(Duration::from_micros(micros)).unwrap_or(now)
}

pub(crate) fn request_line(head: &[u8]) -> (String, String) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    (word(), word())
}

pub(crate) fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n").skip(1);
    lines.find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
