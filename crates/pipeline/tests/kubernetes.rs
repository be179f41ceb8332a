//! The target `kubernetes` on a real API server: through, back, and with everything that goes wrong there.
//! The test plays the cluster's only node.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::node::Play;
use common::yard::Yard;
use common::{LIMIT, Server};
use serde_json::{Value, json};
use testkit::kube::{ControlPlane, Relay, control_plane};
use testkit::until::until;

#[test]
fn server() {
    common::serve();
}

/// Quotes, braces, YAML, a placeholder, what a kubelet would expand, two lines.
const HOSTILE: &str = "it's \"{new}\": $(POD_IP) $$x ${text}\n- kind: Secret # &anchor *alias | > %";

fn texts(yard: &Yard<'_>, text: &str, count: usize) -> usize {
    (0..count).filter(|_| yard.ask().contains(text)).count()
}

#[test]
fn a_deploy_goes_through_and_any_text_arrives_as_it_was_written() {
    let yard = Yard::new(control_plane());
    yard.commit(HOSTILE);
    let server = yard.server();
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "integration testing");
    assert_eq!(deploy["version"], json!({"current": "world-v1", "new": "world-v2"}));
    assert_eq!(yard.entry(), "/tmp/world-v1");
    assert_eq!(texts(&yard, " first (", 10), 10);

    let deployment = yard.get("deployment", "world-v2");
    let labels = &deployment["metadata"]["labels"];
    let expected = json!({"app": "world", "app.kubernetes.io/managed-by": "switchyard", "l5d.io/service": "world",
        "l5d.io/version": "world-v2", "l5d.io/pipeline": "hello_world", "l5d.io/deploy": id});
    assert_eq!(labels, &expected);
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["selector"], json!({"matchLabels": {"l5d.io/version": "world-v2"}}));
    let managers = deployment["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|one| one["manager"] == "switchyard-pipeline" && one["operation"] == "Apply"));
    assert_eq!(yard.get("configmap", "world-v2-more")["data"]["text"], HOSTILE);

    // Pods are shown as processes are.
    let instances = deploy["instances"].as_array().unwrap();
    let new: Vec<&Value> = instances.iter().filter(|one| one["version"] == "world-v2").collect();
    assert_eq!((instances.len(), new.len()), (4, 2), "{instances:#?}");
    assert!(new.iter().all(|one| one["ready"] == true && one["address"].as_str().unwrap().starts_with("10.1.0.")));
    let page = server.get(&format!("/deploys/{id}")).text();
    assert!(page.contains(new[0]["name"].as_str().unwrap()), "{page}");
    let log = server.log(&id);
    for line in
        ["Deployment world-v2", "2 of 2 pods are ready", "world-v2 is ready, and its Service has the pods: 10.1.0."]
    {
        assert!(log.contains(line), "{line} in {log}");
    }

    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    let new = texts(&yard, HOSTILE, 100);
    assert!((1..=30).contains(&new), "{new} of 100");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (100%)");
    // A pod that is taken away is replaced: no reason to go back.
    let pod =
        yard.kubectl(&["get", "pods", "-l", "l5d.io/version=world-v2", "-o", "jsonpath={.items[0].metadata.name}"]);
    yard.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    until("the pod is replaced", LIMIT, || {
        let pods = yard.node.pods();
        let new = pods.iter().filter(|name| name.starts_with("world-v2-")).count();
        if new == 2 && !pods.contains(&pod) { Ok(()) } else { Err(pods) }
    });
    server.approve(&id);
    server.rests_at(&id, "succeeded");
    assert_eq!(yard.entry(), "/srv/world-v2");
    let there = yard.there();
    assert!(there.len() == 5 && there.iter().all(|name| name.contains("world-v2")), "{there:?}");
    assert_eq!(texts(&yard, HOSTILE, 10), 10);
    let log = server.log(&id);
    assert!(log.contains("world-v1 is taken away: "), "{log}");
    server.stop();
}

#[test]
fn an_abort_takes_everything_away() {
    let yard = Yard::new(control_plane());
    let server = yard.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    yard.is_as_before();
}

