//! The client's task: follows, and connects again whenever that ends.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use names::Path;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Mode, Status,
    book::{Book, Noted},
    connection::{Backoff, Dst, encoded, segment},
    identity::Identity,
    watch,
};
use crate::follow::{
    KEEP_ALIVE, SILENCE, STUCK,
    lines::{Lines, Outbox},
    wire::{Bind, FromControl, FromRouter},
};

pub(super) struct Task {
    pub(super) dst: Arc<Dst>,
    pub(super) namespace: Arc<str>,
    pub(super) identity: Identity,
    pub(super) backoff: Backoff,
    pub(super) status: Arc<Mutex<Status>>,
}

/// Why a stream ended.
pub(super) enum End {
    /// Connect again.
    Broken(String),
    /// Nobody reads any more, or the process ends.
    Over,
}

/// A stream that lasted so long was a success: the pauses start small again.
const LASTED: Duration = Duration::from_secs(2);

/// Pieces that wait for the connection.
const PIECES: usize = 2;

impl Task {
    pub(super) async fn run(mut self, mut book: Book) {
        let _token = self.identity.farewell.streams.token();
        let said = self.identity.farewell.said.clone();
        loop {
            let begun = Instant::now();
            let end = tokio::select! {
                end = self.once(&mut book) => end,
                // While nothing is connected; a stream says goodbye itself.
                () = async {
                    said.cancelled().await;
                    tokio::time::sleep(KEEP_ALIVE).await;
                } => End::Over,
            };
            let End::Broken(why) = end else { break };
            tracing::warn!(
                dst = self.dst.shown(),
                namespace = &*self.namespace,
                router = self.identity.router,
                why,
                "no control plane; names already bound are served as they were"
            );
            book.stale(&format!("no control plane at {}: {why}", self.dst.shown()));
            self.note(|status| {
                *status = Status { mode: Mode::Connecting, connected_to: None, last_end: Some(why), ..*status }
            });
            if begun.elapsed() > LASTED {
                self.backoff.reset();
            }
            let pause = tokio::time::sleep(self.backoff.pause());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = said.cancelled() => return,
                    noted = book.asked() => if matches!(noted, Noted::Over) {
                        return;
                    },
                }
            }
        }
    }

    fn connected(&self, mode: Mode, address: SocketAddr) {
        self.note(|status| {
            status.mode = mode;
            status.connected_to = Some(address);
            status.connects += 1;
        });
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        // Plain values: a panic elsewhere leaves them whole.
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Connects and follows until that ends.
    async fn once(&self, book: &mut Book) -> End {
        let (sender, receiver) = mpsc::channel::<Bytes>(PIECES);
        let pieces = ReceiverStream::new(receiver).map(|piece| Ok(Frame::data(piece)));
        let mut target = format!(
            "/api/1/follow/{}?router={}&process={}",
            segment(&self.namespace),
            encoded(&self.identity.router),
            encoded(&self.identity.process)
        );
        if let Some(admin) = &self.identity.admin {
            target.push_str(&format!("&admin={}", encoded(admin)));
        }
        let request = HttpRequest::post(target)
            .header(http::header::CONTENT_TYPE, "application/x-ndjson")
            .body(BodyExt::boxed(StreamBody::new(pieces)));
        let request = match request {
            Ok(request) => request,
            Err(error) => return End::Broken(error.to_string()),
        };
        let (response, address) = match self.dst.send(request).await {
            Ok(answered) => answered,
            Err(why) => return End::Broken(why),
        };
        match response.status() {
            StatusCode::OK => {
                self.connected(Mode::Follow, address);
                let mut stream = Follow { book, outbox: Outbox::new(sender), unsent: VecDeque::new(), ready: false };
                stream.serve(response.into_body(), &self.identity).await
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                drop(sender);
                self.connected(Mode::Watch, address);
                watch::serve(self, book).await
            }
            status => End::Broken(format!("{address} answers {status} to a follow")),
        }
    }
}

