//! The namers and transformers of Kubernetes on a real API server: what they find, and what they keep when
//! it is away.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path as File, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use discovery::{Clusters, InterpreterConfig, NamerConfig, Precedence, Surroundings, build_namers};
use kubernetes::Patience;
use names::{Dtab, NameTree, Path};
use naming::{Addr, BoundTree, Interpreter, Live, Name, Namer, Namers, State};
use serde_json::{Value, json};
use testkit::kube::{ControlPlane, Relay, control_plane};
use testkit::until::until;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(10);

/// Watches end quickly, so that those that hang are noticed quickly.
fn patience() -> Patience {
    Patience {
        window: Duration::from_secs(2),
        grace: Duration::from_secs(1),
        answer: Duration::from_secs(2),
        backoff: (Duration::from_millis(20), Duration::from_millis(200)),
    }
}

/// The namers of a process of its own.
struct Process {
    runtime: Runtime,
    surroundings: Surroundings,
    namers: Namers,
}

impl Process {
    fn new(environment: &[(&str, &str)], namers: Vec<Value>) -> Process {
        Process::in_pod(environment, File::new("/nowhere"), namers)
    }

    /// With a service account in this directory.
    fn in_pod(environment: &[(&str, &str)], account: &File, namers: Vec<Value>) -> Process {
        let runtime = Runtime::new().unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let clusters = Clusters::patient(environment, account, patience());
        let surroundings = Surroundings::new(clusters);
        let configs: Vec<NamerConfig> =
            namers.into_iter().map(|namer| serde_json::from_value(namer).unwrap()).collect();
        let entered = runtime.enter();
        let namers = build_namers(&configs, Precedence::LastWins, &surroundings).unwrap();
        drop(entered);
        Process { runtime, surroundings, namers }
    }

    /// One namer of this kind, which finds the cluster by this kubeconfig.
    fn of(kind: &str, kubeconfig: PathBuf) -> Process {
        Process::new(&[], vec![json!({ "kind": kind, "kubeconfig": kubeconfig, "experimental": true })])
    }

    fn namer(&self) -> Arc<dyn Namer> {
        self.namers.configured()[0].1.clone()
    }

    fn interpreter(&self, transformers: Value) -> Arc<dyn Interpreter> {
        let _entered = self.runtime.enter();
        let config = json!({ "kind": "default", "transformers": transformers });
        let config: InterpreterConfig = serde_json::from_value(config).unwrap();
        config.build(&self.namers, &self.surroundings).unwrap()
    }
}

fn path(text: &str) -> Path {
    Path::read(text).unwrap()
}

fn addresses(addr: &Live<Addr>) -> String {
    match addr.get() {
        State::Ok(Addr::Bound { endpoints, .. }) => {
            let all: Vec<_> = endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect();
            format!("[{}]", all.join(" "))
        }
        other => format!("{other:?}"),
    }
}

/// `id residual [addresses]`, or the tree's end.
fn shown(state: State<NameTree<Name>>) -> String {
    match state {
        State::Ok(NameTree::Leaf(Name::Bound(bound))) => {
            format!("{} {} {}", bound.id, bound.residual, addresses(&bound.addr))
        }
        State::Ok(tree) => format!("{tree:?}"),
        State::Failed(why) => format!("failed: {why}"),
        State::Pending => "pending".to_owned(),
    }
}

#[track_caller]
fn finds(live: &Live<NameTree<Name>>, expected: &str) {
    until(expected, SOON, || match shown(live.get()) {
        found if found == expected => Ok(()),
        found => Err(found),
    });
}

#[track_caller]
fn check(namer: &Arc<dyn Namer>, name: &str, expected: &str) {
    finds(&namer.lookup(&path(name)), expected);
}