#[test]
fn a_version_that_does_not_get_ready_is_taken_away_and_the_pods_say_why() {
    let mut yard = Yard::new(control_plane());
    yard.pipeline = yard.pipeline.replace("timeoutSeconds: 30", "timeoutSeconds: 3");
    let server = yard.server();
    let image = "container world: image world:2: ImagePullBackOff: Back-off pulling image \"web:none\"";
    let ends = "exit code 2 (Error): no configuration found";
    let probe = "Unhealthy: Readiness probe failed: connection refused";
    let cases = [
        (Play::NoImage, &["world-v2 will not get ready: world-v2-", image, "(for 1 s)"][..], image),
        (Play::Crash, &["world-v2 will not get ready: ", "container world ended (restarted ", ends], ends),
        (Play::Unready, &["world-v2 is not ready after 3 s: 0 of 2 pods are ready; world-v2-", probe], probe),
        (Play::Run, &["0 of 2 pods are ready; Deployment world-v2: FailedCreate: "], "violates PodSecurity"),
    ];
    for (play, expected, said) in cases {
        yard.node.play("world-v2", play);
        if play == Play::Run {
            let enforce = "pod-security.kubernetes.io/enforce=restricted";
            yard.cluster.kubectl(&["label", "namespace", &yard.namespace, enforce], "");
        }
        let id = server.start(json!({}));
        let deploy = server.rests_at(&id, "reverted");
        let (reason, log) = (deploy["reason"].as_str().unwrap(), server.log(&id));
        for part in expected {
            assert!(reason.contains(part), "{play:?}: {part} in {reason}");
        }
        assert!(log.contains("warn  [deploy] ") && log.contains(said), "{play:?}: {said} in {log}");
        yard.is_as_before();
    }
}

#[test]
fn a_version_that_breaks_under_traffic_is_taken_away() {
    let yard = Yard::new(control_plane());
    let server = yard.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    yard.node.play("world-v2", Play::Crash);
    let deploy = server.rests_at_later(&id, "reverted");
    let reason = deploy["reason"].as_str().unwrap();
    assert!(reason.contains("exit code 2 (Error): no configuration found"), "{reason}");
    yard.is_as_before();
}

#[test]
fn objects_of_others_are_left_as_they_are() {
    let yard = Yard::new(control_plane());
    let other =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "world-v2-more"}, "data": {"a": "b"}});
    yard.apply(&other);
    let (reason, _) = yard.reverted();
    assert!(reason.contains("ConfigMap world-v2-more in namespace"), "{reason}");
    assert!(reason.contains("is there already and not this deploy's (without the label"), "{reason}");
    assert_eq!(yard.get("configmap", "world-v2-more")["data"], json!({"a": "b"}));
    yard.is_as_before();
    // A Service that is called like a version is no version, but its name is taken.
    yard.kubectl(&["delete", "configmap", "world-v2-more"]);
    yard.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "world-v7"}, "spec": {"ports": [{"port": 1}]}}));
    let server = yard.server();
    let id = server.start(json!({}));
    assert_eq!(server.rests_at(&id, "integration testing")["version"]["new"], "world-v8");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    yard.kubectl(&["get", "service", "world-v7"]);
}

#[test]
fn what_somebody_else_changed_in_an_object_is_not_overwritten() {
    let yard = Yard::new(control_plane());
    yard.node.play("world-v2", Play::Unready);
    let server = yard.server();
    let id = server.start(json!({}));
    until("the version is there", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| text.contains("0 of 2 pods are ready")) { Ok(()) } else { Err(trouble) }
    });
    server.kill();
    yard.kubectl(&["set", "image", "deployment/world-v2", "world=mine:1", "--field-manager=somebody"]);
    let server = yard.server();
    let deploy = server.rests_at(&id, "reverted");
    let reason = deploy["reason"].as_str().unwrap();
    for part in
        ["Deployment world-v2: somebody else changed what the manifest says: ", "conflict with \"somebody\"", ".image"]
    {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    yard.is_as_before();
}

