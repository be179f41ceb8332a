//! Manifests of the target `kubernetes`: checked when the pipeline file is read, filled for one version.
//!
//! ```text
//! {kind: Deployment, spec: {…: {value: "{text}"}}}
//!   └─ each text of the parsed document is filled by itself: whatever is in a value stays in that text ─▶
//!      name, namespace, labels, selectors and annotations are added ─▶ one object
//! ```
//!
//! Pure. No text of YAML or JSON is ever edited, so no value can become structure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::template::{self, TemplateError, Values};

/// Says that an object is ours.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const SWITCHYARD: &str = "switchyard";
/// `world`
pub(crate) const SERVICE: &str = "l5d.io/service";
/// `world-v2`; on pods, too, and in every selector.
pub(crate) const VERSION: &str = "l5d.io/version";
pub(crate) const PIPELINE: &str = "l5d.io/pipeline";
pub(crate) const DEPLOY: &str = "l5d.io/deploy";
/// Annotation: `deploy 12 of pipeline 0a1b2c3d`. Whoever finds another owner keeps off.
pub(crate) const OWNER: &str = "l5d.io/owner";
/// Annotation: control plane, namespace and entry, `http://namerd:4180 internal /host/world`.
pub(crate) const ENTRY: &str = "l5d.io/entry";
/// Annotation: all kinds of the version, so that they are found again when the file names others.
pub(crate) const KINDS: &str = "l5d.io/kinds";

const LABELS: [&str; 5] = [MANAGED_BY, SERVICE, VERSION, PIPELINE, DEPLOY];
const ANNOTATIONS: [&str; 3] = [OWNER, ENTRY, KINDS];
/// A Service's name has 63 characters, and `-v` and a number stand behind this.
const LONGEST_SERVICE: usize = 40;
const MOST_OBJECTS: usize = 50;
const MOST_REPLICAS: u64 = 1000;

/// What a manifest says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gvk {
    /// `apps/v1`; `v1`.
    pub api: String,
    pub kind: String,
}

/// Workloads whose pods and progress are understood; of all others only their being there counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    ReplicationController,
}

/// One object of a version, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub gvk: Gvk,
    pub name: String,
    pub body: Value,
}

/// Who makes the objects of a version, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Maker<'a> {
    pub namespace: &'a str,
    pub service: &'a str,
    pub version: &'a str,
    pub pipeline: &'a str,
    pub deploy: u64,
    pub owner: &'a str,
    pub entry: &'a str,
    pub replicas: Option<u32>,
}

/// Key path behind `target.manifests`, and what is wrong there.
pub(crate) type Wrong = (String, String);

impl Gvk {
    pub fn new(api: &str, kind: &str) -> Gvk {
        Gvk { api: api.to_owned(), kind: kind.to_owned() }
    }

    pub fn of(object: &Value) -> Option<Gvk> {
        Some(Gvk::new(object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?))
    }

    /// `apps/v1 Deployment`, as [`KINDS`] has it.
    pub fn shown(&self) -> String {
        format!("{} {}", self.api, self.kind)
    }

    pub fn read(text: &str) -> Option<Gvk> {
        let (api, kind) = text.trim().split_once(' ')?;
        Some(Gvk::new(api, kind))
    }

    pub fn workload(&self) -> Option<Workload> {
        match (self.api.as_str(), self.kind.as_str()) {
            ("apps/v1", "Deployment") => Some(Workload::Deployment),
            ("apps/v1", "StatefulSet") => Some(Workload::StatefulSet),
            ("apps/v1", "DaemonSet") => Some(Workload::DaemonSet),
            ("apps/v1", "ReplicaSet") => Some(Workload::ReplicaSet),
            ("v1", "ReplicationController") => Some(Workload::ReplicationController),
            _ => None,
        }
    }

    pub fn is_service(&self) -> bool {
        self.api == "v1" && self.kind == "Service"
    }
}

/// How many pods these manifests make; `None`: one for each node, so nobody knows.
pub(crate) fn replicas(objects: &[Value], wanted: Option<u32>) -> Option<u32> {
    objects.iter().filter_map(|object| Some((object, Gvk::of(object)?.workload()?))).try_fold(0, |sum, one| match one {
        (_, Workload::DaemonSet) => None,
        (object, _) => {
            let own = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
            Some(sum + wanted.unwrap_or(u32::try_from(own).unwrap_or(u32::MAX)))
        }
    })
}

