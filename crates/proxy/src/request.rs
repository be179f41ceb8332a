//! From a parsed head to a request that is ready to go: name, context and outgoing head.
//!
//! Runs without waiting, while the head still lies in the read buffer. Afterwards nothing of that buffer
//! is needed: the outgoing head holds all that goes on, except the lines of the client, which is drawn
//! later, and drawn again for each retry, and those of the client's span. They come last, at [`Request::tail`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http1::{Body, BodyKind, Form, Known, KnownSet, Method, RequestHead, RequestOut, Version, write_line};

use telemetry::spans::Wanted;

use crate::authority::Renamed;
use crate::compress::Coding;
use crate::context::{self, Deadline};
use crate::failure::{Failure, Kind};
use crate::forwarded::Forwarder;
use crate::gather::{self, Held};
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
    /// A TRACE that goes on asks for the same in its answer.
    pub adds_context: bool,
    /// Its answer goes on whole.
    pub gathers: bool,
    /// Its chunked body is read whole, and gets a length.
    pub measures: bool,
    /// How its answer may be compressed.
    pub coding: Option<Coding>,
    /// Another Host goes on than the client's.
    pub renamed: Option<Box<Renamed>>,
    /// Room for its body, if that is long.
    pub held: Option<Held>,
    /// `timeoutMs` of its server.
    pub server_timeout: Option<Duration>,
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
) -> Result<Box<Request>, Failure> {
    let Scratch { key, extra, target } = scratch;
    key.clear();
    extra.clear();
    target.clear();
    let router = &server.router;
    let via = head.has(Known::Via);
    if via {
        check_depth(server, head, bytes).map_err(|failure| after_dtab(server, head, bytes, failure))?;
    }
    let (identifier, end) =
        identify(server, peer, head, bytes, key).map_err(|failure| after_dtab(server, head, bytes, failure))?;
    let clear = server.settings.clear_context;
    if !clear {
        context::dtab_key(head, bytes, key);
    }
    let name = router.name(key, identifier, end, head, bytes).map_err(|failure| match failure.kind {
        Kind::Unidentified => Failure::unidentified(head.method_name(bytes), head.target(bytes), peer, &failure.text),
        _ => failure,
    })?;

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
    let (is_buffered, held) = buffering(server, head)?;
    let measures = is_buffered && head.body == BodyKind::Chunked;
    if is_buffered && matches!(head.body, BodyKind::Length(1..) | BodyKind::Chunked) {
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
    let adds_context = head.method == Method::Trace && !clear && wants_context(head, bytes);
    let settings = &router.settings;
    // It changes hands four times: in a box that costs less than being copied.
    Ok(Box::new(Request {
        name,
        method: head.method,
        version: head.version,
        keep_alive: keeps_alive(head),
        expect_continue: head.expect_continue,
        wants_upgrade: head.wants_upgrade,
        ends_here,
        wants_context: ends_here && adds_context,
        adds_context: adds_context && !ends_here,
        gathers: adds_context || !settings.streaming,
        measures,
        coding: if settings.compression.is_some() { Coding::wanted(head, bytes) } else { None },
        renamed: None,
        held,
        server_timeout: server.settings.timeout,
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
    }))
}

/// Whether the body is read whole before the request goes on, and the room for it.
#[inline]
fn buffering(server: &Server, head: &RequestHead) -> Result<(bool, Option<Held>), Failure> {
    let settings = &server.router.settings;
    match head.body {
        BodyKind::None => Ok((true, None)),
        BodyKind::Length(length) if length <= settings.stream_after && length <= gather::SHORT => Ok((true, None)),
        // An upgrade or a CONNECT has no body; what follows is a tunnel's.
        _ if settings.streaming => match head.body {
            BodyKind::Length(length) if length <= settings.stream_after => {
                let held = server.router.worker.hoard.hold(length);
                Ok((held.is_some(), held))
            }
            _ => Ok((false, None)),
        },
        _ => {
            let length = if let BodyKind::Length(length) = head.body { length } else { 0 };
            let held = server.router.worker.hoard.hold(length).filter(|_| length <= gather::MOST);
            held.map(|held| (true, Some(held))).ok_or_else(Failure::long_request)
        }
    }
}

/// `l5d-add-context`
fn wants_context(head: &RequestHead, bytes: &[u8]) -> bool {
    let value = head.first(bytes, Known::L5dAddContext).unwrap_or_default();
    value == b"1" || value.eq_ignore_ascii_case(b"t") || value.eq_ignore_ascii_case(b"true")
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
        let cleared = server.settings.clear_context && identifier.reads_context();
        let found = if cleared { Err(identifier.absent()) } else { identifier.key(head, bytes, key) };
        match found {
            Ok(()) => return Ok((number, key.len())),
            Err(Unidentified::Next(why)) => reason = why,
            Err(Unidentified::Failed(why)) => return Err(Failure::new(Kind::Identifier, why)),
        }
    }
    Err(Failure::unidentified(head.method_name(bytes), head.target(bytes), peer, &reason))
}

/// A dtab that cannot be read is told before anything else, as in the original, whose server reads it first.
#[cold]
fn after_dtab(server: &Server, head: &RequestHead, bytes: &[u8], failure: Failure) -> Failure {
    if server.settings.clear_context {
        return failure;
    }
    match context::dtab(head, bytes) {
        Err(error) => Failure::new(Kind::Dtab, error.message),
        Ok(_) => failure,
    }
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
pub(crate) fn write_via(head: &RequestHead, bytes: &[u8], via: bool, extra: &mut Vec<u8>) {
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
    let left = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i32>().ok());
    let Some(left) = left else {
        return Err(Failure::new(Kind::Request, "Invalid value for Max-Forwards header"));
    };
    let next = match left {
        0 => return Ok(true),
        // Goes on as it came, as in the original.
        ..0 => return Ok(false),
        left => left - 1,
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
        let server = self.server_timeout;
        if attempt.is_some() || total.is_some() || server.is_some() || self.deadline.is_some() {
            let deadline = [attempt, total, server].into_iter().flatten().map(Deadline::within);
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

    /// How its body goes to the endpoint.
    #[inline]
    pub(crate) fn form(&self) -> Form {
        if self.measures { Form::Payload } else { Form::Pass }
    }

    /// A chunked body is whole: it goes on with a length.
    pub(crate) fn measure(&mut self, out: &mut Vec<u8>) {
        self.measures = false;
        let length = out.len() - self.tail - self.tail_length - END.len();
        let head = &out[..self.tail];
        let mut kept = Vec::with_capacity(head.len() + 32);
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let is_named = |name: &[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
            if !is_named(b"transfer-encoding:") && !is_named(b"content-length:") {
                kept.extend_from_slice(line);
            }
        }
        write_line(&mut kept, b"content-length", length.to_string().as_bytes());
        let tail = kept.len();
        out.splice(..self.tail, kept);
        self.tail = tail;
    }

    /// Whether the whole request is in its output buffer, so that it can be sent again.
    pub(crate) fn is_complete(&self) -> bool {
        self.body.is_done()
    }
}
