//! Spans of a sampled request: one of the server, and one of a client for each attempt, with the
//! annotations of Linkerd 1.7.
//!
//! ```text
//!  server  ├────────────────────────────────────────────┤  router.label, service, client, dtab.base, …
//!  client    ├── 503 ──┤ l5d.retryable
//!  client                   ├─x (finagle.retry) ─ 200 ─┤  l5d.success
//! ```
//! A request that was sent again because nobody had taken it (a requeue) keeps its client span, as the ids
//! that the endpoints see say.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http1::Version;
use names::Dtab;
use telemetry::spans::{Event, Fact, Queue, Side, Span, Tracer, Wanted, cut};

use crate::classify::Class;
use crate::connection::Connection;
use crate::exchange::End;
use crate::failure::Kind;
use crate::record::{Answered, Trying, header, request_line};
use crate::request::Request;
use crate::settings;
use crate::trace::Received;

/// A worker's way to the exporters.
#[derive(Clone)]
pub(crate) struct Tracing {
    tracer: Tracer,
    queue: Queue,
}

impl Tracing {
    pub(crate) fn new(tracer: Tracer) -> Tracing {
        Tracing { queue: tracer.queue(), tracer }
    }

    /// Who wants the request's spans; what others are told about that goes on with it.
    pub(crate) fn decide(&self, received: &mut Received) -> Wanted {
        let decision = self.tracer.decide(received.decision, received.server.trace);
        if let Some(sampled) = decision.told {
            received.server.decide(sampled);
        }
        decision.wanted
    }
}

/// What is the same for all spans of a router.
pub(crate) struct Told {
    label: Arc<str>,
    base: Arc<str>,
}

impl Told {
    pub(crate) fn new(settings: &settings::Router) -> Told {
        Told { label: settings.label.as_str().into(), base: cut(&shown(&settings.dtab)).into() }
    }
}

/// What an exchange came to.
pub(crate) struct Exchanged<'a> {
    pub attempts: &'a [Trying],
    /// The outgoing head.
    pub head: Option<&'a [u8]>,
    pub answer: Option<&'a Answered>,
    pub end: &'a End,
}

/// Hands the request's spans over.
pub(crate) fn send(connection: &Connection, request: &Request, exchanged: &Exchanged<'_>) {
    let Some(tracing) = &connection.worker.tracing else { return };
    let now = connection.worker.now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let sight = Sight { connection, request, exchanged, wall, now };
    let mut spans = vec![sight.server()];
    let mut rest = exchanged.attempts;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|attempt| attempt.span == first.span).count();
        spans.push(sight.client(&rest[..same], same == rest.len()));
        rest = &rest[same..];
    }
    tracing.queue.push(request.wanted, spans);
}

struct Sight<'a> {
    connection: &'a Connection,
    request: &'a Request,
    exchanged: &'a Exchanged<'a>,
    /// Now, in nanoseconds since the Unix epoch, and since the worker's.
    wall: u64,
    now: u64,
}

