//! Connections to the control plane.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, ConfiguredInterpreter, Interpreter, Live, Namers, State};
use socket2::{SockRef, TcpKeepalive};
use tls::client::Naming;
use tls::rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use causes::chain;

use super::Kind;

pub(super) type OutBody = BoxBody<Bytes, std::convert::Infallible>;

/// How long a connection, and the head of an answer, may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Where the control plane is: a name, resolved live.
pub(super) struct Dst {
    shown: String,
    tree: Live<BoundTree>,
    secured: Option<Secured>,
    /// What to say besides when the other side does not speak HTTP.
    hint: &'static str,
}

/// How connections are encrypted.
pub(super) struct Secured {
    live: tls::client::Live,
    name: Option<ServerName<'static>>,
    reloader: tls::Reloader,
}

impl Secured {
    /// Reads the files, and again whenever they change.
    pub(super) fn new(config: &tls::client::Config) -> Result<Secured, tls::Error> {
        let reloader = tls::Reloader::default();
        let live = tls::client::Live::start(config, Naming::CommonName, "interpreter.tls", &reloader)?;
        let name = config.common_name.as_deref().map(tls::client::server_name).transpose()?;
        Ok(Secured { live, name, reloader })
    }

    fn for_address(&self, address: SocketAddr) -> (&tls::client::Live, ServerName<'static>) {
        let name = self.name.clone().unwrap_or_else(|| tls::client::nameless(address.ip()));
        (&self.live, name)
    }

    /// Why the files as they are now are not in use.
    fn stale(&self) -> Option<String> {
        self.reloader.status().into_iter().find_map(|status| status.stale)
    }
}

impl Dst {
    pub(super) fn new(path: &Path, namers: &Namers, secured: Option<Secured>) -> Dst {
        let tree = ConfiguredInterpreter::new(None, namers.clone()).bind(&Dtab::empty(), path);
        Dst { shown: path.show(), tree, secured, hint: "" }
    }

    /// The same under one of the original's kinds.
    pub(super) fn called(self, kind: Kind) -> Dst {
        let hint = match kind {
            Kind::Http => "",
            Kind::Thrift | Kind::Mesh => {
                " (HTTP is spoken here: a Namerd is asked by interpreter kind io.l5d.namerd.http, \
                  at the port of its io.l5d.httpController, 4180)"
            }
        };
        Dst { hint, ..self }
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Why changed certificates are not in use, if so.
    pub(super) fn stale_certificates(&self) -> Option<String> {
        self.secured.as_ref().and_then(Secured::stale)
    }

    /// One of its addresses as they are now.
    async fn address(&self) -> Result<SocketAddr, String> {
        let mut leaf = match self.tree.clone().settled().await {
            State::Ok(tree) => first_leaf(&tree).cloned().ok_or_else(|| format!("{} does not exist", self.shown))?,
            State::Failed(why) => return Err(why.to_string()),
            State::Pending => return Err("not known".to_owned()),
        };
        match leaf.settled().await {
            State::Ok(Addr::Bound { endpoints, .. }) => {
                let drawn = fastrand::usize(..endpoints.len().max(1));
                let endpoint = endpoints.get(drawn).ok_or_else(|| format!("{} has no address", self.shown))?;
                Ok(endpoint.addr)
            }
            State::Ok(Addr::Failed(why)) | State::Failed(why) => Err(why.to_string()),
            State::Ok(_) | State::Pending => Err(format!("{} has no address", self.shown)),
        }
    }

    /// Sends a request on a connection of its own; its answer, and who gave it.
    pub(super) async fn send(&self, mut request: Request<OutBody>) -> Result<(Response<Incoming>, SocketAddr), String> {
        let sent = async {
            let address = self.address().await?;
            let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
            let ready = stream.set_nodelay(true).and_then(|()| {
                // A peer that vanished is noticed also where nothing is to be sent.
                let keepalive = TcpKeepalive::new().with_time(WITHIN).with_interval(Duration::from_secs(2));
                SockRef::from(&stream).set_tcp_keepalive(&keepalive.with_retries(3))
            });
            ready.map_err(|error| format!("{address}: {error}"))?;
            let secured = self.secured.as_ref().map(|secured| secured.for_address(address));
            let stream = tls::listen::connect(stream, secured).await;
            let stream = stream.map_err(|error| format!("{address}: TLS: {error}"))?;
            let host = HeaderValue::from_str(&address.to_string()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(header::HOST, host);
            let broken = |error: hyper::Error| format!("{address}: {}{}", chain(&error), self.hint);
            let (mut sender, connection) =
                http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(broken)?;
            // It ends with the answer's body or the peer, whichever is first.
            tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(broken)?;
            Ok((response, address))
        };
        match tokio::time::timeout(WITHIN, sent).await {
            Ok(sent) => sent,
            Err(_) => Err(format!("no answer within five seconds{}", self.hint)),
        }
    }
}

fn first_leaf(tree: &BoundTree) -> Option<&Live<Addr>> {
    match tree {
        NameTree::Leaf(bound) => Some(&bound.addr),
        NameTree::Alt(trees) => trees.iter().find_map(first_leaf),
        NameTree::Union(branches) => branches.iter().find_map(|branch| first_leaf(&branch.tree)),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => None,
    }
}

/// A body in memory.
pub(super) fn full(bytes: impl Into<Bytes>) -> OutBody {
    Full::new(bytes.into()).boxed()
}

/// A GET.
pub(super) fn get(target: &str) -> Result<Request<OutBody>, String> {
    Request::get(target).body(full("")).map_err(|error| error.to_string())
}

/// A query parameter's value.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A part of a target's path. Namespaces go on the wire as they are where that is possible: the
/// original does not decode them.
pub(super) fn segment(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b' ').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

/// Pauses that grow.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    base: Duration,
    max: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
    }
}

impl Backoff {
    pub(super) fn new(base: Duration, max: Duration) -> Backoff {
        Backoff { base, max, next: base }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.base;
    }

    /// The next pause: between half of it and all of it, so that routers do not come all at once.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        whole.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}
