//! Why a request got no answer from an endpoint: status, `l5d-err`, retryability and metric names all
//! follow from here.
//!
//! Texts are Linkerd 1.7.5's, byte for byte, because people and scripts read them.

use std::net::SocketAddr;
use std::time::Duration;

use http1::{write_error, write_line};
use names::Dtab;

use crate::settings::Limits;

/// Entries of a dtab that an answer shows, and of how many bytes.
const SHOWN_ENTRIES: usize = 1000;
const SHOWN_BYTES: usize = 16 * 1024;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No name, or the identifier failed.
    Unidentified,
    /// An identifier's own exception.
    Identifier,
    /// A dtab header that cannot be read.
    Dtab,
    CallDepth,
    /// Anything else that is wrong with the request.
    Request,
    /// Neg, fail, empty, or no endpoints.
    Unbound,
    /// A namer or the interpreter failed.
    Binding,
    BindingTimeout,
    /// Refused, unreachable or too slow.
    Connect,
    /// This process has run out of something that a connection takes, which says nothing about the endpoint.
    Exhausted,
    /// A TLS connection that did not come about, or broke: mostly a certificate that is not accepted.
    Tls,
    AttemptTimeout,
    TotalTimeout,
    /// The endpoint closed or reset the connection before it had answered.
    Closed,
    /// What the endpoint answered is no HTTP.
    Response,
    /// The endpoint refused the request unread, and there is no budget to try again.
    Nacked,
    /// More requests than the server takes.
    Overload,
    /// More requests wait for a connection than may.
    Waiters,
    /// The endpoint took no connection lately, and `failFast` is set.
    MarkedDown,
    /// The endpoints refuse most requests: this one was not even sent.
    Restrained,
    /// A body that must be held whole, and is too long.
    TooLong,
}

/// A kind and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: Kind,
    pub text: String,
}

/// What an answer to a failure depends on besides the failure.
pub(crate) struct Manner {
    pub limits: Limits,
    pub keep_alive: bool,
    pub head_only: bool,
    pub clear_context: bool,
}

impl Kind {
    pub(crate) fn status(self) -> u16 {
        match self {
            Kind::Unidentified | Kind::Dtab | Kind::CallDepth | Kind::Request => 400,
            Kind::TooLong => 413,
            Kind::AttemptTimeout | Kind::TotalTimeout | Kind::Overload => 503,
            _ => 502,
        }
    }

    /// Whether a retrying classifier may try again: it never got there, or the original says so.
    pub(crate) fn is_retryable(self) -> bool {
        matches!(
            self,
            Kind::Connect
                | Kind::MarkedDown
                | Kind::Exhausted
                | Kind::AttemptTimeout
                | Kind::TotalTimeout
                | Kind::Closed
                | Kind::Nacked
        )
    }

