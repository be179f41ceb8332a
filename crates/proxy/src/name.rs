//! A name in the binding cache: its live tree, compiled for drawing, and the header lines that go with
//! each leaf.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use balance::{Branch, Draw, Independent};
use http1::write_line;
use names::{Dtab, NameTree, Path};
use naming::{Bound, BoundTree, Live, State};

use crate::cache::Used;
use crate::client::{Client, Known};
use crate::failure::{Failure, Kind};
use crate::metrics::Requests;
use crate::router::Router;
use crate::service::Service;

pub(crate) struct Name {
    pub service: Rc<Service>,
    /// What the request brought.
    pub local: Dtab,
    /// The router's dtab and the request's.
    pub under: Dtab,
    /// `l5d-ctx-dtab` as it goes on: a whole line, or nothing.
    pub context: Box<[u8]>,
    /// When it was last used, in nanoseconds since the epoch.
    pub used: Cell<u64>,
    /// Its place among those whose tree is compiled, which find it out of date when it was taken apart.
    pub seat: Cell<usize>,
    me: Weak<Name>,
    live: RefCell<Live<BoundTree>>,
    route: RefCell<Route>,
}

/// A bound tree, ready to be drawn from.
enum Route {
    Pending,
    Failed(Arc<str>),
    /// Neg, fail or empty.
    Nowhere,
    Leaf(Rc<Leaf>),
    Union {
        weights: Box<[f64]>,
        branches: Box<[Route]>,
    },
}

/// A client as one name uses it.
pub(crate) struct Leaf {
    pub client: Rc<Client>,
    /// Requests of this name through this client.
    pub requests: Requests,
    /// `l5d-dst-service`, `l5d-dst-client` and, if there is one, `l5d-dst-residual`: whole lines.
    pub lines: Box<[u8]>,
    pub residual: Path,
}

/// What was drawn.
pub(crate) struct Drawn {
    pub leaf: Rc<Leaf>,
    /// The share of its branch, 0 to 1, if there was something to draw.
    pub share: Option<f64>,
}

/// Why nothing was drawn.
enum Undrawn {
    Pending,
    Failed(Arc<str>),
    Nowhere,
}

impl Name {
    pub(crate) fn new(service: Rc<Service>, local: Dtab, under: Dtab, live: Live<BoundTree>) -> Rc<Name> {
        let mut context = Vec::new();
        if !local.is_empty() {
            write_line(&mut context, b"l5d-ctx-dtab", local.to_string().as_bytes());
        }
        Rc::new_cyclic(|me| Name {
            service,
            local,
            under,
            context: context.into(),
            used: Cell::new(0),
            seat: Cell::new(usize::MAX),
            me: me.clone(),
            live: RefCell::new(live),
            // Compiled at the first use: a live value counts as changed until it is taken.
            route: RefCell::new(Route::Pending),
        })
    }

    pub(crate) fn me(&self) -> Weak<Name> {
        self.me.clone()
    }

    /// The leaf for one request, if the name is bound; whether there is anybody behind it is another
    /// question. Its share of a split must not go to the others, so nobody draws twice for that.
    #[inline]
    pub(crate) fn try_draw(&self, router: &Router, now: u64) -> Option<Drawn> {
        self.draw_now(router, now).ok()
    }

    /// The leaf for one request, with at least one endpoint: `first`, if it was drawn before. Waits while
    /// the name, or the addresses that were drawn, are not known yet.
    pub(crate) async fn draw(&self, router: &Router, now: u64, first: Option<Drawn>) -> Result<Drawn, Failure> {
        match first.map_or_else(|| self.draw_now(router, now), Ok) {
            Ok(drawn) => match drawn.is_ready(now) {
                Some(true) => return Ok(drawn),
                Some(false) => return Err(self.unbound(router)),
                None => {}
            },
            Err(Undrawn::Nowhere) => return Err(self.unbound(router)),
            Err(Undrawn::Failed(why)) => return Err(Failure::new(Kind::Binding, &*why)),
            Err(Undrawn::Pending) => {}
        }
        let limit = router.settings.binding_timeout;
        let mut connecting = None;
        match tokio::time::timeout(limit, Box::pin(self.draw_later(router, &mut connecting))).await {
            Ok(result) => result,
            Err(_) => Err(Failure::binding_timeout(limit, &self.service.name, connecting.as_deref())),
        }
    }

    /// What it leads to now, as far as it is compiled.
    pub(crate) fn leaves(&self) -> Vec<Rc<Leaf>> {
        let mut leaves = Vec::new();
        self.route.borrow().leaves(&mut leaves);
        leaves
    }

    pub(crate) fn is_compiled(&self) -> bool {
        matches!(*self.route.borrow(), Route::Leaf(_) | Route::Union { .. } | Route::Nowhere)
    }

    /// The next request compiles its tree anew.
    pub(crate) fn take_apart(&self) {
        let _apart = self.route.replace(Route::Pending);
    }

    fn unbound(&self, router: &Router) -> Failure {
        router.unbound(self)
    }

