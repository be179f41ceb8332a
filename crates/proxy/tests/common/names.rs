//! An interpreter whose trees and addresses the test sets.

use std::net::SocketAddr;
use std::sync::Arc;

use names::{Dtab, NameTree, Path, Weighted};
use naming::{
    Addr, Bound, BoundTree, Endpoint, ExplainError, Explaining, Interpreter, Live, Meta, Publisher, Served, State,
};

/// Binds every name to one tree.
#[derive(Clone)]
pub struct Table {
    tree: Arc<Publisher<BoundTree>>,
}

impl Table {
    pub fn new(tree: BoundTree) -> Table {
        Table { tree: Arc::new(Live::channel(State::Ok(tree)).0) }
    }

    pub fn set(&self, tree: BoundTree) {
        self.tree.put(State::Ok(tree));
    }
}

impl Interpreter for Table {
    fn bind(&self, _: &Dtab, _: &Path) -> Live<BoundTree> {
        self.tree.live()
    }

    fn explain<'a>(&'a self, _: &'a Dtab, _: &'a Path) -> Explaining<'a> {
        Box::pin(async { Err(ExplainError::Unsupported) })
    }

    fn served(&self) -> Live<Served> {
        Live::constant(Served::default())
    }
}

/// A bound name whose endpoints the test sets.
pub struct Set {
    pub leaf: BoundTree,
    publisher: Publisher<Addr>,
}

impl Set {
    pub fn new(id: &str, ports: &[u16]) -> Set {
        let (publisher, live) = Live::channel(State::Ok(addr(ports)));
        let id = Path::read(id).expect("a path");
        Set { leaf: NameTree::Leaf(Bound::new(id, Path::empty(), live)), publisher }
    }

    pub fn set(&self, ports: &[u16]) {
        self.publisher.put(State::Ok(addr(ports)));
    }

    /// Endpoints that want another Host than the client's.
    pub fn set_with_authority(&self, ports: &[u16], authority: &str) {
        let Addr::Bound { endpoints, .. } = addr(ports) else { return };
        let meta = Arc::new(Meta::from([("authority".to_owned(), authority.into())]));
        self.publisher.put(State::Ok(Addr::Bound { endpoints, meta }));
    }
}

fn addr(ports: &[u16]) -> Addr {
    let endpoint = |port: &u16| Endpoint {
        addr: SocketAddr::from(([127, 0, 0, 1], *port)),
        weight: 1.0,
        meta: Arc::new(Meta::new()),
    };
    Addr::Bound { endpoints: ports.iter().map(endpoint).collect(), meta: Arc::new(Meta::new()) }
}

pub fn union(branches: &[(f64, &Set)]) -> BoundTree {
    let branch = |(weight, set): &(f64, &Set)| Weighted { weight: *weight, tree: set.leaf.clone() };
    NameTree::Union(branches.iter().map(branch).collect())
}
