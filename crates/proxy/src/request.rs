//! From a parsed head to a request that is ready to go: name, context and outgoing head.
//!
//! Runs without waiting, while the head still lies in the read buffer. Afterwards nothing of that buffer
//! is needed: the outgoing head holds all that goes on, except the lines of the client, which is drawn
//! later, and drawn again for each retry, and those of the client's span. They come last, at [`Request::tail`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use http1::{Body, BodyKind, Known, KnownSet, Method, RequestHead, RequestOut, Version, write_line};

use telemetry::spans::Wanted;

use crate::context::{self, Deadline};
use crate::failure::{Failure, Kind};
use crate::forwarded::Forwarder;
use crate::identify::Unidentified;
use crate::name::{Drawn, Name};
use crate::server::Server;
use crate::settings::TracePropagator;
use crate::trace::Trace;

/// What has to be written before the client's own lines can follow.
const ALWAYS_REMOVED: KnownSet = KnownSet::HOP_BY_HOP
    .with(context::REWRITTEN)
    .with(KnownSet::of(&[Known::XForwardedClientCert, Known::FinagleRetryableRequest]));

/// The end of a head.
const END: &[u8] = b"\r\n";

/// Buffers that only live within [`prepare`].
#[derive(Default)]
pub(crate) struct Scratch {
    key: Vec<u8>,
    extra: Vec<u8>,
    target: Vec<u8>,
}

/// A request between its head and its answer.
pub(crate) struct Request {
    pub name: Rc<Name>,
    pub method: Method,
    pub version: Version,
    /// Whether the client's connection stays open after the answer, as far as the client goes.
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub wants_upgrade: bool,
    /// A TRACE that goes no further.
    pub ends_here: bool,
    /// Such a TRACE asks where it would have gone.
    pub wants_context: bool,
    /// What of the body is still to be read from the client.
    pub body: Body,
    /// The body is read whole before the request is sent.
    pub is_buffered: bool,
    /// Where the client's own lines go.
    pub tail: usize,
    /// The length of those that are there.
    pub tail_length: usize,
    /// The server span.
    pub trace: Trace,
    /// `tracestate` as it goes on.
    pub trace_state: Option<Box<[u8]>>,
    /// The client span that went out last.
    pub client_span: u64,
    /// Exporters that want its spans; 0 for almost every request.
    pub wanted: Wanted,
    pub deadline: Option<Deadline>,
    /// When the head was read, in nanoseconds since the epoch.
    pub started: u64,
    /// Where it goes, if that was known at once.
    pub drawn: Option<Drawn>,
}

