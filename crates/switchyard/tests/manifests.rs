//! `deploy/` in a real API server: manifests, kustomizations and the chart are accepted without a warning, the
//! chart has the content of the manifests, their documents are good, and their pods keep the rules.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::switchyard;
use serde_json::{Value, json};
use testkit::kube::{ControlPlane, control_plane};
use testkit::process::{Finished, run};

/// In the order of the tutorial.
const STEPS: [&str; 4] = ["namerd.yml", "linkerd.yml", "hello-world.yml", "pipeline.yml"];
const MORE: [&str; 2] = ["world-v2.yml", "git.yml"];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn manifest(name: &str) -> Vec<Value> {
    let file = deploy("k8s").join(name);
    objects(&std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

fn steps() -> Vec<Value> {
    STEPS.iter().flat_map(|name| manifest(name)).collect()
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
    };
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

fn template(cluster: &ControlPlane, arguments: &[&str]) -> Finished {
    let mut helm = cluster.helm();
    helm.arg("template").args(["switchyard".as_ref(), deploy("helm/switchyard").as_os_str()]).args(arguments);
    run(&mut helm, b"")
}

fn rendered(cluster: &ControlPlane, arguments: &[&str]) -> String {
    let finished = template(cluster, arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}");
    finished.stdout
}

/// As a server with the strictest rules for pods takes it: well, and without a word.
fn accepted(cluster: &ControlPlane, arguments: &[&str], stdin: &str) -> Finished {
    let label = "pod-security.kubernetes.io/warn=restricted";
    cluster.kubectl(&["label", "--overwrite", "namespace", "default", label], "");
    let mut all = vec!["apply", "--server-side", "--dry-run=server"];
    all.extend(arguments);
    let finished = cluster.try_kubectl(&all, stdin);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}\n{}", finished.stdout);
    finished
}

#[test]
fn a_strict_server_takes_every_manifest() {
    let cluster = control_plane();
    for name in STEPS.iter().chain(&MORE).chain(&["dtabs.yml"]) {
        accepted(cluster, &["-f", deploy("k8s").join(name).to_str().unwrap()], "");
    }
    let base = accepted(cluster, &["-k", deploy("k8s").to_str().unwrap()], "");
    assert_eq!(base.stdout.lines().count(), steps().len(), "{}", base.stdout);
    // The strictest rules know no host ports; nothing else is wrong with them.
    let overlay = deploy("hostport");
    let apply = ["apply", "--server-side", "--dry-run=server", "-k", overlay.to_str().unwrap()];
    let Finished { code, stderr, .. } = cluster.try_kubectl(&apply, "");
    let said: Vec<&str> = stderr.lines().collect();
    assert!(code == 0 && said.len() == 1 && said[0].contains("hostPort"), "{stderr}");
    let with_port = cluster.kubectl(&["kustomize", deploy("hostport").to_str().unwrap()], "");
    let router = by_name(objects(&with_port)).remove("DaemonSet default/l5d").unwrap();
    let ports = router.pointer("/spec/template/spec/containers/0/ports").unwrap();
    assert_eq!(ports[0], json!({ "name": "outgoing", "containerPort": 4140, "hostPort": 4140 }));
}

#[test]
fn the_chart_is_well_and_has_the_content_of_the_manifests() {
    let cluster = control_plane();
    let mut lint = cluster.helm();
    let finished = run(lint.arg("lint").arg("--strict").arg(deploy("helm/switchyard")), b"");
    assert_eq!(finished.code, 0, "{}{}", finished.stdout, finished.stderr);
    let text = rendered(cluster, &["--include-crds", "--namespace", "default"]);
    let (chart, manifests) = (by_name(objects(&text)), by_name(steps()));
    assert_eq!(chart.keys().collect::<Vec<_>>(), manifests.keys().collect::<Vec<_>>());
    for (name, object) in &manifests {
        assert_eq!(&chart[name], object, "{name}");
    }
    accepted(cluster, &["-f", "-"], &text);
}

#[test]
fn the_charts_values_do_what_they_say_and_others_are_refused() {
    let cluster = control_plane();
    cluster.kubectl(&["create", "namespace", "traffic"], "");
    let set = [
        "router.hostPort=true",
        "router.externalType=NodePort",
        "networkPolicies=false",
        "pipeline.persistence.enabled=false",
        "image.repository=registry.example/switchyard",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=key",
        "helloWorld.replicas=5",
    ];
    let text = rendered(cluster, &["--namespace", "traffic", "--set", &set.join(",")]);
    accepted(cluster, &["-f", "-"], &text);
    let chart = by_name(objects(&text));
    assert!(chart.keys().all(|name| !name.starts_with("NetworkPolicy") && !name.contains(" default/")), "{chart:?}");
    assert!(!chart.contains_key("PersistentVolumeClaim traffic/pipeline"));
    let router = &chart["DaemonSet traffic/l5d"]["spec"];
    assert_eq!(router["updateStrategy"]["rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": 1 }));
    let pod = &router["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "key" }]));
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("registry.example/switchyard:0.1.0"), &json!("Always"))
    );
    assert_eq!(chart["Service traffic/l5d-external"]["spec"]["type"], "NodePort");
    assert_eq!(chart["Deployment traffic/world-v1"]["spec"]["replicas"], 5);
    let dtab = chart["ConfigMap traffic/namerctl-dtabs"]["data"]["internal"].as_str().unwrap();
    assert!(dtab.contains("/#/io.l5d.k8s/traffic/http;"), "{dtab}");
    documents(chart.into_values().collect());
    for (wrong, said) in [
        ("router.hostport=true", "hostport"),
        ("router.externalType=Internet", "externalType"),
        ("helloWorld.replicas=0", "replicas"),
    ] {
        let finished = template(cluster, &["--set", wrong]);
        assert!(finished.code != 0 && finished.stderr.contains(said), "{wrong}: {}", finished.stderr);
    }
}