#[test]
fn what_a_role_forbids_is_named() {
    let mut yard = Yard::new(control_plane());
    yard.kubectl(&["create", "serviceaccount", "pipeline"]);
    let token = yard.kubectl(&["create", "token", "pipeline"]);
    yard.kubeconfig = yard.cluster.kubeconfig_with(None, Some(token.trim()));
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let all = &["get", "list", "create", "patch", "delete"][..];
    let mut rules = vec![
        rule(&[""], &["services", "configmaps"], all),
        rule(&["apps"], &["deployments"], &["get", "list", "patch", "delete"]),
    ];
    let grant = |rules: &[Value]| {
        yard.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "pipeline"}, "rules": rules}));
    };
    grant(&rules);
    let account = format!("--serviceaccount={}:pipeline", yard.namespace);
    yard.kubectl(&["create", "rolebinding", "pipeline", "--role=pipeline", &account]);
    let server = yard.server();
    let id = server.start(json!({}));
    // What it made already it cannot see gone: pods are not its to list either.
    let deploy = server.rests_at(&id, "failed");
    let reason = deploy["reason"].as_str().unwrap();
    let expected = format!(
        "Deployment world-v2: cannot create deployments.apps in namespace {}: forbidden; a role must allow the verb create on deployments.apps",
        yard.namespace
    );
    assert!(reason.contains(&expected), "{reason}");
    assert!(reason.contains("a role must allow the verb list on pods"), "{reason}");
    // With the rest of what docs/kubernetes.md names, and nothing else, it goes back, and the next one through.
    rules[1] = rule(&["apps"], &["deployments"], all);
    rules.push(rule(&[""], &["pods"], &["list", "watch"]));
    rules.push(rule(&[""], &["events"], &["list"]));
    rules.push(rule(&["discovery.k8s.io"], &["endpointslices"], &["list"]));
    grant(&rules);
    until("the role counts, and the deploy is mended", LIMIT, || {
        server.post(&format!("/api/1/deploys/{id}/retry"), &Value::Null);
        let deploy = server.rest(&id);
        if deploy["state"] == "reverted" { Ok(()) } else { Err(deploy["reason"].clone()) }
    });
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.abort(&id);
    server.rests_at(&id, "reverted");
}

#[test]
fn a_dead_api_server_is_waited_for() {
    let cluster = ControlPlane::start();
    let yard = Yard::new(&cluster);
    yard.node.play("world-v2", Play::Unready);
    let server = yard.server();
    let id = server.start(json!({}));
    until("the version is there", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| text.contains("0 of 2 pods are ready")) { Ok(()) } else { Err(trouble) }
    });
    let dead = cluster.kill_api();
    until("the deploy waits for the cluster", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| text.contains("waiting for the cluster")) {
            Ok(())
        } else {
            Err(trouble)
        }
    });
    dead.start();
    yard.node.play("world-v2", Play::Run);
    server.rests_at(&id, "integration testing");
    assert!(server.log(&id).contains("the cluster answers again"), "{}", server.log(&id));
    // Away while the version has traffic: nothing is known to be wrong, so nothing happens.
    server.approve(&id);
    server.rests_at(&id, "shift traffic (10%)");
    let dead = cluster.kill_api();
    server.approve(&id);
    server.rests_at(&id, "shift traffic (100%)");
    server.approve(&id);
    until("the removal waits for the cluster", LIMIT, || {
        let doing = server.deploy(&id)["doing"].clone();
        let waits = doing["what"] == "taking world-v1 away" && doing["attempt"].as_u64() > Some(1);
        if waits { Ok(()) } else { Err(doing) }
    });
    dead.start();
    server.rests_at(&id, "succeeded");
    assert!(yard.there().iter().all(|name| name.contains("world-v2")), "{:?}", yard.there());
}

#[test]
fn a_cluster_that_hangs_in_silence_is_noticed() {
    let mut yard = Yard::new(control_plane());
    let relay = Relay::start(yard.cluster.address());
    yard.kubeconfig = yard.cluster.kubeconfig_with(Some(relay.address()), None);
    yard.node.play("world-v2", Play::Unready);
    let server = yard.server();
    let id = server.start(json!({}));
    until("the version is there", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| text.contains("0 of 2 pods are ready")) { Ok(()) } else { Err(trouble) }
    });
    relay.hang();
    yard.node.play("world-v2", Play::Run);
    let began = Instant::now();
    until("the silence is noticed", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| text.contains("was silent for")) { Ok(()) } else { Err(trouble) }
    });
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // What hangs now would hang until its time is over.
    relay.refuse();
    until("the silence has ended", LIMIT, || {
        let trouble = server.deploy(&id)["doing"]["trouble"].clone();
        if trouble.as_str().is_some_and(|text| !text.contains("was silent for")) { Ok(()) } else { Err(trouble) }
    });
    relay.forward();
    server.rests_at(&id, "integration testing");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    yard.is_as_before();
}