#[track_caller]
fn check_bound(live: &Live<BoundTree>, expected: &str) {
    until(expected, SOON, || {
        let found = match live.get() {
            State::Ok(NameTree::Leaf(bound)) => format!("{} {}", bound.id, addresses(&bound.addr)),
            State::Ok(tree) => format!("{tree:?}"),
            State::Failed(why) => format!("failed: {why}"),
            State::Pending => "pending".to_owned(),
        };
        if found == expected { Ok(()) } else { Err(found) }
    });
}

fn service(namespace: &str, name: &str, ports: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": { "clusterIP": "None", "ports": ports },
    })
}

/// A slice at port `http` 80, its endpoints by address.
fn slice(namespace: &str, service: &str, name: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": namespace, "labels": { "kubernetes.io/service-name": service } },
        "endpoints": endpoints, "ports": [{ "name": "http", "port": 80 }],
    })
}

fn ready(ip: &str) -> Value {
    json!({ "addresses": [ip], "conditions": { "ready": true } })
}

fn apply(cluster: &ControlPlane, objects: &[Value]) {
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
}

#[test]
fn names_become_the_ready_endpoints_of_all_slices() {
    let cluster = control_plane();
    let ns = cluster.namespace("names");
    let mut labelled = slice(&ns, "web", "web-c", &[ready("10.1.0.4")]);
    labelled["metadata"]["labels"]["version"] = json!("v2");
    labelled["ports"] = json!([{ "name": "http", "port": 8080 }]);
    let starting = json!({ "addresses": ["10.1.0.2"], "conditions": { "ready": false } });
    let leaving = json!({
        "addresses": ["10.1.0.3"], "conditions": { "ready": false, "serving": true, "terminating": true },
    });
    let ports = json!([
        { "name": "http", "port": 80, "targetPort": 80 }, { "name": "admin", "port": 9990, "targetPort": 9990 },
    ]);
    apply(
        cluster,
        &[
            service(&ns, "web", ports.clone()),
            slice(&ns, "web", "web-a", &[ready("10.1.0.1"), starting.clone()]),
            slice(&ns, "web", "web-b", std::slice::from_ref(&leaving)),
            labelled,
            service(&ns, "starting", ports.clone()),
            slice(&ns, "starting", "starting-a", &[starting]),
            service(&ns, "leaving", ports),
            slice(&ns, "leaving", "leaving-a", &[leaving]),
        ],
    );
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig());
    let namer = process.namer();
    let id = format!("/#/io.l5d.k8s/{ns}");
    check(&namer, &format!("/{ns}/http/web/a/b"), &format!("{id}/http/web /a/b [10.1.0.1:80 10.1.0.4:8080]"));
    check(&namer, &format!("/{ns}/HTTP/Web"), &format!("{id}/http/web / [10.1.0.1:80 10.1.0.4:8080]"));
    check(&namer, &format!("/{ns}/80/web"), &format!("{id}/80/web / [10.1.0.1:80 10.1.0.4:8080]"));
    check(&namer, &format!("/{ns}/9990/web"), &format!("{id}/9990/web / [10.1.0.1:9990 10.1.0.4:9990]"));
    check(&namer, &format!("/{ns}/http/starting"), &format!("{id}/http/starting / []"));
    check(&namer, &format!("/{ns}/http/leaving"), &format!("{id}/http/leaving / [10.1.0.3:80]"));
    for neg in ["81/web", "grpc/web", "http/nobody", "http", "http/we~b"] {
        let neg = neg.replace('~', "\\x7e");
        check(&namer, &format!("/{ns}/{neg}"), "Neg");
    }
    let selecting = Process::new(
        &[("POD_NAMESPACE", &ns)],
        vec![json!({ "kind": "io.l5d.k8s.ns", "kubeconfig": cluster.kubeconfig(), "labelSelector": "version" })],
    );
    check(&selecting.namer(), "/http/web/V2/x", "/#/io.l5d.k8s.ns/http/web/v2 /x [10.1.0.4:8080]");
    check(&selecting.namer(), "/http/web/v3", "Neg");
    check(&selecting.namer(), "/http/web", "Neg");
}

