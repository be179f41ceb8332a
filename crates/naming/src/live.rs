//! `Live<T>`: a value that somebody keeps current, read from any thread.
//!
//! One writer (`Publisher`), many readers (`Live`, cheap to clone). When the last reader is dropped
//! the publisher's `closed()` resolves, and the task that feeds it ends: nobody watches for nobody.
//! Reading never blocks; `has_changed` costs one atomic load, so a data-plane worker may ask per request.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

/// What is known of a value now.
#[derive(Clone, Debug, PartialEq)]
pub enum State<T> {
    /// Nothing is known yet.
    Pending,
    Ok(T),
    /// Not known, and why. After an `Ok`, writers that can keep the last good value do so instead.
    Failed(Arc<str>),
}

impl<T> State<T> {
    pub fn ok(self) -> Option<T> {
        match self {
            State::Ok(value) => Some(value),
            State::Pending | State::Failed(_) => None,
        }
    }
}

/// The reading end.
pub struct Live<T> {
    receiver: watch::Receiver<State<T>>,
    id: u64,
    /// Keeps whatever feeds a constant or derived value alive.
    keep: Option<Arc<dyn Any + Send + Sync>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live { receiver: self.receiver.clone(), id: self.id, keep: self.keep.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Live<T> {
    /// A pair of ends, starting at `state`.
    pub fn channel(state: State<T>) -> (Publisher<T>, Live<T>) {
        let (sender, receiver) = watch::channel(state);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        (Publisher { sender, id }, Live { receiver, id, keep: None })
    }

    /// A value that never changes.
    pub fn constant(value: T) -> Live<T> {
        Live::fixed(State::Ok(value))
    }

    pub fn failed(why: impl Into<Arc<str>>) -> Live<T> {
        Live::fixed(State::Failed(why.into()))
    }

    pub fn pending() -> Live<T> {
        Live::fixed(State::Pending)
    }

    fn fixed(state: State<T>) -> Live<T> {
        let (publisher, live) = Live::channel(state);
        live.keeping(Arc::new(publisher))
    }

    /// Ties the life of `keep` to this reader and its clones.
    pub fn keeping(mut self, keep: Arc<dyn Any + Send + Sync>) -> Live<T> {
        self.keep = Some(match self.keep.take() {
            None => keep,
            Some(old) => Arc::new((old, keep)),
        });
        self
    }

    /// Names the channel: two readers with the same id always see the same value.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The value now. Does not mark it as seen.
    pub fn get(&self) -> State<T> {
        self.receiver.borrow().clone()
    }

    /// Looks at the value without a clone. Do not hold the closure long: the writer waits for it.
    pub fn with<R>(&self, look: impl FnOnce(&State<T>) -> R) -> R {
        look(&self.receiver.borrow())
    }

    /// The value now, marked as seen.
    pub fn take(&mut self) -> State<T> {
        self.receiver.borrow_and_update().clone()
    }

    /// Whether the value changed since it was last `take`n; one atomic load. False once the writer is gone.
    pub fn has_changed(&self) -> bool {
        self.receiver.has_changed().unwrap_or(false)
    }

    /// Waits for the next change. `Err(())` when the writer is gone: the value stays as it is.
    pub async fn changed(&mut self) -> Result<(), ()> {
        self.receiver.changed().await.map_err(|_| ())
    }

    /// Waits for the next change; for ever, once the writer is gone.
    pub async fn next_change(&mut self) {
        if self.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits for the first state that is not `Pending`. A writer that is gone leaves it `Pending` for ever.
    pub async fn settled(&mut self) -> State<T> {
        let settled = self.receiver.wait_for(|state| !matches!(state, State::Pending)).await;
        match settled.map(|state| state.clone()) {
            Ok(state) => state,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The writing end.
pub struct Publisher<T> {
    sender: watch::Sender<State<T>>,
    id: u64,
}

impl<T: Clone + Send + Sync + 'static> Publisher<T> {
    /// Publishes, unless the value is what it was.
    pub fn set(&self, state: State<T>)
    where
        T: PartialEq,
    {
        self.set_unless(state, |old, new| old == new);
    }

    /// Publishes, unless `same` finds no difference to what was published last.
    pub fn set_unless(&self, state: State<T>, same: impl FnOnce(&State<T>, &State<T>) -> bool) {
        // There is one writer, so nothing changes in between. Comparing and freeing large values must not
        // keep readers waiting: the data plane reads, too.
        let is_same = same(&self.sender.borrow(), &state);
        if !is_same {
            drop(self.sender.send_replace(state));
        }
    }

    /// Publishes in any case.
    pub fn put(&self, state: State<T>) {
        self.sender.send_replace(state);
    }

    pub fn get(&self) -> State<T> {
        self.sender.borrow().clone()
    }

    /// Another reader of the same value.
    pub fn live(&self) -> Live<T> {
        Live { receiver: self.sender.subscribe(), id: self.id, keep: None }
    }

    /// Resolves when the last reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