    /// Below `failures/`: the original's exception, so that its dashboards go on working.
    pub(crate) fn exceptions(self) -> &'static [&'static str] {
        match self {
            Kind::Unidentified | Kind::Identifier => {
                &["io.buoyant.linkerd.protocol.http.ErrorResponder$", "io.buoyant.router.RoutingFactory$UnknownDst"]
            }
            Kind::Dtab | Kind::Request => &["com.twitter.finagle.http.BadRequest"],
            Kind::CallDepth => &["io.buoyant.router.http.MaxCallDepthFilter$MaxCallDepthException"],
            Kind::Unbound => &["com.twitter.finagle.naming.buoyant.RichNoBrokersAvailableException"],
            Kind::Binding => &["com.twitter.finagle.naming.BindingException"],
            Kind::BindingTimeout => &["com.twitter.finagle.RequestTimeoutException"],
            Kind::Connect | Kind::Exhausted => {
                &["restartable", "com.twitter.finagle.naming.buoyant.RichConnectionFailedExceptionWithPath"]
            }
            Kind::Tls => &["com.twitter.finagle.SslVerificationFailedException"],
            Kind::AttemptTimeout => &["com.twitter.finagle.IndividualRequestTimeoutException"],
            Kind::TotalTimeout => &["com.twitter.finagle.GlobalRequestTimeoutException"],
            Kind::Closed => &["com.twitter.finagle.ChannelClosedException"],
            Kind::Response => &["com.twitter.finagle.UnknownChannelException"],
            Kind::Nacked => &["rejected", "com.twitter.finagle.FailureFlags"],
            Kind::Overload => &["rejected", "com.twitter.finagle.RequestSemaphoreFilter"],
            Kind::Waiters => &["com.twitter.finagle.TooManyWaitersException"],
            Kind::MarkedDown => &["restartable", "com.twitter.finagle.FailedFastException"],
            Kind::Restrained => &["rejected", "com.twitter.finagle.Failure"],
            Kind::TooLong => &["com.twitter.finagle.http.TooLongMessageException"],
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into() }
    }

    pub(crate) fn unidentified(method: &[u8], target: &[u8], peer: SocketAddr, reason: &str) -> Failure {
        let line = [method, b" ", target].concat();
        let line = String::from_utf8_lossy(&line);
        let text = format!("Unknown destination: Request(\"{line}\", from /{peer}) / {reason}");
        Failure::new(Kind::Unidentified, text)
    }

    pub(crate) fn call_depth(limit: usize) -> Failure {
        let text = format!("Maximum number of calls ({limit}) has been exceeded. Please check for proxy loops.");
        Failure::new(Kind::CallDepth, text)
    }

    /// Template A. The section `dtab:` is always empty, as in the original. `base`: of the router's dtab what
    /// [`shown`] shows.
    pub(crate) fn unbound(name: &str, base: &str, local: &Dtab) -> Failure {
        let local = shown(local);
        let text = format!(
            "Unable to route request!\n\nservice name: {name}\ndtab:\n\nbase dtab:\n{base}override dtab:\n{local}"
        );
        Failure::new(Kind::Unbound, text)
    }

    pub(crate) fn binding_timeout(limit: Duration, name: &str, bound: Option<&str>) -> Failure {
        let limit = duration(limit);
        let text = match bound {
            None => format!("Exceeded {limit} binding timeout while resolving name: {name}"),
            Some(bound) => format!("Exceeded {limit} binding timeout while connecting to {bound} for name: {name}"),
        };
        Failure::new(Kind::BindingTimeout, text)
    }

    /// Template B.
    pub(crate) fn connect(endpoint: SocketAddr, name: &str, client: &str, addresses: &str) -> Failure {
        let text = format!(
            "Unable to establish connection to {endpoint}.\n\nservice name: {name}\nclient name: {client}\n\
             addresses: [{addresses}]\nselected address: {endpoint}\n"
        );
        Failure::new(Kind::Connect, text)
    }

    pub(crate) fn exhausted(endpoint: SocketAddr, error: &std::io::Error) -> Failure {
        let text = format!("Unable to establish connection to {endpoint}: this router is out of resources: {error}");
        Failure::new(Kind::Exhausted, text)
    }

    /// `why` names the check that failed, and both sides of it.
    pub(crate) fn tls(why: &str, endpoint: SocketAddr, client: &str) -> Failure {
        let text = format!(
            "TLS failed at remote address: {}/{endpoint} from service: {}: {why}",
            endpoint.ip(),
            service(client)
        );
        Failure::new(Kind::Tls, text)
    }

    pub(crate) fn attempt_timeout(limit: Duration, client: &str, endpoint: SocketAddr) -> Failure {
        let text = format!(
            "exceeded {} to {} while waiting for a response for an individual request, excluding retries. {}",
            duration(limit),
            service(client),
            remote(endpoint, client)
        );
        Failure::new(Kind::AttemptTimeout, text)
    }

    pub(crate) fn total_timeout(limit: Duration, name: &str) -> Failure {
        let text = format!(
            "exceeded {} to {} while waiting for a response for the request, including retries (if applicable). \
             Remote Info: Not Available",
            duration(limit),
            service(name)
        );
        Failure::new(Kind::TotalTimeout, text)
    }

    pub(crate) fn closed(client: &str, endpoint: SocketAddr) -> Failure {
        let text = format!(
            "ChannelException at remote address: {}/{endpoint} from service: {}. {}",
            endpoint.ip(),
            service(client),
            remote(endpoint, client)
        );
        Failure::new(Kind::Closed, text)
    }

    pub(crate) fn response(error: &str, client: &str, endpoint: SocketAddr) -> Failure {
        let text = format!("{error} at remote address: {}/{endpoint} from service: {}", endpoint.ip(), service(client));
        Failure::new(Kind::Response, text)
    }

    /// `timeoutMs` of a server, which has no name in the original.
    pub(crate) fn server_timeout(limit: Duration) -> Failure {
        let text = format!(
            "exceeded {} to unspecified while waiting for a response for an individual request, excluding retries. \
             Remote Info: Not Available",
            duration(limit),
        );
        Failure::new(Kind::TotalTimeout, text)
    }

    pub(crate) fn marked_down(client: &str) -> Failure {
        let text = format!(
            "Endpoint {} is marked down. For more details see: \
             https://twitter.github.io/finagle/guide/FAQ.html#why-do-clients-see-com-twitter-finagle-failedfastexception-s",
            service(client)
        );
        Failure::new(Kind::MarkedDown, text)
    }

    pub(crate) fn restrained() -> Failure {
        Failure::new(Kind::Restrained, "Request not issued to the backend due to observed overload.")
    }

    /// A request that cannot be held whole.
    pub(crate) fn long_request() -> Failure {
        let most = crate::gather::MOST;
        let text = format!(
            "The request is too long: with `streamingEnabled: false` a message is held whole, up to {most} bytes, \
             as long as there is memory for it."
        );
        Failure::new(Kind::TooLong, text)
    }

    /// An answer that cannot be held whole.
    pub(crate) fn long_response(client: &str) -> Failure {
        let most = crate::gather::MOST;
        let text = format!(
            "The answer of {} is too long: with `streamingEnabled: false` a message is held whole, up to {most} bytes, \
             as long as there is memory for it.",
            service(client)
        );
        Failure::new(Kind::Response, text)
    }

    pub(crate) fn nacked() -> Failure {
        Failure::new(Kind::Nacked, "The request was Nacked by the server")
    }

    /// Appends the whole answer.
    pub(crate) fn write(&self, manner: &Manner, out: &mut Vec<u8>) {
        let mut extra = Vec::with_capacity(256);
        let mut body = self.text.as_bytes();
        if self.kind == Kind::Overload {
            extra.extend_from_slice(b"finagle-http-nack: true\r\nretry-after: 0\r\n");
        } else {
            if !manner.clear_context {
                let mut encoded = form_encoded(&body[..body.len().min(manner.limits.headers)]);
                encoded.truncate(manner.limits.headers);
                write_line(&mut extra, b"l5d-err", &encoded);
            }
            if manner.clear_context {
                body = b"";
            }
            if matches!(self.kind, Kind::Connect | Kind::MarkedDown) && !manner.clear_context {
                extra.extend_from_slice(b"l5d-retryable: true\r\n");
            }
            extra.extend_from_slice(b"content-type: text/plain\r\n");
        }
        if !manner.keep_alive {
            extra.extend_from_slice(b"connection: close\r\n");
        }
        let body = &body[..body.len().min(manner.limits.error)];
        write_error(out, self.kind.status(), &extra, body);
        if manner.head_only {
            out.truncate(out.len() - body.len());
        }
    }
}

