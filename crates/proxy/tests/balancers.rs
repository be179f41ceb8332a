//! Every `loadBalancer` over real sockets: who gets how much, and what is told about it.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use balance::{Aperture, Strategy};
use common::{Proxy, router};
use discovery::{NamerConfig, Precedence, Surroundings, build_namers};
use naming::ConfiguredInterpreter;
use proxy::settings::{ByPrefix, Client, LoadBalancer};
use serde_json::json;
use testkit::http::Answer;
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

const STRATEGIES: [Strategy; 5] = [
    Strategy::P2C,
    Strategy::EWMA,
    Strategy::Aperture(Aperture { max_effort: 5, window: 5_000_000_000, low: 0.5, high: 2.0, min: 1 }),
    Strategy::Heap,
    Strategy::RoundRobin,
];

/// A router with one worker, and three endpoints of one name in a file.
struct Fleet {
    root: tempfile::TempDir,
    endpoints: Vec<Recorder>,
    proxy: Proxy,
}

impl Fleet {
    fn start(load_balancer: LoadBalancer) -> Fleet {
        let reply = || Reply::Script(Answer { status: 200, headers: Vec::new(), body: b"ok".to_vec() });
        let endpoints = (0..3).map(|_| Recorder::start(reply())).collect::<Vec<_>>();
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), &endpoints);
        let mut router = router("/svc => /#/io.l5d.fs");
        let client = Client { load_balancer: Some(load_balancer), ..Client::default() };
        router.client = ByPrefix::global(client);
        let config = json!({ "kind": "io.l5d.fs", "rootDir": root.path() });
        let config = serde_json::from_value::<NamerConfig>(config).expect("a namer");
        let proxy = Proxy::with(router, 1, |_| {
            let namers = build_namers(&[config], Precedence::LastWins, &Surroundings::default()).expect("namers");
            Arc::new(ConfiguredInterpreter::new(None, namers))
        });
        Fleet { root, endpoints, proxy }
    }

    /// Requests one after the other; how many each endpoint got of them.
    fn ask(&self, requests: usize) -> Vec<usize> {
        let before = self.endpoints.iter().map(|endpoint| endpoint.requests().len()).collect::<Vec<_>>();
        for _ in 0..requests {
            assert_eq!(self.proxy.get("/", &[("Host", "web")]).status, 200);
        }
        let after = self.endpoints.iter().map(|endpoint| endpoint.requests().len());
        after.zip(before).map(|(after, before)| after - before).collect()
    }

    fn gauge(&self, name: &[&str]) -> Option<f64> {
        let path = [&["rt", "http", "client", "#/io.l5d.fs/web", "loadbalancer"], name].concat();
        self.proxy.registry.snapshot().gauge(&path)
    }

    fn updates(&self) -> u64 {
        self.proxy.counter(&["rt", "http", "client", "#/io.l5d.fs/web", "loadbalancer", "updates"])
    }
}

fn write(root: &Path, endpoints: &[Recorder]) {
    let lines = endpoints.iter().map(|endpoint| endpoint.authority.replace(':', " ") + "\n");
    let new = root.join(".new");
    std::fs::write(&new, lines.collect::<String>()).expect("written");
    std::fs::rename(new, root.join("web")).expect("renamed");
}

#[test]
fn each_kind_spreads_requests_in_its_way_and_tells_its_name() {
    for strategy in STRATEGIES {
        let fleet = Fleet::start(LoadBalancer { strategy, probation: false });
        let shares = fleet.ask(30);
        match strategy {
            Strategy::RoundRobin => assert_eq!(shares, [10, 10, 10]),
            // One request at a time is not enough for a second endpoint.
            Strategy::Aperture(_) => assert_eq!(shares.iter().filter(|share| **share > 0).count(), 1, "{shares:?}"),
            _ => assert!(shares.iter().all(|share| *share > 0), "{strategy:?} {shares:?}"),
        }
        until("the gauge", Duration::from_secs(5), || match fleet.gauge(&["algorithm", strategy.algorithm()]) {
            Some(1.0) => Ok(()),
            other => Err((strategy, other)),
        });
        let aperture = fleet.gauge(&["logical_aperture"]);
        assert_eq!(aperture, matches!(strategy, Strategy::Aperture(_)).then_some(1.0), "{strategy:?}");
    }
}

#[test]
fn on_probation_an_endpoint_that_discovery_took_away_is_still_used() {
    for (probation, expected) in [(false, [6, 6, 0]), (true, [4, 4, 4])] {
        let fleet = Fleet::start(LoadBalancer { strategy: Strategy::RoundRobin, probation });
        assert_eq!(fleet.ask(12), [4, 4, 4]);
        write(fleet.root.path(), &fleet.endpoints[..2]);
        until("the update", Duration::from_secs(10), || match fleet.updates() {
            0 | 1 => Err(fleet.updates()),
            _ => Ok(()),
        });
        assert_eq!(fleet.ask(12), expected, "probation {probation}");
    }
}
