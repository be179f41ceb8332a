//! The interpreter over a dtab of its own (or none) and the configured namers.
//!
//! One task per name that is being read: it evaluates the name over what is known (`bind`), publishes,
//! and evaluates again when something that it read has changed: of the own dtab, an entry that it can
//! reach (`reach`). It ends with its last reader.
//!
//! Never empty: once a name is bound, an evaluation that is pending or fails does not take the tree
//! away; readers keep the last good one, and `state()` says which names that holds for and why.
//! Only an evaluation that succeeds, also with `~`, replaces it.

use std::sync::{Arc, Mutex, PoisonError};

use names::{Dtab, Path};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    BoundTree, ExplainError, Fed, Interpreter, Live, Namers, Publisher, Served, Shared, State,
    bind::evaluate,
    explainer,
    interpreter::{Explaining, is_same},
    lookups::{Layers, Lookups},
    reach::{Reach, Watching},
};

/// See the module's documentation. Cheap to clone; clones share their bindings.
#[derive(Clone)]
pub struct ConfiguredInterpreter {
    parts: Arc<Parts>,
    bindings: Shared<BindKey, BoundTree, Binding>,
    names: Shared<(), Arc<[Path]>>,
}

struct Parts {
    own: Option<Live<Dtab>>,
    /// Where there is an own dtab.
    reach: Option<Arc<Reach>>,
    _watching: Option<Watching>,
    namers: Namers,
    served: Live<Served>,
}

/// What a binding tells besides its tree.
pub(crate) struct Binding {
    pub(crate) under: Publisher<Dtab>,
    /// The own dtab changed in a way that can reach it.
    pub(crate) touched: Notify,
    stale: Mutex<Option<Arc<str>>>,
}

impl Default for Binding {
    fn default() -> Binding {
        Binding { under: Live::channel(State::Pending).0, touched: Notify::new(), stale: Mutex::new(None) }
    }
}

/// What a binding is shared by.
#[derive(Clone, PartialEq, Hash)]
pub(crate) struct BindKey {
    pub(crate) local: Dtab,
    pub(crate) path: Path,
}

impl Eq for BindKey {}

impl ConfiguredInterpreter {
    /// `own` stands below the caller's dtab: a namespace of the control plane, a dtab file. Bindings
    /// are kept by tasks on the tokio runtime that this is called on, whichever thread asks for them.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(own: Option<Live<Dtab>>, namers: Namers) -> ConfiguredInterpreter {
        ConfiguredInterpreter::serving(own, namers, Live::constant(Served::default()))
    }

    /// Like `new`, for a dtab that has a version.
    pub fn serving(own: Option<Live<Dtab>>, namers: Namers, served: Live<Served>) -> ConfiguredInterpreter {
        let (reach, watching) = own.clone().map(Reach::watch).unzip();
        ConfiguredInterpreter {
            parts: Arc::new(Parts { own, reach, _watching: watching, namers, served }),
            bindings: Shared::new(),
            names: Shared::new(),
        }
    }

    /// Like `bind`, with the own dtab that the tree follows from. The second value changes after the
    /// first: who sees a dtab there has all that follows from it in the tree. It stays behind while
    /// the name keeps an older tree because it is pending or fails under the newer dtab, and is
    /// pending where there is no own dtab.
    pub fn bind_under(&self, local: &Dtab, path: &Path) -> (Live<BoundTree>, Live<Dtab>) {
        let key = BindKey { local: local.clone(), path: path.clone() };
        let parts = self.parts.clone();
        let feeding = key.clone();
        let (live, fed) = self.bindings.get(key, move |fed| feed(parts, feeding, fed));
        (live, fed.extra.under.live())
    }
}

