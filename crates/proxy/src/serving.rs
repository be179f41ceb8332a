//! What a worker serves: its routers, their servers and the sockets of those. A reload replaces the parts
//! that changed around sockets and connections that stay.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

use crate::router::Router;
use crate::server::{self, Server};
use crate::thread::{Part, ServerPart, Stop};
use crate::worker::Worker;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Served {
    pub routers: Vec<Rc<Router>>,
    /// By the key of their sockets.
    places: HashMap<u64, Place>,
}

/// A server that accepts.
struct Place {
    server: Rc<Server>,
    accepting: Vec<(Rc<TcpListener>, JoinHandle<()>)>,
}

impl Place {
    fn begin(server: Rc<Server>, listeners: Vec<Rc<TcpListener>>) -> Place {
        let accept = |listener: Rc<TcpListener>| {
            let task = spawn_local(server::accept(server.clone(), listener.clone()));
            (listener, task)
        };
        Place { accepting: listeners.into_iter().map(accept).collect(), server }
    }

    /// Its sockets, which nobody accepts from until the next place begins. Nothing is lost: a connection is
    /// taken from the socket and given a task in one step.
    fn end(self) -> (Rc<Server>, Vec<Rc<TcpListener>>) {
        let listeners = self.accepting.into_iter().map(|(listener, task)| {
            task.abort();
            listener
        });
        (self.server, listeners.collect())
    }

    async fn close(self) {
        let closing = self.accepting.into_iter().map(|(listener, task)| {
            let server = self.server.clone();
            spawn_local(server::close(server, listener, task))
        });
        for closed in closing.collect::<Vec<_>>() {
            // It neither panics nor is it aborted.
            let _ = closed.await;
        }
    }
}

impl Served {
    /// Serves these parts, and only these.
    ///
    /// # Errors
    /// A socket that cannot be waited for. Nothing has changed then.
    pub(crate) fn apply(&mut self, worker: &Rc<Worker>, parts: Vec<Part>) -> io::Result<()> {
        let mut given = HashMap::new();
        let parts = parts.into_iter().map(|mut part| {
            for server in &mut part.servers {
                let listeners = std::mem::take(&mut server.listeners).into_iter();
                let listeners = listeners.map(|listener| TcpListener::from_std(listener).map(Rc::new));
                given.insert(server.key, listeners.collect::<io::Result<Vec<_>>>()?);
            }
            Ok(part)
        });
        let parts = parts.collect::<io::Result<Vec<_>>>()?;
        let (mut before, old_routers) = (std::mem::take(&mut self.places), std::mem::take(&mut self.routers));
        for part in parts {
            let old = old_routers.iter().find(|router| router.settings.label == part.settings.label);
            let router = match old.filter(|_| part.is_unchanged) {
                Some(old) => old.clone(),
                None => {
                    let secrets = part.secrets.clone();
                    let old = old.map(|old| &**old);
                    Router::new(worker, part.settings, part.interpreter, part.directory, secrets, part.log, old)
                }
            };
            let servers = router.settings.servers.iter().zip(&part.secrets.servers).zip(part.servers);
            for ((settings, tls), server) in servers {
                let ServerPart { key, under_way, closes_old, .. } = server;
                let old = before.remove(&key);
                let place = match old {
                    Some(old) if part.is_unchanged => old,
                    old => {
                        let new = Server::new(&router, settings, tls.as_ref(), &under_way);
                        let mut listeners = given.remove(&key).unwrap_or_default();
                        if let Some((old, kept)) = old.map(Place::end) {
                            if closes_old {
                                old.leave()
                            } else {
                                old.replace(&new)
                            }
                            listeners.extend(kept);
                        }
                        Place::begin(new, listeners)
                    }
                };
                self.places.insert(key, place);
            }
            self.routers.push(router);
        }
        for router in old_routers {
            if !self.routers.iter().any(|new| new.settings.label == router.settings.label) {
                router.leave();
            }
        }
        for gone in before.into_values() {
            gone.server.leave();
            spawn_local(gone.close());
        }
        worker.wake_all();
        Ok(())
    }

    /// Accepts nothing more.
    pub(crate) async fn stop(&mut self, stop: Stop) {
        let mut closing = Vec::new();
        for (_, place) in self.places.drain() {
            match stop {
                Stop::Close => closing.push(spawn_local(place.close())),
                Stop::HandedOver => drop(place.end()),
            }
        }
        for closed in closing {
            // It neither panics nor is it aborted.
            let _ = closed.await;
        }
    }
}