/// One entry a line; without entries an empty line. Of a long dtab only the beginning: whoever asks for names
/// that do not exist must not have all of it written each time.
pub(crate) fn shown(dtab: &Dtab) -> String {
    let all = dtab.entries();
    let (mut text, mut many) = (String::new(), 0);
    for entry in all.iter().take(SHOWN_ENTRIES) {
        let line = format!("  {} => {}", entry.prefix, entry.dst);
        if many > 0 && text.len() + line.len() >= SHOWN_BYTES {
            break;
        }
        if many > 0 {
            text.push('\n');
        }
        text.push_str(&line);
        many += 1;
    }
    text.push('\n');
    if all.len() > many {
        text.push_str(&format!("  ... and {} more\n", all.len() - many));
    }
    text
}

/// A name as a client's label in the original: without its slash.
fn service(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

fn remote(endpoint: SocketAddr, client: &str) -> String {
    format!(
        "Remote Info: Upstream Address: Not Available, Upstream id: Not Available, Downstream Address: \
         {}/{endpoint}, Downstream label: {}, Trace Id: Not Available",
        endpoint.ip(),
        service(client)
    )
}

/// As Java's `URLEncoder` does in ISO-8859-1.
fn form_encoded(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len() * 2);
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => encoded.push(*byte),
            b' ' => encoded.push(b'+'),
            other => {
                let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
                encoded.extend([b'%', hex(other >> 4), hex(other & 15)]);
            }
        }
    }
    encoded
}

/// As Twitter's `Duration` shows itself: `10.seconds`, `1.seconds+500.milliseconds`.
pub(crate) fn duration(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    let units: [(&str, u128); 7] = [
        ("days", 86_400_000_000_000),
        ("hours", 3_600_000_000_000),
        ("minutes", 60_000_000_000),
        ("seconds", 1_000_000_000),
        ("milliseconds", 1_000_000),
        ("microseconds", 1_000),
        ("nanoseconds", 1),
    ];
    let mut parts = Vec::new();
    for (name, size) in units {
        if left >= size {
            parts.push(format!("{}.{name}", left / size));
            left %= size;
        }
    }
    if parts.is_empty() { "0.seconds".to_owned() } else { parts.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_the_originals() {
        for (millis, text) in [
            (10_000, "10.seconds"),
            (200, "200.milliseconds"),
            (1_500, "1.seconds+500.milliseconds"),
            (60_000, "1.minutes"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn of_a_long_dtab_the_beginning_is_shown() {
        let dtab = |entry: &str, count: usize| Dtab::read(&entry.repeat(count)).expect("a dtab");
        let text = |entry, count| Failure::unbound("/svc/web", &shown(&dtab(entry, count)), &Dtab::empty()).text;
        assert!(text("/a=>/b;", 1000).ends_with("  /a => /b\noverride dtab:\n\n"));
        assert!(text("/a=>/b;", 1002).ends_with("  /a => /b\n  ... and 2 more\noverride dtab:\n\n"));
        let long = format!("/a=>/{};", "b".repeat(1000));
        assert!(text(&long, 1002).ends_with("  ... and 986 more\noverride dtab:\n\n"));
        assert!(text(&long, 1002).len() < 17 * 1024);
    }

    #[test]
    fn an_answer_says_why_in_header_and_body() {
        let manner = Manner { limits: Limits::default(), keep_alive: false, head_only: false, clear_context: false };
        let mut out = Vec::new();
        Failure::new(Kind::Unbound, "a b\n%").write(&manner, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        assert_eq!(
            text,
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\nl5d-err: a+b%0A%25\r\ncontent-type: text/plain\r\n\
             connection: close\r\n\r\na b\n%"
        );
    }
}
