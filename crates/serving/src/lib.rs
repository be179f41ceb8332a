//! The ports of our own servers: the control plane's interfaces, the admin servers, the pipeline server. They
//! speak HTTP/1.1, and whoever comes in can take only so much:
//!
//! ```text
//!  bind ─▶ [place] ─▶ door, TLS ─▶ head ─▶ body ─▶ routes ─▶ answer ─▶ head …
//!           count      in time    in time  in time,          for as long as it likes,
//!                                          and length        while it is read
//! ```
//!
//! Answers may be streams of changes that say nothing for hours: they are not bounded in time. Who asks for one
//! and does not read it is cut off. Not here: the router's data plane, which has an engine of its own, and routes,
//! which the caller brings.

#![forbid(unsafe_code)]

mod body;
mod connection;
mod counts;
mod options;
mod timed;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use counts::Counts;
pub use options::{BadOption, SocketOptions, bind};

/// Who is at the other end of the connection; in each request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What the connections of one port may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At a time; more wait in the kernel's queue.
    pub connections: usize,
    /// For what comes before HTTP: a look through the door, a TLS handshake.
    pub admitted_within: Duration,
    /// For a head, and idle between requests.
    pub head_within: Duration,
    /// Of a request, unless `body_of` says otherwise.
    pub body: Whole,
    /// What holds for a request with this head, where the port's own is the second argument.
    pub body_of: fn(&Parts, Whole) -> Body,
    /// Bytes of all bodies that are held at a time, until their requests are answered.
    pub bodies: usize,
    /// In which bytes that wait to be sent must move, where the socket's options do not say.
    pub written_within: Duration,
    /// In which the answer must move for a client that closed its side: it may be gone.
    pub half_closed_within: Duration,
}

/// A body that is read before anybody looks at its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// At most; 413 beyond.
    pub bytes: usize,
    /// 408 beyond.
    pub within: Duration,
}

/// How a request's body is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Whole(Whole),
    /// The route reads it as it comes, for as long as it likes, and looks itself after one that stands still.
    Streamed,
}

impl Default for Bounds {
    /// For people, scrapes and tools: a thousand connections, short bodies, half a minute for everything.
    fn default() -> Bounds {
        let patience = Duration::from_secs(30);
        Bounds {
            connections: 1024,
            admitted_within: patience,
            head_within: patience,
            body: Whole { bytes: 4 << 20, within: patience },
            body_of: |_, whole| Body::Whole(whole),
            bodies: 128 << 20,
            written_within: patience,
            // As in a router.
            half_closed_within: Duration::from_secs(5),
        }
    }
}

/// Looks at a connection before TLS and HTTP; an error refuses it.
pub type Door = Arc<dyn Fn(TcpStream) -> Admitted + Send + Sync>;
/// What a [`Door`] answers.
pub type Admitted = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// How a request is answered whose body was not taken: status, and a line for people.
pub type Refusal = fn(StatusCode, String) -> Response;

/// A listening socket, and how its connections are.
pub struct Port {
    pub listener: TcpListener,
    pub options: SocketOptions,
    pub bounds: Bounds,
    pub tls: Option<tls::server::Live>,
    pub door: Option<Door>,
    pub counts: Counts,
    pub refusal: Refusal,
}

/// After a connection could not be accepted: there are too many open files, most likely.
const PAUSE: Duration = Duration::from_millis(20);

impl Port {
    /// Without TLS, within the default bounds.
    #[must_use]
    pub fn new(listener: TcpListener) -> Port {
        Port {
            listener,
            options: SocketOptions::default(),
            bounds: Bounds::default(),
            tls: None,
            door: None,
            counts: Counts::default(),
            refusal: |status, text| (status, text + "\n").into_response(),
        }
    }

    /// Serves until `closing`: then the port is closed, and each connection ends after the answer that is under
    /// way. Connections are tasks of `tracker`. `routes` are asked for at each request, so that they can change.
    pub async fn serve<R>(self, routes: R, closing: CancellationToken, tracker: TaskTracker)
    where
        R: Fn() -> Router + Clone + Send + Sync + 'static,
    {
        let Port { listener, options, bounds, tls, door, counts, refusal } = self;
        let places = Arc::new(Semaphore::new(bounds.connections));
        let terms = Arc::new(connection::Terms {
            head_within: bounds.head_within,
            body: bounds.body,
            body_of: bounds.body_of,
            budget: body::Budget::of(bounds.bodies),
            times: timed::Times {
                read: options.read_timeout(),
                write: options.write_timeout().unwrap_or(bounds.written_within),
                half_closed: bounds.half_closed_within,
            },
            counts: counts.clone(),
            refusal,
        });
        loop {
            let place = tokio::select! {
                place = place(&places, &counts) => place,
                () = closing.cancelled() => return,
            };
            let Some(place) = place else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = closing.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, or a connection that is gone already.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(options.no_delay) {
                tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
            }
            let open = counts.opened();
            let admitted = admit(stream, door.clone(), tls.clone(), bounds.admitted_within);
            let (terms, routes, closing) = (terms.clone(), routes.clone(), closing.clone());
            tracker.spawn(async move {
                let admitted = tokio::select! {
                    admitted = admitted => admitted,
                    () = closing.cancelled() => return,
                };
                match admitted {
                    Ok(stream) => connection::serve(stream, Peer(peer), terms, routes, closing).await,
                    Err(error) => {
                        terms.counts.not_admitted();
                        tracing::debug!(%peer, %error, "a connection was not accepted");
                    }
                }
                drop((place, open));
            });
        }
    }
}

async fn place(places: &Arc<Semaphore>, counts: &Counts) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    counts.full();
    places.clone().acquire_owned().await.ok()
}

async fn admit(
    stream: TcpStream,
    door: Option<Door>,
    tls: Option<tls::server::Live>,
    within: Duration,
) -> io::Result<tls::listen::Stream> {
    let admitted = async {
        let stream = match &door {
            Some(door) => door(stream).await?,
            None => stream,
        };
        tls::listen::accept(stream, tls.as_ref()).await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing to serve within {within:?}"));
    tokio::time::timeout(within, admitted).await.unwrap_or_else(|_| Err(late()))
}