/// Prepares the request whose head is `head`, parsed from `bytes`; `out` gets the outgoing head.
pub(crate) fn prepare(
    server: &Server,
    forwarder: &mut Forwarder,
    peer: SocketAddr,
    head: &RequestHead,
    bytes: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<Request, Failure> {
    let Scratch { key, extra, target } = scratch;
    key.clear();
    extra.clear();
    target.clear();
    let router = &server.router;
    let via = head.has(Known::Via);
    if via {
        check_depth(server, head, bytes)?;
    }
    let (identifier, end) = identify(server, peer, head, bytes, key)?;
    let clear = server.settings.clear_context;
    if !clear {
        context::dtab_key(head, bytes, key);
    }
    let name = router.name(key, identifier, end, head, bytes)?;

    let mut remove = ALWAYS_REMOVED;
    let mut deadline = None;
    if clear {
        remove = remove.with(context::ALL);
    } else if head.has(Known::L5dCtxDeadline) {
        deadline = Deadline::of(head, bytes);
        if deadline.is_some() {
            remove = remove.with(KnownSet::of(&[Known::L5dCtxDeadline]));
        }
    }
    if via {
        remove = remove.with(KnownSet::of(&[Known::Via]));
    }
    write_via(head, bytes, via, extra);
    if let Some(forwarded) = &server.settings.forwarded {
        forwarder.write(forwarded, server, peer, head, bytes, extra);
    }
    if let Some(header) = &server.settings.timestamp_header {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        write_line(extra, header.as_bytes(), millis.to_string().as_bytes());
    }
    extra.extend_from_slice(&name.context);
    let propagator = router.settings.trace_propagator;
    let mut received = propagator.receive(head, bytes, clear, &mut || fastrand::u64(..));
    let wanted = match &router.worker.tracing {
        Some(tracing) => tracing.decide(&mut received),
        None => 0,
    };
    remove = remove.with(propagator.rewritten());
    let ends_here = head.method == Method::Trace && count_down(head, bytes, &mut remove, extra)?;
    let is_buffered = match head.body {
        BodyKind::None => true,
        BodyKind::Length(length) => length <= router.settings.stream_after,
        BodyKind::Chunked | BodyKind::UntilClose => false,
    };
    if is_buffered && matches!(head.body, BodyKind::Length(1..)) {
        // Finagle servers refuse such a request unread only if they know that it can be sent again.
        extra.extend_from_slice(b"finagle-http-retryable-request: \r\n");
    }
    let consumed = router.settings.identifiers[identifier].target(head, bytes, target);
    let edit = RequestOut {
        target: consumed.then_some(&**target),
        remove,
        extra,
        upgrade: head.wants_upgrade,
        ..RequestOut::default()
    };
    head.write(bytes, &edit, out);
    Ok(Request {
        name,
        method: head.method,
        version: head.version,
        keep_alive: keeps_alive(head),
        expect_continue: head.expect_continue,
        wants_upgrade: head.wants_upgrade,
        ends_here,
        wants_context: ends_here && matches!(head.first(bytes, Known::L5dAddContext), Some(b"true" | b"t" | b"1")),
        body: Body::new(head.body),
        is_buffered,
        tail: out.len() - END.len(),
        tail_length: 0,
        trace: received.server,
        trace_state: received.state,
        client_span: 0,
        wanted,
        deadline,
        started: 0,
        drawn: None,
    })
}

/// Finds the request's name: which identifier, and where its part of the key ends.
#[inline]
fn identify(
    server: &Server,
    peer: SocketAddr,
    head: &RequestHead,
    bytes: &[u8],
    key: &mut Vec<u8>,
) -> Result<(usize, usize), Failure> {
    let mut reason = String::new();
    for (number, identifier) in server.router.settings.identifiers.iter().enumerate() {
        key.clear();
        key.push(number as u8);
        match identifier.key(head, bytes, key) {
            Ok(()) => return Ok((number, key.len())),
            Err(Unidentified::Next(why)) => reason = why,
            Err(Unidentified::Failed(why)) => return Err(Failure::new(Kind::Identifier, why)),
        }
    }
    Err(Failure::unidentified(head.method_name(bytes), head.target(bytes), peer, &reason))
}

/// What follows a CONNECT may be meant for the tunnel, so it is no request, whatever the answer is.
pub(crate) fn keeps_alive(head: &RequestHead) -> bool {
    head.keep_alive && head.method != Method::Connect
}

/// The first Via tells how many proxies the request has passed.
fn check_depth(server: &Server, head: &RequestHead, bytes: &[u8]) -> Result<(), Failure> {
    let most = server.settings.max_call_depth;
    let first = head.first(bytes, Known::Via).unwrap_or_default();
    let depth = first.split(|byte| *byte == b',').count();
    if depth > most { Err(Failure::call_depth(most)) } else { Ok(()) }
}

#[inline]
fn write_via(head: &RequestHead, bytes: &[u8], via: bool, extra: &mut Vec<u8>) {
    extra.extend_from_slice(b"via: ");
    if via {
        for value in head.fields.all(bytes, Known::Via) {
            extra.extend_from_slice(value);
            extra.extend_from_slice(b", ");
        }
    }
    extra.extend_from_slice(match head.version {
        Version::Http11 => b"1.1 linkerd\r\n",
        Version::Http10 => b"1.0 linkerd\r\n",
    });
}

/// Max-Forwards of a TRACE: one less, or the end of the way (true).
fn count_down(head: &RequestHead, bytes: &[u8], remove: &mut KnownSet, extra: &mut Vec<u8>) -> Result<bool, Failure> {
    let Some(value) = head.first(bytes, Known::MaxForwards) else {
        return Ok(false);
    };
    let left = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
    let Some(left) = left else {
        return Err(Failure::new(Kind::Request, "Invalid value for Max-Forwards header"));
    };
    let Some(next) = left.checked_sub(1) else {
        return Ok(true);
    };
    *remove = remove.with(KnownSet::of(&[Known::MaxForwards]));
    write_line(extra, b"max-forwards", next.to_string().as_bytes());
    Ok(false)
}

impl Request {
    /// Goes to what was drawn, as a new client span: its lines replace those of the attempt before.
    /// `certificate` is the line that tells of the caller's, for endpoints that are to know of it.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        drawn: &Drawn,
        propagator: TracePropagator,
        certificate: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let trace = self.trace.child(&mut || fastrand::u64(..));
        self.client_span = trace.span;
        let rest = self.tail + self.tail_length;
        // The first time nothing but the end of the head follows.
        let behind = (out.len() > rest + END.len()).then(|| out[rest..].to_vec());
        out.truncate(self.tail);
        trace.write(propagator, self.trace_state.as_deref(), out);
        let attempt = drawn.leaf.client.settings.attempt_timeout;
        let total = self.name.service.settings.total_timeout;
        if attempt.is_some() || total.is_some() || self.deadline.is_some() {
            let deadline = [attempt, total].into_iter().flatten().map(Deadline::within);
            if let Some(strictest) = self.deadline.into_iter().chain(deadline).reduce(Deadline::with) {
                strictest.write(out);
            }
        }
        if let Some(certificate) = certificate
            && drawn.leaf.client.settings.forward_client_cert == Some(true)
        {
            out.extend_from_slice(certificate);
        }
        out.extend_from_slice(&drawn.leaf.lines);
        self.tail_length = out.len() - self.tail;
        out.extend_from_slice(behind.as_deref().unwrap_or(END));
    }

    /// Whether the whole request is in its output buffer, so that it can be sent again.
    pub(crate) fn is_complete(&self) -> bool {
        self.body.is_done()
    }
}