#[test]
fn what_a_dead_server_left_is_taken_away_by_the_next_deploy() {
    let yard = Yard::new(control_plane());
    let server = yard.server();
    let id = server.start(json!({}));
    server.rests_at(&id, "integration testing");
    server.kill();
    // Its state is lost, its lease ends, and somebody sets the entry back.
    std::fs::remove_dir_all(yard.path("state")).unwrap();
    yard.control.edit("/host/world", "/srv/world-v1");
    yard.control.lease_to("nobody", 0);
    let server = yard.server();
    let id = server.start(json!({}));
    let deploy = server.rests_at(&id, "integration testing");
    assert_eq!(deploy["version"]["new"], "world-v2");
    let log = server.log(&id);
    assert!(log.contains("taking away world-v2, left behind by an ended deploy"), "{log}");
    server.abort(&id);
    server.rests_at(&id, "reverted");
    yard.is_as_before();
}

#[test]
fn a_version_of_somebody_else_is_left_running() {
    let yard = Yard::new(control_plane());
    for kind in ["service", "replicationcontroller"] {
        // Without any label of its own a replication controller gets those of its pods.
        yard.kubectl(&[
            "label",
            kind,
            "world-v1",
            "app=mine",
            "app.kubernetes.io/managed-by-",
            "l5d.io/version-",
            "l5d.io/service-",
        ]);
    }
    let server = yard.server();
    let id = server.start(json!({}));
    for stage in ["integration testing", "shift traffic (10%)", "shift traffic (100%)"] {
        server.rests_at(&id, stage);
        server.approve(&id);
    }
    server.rests_at(&id, "succeeded");
    let log = server.log(&id);
    assert!(log.contains("Service world-v1, ReplicationController world-v1 in namespace"), "{log}");
    yard.kubectl(&["get", "service,replicationcontroller", "world-v1"]);
}

fn lines(yard: &Yard<'_>) -> usize {
    let journal = std::fs::read(yard.path("state/journal/000001.jsonl")).unwrap_or_default();
    journal.iter().filter(|byte| **byte == b'\n').count()
}

/// One deploy whose server is killed after every few lines that it writes.
fn killed_at_every_step(yard: &Yard<'_>, abort_at: Option<&str>) -> (Value, u32) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut server = yard.server();
    server.start(json!({}));
    let (mut killed_at, mut kills, began) = (0, 0, Instant::now());
    loop {
        assert!(began.elapsed() < LIMIT * 2, "{}", server.log("1"));
        let count = lines(yard);
        let stepped = count >= killed_at + if kills == 0 { 1 } else { 2 };
        if stepped && count > 1 {
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
            killed_at = lines(yard);
            server.kill();
            kills += 1;
            server = yard.server();
            continue;
        }
        let deploy = server.deploy("1");
        match deploy["state"].as_str().unwrap() {
            "waiting" => decide(&server, &deploy, abort_at),
            "running" => std::thread::sleep(Duration::from_millis(1)),
            _ => return (deploy, kills),
        }
    }
}

fn decide(server: &Server, deploy: &Value, abort_at: Option<&str>) {
    let stage = deploy["stage"].as_str().unwrap();
    let verb = if abort_at == Some(stage) { "abort" } else { "approve" };
    server.post(&format!("/api/1/deploys/1/{verb}"), &json!({"actor": "grace", "stage": stage}));
}

#[test]
fn a_deploy_goes_through_although_the_server_dies_at_every_step() {
    let yard = Yard::new(control_plane());
    let (deploy, kills) = killed_at_every_step(&yard, None);
    assert_eq!(deploy["state"], "succeeded", "{deploy:#}");
    assert!(kills >= 5, "only {kills} kills");
    let there = yard.there();
    assert!(there.len() == 5 && there.iter().all(|name| name.contains("world-v2")), "{there:?}");
    assert_eq!(yard.entry(), "/srv/world-v2");
}

#[test]
fn an_abort_goes_through_although_the_server_dies_at_every_step() {
    let yard = Yard::new(control_plane());
    let (deploy, kills) = killed_at_every_step(&yard, Some("shift traffic (10%)"));
    assert_eq!(deploy["state"], "reverted", "{deploy:#}");
    assert!(kills >= 5, "only {kills} kills");
    yard.is_as_before();
}