#[test]
fn changes_are_seen_and_the_same_addresses_go_on() {
    let cluster = control_plane();
    let ns = cluster.namespace("changes");
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig());
    let live = process.namer().lookup(&path(&format!("/{ns}/http/web")));
    finds(&live, "Neg");
    apply(cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.1")])]);
    let id = format!("/#/io.l5d.k8s/{ns}/http/web /");
    finds(&live, &format!("{id} [10.1.0.1:80]"));
    let State::Ok(NameTree::Leaf(Name::Bound(bound))) = live.get() else { panic!("a leaf") };
    apply(cluster, &[slice(&ns, "web", "web-b", &[ready("10.1.0.2")])]);
    finds(&live, &format!("{id} [10.1.0.1:80 10.1.0.2:80]"));
    assert_eq!(addresses(&bound.addr), "[10.1.0.1:80 10.1.0.2:80]");
    cluster.kubectl(&["-n", &ns, "delete", "endpointslices", "--all"], "");
    finds(&live, "Neg");
    apply(cluster, &[slice(&ns, "web", "web-c", &[ready("10.1.0.3")])]);
    finds(&live, &format!("{id} [10.1.0.3:80]"));
    assert_eq!(addresses(&bound.addr), "[10.1.0.3:80]", "the same source revives");
}

#[test]
fn endpoints_serve_where_slices_are_forbidden_and_refusals_name_verb_and_resource() {
    let cluster = control_plane();
    let ns = cluster.namespace("rbac");
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "web", "namespace": ns },
        "subsets": [{ "addresses": [{ "ip": "10.1.0.1" }], "ports": [{ "name": "http", "port": 80 }] }],
    });
    apply(cluster, &[service(&ns, "web", json!([{ "name": "http", "port": 80 }])), endpoints]);
    cluster.kubectl(&["-n", &ns, "create", "serviceaccount", "router"], "");
    let token = cluster.kubectl(&["-n", &ns, "create", "token", "router"], "");
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig_with(None, Some(token.trim())));
    let live = process.namer().lookup(&path(&format!("/{ns}/http/web")));
    until("a refusal", SOON, || {
        let found = shown(live.get());
        let wanted = format!(
            "failed: cannot list endpointslices.discovery.k8s.io in namespace {ns}: forbidden; a role must allow the \
             verb list on endpointslices.discovery.k8s.io"
        );
        if found.starts_with(&wanted) { Ok(()) } else { Err(found) }
    });
    let grant = |name: &str, resource: &str| {
        let rule = format!("--resource={resource}");
        cluster.kubectl(&["-n", &ns, "create", "role", name, "--verb=list,watch", &rule], "");
        let (role, account) = (format!("--role={name}"), format!("--serviceaccount={ns}:router"));
        cluster.kubectl(&["-n", &ns, "create", "rolebinding", name, &role, &account], "");
    };
    grant("old", "endpoints");
    finds(&live, &format!("/#/io.l5d.k8s/{ns}/http/web / [10.1.0.1:80]"));
    // Slices are used as soon as they may be: only they know this one.
    apply(cluster, &[slice(&ns, "web", "web-by-hand", &[ready("10.1.0.2")])]);
    grant("new", "endpointslices.discovery.k8s.io");
    until("slices", SOON, || match shown(live.get()) {
        found if found.contains("10.1.0.2:80") => Ok(()),
        found => Err(found),
    });
}