impl Interpreter for ConfiguredInterpreter {
    fn bind(&self, local: &Dtab, path: &Path) -> Live<BoundTree> {
        self.bind_under(local, path).0
    }

    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explaining<'a> {
        Box::pin(async move {
            let mut own = self.parts.own.clone();
            let mut lookups = Lookups::new(&self.parts.namers);
            loop {
                let tree = match own_dtab(&mut own) {
                    State::Ok(own) => explainer::explain(&Layers { own, local: local.clone() }, &mut lookups, path),
                    State::Pending => State::Pending,
                    State::Failed(why) => State::Failed(why),
                };
                match tree {
                    State::Ok(tree) => return Ok(Arc::new(tree)),
                    State::Failed(why) => return Err(ExplainError::Failed(why)),
                    State::Pending => wait(&mut own, &mut lookups).await,
                }
            }
        })
    }

    fn served(&self) -> Live<Served> {
        self.parts.served.clone()
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        let parts = self.parts.clone();
        self.names.get((), move |fed| list_names(parts, fed)).0
    }

    fn state(&self) -> serde_json::Value {
        let bindings = self.bindings.entries();
        let stale = bindings.iter().filter_map(|(key, fed)| {
            let why = fed.extra.stale.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            Some(json!({ "path": key.path.show(), "dtab": key.local.show_exact(), "why": &*why }))
        });
        let stale: Vec<_> = stale.collect();
        json!({ "bindings": bindings.len(), "stale": stale })
    }
}

/// The own dtab now; without one, an empty dtab.
fn own_dtab(own: &mut Option<Live<Dtab>>) -> State<Dtab> {
    own.as_mut().map_or_else(|| State::Ok(Dtab::empty()), Live::take)
}

async fn wait(own: &mut Option<Live<Dtab>>, lookups: &mut Lookups<'_>) {
    let own = async {
        match own {
            Some(own) => own.next_change().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = own => {}
        () = lookups.changed() => {}
    }
}

/// Keeps one binding.
async fn feed(parts: Arc<Parts>, key: BindKey, fed: Arc<Fed<BoundTree, Binding>>) {
    let seat = parts.reach.as_ref().map(|reach| reach.enter(&fed));
    let mut lookups = Lookups::new(&parts.namers);
    loop {
        let own = parts.reach.as_ref().map_or_else(|| State::Ok(Dtab::empty()), |reach| reach.now());
        let state = match &own {
            State::Ok(own) => {
                let layers = Layers { own: own.clone(), local: key.local.clone() };
                evaluate(&layers, &mut lookups, &key.path)
            }
            State::Pending => State::Pending,
            State::Failed(why) => State::Failed(why.clone()),
        };
        let known = !matches!(state, State::Pending);
        let publish = || {
            let stale = publish_keeping_good(&fed.value, state);
            let follows = known && stale.is_none();
            note_stale(&fed.extra, &key.path, stale);
            follows
        };
        let looked_up = lookups.looked_up();
        let is_current = match &seat {
            Some(seat) => seat.note(looked_up, &own, publish),
            None => {
                publish();
                true
            }
        };
        if is_current {
            tokio::select! {
                () = fed.extra.touched.notified() => {}
                () = lookups.changed() => {}
            }
        }
    }
}

/// Publishes, but never replaces a tree by trouble; returns the trouble that it withheld.
pub(crate) fn publish_keeping_good(value: &Publisher<BoundTree>, state: State<BoundTree>) -> Option<Arc<str>> {
    let good = matches!(value.get(), State::Ok(_));
    match state {
        State::Pending if good => Some("waiting for a dtab or a namer".into()),
        State::Failed(why) if good => Some(why),
        state => {
            value.set_unless(state, is_same);
            None
        }
    }
}

fn note_stale(binding: &Binding, path: &Path, stale: Option<Arc<str>>) {
    let mut noted = binding.stale.lock().unwrap_or_else(PoisonError::into_inner);
    if *noted != stale {
        match &stale {
            Some(why) => tracing::warn!(name = %path, %why, "keeping the last good tree"),
            None => tracing::info!(name = %path, "current again"),
        }
        *noted = stale;
    }
}

/// Keeps the list of all names that namers can list.
async fn list_names(parts: Arc<Parts>, fed: Arc<Fed<Arc<[Path]>, ()>>) {
    use futures_util::{StreamExt, stream::FuturesUnordered};
    let mut lists: Vec<_> = parts.namers.configured().iter().map(|(_, namer)| namer.bound_names()).collect();
    loop {
        let mut names: Vec<Path> =
            lists.iter_mut().filter_map(|list| list.take().ok()).flat_map(|names| names.to_vec()).collect();
        names.sort();
        names.dedup();
        fed.value.set(State::Ok(names.into()));
        let mut changes: FuturesUnordered<_> = lists.iter_mut().map(Live::next_change).collect();
        if changes.next().await.is_none() {
            return;
        }
    }
}
