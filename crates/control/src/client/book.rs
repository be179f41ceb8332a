//! What a client keeps: the names that are asked for, with their trees, and addresses by bound id.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use names::{NameTree, Path};
use naming::{Addr, Bound, BoundTree, Fed, Live, Publisher, Served, State, Transformer, is_same};
use tokio::sync::mpsc;

use super::Key;

/// What routers ask of the task. At most two for each name that is read.
pub(super) enum Request {
    Bind { id: u64, key: Key, fed: Arc<Fed<BoundTree, ()>> },
    Unbind(u64),
}

/// A request, after the book has noted it.
pub(super) enum Noted {
    Bound(u64),
    Unbound(u64),
    /// No request: what transformers read has changed.
    Anew,
    /// Nobody can ask any more.
    Over,
}

pub(super) struct Name {
    pub(super) key: Key,
    fed: Arc<Fed<BoundTree, ()>>,
    /// As it came, before transformers. Kept for ever, whatever becomes of the connection.
    tree: Option<BoundTree>,
}

impl Name {
    /// Whether it serves a tree.
    pub(super) fn is_held(&self) -> bool {
        self.tree.is_some()
    }
}

pub(super) struct Book {
    names: BTreeMap<u64, Name>,
    /// Those of bound ids that trees lead to. They outlive a connection, so that clients and pools of the
    /// data plane do, too.
    addrs: HashMap<Path, Publisher<Addr>>,
    /// Bound ids whose addresses this stream told: they are not told again, so they stay until it says so.
    told: HashSet<Path>,
    transformers: Vec<Arc<dyn Transformer>>,
    /// What some of the transformers read besides.
    others: Vec<Option<Live<BoundTree>>>,
    served: Publisher<Served>,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl Book {
    pub(super) fn new(
        transformers: Vec<Arc<dyn Transformer>>,
        served: Publisher<Served>,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Book {
        let others = transformers.iter().map(|transformer| transformer.other()).collect();
        Book {
            names: BTreeMap::new(),
            addrs: HashMap::new(),
            told: HashSet::new(),
            transformers,
            others,
            served,
            requests,
        }
    }

    /// The next request. When a tree that transformers read has changed, everything is handed over
    /// anew. Dropping it pending loses nothing.
    pub(super) async fn asked(&mut self) -> Noted {
        let request = tokio::select! {
            request = self.requests.recv() => request,
            () = changed(&mut self.others) => {
                let ids: Vec<u64> = self.ids().collect();
                ids.into_iter().for_each(|id| self.publish(id));
                return Noted::Anew;
            }
        };
        match request {
            Some(request) => self.note(request),
            None => Noted::Over,
        }
    }

    fn note(&mut self, request: Request) -> Noted {
        match request {
            Request::Bind { id, key, fed } => {
                self.names.insert(id, Name { key, fed, tree: None });
                Noted::Bound(id)
            }
            Request::Unbind(id) => {
                self.names.remove(&id);
                Noted::Unbound(id)
            }
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.names.keys().copied()
    }

    pub(super) fn name(&self, id: u64) -> Option<&Name> {
        self.names.get(&id)
    }

    /// A tree has come; `make` reads it with the book's addresses.
    pub(super) fn tree<E>(
        &mut self,
        id: u64,
        make: impl FnOnce(&mut dyn FnMut(Path, Path, Option<f64>) -> Bound) -> Result<BoundTree, E>,
    ) -> Result<(), E> {
        let addrs = &mut self.addrs;
        let tree = make(&mut |bound_id, residual, weight| {
            let addr = addrs.entry(bound_id.clone()).or_insert_with(|| Live::channel(State::Pending).0).live();
            Bound { weight, ..Bound::new(bound_id, residual, addr) }
        })?;
        if let Some(name) = self.names.get_mut(&id) {
            name.tree = Some(tree);
            self.publish(id);
        }
        Ok(())
    }

    /// There is no tree, and why. One that was there before stays in force.
    pub(super) fn failed(&mut self, id: u64, why: &str) {
        let Some(name) = self.names.get(&id) else { return };
        if name.is_held() {
            tracing::warn!(name = %name.key.path, why, "keeping the last good tree");
        } else {
            name.fed.value.set_unless(State::Failed(why.into()), is_same);
        }
    }

    /// A stream begins: it tells everything anew.
    pub(super) fn begin(&mut self) {
        self.told.clear();
    }

    pub(super) fn addr(&mut self, id: Path, state: State<Addr>) {
        self.told.insert(id.clone());
        let addr = self.addrs.entry(id).or_insert_with(|| Live::channel(State::Pending).0);
        // What was known stays, until there is an answer.
        if !(state == State::Pending && matches!(addr.get(), State::Ok(_))) {
            addr.publish(state);
        }
    }

    /// The control plane does not tell the addresses of this id any more.
    pub(super) fn drop_addr(&mut self, id: &Path) {
        self.told.remove(id);
        self.addrs.remove(id);
    }

    /// Addresses of earlier streams that no tree leads to any more are forgotten.
    pub(super) fn tidy(&mut self) {
        let told = &self.told;
        self.addrs.retain(|id, addr| told.contains(id) || !addr.is_closed());
    }

    /// Hands a name's tree over to whoever reads it.
    fn publish(&mut self, id: u64) {
        let Some(Name { fed, tree: Some(tree), .. }) = self.names.get(&id) else { return };
        let others = self.others.iter_mut().map(|other| other.as_mut().map(Live::take));
        let others: Vec<_> = others.collect();
        let state = transformed(&self.transformers, &others, tree);
        let keeps_good = !matches!(state, State::Ok(_)) && matches!(fed.value.get(), State::Ok(_));
        if !keeps_good {
            fed.value.set_unless(state, is_same);
        }
    }

    /// Everything that is published follows from this version, as of now.
    pub(super) fn serves(&self, version: Option<&str>) {
        self.say(|served| {
            served.version = version.map(Arc::from);
            served.confirmed = Some(SystemTime::now());
            served.stale = None;
        });
    }

    /// The control plane was heard: what is served is still what it told.
    pub(super) fn confirmed(&self) {
        self.say(|served| {
            if served.stale.is_none() {
                served.confirmed = Some(SystemTime::now());
            }
        });
    }

    /// In touch, but with a control plane that tells no versions.
    pub(super) fn in_touch(&self) {
        self.say(|served| {
            served.confirmed = Some(SystemTime::now());
            served.stale = None;
        });
    }

    pub(super) fn stale(&self, why: &str) {
        self.say(|served| served.stale = Some(why.into()));
    }

    fn say(&self, change: impl FnOnce(&mut Served)) {
        let mut served = self.served.get().ok().unwrap_or_default();
        change(&mut served);
        self.served.set(State::Ok(served));
    }
}

/// Waits for a change of one of them; for ever, if none can.
async fn changed(others: &mut [Option<Live<BoundTree>>]) {
    let mut changes: FuturesUnordered<_> = others.iter_mut().flatten().map(Live::next_change).collect();
    if changes.next().await.is_none() {
        std::future::pending().await
    }
}

/// `tree` behind all transformers in order.
fn transformed(
    transformers: &[Arc<dyn Transformer>],
    others: &[Option<State<BoundTree>>],
    tree: &BoundTree,
) -> State<BoundTree> {
    let mut tree: BoundTree = tree.clone();
    for (transformer, other) in transformers.iter().zip(others) {
        tree = match other {
            None => transformer.transform(&tree, None),
            Some(State::Ok(other)) => transformer.transform(&tree, Some(other)),
            Some(State::Pending) => return State::Pending,
            Some(State::Failed(why)) => return State::Failed(why.clone()),
        };
    }
    State::Ok(tree)
}

/// Bound ids that a tree leads to.
pub(super) fn leads_to(tree: &BoundTree, into: &mut Vec<Path>) {
    match tree {
        NameTree::Leaf(bound) => into.push(bound.id.clone()),
        NameTree::Alt(trees) => trees.iter().for_each(|tree| leads_to(tree, into)),
        NameTree::Union(branches) => branches.iter().for_each(|branch| leads_to(&branch.tree, into)),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
    }
}

#[cfg(test)]
mod tests {
    use names::Dtab;

    use super::*;

    fn read(text: &str) -> Path {
        Path::read(text).unwrap()
    }

    fn book() -> (Book, mpsc::UnboundedSender<Request>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Book::new(Vec::new(), Live::channel(State::Pending).0, asked), asks)
    }

    fn bind(book: &mut Book, id: u64) -> Live<BoundTree> {
        let (value, live) = Live::channel(State::Pending);
        let key = Key { local: Dtab::empty(), path: read("/svc") };
        book.note(Request::Bind { id, key, fed: Arc::new(Fed { value, extra: () }) });
        live
    }

    fn leads(book: &mut Book, id: u64) {
        let tree = book.tree(id, |leaf| Ok::<_, ()>(NameTree::Leaf(leaf(read("/#/a"), read("/"), None))));
        tree.unwrap();
    }

    fn addr_of(live: &Live<BoundTree>) -> State<Addr> {
        match live.get() {
            State::Ok(NameTree::Leaf(bound)) => bound.addr.get(),
            other => panic!("{other:?}"),
        }
    }

    /// A stream tells addresses once, and the name they came for may be gone by then.
    #[test]
    fn addresses_that_a_stream_told_stay_until_it_takes_them_back() {
        let (mut book, _asks) = book();
        book.begin();
        book.addr(read("/#/a"), State::Ok(Addr::Neg));
        leads(&mut book, 7);
        book.tidy();
        let live = bind(&mut book, 8);
        leads(&mut book, 8);
        assert_eq!(addr_of(&live), State::Ok(Addr::Neg));

        book.note(Request::Unbind(8));
        drop(live);
        book.begin();
        book.tidy();
        assert!(book.addrs.is_empty(), "nobody reads what an earlier stream told");
    }

    #[test]
    fn trees_and_addresses_outlive_a_stream_and_stay_the_same() {
        let (mut book, _asks) = book();
        book.begin();
        let mut live = bind(&mut book, 1);
        book.addr(read("/#/a"), State::Ok(Addr::Neg));
        leads(&mut book, 1);
        live.take();
        book.begin();
        book.tidy();
        book.failed(1, "not now");
        book.addr(read("/#/a"), State::Pending);
        assert_eq!(addr_of(&live), State::Ok(Addr::Neg));
        leads(&mut book, 1);
        assert!(!live.has_changed(), "the same tree with the same addresses is no news");
    }
}
