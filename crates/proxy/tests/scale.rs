//! Names and endpoints at scale: a cluster of a hundred thousand endpoints, whose first binding and whose changes
//! hold no request up; more names than the caches take.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use common::{Proxy, names::Table, router};
use names::{NameTree, Path};
use naming::{Addr, Bound, Endpoint, Endpoints, Live, State};
use proxy::settings::BindingCache;
use testkit::until::until;

const MANY: u32 = 100_000;

/// Answers on every address of 127.0.0.0/8; its port.
fn backend() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while stream.read(&mut piece).is_ok_and(|read| read > 0)
                    && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
                {}
            });
        }
    });
    port
}

fn set(port: u16, numbers: impl Iterator<Item = u32>) -> State<Addr> {
    let endpoint = |number: u32| Endpoint {
        addr: (Ipv4Addr::from(0x7f01_0000 + number), port).into(),
        weight: 1.0,
        meta: Arc::default(),
    };
    State::Ok(Addr::Bound { endpoints: numbers.map(endpoint).collect::<Endpoints>(), meta: Arc::default() })
}

#[test]
fn a_hundred_thousand_endpoints_come_and_change_between_requests() {
    let port = backend();
    let (publisher, live) = Live::channel(set(port, 0..MANY));
    let bound = Bound::new(Path::read("/#/large").expect("a path"), Path::empty(), live);
    let proxy = Proxy::with(router("/svc => /#/large"), 1, |_| Arc::new(Table::new(NameTree::Leaf(bound))));
    let ask = || assert_eq!(proxy.get("/", &[("Host", "web")]).status, 200);
    let size = || proxy.registry.snapshot().gauge(&["rt", "http", "client", "#/large", "loadbalancer", "size"]);
    let limit = Duration::from_secs(60);
    let reaches = |what: &str, wanted: u32| {
        until(what, limit, || match size() {
            Some(size) if size == f64::from(wanted) => Ok(()),
            other => Err(other),
        });
    };
    ask();
    reaches("all are there", MANY);
    for left_out in 0..20 {
        publisher.publish(set(port, (0..MANY).filter(|number| *number != left_out * 100)));
        ask();
    }
    reaches("the last set is there", MANY - 1);
    // Also when everything changes there is somebody to ask all the while.
    publisher.publish(set(port, MANY..2 * MANY));
    (0..50).for_each(|_| ask());
    let removed = ["rt", "http", "client", "#/large", "loadbalancer", "removes"];
    until("the old ones are gone", limit, || match proxy.counter(&removed) {
        many if many >= u64::from(MANY) => Ok(()),
        many => Err(many),
    });
    let turns = proxy.registry.snapshot().stat(&["worker", "pause_us"]).expect("turns");
    eprintln!("turns of a worker in us: {turns:?}");
    // A turn is 200 us and what happens until the next look at the clock; this is no optimised build, and
    // what else the machine does meanwhile shows in the longest ones.
    assert!(turns.count > 20 && turns.p50 < 1_000, "{turns:?}");
}

#[test]
fn names_their_trees_and_their_leaves_are_bounded_each() {
    let port = backend();
    let caches = |paths, trees, bounds| {
        let mut router = router(&format!("/svc => 1 * /$/inet/127.0.0.1/{port} & 1 * /$/inet/127.0.0.2/{port}"));
        router.binding_cache = BindingCache { paths, trees, bounds, ..BindingCache::default() };
        let proxy = Proxy::of(router, 1);
        for _ in 0..2 {
            (0..20).for_each(|n| assert_eq!(proxy.get("/", &[("Host", &format!("name-{n}"))]).status, 200));
        }
        let count = |cache: &str, what: &str| proxy.counter(&["rt", "http", "bindcache", cache, what]);
        ["path", "tree", "bound", "client"].map(|cache| (count(cache, "misses"), count(cache, "evicts")))
    };
    assert_eq!(caches(100, 100, 100), [(20, 0), (20, 0), (40, 0), (2, 0)], "all of them fit");

    // Names stay bound; of each the tree goes, as the one that was not used for longest, before it is asked for again.
    let [paths, trees, bounds, clients] = caches(100, 4, 100);
    assert_eq!((paths, clients), ((20, 0), (2, 0)));
    assert!(trees.0 >= 35 && trees.0 - trees.1 <= 6, "{trees:?}");
    assert_eq!(bounds, (2 * trees.0, 2 * trees.1));

    let [paths, trees, bounds, _] = caches(100, 100, 8);
    assert_eq!(paths, (20, 0));
    assert!(bounds.0 >= 70 && bounds.0 - bounds.1 <= 12 && trees.1 >= 30, "{bounds:?} {trees:?}");

    let [paths, trees, _, _] = caches(4, 100, 100);
    assert!(paths.0 >= 35 && paths.0 - paths.1 <= 6 && trees.1 == 0, "{paths:?} {trees:?}");
}

/// Each brings a dtab of its own: as many are kept as there is room for, and nobody else's answer is wrong.
#[test]
fn requests_with_dtabs_of_their_own_share_the_cache_of_names() {
    let port = backend();
    let mut router = router("/svc => /$/inet/127.0.0.1/1");
    router.binding_cache = BindingCache { paths: 8, ..BindingCache::default() };
    let proxy = Proxy::of(router, 1);
    for n in 0..50 {
        let dtab = format!("/svc/web => /$/inet/127.0.0.{}/{port}", n % 25 + 1);
        assert_eq!(proxy.get("/", &[("Host", "web"), ("l5d-dtab", &dtab)]).status, 200);
        // The same dtab again is the same name.
        assert_eq!(proxy.get("/", &[("Host", "web"), ("l5d-dtab", &dtab)]).status, 200);
    }
    let count = |what: &str| proxy.counter(&["rt", "http", "bindcache", "path", what]);
    assert_eq!((count("misses"), count("evicts")), (50, 42));
    assert_eq!(proxy.get("/", &[("Host", "web")]).status, 502);
}
