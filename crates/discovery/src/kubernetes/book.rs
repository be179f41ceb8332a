//! What is known of one kind of object in one namespace, and who reads which part of it.
//!
//! One writer, the watch; readers ask by name. Nothing is known until the first list; from then on
//! what is known stays until the cluster says otherwise.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kubernetes::Report;
use naming::{Live, Publisher, State};

/// What a book is filled with.
pub(crate) trait Catalogue: Default + Send + 'static {
    type Value: PartialEq + Send + Sync + 'static;

    fn value(&self, name: &str) -> Option<Arc<Self::Value>>;
}

/// The names whose values a change may have changed.
pub(crate) enum Touched {
    All,
    One(Arc<str>),
    Nobody,
}

/// See the module's documentation.
pub(crate) struct Book<C: Catalogue> {
    known: Mutex<Known<C>>,
    pub(crate) report: Arc<Report>,
}

/// `None`: there is no such object.
type Found<C> = Option<Arc<<C as Catalogue>::Value>>;

struct Known<C: Catalogue> {
    catalogue: C,
    /// Whether there ever was a list; if not, perhaps why.
    listed: State<()>,
    readers: HashMap<Arc<str>, Publisher<Found<C>>>,
    /// At this size the readers are looked through for those that are gone.
    look_at: usize,
}

const LOOK_FIRST_AT: usize = 256;

impl<C: Catalogue> Default for Book<C> {
    fn default() -> Book<C> {
        let known =
            Known { catalogue: C::default(), listed: State::Pending, readers: HashMap::new(), look_at: LOOK_FIRST_AT };
        Book { known: Mutex::new(known), report: Arc::default() }
    }
}

impl<C: Catalogue> Book<C> {
    /// The value under `name`, live; `None` where there is no such object.
    pub(crate) fn read(&self, name: &str) -> Live<Option<Arc<C::Value>>> {
        let mut known = self.lock();
        if let Some(publisher) = known.readers.get(name) {
            return publisher.live();
        }
        if known.readers.len() >= known.look_at {
            known.readers.retain(|_, publisher| !publisher.is_closed());
            known.look_at = (known.readers.len() * 2).max(LOOK_FIRST_AT);
        }
        let (publisher, live) = Live::channel(known.state(name));
        known.readers.insert(name.into(), publisher);
        live
    }

    /// Changes what is known, as the cluster has said; tells the readers whom it concerns.
    pub(crate) fn change(&self, change: impl FnOnce(&mut C) -> Touched) {
        let mut known = self.lock();
        let touched = change(&mut known.catalogue);
        let first = !matches!(known.listed, State::Ok(()));
        known.listed = State::Ok(());
        match touched {
            Touched::One(name) if !first => known.tell(&name),
            Touched::Nobody if !first => {}
            Touched::All | Touched::One(_) | Touched::Nobody => known.tell_all(),
        }
    }

    /// Says why there is nothing yet; what is known already stays.
    pub(crate) fn refuse(&self, why: Arc<str>) {
        let mut known = self.lock();
        if !matches!(known.listed, State::Ok(())) {
            known.listed = State::Failed(why);
            known.tell_all();
        }
    }

    /// Each change is one step: a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Known<C>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Catalogue> Known<C> {
    fn state(&self, name: &str) -> State<Option<Arc<C::Value>>> {
        match &self.listed {
            State::Ok(()) => State::Ok(self.catalogue.value(name)),
            State::Pending => State::Pending,
            State::Failed(why) => State::Failed(why.clone()),
        }
    }

    fn tell(&self, name: &str) {
        if let Some(publisher) = self.readers.get(name) {
            publisher.set(self.state(name));
        }
    }

    fn tell_all(&mut self) {
        self.readers.retain(|_, publisher| !publisher.is_closed());
        self.readers.iter().for_each(|(name, publisher)| publisher.set(self.state(name)));
    }
}