#[test]
fn a_pods_service_account_is_used_and_a_new_token_read() {
    let cluster = control_plane();
    let ns = cluster.namespace("pod");
    apply(cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.1")])]);
    cluster.kubectl(&["-n", &ns, "create", "serviceaccount", "router"], "");
    let account = format!("--serviceaccount={ns}:router");
    let rule = "--resource=endpointslices.discovery.k8s.io";
    cluster.kubectl(&["-n", &ns, "create", "role", "reader", "--verb=list,watch", rule], "");
    cluster.kubectl(&["-n", &ns, "create", "rolebinding", "reader", "--role=reader", &account], "");
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(cluster.authority(), directory.path().join("ca.crt")).unwrap();
    std::fs::write(directory.path().join("token"), "long.since.expired").unwrap();
    let (host, port) = (cluster.address().ip().to_string(), cluster.address().port().to_string());
    let environment = [("KUBERNETES_SERVICE_HOST", host.as_str()), ("KUBERNETES_SERVICE_PORT", port.as_str())];
    let process = Process::in_pod(&environment, directory.path(), vec![json!({ "kind": "io.l5d.k8s" })]);
    let live = process.namer().lookup(&path(&format!("/{ns}/http/web")));
    until("a refusal", SOON, || match shown(live.get()) {
        found if found.contains("the API server does not accept the credentials") => Ok(()),
        found => Err(found),
    });
    let token = cluster.kubectl(&["-n", &ns, "create", "token", "router"], "");
    std::fs::write(directory.path().join("token"), token.trim()).unwrap();
    finds(&live, &format!("/#/io.l5d.k8s/{ns}/http/web / [10.1.0.1:80]"));
}

#[test]
fn load_balancers_are_found_by_the_external_namer() {
    let cluster = control_plane();
    let ns = cluster.namespace("external");
    let mut balanced =
        service(&ns, "l5d", json!([{ "name": "Out", "port": 4140, "targetPort": 9 }, { "port": 80, "name": "in" }]));
    balanced["spec"]["ports"][0]["name"] = json!("out");
    balanced["spec"]["clusterIP"] = Value::Null;
    balanced["spec"]["type"] = json!("LoadBalancer");
    apply(cluster, &[balanced]);
    let process = Process::of("io.l5d.k8s.external", cluster.kubeconfig());
    let live = process.namer().lookup(&path(&format!("/{ns}/OUT/L5d/x")));
    finds(&live, "Neg");
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "ip": "192.0.2.7" }] } } });
    cluster.kubectl(
        &["-n", &ns, "patch", "service", "l5d", "--subresource=status", "--type=merge", "-p", &status.to_string()],
        "",
    );
    finds(&live, &format!("/#/io.l5d.k8s.external/{ns}/OUT/L5d /x [192.0.2.7:4140]"));
    check(&process.namer(), &format!("/{ns}/80/l5d"), &format!("/#/io.l5d.k8s.external/{ns}/80/l5d / [192.0.2.7:80]"));
}

#[test]
fn transformers_pick_by_node() {
    let cluster = control_plane();
    let ns = cluster.namespace("nodes");
    let on = |ip: &str, node: &str| json!({ "addresses": [ip], "conditions": { "ready": true }, "nodeName": node });
    let mut routers = slice(&ns, "l5d", "l5d-a", &[on("10.1.1.9", "a"), on("10.1.2.9", "b")]);
    routers["ports"] = json!([{ "name": "incoming", "port": 4141 }]);
    apply(
        cluster,
        &[routers, slice(&ns, "web", "web-a", &[on("10.1.1.1", "a"), on("10.1.1.2", "a"), on("10.1.3.1", "b")])],
    );
    let process = Process::new(
        &[("POD_IP", "10.1.3.77"), ("NODE_NAME", "a"), ("KUBECONFIG", cluster.kubeconfig().to_str().unwrap())],
        vec![json!({ "kind": "io.l5d.k8s" })],
    );
    let daemonset = json!({ "kind": "io.l5d.k8s.daemonset", "namespace": ns, "service": "l5d", "port": "incoming" });
    let mut by_name = daemonset.clone();
    by_name["hostNetwork"] = json!(true);
    let name = format!("/#/io.l5d.k8s/{ns}/http/web");
    let cases = [
        (daemonset, format!("/%/io.l5d.k8s.daemonset/{ns}/incoming/l5d{name} [10.1.1.9:4141]")),
        (by_name, format!("/%/io.l5d.k8s.daemonset/{ns}/incoming/l5d{name} [10.1.1.9:4141 10.1.2.9:4141]")),
        (json!({ "kind": "io.l5d.k8s.localnode" }), format!("/%/io.l5d.k8s.localnode/10.1.3.77{name} [10.1.3.1:80]")),
        (
            json!({ "kind": "io.l5d.k8s.localnode", "hostNetwork": true }),
            format!("/%/io.l5d.k8s.localnode/a{name} [10.1.1.1:80 10.1.1.2:80]"),
        ),
    ];
    for (transformer, expected) in cases {
        let interpreter = process.interpreter(json!([transformer]));
        check_bound(&interpreter.bind(&Dtab::empty(), &path(&name)), &expected);
    }
}