/// The objects of a YAML file: all its documents, lists taken apart.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.without_snippet().to_string())?;
    Ok(flat(documents))
}

/// Lists taken apart, empty documents left out.
pub(crate) fn flat(objects: Vec<Value>) -> Vec<Value> {
    let items = |mut object: Value| {
        let is_list = object.get("kind").and_then(Value::as_str) == Some("List");
        match object.get_mut("items").filter(|_| is_list).map(Value::take) {
            Some(Value::Array(items)) => items,
            _ if object.is_null() => Vec::new(),
            _ => vec![object],
        }
    };
    objects.into_iter().flat_map(items).collect()
}

/// What can be said without a cluster. `known`: names of placeholders.
pub(crate) fn check(objects: &[Value], service: &str, replicas: Option<u32>, known: &[String]) -> Result<(), Wrong> {
    let here = |message: String| Err((String::new(), message));
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if service.len() > LONGEST_SERVICE
        || !service.starts_with(|c: char| c.is_ascii_lowercase())
        || !service.chars().all(is_label)
    {
        return here(format!(
            "service: {service:?} names objects of a cluster: at most {LONGEST_SERVICE} lower-case letters, digits and `-`, a letter first"
        ));
    }
    if objects.is_empty() || objects.len() > MOST_OBJECTS {
        return here(format!("{} objects: must be 1 to {MOST_OBJECTS}", objects.len()));
    }
    let mut names = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let named = check_one(object, known).map_err(|(path, message)| (format!("[{index}]{path}"), message))?;
        if names.contains(&named) {
            return Err((
                format!("[{index}].metadata.name"),
                format!("{} {} stands here twice", named.0.kind, named.1),
            ));
        }
        names.push(named);
    }
    if !names.iter().any(|(gvk, name)| gvk.is_service() && name == "{new}") {
        return here("must have a Service whose metadata.name is \"{new}\": by it routers find the version".to_owned());
    }
    let workloads: Vec<Workload> = names.iter().filter_map(|(gvk, _)| gvk.workload()).collect();
    let scaled = workloads.iter().filter(|workload| **workload != Workload::DaemonSet).count();
    match (workloads.len(), replicas) {
        (0, _) => here(
            "must have a Deployment, StatefulSet, DaemonSet or ReplicaSet of apps/v1, or a ReplicationController of v1"
                .to_owned(),
        ),
        (_, Some(_)) if scaled != 1 || workloads.len() != 1 => here(
            "target.replicas is for one workload that has replicas: leave it out, and say it in the manifests"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Kind and name, before anything is filled in.
fn check_one(object: &Value, known: &[String]) -> Result<(Gvk, String), Wrong> {
    let wrong = |path: &str, message: String| Err((path.to_owned(), message));
    let Some(gvk) = Gvk::of(object).filter(|gvk| !gvk.api.is_empty() && !gvk.kind.is_empty()) else {
        return wrong("", "must be an object with apiVersion and kind".to_owned());
    };
    let none = Map::new();
    let metadata = match object.get("metadata") {
        None => &none,
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return wrong(".metadata", "must be an object".to_owned()),
    };
    for (key, why) in [
        ("namespace", "target.namespace says it"),
        ("generateName", "a version's objects have names that are known"),
        ("uid", "the cluster gives it"),
        ("resourceVersion", "the cluster gives it"),
        ("managedFields", "the cluster keeps them"),
    ] {
        if metadata.contains_key(key) {
            return wrong(&format!(".metadata.{key}"), format!("take it out: {why}"));
        }
    }
    let name = match metadata.get("name") {
        None => "{new}",
        Some(Value::String(name)) if name == "{new}" || name.starts_with("{new}-") => name,
        Some(other) => {
            return wrong(
                ".metadata.name",
                format!("{other}: must be \"{{new}}\" or begin with \"{{new}}-\": each version has objects of its own"),
            );
        }
    };
    for (key, ours) in [("labels", &LABELS[..]), ("annotations", &ANNOTATIONS[..])] {
        let set = match metadata.get(key) {
            None => continue,
            Some(Value::Object(set)) => set,
            Some(_) => return wrong(&format!(".metadata.{key}"), "must be an object".to_owned()),
        };
        if let Some(own) = ours.iter().find(|own| set.contains_key(**own)) {
            return wrong(&format!(".metadata.{key}"), format!("take {own} out: the pipeline sets it"));
        }
    }
    if gvk.workload().is_some() {
        check_workload(object)?;
    }
    let mut texts = Ok(());
    visit(object, &mut String::new(), &mut |path, text| {
        if texts.is_ok() {
            texts = check_text(text, known).map_err(|message| (path.to_owned(), message));
        }
    });
    texts?;
    Ok((gvk, name.to_owned()))
}

fn check_workload(object: &Value) -> Result<(), Wrong> {
    if !object.pointer("/spec/template").is_some_and(Value::is_object) {
        return Err((".spec.template".to_owned(), "must be an object: the pods".to_owned()));
    }
    match object.pointer("/spec/replicas") {
        None => Ok(()),
        Some(number) if number.as_u64().is_some_and(|number| (1..=MOST_REPLICAS).contains(&number)) => Ok(()),
        Some(other) => Err((".spec.replicas".to_owned(), format!("{other}: must be a number, 1 to {MOST_REPLICAS}"))),
    }
}

fn check_text(text: &str, known: &[String]) -> Result<(), String> {
    let names = template::names(text).map_err(|error| error.to_string())?;
    match names.into_iter().find(|name| !known.iter().any(|other| other == name)) {
        Some(name) => {
            let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            Err(format!("{{{name}}} is not known here; there are {}", known.join(" ")))
        }
        None => Ok(()),
    }
}

/// Every text with its path.
fn visit(value: &Value, path: &mut String, tell: &mut impl FnMut(&str, &str)) {
    let length = path.len();
    match value {
        Value::String(text) => tell(path, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                visit(item, path, tell);
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                path.push('.');
                path.push_str(key);
                visit(item, path, tell);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The objects of one version, workloads last: what they need is there when they begin.
pub(crate) fn render(objects: &[Value], maker: &Maker<'_>, values: &Values) -> Result<Vec<Object>, String> {
    let kinds: BTreeSet<String> = objects.iter().filter_map(Gvk::of).map(|gvk| gvk.shown()).collect();
    let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
    let rendered = objects.iter().map(|object| render_one(object, maker, values, &kinds));
    let mut rendered = rendered.collect::<Result<Vec<_>, _>>()?;
    rendered.sort_by_key(|object| object.gvk.workload().is_some());
    Ok(rendered)
}

fn render_one(object: &Value, maker: &Maker<'_>, values: &Values, kinds: &str) -> Result<Object, String> {
    let gvk = Gvk::of(object).ok_or("a manifest has no kind")?;
    let mut body = fill(object, &mut Vec::new(), values).map_err(|error| error.to_string())?;
    let name = match body.pointer("/metadata/name").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => maker.version.to_owned(),
    };
    if !kubernetes::is_name(&name) {
        return Err(format!("{} {name:?}: that is no name in Kubernetes", gvk.kind));
    }
    let metadata = part(&mut body, &["metadata"])?;
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(maker.namespace));
    let labels = [
        (MANAGED_BY, SWITCHYARD.to_owned()),
        (SERVICE, maker.service.to_owned()),
        (VERSION, maker.version.to_owned()),
        (PIPELINE, maker.pipeline.to_owned()),
        (DEPLOY, maker.deploy.to_string()),
    ];
    put(part(&mut body, &["metadata", "labels"])?, &labels);
    let annotations = [(OWNER, maker.owner.to_owned()), (ENTRY, maker.entry.to_owned()), (KINDS, kinds.to_owned())];
    put(part(&mut body, &["metadata", "annotations"])?, &annotations);
    let version = [(VERSION, maker.version.to_owned())];
    match gvk.workload() {
        Some(workload) => {
            put(part(&mut body, &["spec", "template", "metadata", "labels"])?, &labels[..4]);
            let selector: &[&str] = match workload {
                Workload::ReplicationController => &["spec", "selector"],
                _ => &["spec", "selector", "matchLabels"],
            };
            put(part(&mut body, selector)?, &version);
            if let Some(replicas) = maker.replicas {
                part(&mut body, &["spec"])?.insert("replicas".to_owned(), json!(replicas));
            }
        }
        None if gvk.is_service() && body.pointer("/spec/type").and_then(Value::as_str) != Some("ExternalName") => {
            put(part(&mut body, &["spec", "selector"])?, &version);
        }
        None => {}
    }
    Ok(Object { gvk, name, body })
}

fn put(map: &mut Map<String, Value>, pairs: &[(&str, String)]) {
    for (key, value) in pairs {
        map.insert((*key).to_owned(), json!(value));
    }
}

/// An object in the object, made where it is not there.
fn part<'a>(value: &'a mut Value, path: &[&str]) -> Result<&'a mut Map<String, Value>, String> {
    let wrong = || format!("{} must be an object", path.join("."));
    path.iter()
        .try_fold(value, |value, key| {
            let map = value.as_object_mut()?;
            let entry = map.entry((*key).to_owned()).or_insert_with(|| json!({}));
            if entry.is_null() {
                *entry = json!({});
            }
            Some(entry)
        })
        .and_then(Value::as_object_mut)
        .ok_or_else(wrong)
}

/// Fills each text by itself. `keys`: where we are, indices as empty texts.
fn fill<'a>(value: &'a Value, keys: &mut Vec<&'a str>, values: &Values) -> Result<Value, TemplateError> {
    Ok(match value {
        // The kubelet expands `$(NAME)` here: what comes from a value must not begin to mean something.
        Value::String(text) if is_expanded(keys) => Value::String(values.fill_expanded(text)?),
        Value::String(text) => Value::String(values.fill(text)?),
        Value::Array(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for item in items {
                keys.push("");
                filled.push(fill(item, keys, values)?);
                keys.pop();
            }
            Value::Array(filled)
        }
        Value::Object(map) => {
            let mut filled = Map::new();
            for (key, item) in map {
                keys.push(key);
                filled.insert(key.clone(), fill(item, keys, values)?);
                keys.pop();
            }
            Value::Object(filled)
        }
        other => other.clone(),
    })
}