type Facts = Vec<(&'static str, Fact)>;

impl Sight<'_> {
    /// A time of the worker's as one of the wall's.
    fn at(&self, time: u64) -> u64 {
        self.wall.saturating_sub(self.now.saturating_sub(time))
    }

    fn span(&self, side: Side, id: u64, parent: Option<u64>, start: u64) -> Span {
        let trace = &self.request.trace;
        Span {
            trace_high: trace.high.unwrap_or(0),
            trace: trace.trace,
            id,
            parent,
            side,
            name: String::new(),
            start: self.at(start),
            nanos: 0,
            service: String::new(),
            local: None,
            remote: None,
            facts: Vec::with_capacity(16),
            events: Vec::new(),
            error: None,
            is_debug: trace.is_debug(),
            state: self.request.trace_state.as_ref().map(|state| String::from_utf8_lossy(state).into_owned()),
        }
    }

    fn server(&self) -> Span {
        let Sight { connection, request, exchanged, .. } = self;
        let server = &connection.server;
        let name = &request.name;
        let mut span = self.span(Side::Server, request.trace.span, request.trace.above(), request.started);
        let address = server.settings.address;
        span.nanos = self.now.saturating_sub(request.started);
        span.service = format!("{}/{}", address.ip(), address.port());
        span.local = Some(address);
        span.remote = Some(connection.peer);
        span.name = format!("{} {}", server.router.settings.label, name.service.name);
        if let Some(told) = &server.router.told {
            span.facts.push(("router.label", Fact::Shared(told.label.clone())));
            span.facts.push(("dtab.base", Fact::Shared(told.base.clone())));
        }
        span.facts.push(("service", Fact::text(&name.service.name)));
        span.facts.push(("dtab.local", Fact::text(&shown(&name.local))));
        self.asked(&mut span.facts);
        if let Some(last) = exchanged.attempts.last() {
            bound(last, &mut span.facts);
            span.events.push(self.event(exchanged.attempts[0].began, "namer.success"));
        }
        for pair in exchanged.attempts.windows(2).filter(|pair| pair[0].span != pair[1].span) {
            span.events.push(self.event(pair[1].began, "finagle.retry"));
        }
        match exchanged.end {
            End::Answered { status, class, .. } => {
                self.answered(*status, &mut span.facts);
                self.classified(Some(*class), self.now, &mut span);
                span.error = (*status >= 500).then(|| format!("status {status}"));
            }
            End::Failed(failure) => {
                self.answered(failure.kind.status(), &mut span.facts);
                let first = failure.kind.exceptions().last().copied().unwrap_or_default();
                if matches!(failure.kind, Kind::Unbound | Kind::Binding | Kind::BindingTimeout) {
                    span.facts.push(("namer.failure", Fact::text(first)));
                }
                span.facts.push(("io.buoyant.router.Failure", Fact::text(first)));
                let class = exchanged.attempts.last().and_then(|attempt| attempt.class).unwrap_or(Class::Failure);
                self.classified(Some(class), self.now, &mut span);
                span.error = Some(cut(&failure.text).to_owned());
            }
            End::Gone => span.error = Some("the client went away before the answer".to_owned()),
        }
        span
    }

    /// All tries of one client span; `last`: it is the request's last.
    fn client(&self, tries: &[Trying], last: bool) -> Span {
        let (first, end) = (&tries[0], &tries[tries.len() - 1]);
        let mut span = self.span(Side::Client, first.span, Some(self.request.trace.span), first.began);
        let over = end.began.saturating_add(end.micros * 1000);
        span.nanos = over.saturating_sub(first.began);
        span.service = end.drawn.leaf.client.id.trim_start_matches('/').to_owned();
        span.remote = Some(end.endpoint);
        span.name = self.method().to_owned();
        bound(end, &mut span.facts);
        if let Some(share) = end.drawn.share {
            span.facts.push(("l5d.share", Fact::Real(share)));
        }
        self.asked(&mut span.facts);
        for again in &tries[1..] {
            span.events.push(self.event(again.began, "finagle.retry"));
        }
        if let Some(status) = end.status {
            if last { self.answered(status, &mut span.facts) } else { status_of(status, &mut span.facts) }
        }
        self.classified(end.class, over, &mut span);
        span.error = match (&end.error, end.status) {
            (Some(error), _) => Some(cut(error).to_owned()),
            (None, Some(status @ 500..)) => Some(format!("status {status}")),
            (None, _) => None,
        };
        span
    }

    /// As the original: a success is a share, a failure an event.
    fn classified(&self, class: Option<Class>, at: u64, span: &mut Span) {
        match class {
            Some(Class::Success) => span.facts.push(("l5d.success", Fact::Real(1.0))),
            Some(Class::Retryable) => span.events.push(self.event(at, "l5d.retryable")),
            Some(Class::Failure) => span.events.push(self.event(at, "l5d.failure")),
            None => {}
        }
    }

    fn event(&self, at: u64, name: &str) -> Event {
        Event { at: self.at(at), name: name.to_owned() }
    }

    fn method(&self) -> &'static str {
        use http1::Method;
        match self.request.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other => "HTTP",
        }
    }

    fn asked(&self, facts: &mut Facts) {
        let head = self.exchanged.head.unwrap_or_default();
        let (method, uri) = request_line(head);
        if method.is_empty() {
            facts.push(("http.req.method", Fact::text(self.method())));
        } else {
            facts.push(("http.uri", Fact::text(&uri)));
            facts.push(("http.req.method", Fact::text(&method)));
        }
        facts.push(("http.req.version", Fact::text(version(self.request.version))));
        for (name, known) in [
            ("host", "http.req.host"),
            ("content-type", "http.req.content-type"),
            ("content-length", "http.req.content-length"),
            ("transfer-encoding", "http.req.transfer-encoding"),
        ] {
            if let Some(value) = header(head, name) {
                facts.push((known, length_or_text(known, &value)));
            }
        }
    }

    fn answered(&self, status: u16, facts: &mut Facts) {
        status_of(status, facts);
        if let Some(answer) = self.exchanged.answer {
            facts.push(("http.rsp.version", Fact::text(version(answer.version))));
            let more =
                [("http.rsp.content-type", &answer.content_type), ("http.rsp.content-length", &answer.content_length)];
            for (name, value) in more {
                facts.extend(value.as_ref().map(|value| (name, length_or_text(name, value))));
            }
        }
    }
}

fn status_of(status: u16, facts: &mut Facts) {
    facts.push(("http.rsp.status", Fact::Number(status.into())));
}

fn bound(attempt: &Trying, facts: &mut Facts) {
    let leaf = &attempt.drawn.leaf;
    facts.push(("client", Fact::text(&leaf.client.id)));
    facts.push(("residual", Fact::text(&leaf.residual.show())));
}

fn length_or_text(name: &str, value: &str) -> Fact {
    match value.parse() {
        Ok(length) if name.ends_with("-length") => Fact::Number(length),
        _ => Fact::text(value),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// As much as is exported.
fn shown(dtab: &Dtab) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for dentry in dtab.entries() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{dentry}", if text.is_empty() { "" } else { ";" });
        if cut(&text).len() < text.len() {
            break;
        }
    }
    text
}