/// What a namer tells of the watch on the endpoints of a service.
fn watch_of(namer: &Arc<dyn Namer>, service: &str) -> Value {
    namer.state()["endpoints"][service]["watch"]["endpoints"].clone()
}

#[test]
fn a_watch_that_hangs_is_noticed_and_one_that_is_refused_keeps_what_it_knew() {
    let cluster = control_plane();
    let ns = cluster.namespace("hangs");
    apply(cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.1")])]);
    let relay = Relay::start(cluster.address());
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig_with(Some(relay.address()), None));
    let namer = process.namer();
    let live = namer.lookup(&path(&format!("/{ns}/http/web")));
    let id = format!("/#/io.l5d.k8s/{ns}/http/web /");
    finds(&live, &format!("{id} [10.1.0.1:80]"));
    let state = |wanted: &str| {
        until(wanted, SOON, || {
            let watch = watch_of(&namer, &format!("{ns}/web"));
            if watch["state"] == wanted { Ok(watch) } else { Err(watch) }
        })
    };
    for (trouble, said) in [(Relay::hang as fn(&Relay), "silent"), (Relay::refuse, "")] {
        trouble(&relay);
        let stale = state("stale");
        assert!(stale["trouble"].as_str().unwrap().contains(said), "{stale}");
        assert!(stale["secondsSinceConfirmed"].as_f64().is_some(), "{stale}");
        let known = shown(live.get());
        // What changes meanwhile is seen when the way is free again.
        let ip = format!("10.1.0.{}", 2 + known.len() % 2);
        apply(cluster, &[slice(&ns, "web", "web-a", &[ready(&ip)])]);
        assert_eq!(shown(live.get()), known, "the last good addresses");
        relay.forward();
        finds(&live, &format!("{id} [{ip}:80]"));
        state("current");
        apply(cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.100")])]);
        finds(&live, &format!("{id} [10.1.0.100:80]"));
    }
}

#[test]
fn an_api_server_that_is_killed_takes_nothing_away_and_compaction_leads_to_a_new_list() {
    let cluster = ControlPlane::start();
    let ns = cluster.namespace("killed");
    let gone = slice(&ns, "gone", "gone-a", &[ready("10.1.0.9")]);
    apply(&cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.1")]), gone]);
    let relay = Relay::start(cluster.address());
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig_with(Some(relay.address()), None));
    let namer = process.namer();
    let id = |service: &str| format!("/#/io.l5d.k8s/{ns}/http/{service} /");
    let (live, other) =
        (namer.lookup(&path(&format!("/{ns}/http/web"))), namer.lookup(&path(&format!("/{ns}/http/gone"))));
    finds(&live, &format!("{} [10.1.0.1:80]", id("web")));
    finds(&other, &format!("{} [10.1.0.9:80]", id("gone")));
    // Cut off, so that what now happens is missed, and forgotten before the watch comes back.
    relay.refuse();
    apply(&cluster, &[slice(&ns, "web", "web-a", &[ready("10.1.0.2")])]);
    cluster.kubectl(&["-n", &ns, "delete", "endpointslice", "gone-a"], "");
    apply(&cluster, &[slice(&ns, "web", "web-b", &[ready("10.1.0.3")])]);
    let dead = cluster.kill_api();
    cluster.compact(&dead);
    assert_eq!(shown(live.get()), format!("{} [10.1.0.1:80]", id("web")));
    assert_eq!(shown(other.get()), format!("{} [10.1.0.9:80]", id("gone")));
    let lists = watch_of(&namer, &format!("{ns}/web"))["listRequests"].clone();
    relay.forward();
    dead.start();
    let limit = Duration::from_secs(60);
    until("what was missed", limit, || match (shown(live.get()), shown(other.get())) {
        (web, gone) if web == format!("{} [10.1.0.2:80 10.1.0.3:80]", id("web")) && gone == "Neg" => Ok(()),
        found => Err(found),
    });
    let lists_now = watch_of(&namer, &format!("{ns}/web"))["listRequests"].clone();
    assert!(lists_now.as_u64() > lists.as_u64(), "{lists} {lists_now}: a new list, for the old version is gone");
}

#[test]
fn many_services_share_one_watch_and_large_ones_change_quickly() {
    let cluster = control_plane();
    let ns = cluster.namespace("many");
    // Ten thousand endpoints of one service, and 200 services of one.
    let large = |number: usize, changed: bool| {
        let endpoint = |n: usize| ready(&format!("10.{}.{}.{}", 2 + number, n, if changed { 2 } else { 1 }));
        slice(&ns, "large", &format!("large-{number}"), &(0..200).map(endpoint).collect::<Vec<_>>())
    };
    let mut objects: Vec<Value> = (0..50).map(|number| large(number, false)).collect();
    objects.extend((0..200).map(|number| {
        slice(&ns, &format!("small{number}"), &format!("small{number}-a"), &[ready(&format!("10.1.0.{number}"))])
    }));
    let all = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    cluster.kubectl(&["create", "-f", "-"], &all.to_string());
    let process = Process::of("io.l5d.k8s", cluster.kubeconfig());
    let namer = process.namer();
    let small: BTreeMap<usize, _> =
        (0..200).map(|number| (number, namer.lookup(&path(&format!("/{ns}/http/small{number}"))))).collect();
    let live = namer.lookup(&path(&format!("/{ns}/http/large")));
    for (number, live) in &small {
        finds(live, &format!("/#/io.l5d.k8s/{ns}/http/small{number} / [10.1.0.{number}:80]"));
    }
    let endpoints = || match live.get() {
        State::Ok(NameTree::Leaf(Name::Bound(bound))) => match bound.addr.get() {
            State::Ok(Addr::Bound { endpoints, .. }) => endpoints.to_vec(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    until("ten thousand", SOON, || match endpoints().len() {
        10_000 => Ok(()),
        other => Err(other),
    });
    let begun = Instant::now();
    cluster.kubectl(&["replace", "-f", "-"], &large(7, true).to_string());
    let wanted = "10.9.3.2:80".parse().unwrap();
    until("the change", SOON, || {
        endpoints().iter().any(|endpoint| endpoint.addr == wanted).then_some(()).ok_or("not yet")
    });
    let took = begun.elapsed();
    println!("a change among 10,000 endpoints took {took:?}, kubectl included");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let lists = || {
        let totals = process.surroundings.clusters().totals();
        (totals.watches, totals.list_requests)
    };
    assert_eq!(lists(), (1, 1));
    // Nor does somebody who asks once, and again, list the namespace each time.
    drop((live, small));
    check(&namer, &format!("/{ns}/http/small3"), &format!("/#/io.l5d.k8s/{ns}/http/small3 / [10.1.0.3:80]"));
    assert_eq!(lists(), (1, 1));
}
