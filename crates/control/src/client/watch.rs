//! The fallback: the original's watch streams, one for each name and one for each bound id.
//!
//! A stream that cannot be opened, or ends without a word, ends all of them: everything is then asked
//! for anew, by following first. A line that is no JSON is how the original says that a name fails; that
//! name alone is asked for again, later and later.

use std::{collections::HashMap, sync::Arc};

use http_body_util::BodyExt;
use names::Path;
use naming::{Addr, State};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Key,
    book::{Book, Noted, leads_to},
    connection::{Backoff, Dst, encoded, get, segment},
    follow::{End, Task},
    read,
};
use crate::follow::lines::Lines;

/// What a stream tells.
enum Event {
    Tree(u64, Value),
    Failed(u64, String),
    Addr(Path, State<Addr>),
    Broken(String),
}

/// Events that wait: streams stand still meanwhile.
const WAITING: usize = 64;

struct Watch<'a> {
    task: &'a Task,
    book: &'a mut Book,
    streams: JoinSet<()>,
    names: HashMap<u64, (AbortHandle, Vec<Path>)>,
    /// With the number of names that lead there.
    addrs: HashMap<Path, (AbortHandle, usize)>,
    events: mpsc::Sender<Event>,
}

/// Watches until something breaks.
pub(super) async fn serve(task: &Task, book: &mut Book) -> End {
    book.begin();
    let (events, mut told) = mpsc::channel(WAITING);
    let mut watch = Watch { task, book, streams: JoinSet::new(), names: HashMap::new(), addrs: HashMap::new(), events };
    let ids: Vec<u64> = watch.book.ids().collect();
    ids.into_iter().for_each(|id| watch.name(id));
    watch.book.in_touch();
    let said = task.identity.farewell.said.clone();
    loop {
        tokio::select! {
            () = said.cancelled() => return End::Over,
            noted = watch.book.asked() => match noted {
                Noted::Bound(id) => watch.name(id),
                Noted::Unbound(id) => watch.forget(id),
                Noted::Anew => {}
                Noted::Over => return End::Over,
            },
            // The watch itself holds a sender.
            Some(event) = told.recv() => if let Err(why) = watch.told(event) {
                return End::Broken(why);
            },
            // Ended streams are only swept up.
            Some(_) = watch.streams.join_next() => {}
        }
    }
}

impl Watch<'_> {
    fn name(&mut self, id: u64) {
        let Some(name) = self.book.name(id) else { return };
        let stream =
            bind(self.task.dst.clone(), self.task.namespace.clone(), id, name.key.clone(), self.events.clone());
        let handle = self.streams.spawn(stream);
        self.names.insert(id, (handle, Vec::new()));
    }

    fn forget(&mut self, id: u64) {
        if let Some((handle, ids)) = self.names.remove(&id) {
            handle.abort();
            self.release(ids);
        }
    }

    fn release(&mut self, ids: Vec<Path>) {
        for id in ids {
            let Some((handle, names)) = self.addrs.get_mut(&id) else { continue };
            *names -= 1;
            if *names == 0 {
                handle.abort();
                self.addrs.remove(&id);
                self.book.drop_addr(&id);
            }
        }
    }

    fn told(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Broken(why) => return Err(why),
            Event::Failed(id, why) => self.book.failed(id, &why),
            Event::Addr(id, state) => {
                if self.addrs.contains_key(&id) {
                    self.book.addr(id, state);
                }
            }
            Event::Tree(id, value) => self.tree(id, &value)?,
        }
        self.book.confirmed();
        Ok(())
    }

    fn tree(&mut self, id: u64, value: &Value) -> Result<(), String> {
        if !self.names.contains_key(&id) {
            return Ok(());
        }
        let mut shown = Vec::new();
        read::addrs_in(value, &mut shown)?;
        for (bound_id, state) in shown {
            // What its own stream tells is newer.
            if !self.addrs.contains_key(&bound_id) {
                self.book.addr(bound_id, state);
            }
        }
        let mut leads = Vec::new();
        self.book.tree(id, |leaf| {
            let tree = read::tree(value, leaf)?;
            leads_to(&tree, &mut leads);
            Ok::<_, String>(tree)
        })?;
        for bound_id in &leads {
            match self.addrs.get_mut(bound_id) {
                Some((_, names)) => *names += 1,
                None => {
                    let stream =
                        addr(self.task.dst.clone(), self.task.namespace.clone(), bound_id.clone(), self.events.clone());
                    let handle = self.streams.spawn(stream);
                    self.addrs.insert(bound_id.clone(), (handle, 1));
                }
            }
        }
        let left = self.names.get_mut(&id).map(|(_, ids)| std::mem::replace(ids, leads)).unwrap_or_default();
        self.release(left);
        Ok(())
    }
}

/// How a stream ended.
enum Ended {
    /// It said why in a line that is no JSON.
    Said(String),
    Broken(String),
}

/// Opens one stream and sends each JSON line as what `event` makes of it.
async fn open(
    dst: &Dst,
    target: &str,
    events: &mpsc::Sender<Event>,
    event: impl Fn(Value) -> Result<Event, String>,
) -> Ended {
    let (response, address) = match get(target) {
        Ok(request) => match dst.send(request).await {
            Ok(answered) => answered,
            Err(why) => return Ended::Broken(why),
        },
        Err(why) => return Ended::Broken(why),
    };
    if !response.status().is_success() {
        return Ended::Broken(format!("{address} answers {} to a watch", response.status()));
    }
    let mut lines = Lines::new(response.into_body().into_data_stream());
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) if !lines.rest().is_empty() => return Ended::Said(lines.rest()),
            Ok(None) => return Ended::Broken(format!("{address} ended a watch")),
            Err(error) => return Ended::Broken(error.to_string()),
        };
        let Ok(value) = serde_json::from_slice(&line) else {
            return Ended::Said(String::from_utf8_lossy(&line).into_owned());
        };
        match event(value) {
            Ok(event) => {
                if events.send(event).await.is_err() {
                    return Ended::Broken("nobody listens".to_owned());
                }
            }
            Err(why) => return Ended::Broken(format!("{address} sends {why}")),
        }
    }
}

async fn bind(dst: Arc<Dst>, namespace: Arc<str>, id: u64, key: Key, events: mpsc::Sender<Event>) {
    let mut target = format!("/api/1/bind/{}?watch=true&path={}", segment(&namespace), encoded(&key.path.show()));
    if !key.local.is_empty() {
        target.push_str(&format!("&dtab={}", encoded(&key.local.show_exact())));
    }
    let mut backoff = Backoff::default();
    loop {
        let event = match open(&dst, &target, &events, |value| Ok(Event::Tree(id, value))).await {
            Ended::Said(why) => Event::Failed(id, why),
            Ended::Broken(why) => Event::Broken(why),
        };
        // Nobody listens any more: this ends with its set.
        if events.send(event).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn addr(dst: Arc<Dst>, namespace: Arc<str>, id: Path, events: mpsc::Sender<Event>) {
    let target = format!("/api/1/addr/{}?watch=true&path={}", segment(&namespace), encoded(&id.show()));
    let mut backoff = Backoff::default();
    loop {
        match open(&dst, &target, &events, |value| Ok(Event::Addr(id.clone(), read::addr(&value)?))).await {
            // What was known stays in force.
            Ended::Said(why) => tracing::warn!(%id, why, "keeping the last addresses"),
            Ended::Broken(why) => {
                if events.send(Event::Broken(why)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