/// The documents in config maps, as the binary reads them.
fn documents(objects: Vec<Value>) {
    let maps = by_name(objects.into_iter().filter(|object| object["kind"] == "ConfigMap").collect());
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (name, map) in &maps {
        for (file, text) in map["data"].as_object().unwrap() {
            std::fs::write(directory.path().join(file), text.as_str().unwrap()).unwrap();
        }
        let (command, file) = match name.rsplit('/').next().unwrap() {
            "namerd-config" => ("namerd", "config.yml"),
            "l5d-config" => ("router", "config.yaml"),
            "pipeline-config" => ("pipeline", "pipeline.yaml"),
            _ => continue,
        };
        let finished = run(switchyard().args([command, "--validate"]).arg(directory.path().join(file)), b"");
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 3, "{:?}", maps.keys());
}

#[test]
fn the_documents_of_the_manifests_are_good() {
    documents(steps());
    assert_eq!(manifest("namerd.yml")[0], manifest("dtabs.yml")[0], "the definition of dtabs stands in two files");
}

#[test]
fn every_pod_is_as_small_as_it_can_be() {
    let all: Vec<Value> = STEPS.iter().chain(&MORE).flat_map(|name| manifest(name)).collect();
    let pods: Vec<(&Value, &Value)> =
        all.iter().filter_map(|object| Some((object, object.pointer("/spec/template/spec")?))).collect();
    assert_eq!(pods.len(), 8);
    for (object, pod) in pods {
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let is = |pointer: &str, expected: Value| {
            assert_eq!(pod.pointer(pointer), Some(&expected), "{name}: {pointer}");
        };
        is("/securityContext/runAsNonRoot", json!(true));
        is("/securityContext/seccompProfile/type", json!("RuntimeDefault"));
        let account = pod.get("serviceAccountName");
        assert!(account.is_some() != (pod.get("automountServiceAccountToken") == Some(&json!(false))), "{name}");
        let containers = ["initContainers", "containers"].iter().filter_map(|key| pod[*key].as_array()).flatten();
        for container in containers {
            let security = &container["securityContext"];
            let expected = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(security, &expected, "{name}");
            for pointer in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
                assert!(container.pointer(pointer).is_some(), "{name}: {pointer}");
            }
        }
        let serves = object["kind"] != "Job";
        assert_eq!(pod["containers"][0].get("readinessProbe").is_some(), serves, "{name}");
    }
    for role in all.iter().filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole") {
        assert_eq!(role["kind"], "Role", "nothing is allowed in other namespaces");
        assert!(!role.to_string().contains('*') && !role.to_string().contains("secrets"), "{role}");
    }
}

/// What can be said about them without the services that run them.
#[test]
fn the_examples_for_ci_are_yaml_and_call_the_pipeline() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ci");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let one =
        |name: &str| -> Value { serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}")) };
    let github = one("github-workflow.yml");
    assert!(github["on"].is_object() && github["jobs"].is_object(), "{github}");
    let gitlab = one("gitlab-ci.yml");
    assert!(gitlab["stages"].is_array(), "{gitlab}");
    for name in ["github-workflow.yml", "gitlab-ci.yml", "Jenkinsfile"] {
        let text = read(name);
        for words in [
            "switchyard deploy start hello_world",
            "--until gate",
            "switchyard deploy approve",
            "switchyard deploy abort",
        ] {
            assert!(text.contains(words), "{name}: {words}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count(), "{name}");
    }
    let options = Command::new(env!("CARGO_BIN_EXE_switchyard")).args(["deploy", "start", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&options.stdout).contains("--until"), "the option that they use");
}