    async fn draw_later(&self, router: &Router, connecting: &mut Option<String>) -> Result<Drawn, Failure> {
        loop {
            let now = router.worker.now();
            let mut live = self.live.borrow().clone();
            match self.draw_now(router, now) {
                Ok(drawn) => match drawn.is_ready(now) {
                    Some(true) => return Ok(drawn),
                    Some(false) => return Err(self.unbound(router)),
                    None => {
                        *connecting = Some(drawn.leaf.client.id.clone());
                        let mut addr = drawn.leaf.client.addr();
                        tokio::select! {
                            _ = addr.settled() => {}
                            () = live.next_change() => {}
                        }
                    }
                },
                Err(Undrawn::Nowhere) => return Err(self.unbound(router)),
                Err(Undrawn::Failed(why)) => return Err(Failure::new(Kind::Binding, &*why)),
                Err(Undrawn::Pending) => {
                    live.settled().await;
                }
            }
        }
    }

    #[inline]
    fn draw_now(&self, router: &Router, now: u64) -> Result<Drawn, Undrawn> {
        self.used.set(now);
        self.refresh(router);
        let route = self.route.borrow();
        let mut route = &*route;
        let (mut level, mut share) = (0, None);
        loop {
            match route {
                Route::Leaf(leaf) => return Ok(Drawn { leaf: leaf.clone(), share }),
                Route::Union { weights, branches } => {
                    let branch = Branch { service: &self.service.name, level, affinity: None };
                    let chosen = Independent(|| fastrand::u64(..)).choose(&branch, weights);
                    let Some(index) = chosen else { return Err(Undrawn::Nowhere) };
                    let total = weights.iter().sum::<f64>();
                    let part = if total > 0.0 { weights[index] / total } else { 1.0 / weights.len() as f64 };
                    share = Some(share.unwrap_or(1.0) * part);
                    route = &branches[index];
                    level += 1;
                }
                Route::Pending => return Err(Undrawn::Pending),
                Route::Failed(why) => return Err(Undrawn::Failed(why.clone())),
                Route::Nowhere => return Err(Undrawn::Nowhere),
            }
        }
    }

    /// Compiles the tree if it changed: one atomic load if it did not.
    #[inline]
    fn refresh(&self, router: &Router) {
        let unseen = matches!(*self.route.borrow(), Route::Pending);
        if unseen || self.live.borrow().has_changed() {
            self.compile(router);
        }
    }

    #[cold]
    fn compile(&self, router: &Router) {
        let state = self.live.borrow_mut().take();
        let known = self.leaves();
        let is_tree = matches!(state, State::Ok(_));
        let route = match state {
            State::Pending => Route::Pending,
            State::Failed(why) => Route::Failed(why),
            State::Ok(tree) => self.route_of(router, &tree, &known),
        };
        drop(self.route.replace(route));
        if is_tree {
            let leaves = self.leaves();
            let is_known = |leaf: &&Rc<Leaf>| known.iter().any(|known| Rc::ptr_eq(known, leaf));
            router.compiled(self, leaves.len(), leaves.iter().filter(|leaf| !is_known(leaf)).count());
        }
    }

    fn route_of(&self, router: &Router, tree: &BoundTree, known: &[Rc<Leaf>]) -> Route {
        match tree {
            NameTree::Leaf(bound) => Route::Leaf(self.leaf(router, bound, known)),
            NameTree::Union(branches) => Route::Union {
                weights: branches.iter().map(|branch| branch.weight).collect(),
                branches: branches.iter().map(|branch| self.route_of(router, &branch.tree, known)).collect(),
            },
            // Binding leaves no alternates; should there be one, the first that is not neg is it.
            NameTree::Alt(trees) => match trees.iter().find(|tree| !matches!(tree, NameTree::Neg)) {
                Some(tree) => self.route_of(router, tree, known),
                None => Route::Nowhere,
            },
            NameTree::Neg | NameTree::Fail | NameTree::Empty => Route::Nowhere,
        }
    }

    fn leaf(&self, router: &Router, bound: &Bound, known: &[Rc<Leaf>]) -> Rc<Leaf> {
        let client = router.client(bound);
        let same = |leaf: &&Rc<Leaf>| Rc::ptr_eq(&leaf.client, &client) && leaf.residual == bound.residual;
        if let Some(leaf) = known.iter().find(same) {
            return leaf.clone();
        }
        let service = &self.service.name;
        let mut lines = Vec::new();
        write_line(&mut lines, b"l5d-dst-service", service.as_bytes());
        write_line(&mut lines, b"l5d-dst-client", client.id.as_bytes());
        if !bound.residual.is_empty() {
            write_line(&mut lines, b"l5d-dst-residual", bound.residual.show().as_bytes());
        }
        let scope = client.metrics.scope.below(&["service", service.trim_start_matches('/')]);
        let residual = bound.residual.clone();
        Rc::new(Leaf { requests: Requests::new(&scope), client, lines: lines.into(), residual })
    }
}

impl Used for Name {
    fn used(&self) -> u64 {
        self.used.get()
    }
}

impl Drawn {
    /// Whether there is anybody to send to; `None`: not known yet.
    #[inline]
    pub(crate) fn is_ready(&self, now: u64) -> Option<bool> {
        let client = &self.leaf.client;
        client.refresh(now);
        client.used.set(now);
        match client.known() {
            Known::Bound => Some(true),
            Known::None => Some(false),
            Known::Pending => None,
        }
    }
}

impl Route {
    fn leaves(&self, into: &mut Vec<Rc<Leaf>>) {
        match self {
            Route::Leaf(leaf) => into.push(leaf.clone()),
            Route::Union { branches, .. } => branches.iter().for_each(|branch| branch.leaves(into)),
            Route::Pending | Route::Failed(_) | Route::Nowhere => {}
        }
    }
}