/// One stream.
struct Follow<'a> {
    book: &'a mut Book,
    outbox: Outbox,
    /// Names to ask for.
    unsent: VecDeque<u64>,
    /// Everything that was there at the start has been asked for.
    ready: bool,
}

impl Follow<'_> {
    async fn serve(&mut self, body: Incoming, identity: &Identity) -> End {
        self.book.begin();
        self.unsent = self.book.ids().collect();
        let mut lines = Lines::new(body.into_data_stream());
        let mut heard = Instant::now();
        let mut ticks = tokio::time::interval(KEEP_ALIVE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let broken = |why: &str| End::Broken(why.to_owned());
        loop {
            self.ask();
            tokio::select! {
                // Late words of the control plane do not count any more.
                () = identity.farewell.said.cancelled() => return self.say_goodbye().await,
                line = lines.next() => match line {
                    Ok(Some(line)) => {
                        heard = Instant::now();
                        if let Err(why) = self.hear(&line) {
                            return End::Broken(why);
                        }
                    }
                    Ok(None) => return broken("it ended the stream"),
                    Err(error) => return End::Broken(error.to_string()),
                },
                noted = self.book.asked() => match noted {
                    Noted::Bound(id) => self.unsent.push_back(id),
                    Noted::Unbound(id) => self.outbox.put(&FromRouter::Unbind(id)),
                    Noted::Anew => {}
                    Noted::Over => return self.say_goodbye().await,
                },
                sent = self.outbox.send(), if !self.outbox.is_empty() => if sent.is_err() {
                    return broken("the connection was closed");
                },
                _ = ticks.tick() => {
                    if heard.elapsed() > SILENCE {
                        return broken("nothing heard for five seconds");
                    }
                    if self.outbox.stuck_since().is_some_and(|since| since.elapsed() > STUCK) {
                        return broken("it has not read for fifteen seconds");
                    }
                    self.outbox.keep_alive();
                }
            }
        }
    }

    /// Asks for what has not been asked for, as far as there is room.
    fn ask(&mut self) {
        while self.outbox.has_room() {
            let Some(id) = self.unsent.pop_front() else { break };
            let Some(name) = self.book.name(id) else { continue };
            self.outbox.put(&FromRouter::Bind(Bind {
                id,
                path: name.key.path.show(),
                dtab: name.key.local.show_exact(),
                held: name.is_held(),
            }));
        }
        if !self.ready && self.unsent.is_empty() {
            self.ready = true;
            self.outbox.put(&FromRouter::Ready);
        }
    }

    fn hear(&mut self, line: &Bytes) -> Result<(), String> {
        if line.is_empty() {
            self.book.confirmed();
            return Ok(());
        }
        let message: FromControl = serde_json::from_slice(line).map_err(|error| format!("it sends {error}"))?;
        let path = |text: &str| Path::read(text).map_err(|error| format!("it sends {error}"));
        match message {
            FromControl::Hello { .. } => {}
            FromControl::Tree { id, tree } => self.book.tree(id, |leaf| tree.read(&mut |a, b, c| leaf(a, b, c)))?,
            FromControl::Failed { id, why } => self.book.failed(id, &why),
            FromControl::Addr { id, addr } => self.book.addr(path(&id)?, addr.read()),
            FromControl::Drop(id) => self.book.drop_addr(&path(&id)?),
            FromControl::Version(version) => {
                // Everything before it is published: this is the moment at which it is served.
                self.book.serves(version.as_deref());
                self.book.tidy();
                self.outbox.put(&FromRouter::Ack(version));
            }
            FromControl::Refused(why) => return Err(format!("it refuses: {why}")),
        }
        Ok(())
    }

    async fn say_goodbye(&mut self) -> End {
        self.outbox.put(&FromRouter::Bye);
        // Whoever does not read it finds out by our silence.
        if tokio::time::timeout(KEEP_ALIVE, self.outbox.send()).await.is_ok_and(|sent| sent.is_ok()) {
            // The connection's own task writes it; it closes the channel when the other side has ended.
            let _ = tokio::time::timeout(KEEP_ALIVE, self.outbox.closed()).await;
        }
        End::Over
    }
}