/// Whether this is a container's command, argument, environment or `subPathExpr`.
fn is_expanded(keys: &[&str]) -> bool {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let Some(container) = keys.windows(2).position(|pair| lists.contains(&pair[0]) && pair[1].is_empty()) else {
        return false;
    };
    matches!(
        &keys[container + 2..],
        ["command" | "args", ""] | ["env", "", "value"] | ["volumeMounts", "", "subPathExpr"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {labels: {app: world}}
spec:
  replicas: 2
  selector: {matchLabels: {app: world}}
  template:
    metadata: {labels: {app: world}}
    spec:
      containers:
      - name: world
        args: ["-text={text}", "$(POD_IP) ${text}"]
        env: [{name: TEXT, value: "{text}"}]
        lifecycle: {preStop: {exec: {command: [echo, "{text}"]}}}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: "{new}"}, spec: {selector: {app: world}, ports: [{port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: "{new}-outside"}, spec: {type: ExternalName, externalName: a.test}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: "{new}-more"}, data: {"{text}": "{{\"a\": \"{text}\"}}"}}
---
"#;

    fn values(text: &str) -> Values {
        let mut values = Values::default();
        for (name, value) in [("text", text), ("new", "world-v2")] {
            values.set(name, value);
        }
        values
    }

    fn rendered(text: &str) -> Vec<Object> {
        let maker = Maker {
            namespace: "default",
            service: "world",
            version: "world-v2",
            pipeline: "hello_world",
            deploy: 12,
            owner: "deploy 12 of pipeline x",
            entry: "internal /host/world",
            replicas: None,
        };
        render(&parse(MANIFESTS).unwrap(), &maker, &values(text)).unwrap()
    }

    #[test]
    fn a_version_is_marked_and_selected_everywhere() {
        let objects = rendered("a");
        let names: Vec<String> = objects.iter().map(|object| format!("{} {}", object.gvk.kind, object.name)).collect();
        assert_eq!(
            names,
            ["Service world-v2", "Service world-v2-outside", "ConfigMap world-v2-more", "Deployment world-v2"]
        );
        for object in &objects {
            assert_eq!(object.body["metadata"]["namespace"], "default");
            assert_eq!(object.body["metadata"]["labels"][VERSION], "world-v2");
            assert_eq!(object.body["metadata"]["labels"][DEPLOY], "12");
            assert_eq!(object.body["metadata"]["annotations"][OWNER], "deploy 12 of pipeline x");
            assert_eq!(object.body["metadata"]["annotations"][KINDS], "apps/v1 Deployment, v1 ConfigMap, v1 Service");
        }
        let both = json!({"app": "world", VERSION: "world-v2"});
        assert_eq!(objects[0].body["spec"]["selector"], both);
        assert_eq!(objects[1].body["spec"]["selector"], Value::Null);
        let deployment = &objects[3].body;
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], both);
        let pods = &deployment["spec"]["template"]["metadata"]["labels"];
        assert_eq!(
            (&pods[VERSION], &pods[SERVICE], &pods["app"]),
            (&json!("world-v2"), &json!("world"), &json!("world"))
        );
        assert_eq!(replicas(&parse(MANIFESTS).unwrap(), None), Some(2));
    }

    #[test]
    fn whatever_is_in_a_value_stays_in_its_text() {
        let texts =
            ["plain", "it's \"x\"", "a\n- b: {c}", "{new} }} {{", "# ' : & * ! | > % @ `", "\u{0}\u{2028}é", ""];
        for text in texts {
            let objects = rendered(text);
            let container = &objects[3].body["spec"]["template"]["spec"]["containers"][0];
            assert_eq!(container["env"][0]["value"], text, "{text:?}");
            assert_eq!(container["args"][0], format!("-text={text}"));
            assert_eq!(objects[2].body["data"], json!({"{text}": format!("{{\"a\": \"{text}\"}}")}));
            assert_eq!(objects.len(), 4);
        }
    }

    #[test]
    fn the_kubelet_expands_what_the_manifest_says_and_nothing_of_a_value() {
        let objects = rendered("$(POD_IP) $$ $");
        let container = &objects[3].body["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["env"][0]["value"], "$$(POD_IP) $$$$ $$");
        assert_eq!(container["args"][1], "$(POD_IP) $$$$(POD_IP) $$$$ $$");
        // Not expanded by the kubelet, so not doubled either.
        assert_eq!(container["lifecycle"]["preStop"]["exec"]["command"][1], "$(POD_IP) $$ $");
    }

    #[test]
    fn errors_name_the_place_and_the_fix() {
        let known = ["new".to_owned(), "text".to_owned()];
        let cases = [
            ("kind: Deployment", "kind: Job", "must have a Deployment, StatefulSet"),
            ("apiVersion: apps/v1\n", "", "[0]: must be an object with apiVersion and kind"),
            ("{labels: {app: world}}\nspec", "{namespace: x}\nspec", "[0].metadata.namespace: take it out"),
            (
                "{labels: {app: world}}\nspec",
                "{labels: {l5d.io/version: x}}\nspec",
                "[0].metadata.labels: take l5d.io/version out",
            ),
            (
                "{labels: {app: world}}\nspec",
                "{name: world}\nspec",
                "[0].metadata.name: \"world\": must be \"{new}\" or begin",
            ),
            ("replicas: 2", "replicas: \"{new}\"", "[0].spec.replicas: \"{new}\": must be a number"),
            ("-text={text}", "-text={txt}", "[0].spec.template.spec.containers[0].args[0]: {txt} is not known here"),
            ("\"{text}\"}]", "\"{text\"}]", "[0].spec.template.spec.containers[0].env[0].value: "),
            ("\"{new}\"}, spec", "\"{new}-x\"}, spec", "must have a Service whose metadata.name is \"{new}\""),
            ("\"{new}-outside\"", "\"{new}\"", "[2].metadata.name: Service {new} stands here twice"),
            ("  template:", "  pods:", "[0].spec.template: must be an object"),
        ];
        assert_eq!(check(&parse(MANIFESTS).unwrap(), "world", None, &known), Ok(()));
        for (old, new, expected) in cases {
            assert!(MANIFESTS.contains(old), "{old}");
            let objects = parse(&MANIFESTS.replacen(old, new, 1)).unwrap();
            let found = check(&objects, "world", None, &known).map_err(|(path, message)| format!("{path}: {message}"));
            assert!(
                found.clone().is_err_and(|text| text.contains(expected)),
                "{new}\n gives {found:?}\n  not {expected}"
            );
        }
        let wrong = check(&parse(MANIFESTS).unwrap(), "World", None, &known);
        assert!(wrong.clone().is_err_and(|(_, message)| message.starts_with("service: \"World\"")), "{wrong:?}");
    }
}
