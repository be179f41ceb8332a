//! The rules of Ingress objects (`networking.k8s.io/v1`), for the identifier `io.l5d.ingress`: from host
//! and path to namespace, port and service.
//!
//! As in the original the first rule that matches wins, over all objects in the order of their names, then
//! the default backends; a path of type `ImplementationSpecific` is a regular expression for the whole
//! path. What the original did not know is decided as Kubernetes says: hosts that are exact win over
//! `*.example.com` and over no host, `Exact` paths over `Prefix`, longer prefixes over shorter.

use std::{cmp::Reverse, collections::BTreeMap, path::PathBuf, sync::Arc};

use kubernetes::{
    Event, Report, Resource, Watch,
    k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend},
};
use naming::{Live, Publisher, State};
use regex::Regex;
use serde::Deserialize;

use crate::{ConfigError, Surroundings};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub context: Option<String>,
    /// All namespaces by default.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The class of the objects that are ours: `linkerd` by default. Those without a class are, too.
    #[serde(default)]
    pub ingress_class_annotation: Option<String>,
    #[serde(default)]
    pub ignore_default_backends: bool,
}

const CLASS: &str = "kubernetes.io/ingress.class";
/// Room for one compiled expression.
const REGEX_BYTES: usize = 1 << 20;

impl Config {
    /// What can be said without the cluster.
    pub fn check(&self) -> Result<(), ConfigError> {
        match &self.namespace {
            Some(namespace) if !super::is_name(namespace) => {
                Err(ConfigError::new("namespace", format!("`{namespace}` cannot be the name of a namespace")))
            }
            _ => Ok(()),
        }
    }

    /// Starts to watch; ends with the last reader.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(&self, surroundings: &Surroundings) -> Result<Live<Arc<Rules>>, ConfigError> {
        self.check()?;
        let cluster = &surroundings.books(&super::connection!(self))?.cluster;
        let report = Arc::new(Report::default());
        let namespace = self.namespace.clone().unwrap_or_default();
        let watch = Watch::new(cluster, Resource::INGRESSES, &namespace, &report);
        let known = Known {
            class: self.ingress_class_annotation.clone().unwrap_or_else(|| "linkerd".to_owned()),
            ignore_defaults: self.ignore_default_backends,
            objects: BTreeMap::new(),
        };
        let (publisher, live) = Live::channel(State::Pending);
        tokio::spawn(async move {
            // The report lives as long as the watch.
            let _report = report;
            tokio::select! {
                () = feed(&watch, known, &publisher) => {}
                () = publisher.closed() => {}
            }
        });
        Ok(live)
    }
}

async fn feed(watch: &Watch, mut known: Known, publisher: &Publisher<Arc<Rules>>) {
    let mut backoff = watch.backoff();
    let list = loop {
        match watch.list::<Ingress>().await {
            Ok(list) => break list,
            Err(error) if error.is_refusal() => publisher.set(State::Failed(error.to_string().into())),
            Err(_) => {}
        }
        backoff.wait().await;
    };
    watch
        .follow(list, |event| {
            known.apply(event);
            publisher.set(State::Ok(Arc::new(known.rules())));
        })
        .await;
}

/// The objects that are ours, by namespace and name.
struct Known {
    class: String,
    ignore_defaults: bool,
    objects: BTreeMap<(String, String), Vec<Rule>>,
}

/// Where requests of a rule go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub namespace: Arc<str>,
    /// By name or number.
    pub port: Arc<str>,
    pub service: Arc<str>,
}

/// The rules in force, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    host: Host,
    path: Route,
    backend: Backend,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Exact(String),
    /// `.example.com`: one label before it.
    Wildcard(String),
    Any,
    /// Behind all rules.
    Default,
}

#[derive(Clone, Debug)]
enum Route {
    Exact(String),
    /// Without a slash at its end.
    Prefix(String),
    Whole(Regex),
    Any,
}

impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        match (self, other) {
            (Route::Exact(a), Route::Exact(b)) | (Route::Prefix(a), Route::Prefix(b)) => a == b,
            (Route::Whole(a), Route::Whole(b)) => a.as_str() == b.as_str(),
            (Route::Any, Route::Any) => true,
            _ => false,
        }
    }
}

impl Rules {
    /// Where a request goes; `host` as in the Host header, `path` without the query.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<&Backend> {
        let (host, path) = (std::str::from_utf8(host).ok()?, std::str::from_utf8(path).ok()?);
        let host = without_port(host);
        let matches = |rule: &&Rule| rule.host.matches(host) && rule.path.matches(path);
        self.rules.iter().find(matches).map(|rule| &rule.backend)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Host {
    fn of(host: Option<&str>) -> Host {
        match host {
            None | Some("") => Host::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(rest) => Host::Wildcard(rest.to_owned()),
                None => Host::Exact(host.to_owned()),
            },
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Host::Exact(wanted) => host == wanted,
            Host::Wildcard(rest) => {
                host.strip_suffix(rest.as_str()).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            Host::Any | Host::Default => true,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Host::Exact(_) => 0,
            Host::Wildcard(_) => 1,
            Host::Any => 2,
            Host::Default => 3,
        }
    }
}

impl Route {
    fn of(path: &HTTPIngressPath) -> Result<Route, regex::Error> {
        let text = path.path.as_deref().unwrap_or_default();
        Ok(match path.path_type.as_str() {
            "Exact" => Route::Exact(text.to_owned()),
            "Prefix" => Route::Prefix(text.trim_end_matches('/').to_owned()),
            _ if text.is_empty() => Route::Any,
            _ => Route::Whole(regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_BYTES).build()?),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Route::Exact(wanted) => path == wanted,
            Route::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Route::Whole(regex) => regex.is_match(path),
            Route::Any => true,
        }
    }

    /// Typed paths first, as Kubernetes ranks them; the others keep their order.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Route::Exact(path) => (0, Reverse(path.len())),
            Route::Prefix(path) => (1, Reverse(path.len())),
            Route::Whole(_) | Route::Any => (2, Reverse(0)),
        }
    }
}

impl Known {
    fn apply(&mut self, event: Event<Ingress>) {
        let key = |object: &Ingress| {
            let meta = &object.metadata;
            (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
        };
        match event {
            Event::All(objects, _) => {
                self.objects = objects.iter().map(|object| (key(object), self.read(object))).collect();
            }
            Event::Put(object) => {
                let rules = self.read(&object);
                self.objects.insert(key(&object), rules);
            }
            Event::Gone(object) => {
                self.objects.remove(&key(&object));
            }
        }
    }

    fn rules(&self) -> Rules {
        let mut rules: Vec<Rule> = self.objects.values().flatten().cloned().collect();
        // Stable: among equals the order of the objects, and of the rules in them, decides.
        rules.sort_by_key(|rule| (rule.host.rank(), rule.path.rank()));
        Rules { rules }
    }

    fn read(&self, object: &Ingress) -> Vec<Rule> {
        let spec = object.spec.clone().unwrap_or_default();
        let annotated = object.metadata.annotations.as_ref().and_then(|all| all.get(CLASS));
        if annotated.or(spec.ingress_class_name.as_ref()).is_some_and(|class| *class != self.class) {
            return Vec::new();
        }
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let mut rules = Vec::new();
        for rule in spec.rules.unwrap_or_default() {
            for path in rule.http.map(|http| http.paths).unwrap_or_default() {
                let route = match Route::of(&path) {
                    Ok(route) => route,
                    Err(error) => {
                        tracing::warn!(ingress = %format!("{namespace}/{name}"), %error, "leaving a path out");
                        continue;
                    }
                };
                let Some(backend) = backend(namespace, &path.backend) else {
                    tracing::warn!(ingress = %format!("{namespace}/{name}"), "leaving a path without a service out");
                    continue;
                };
                rules.push(Rule { host: Host::of(rule.host.as_deref()), path: route, backend });
            }
        }
        if !self.ignore_defaults
            && let Some(backend) = spec.default_backend.and_then(|given| backend(namespace, &given))
        {
            rules.push(Rule { host: Host::Default, path: Route::Any, backend });
        }
        rules
    }
}

fn backend(namespace: &str, backend: &IngressBackend) -> Option<Backend> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = port.name.clone().or_else(|| port.number.map(|number| number.to_string()))?;
    Some(Backend { namespace: namespace.into(), port: port.into(), service: service.name.as_str().into() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn known(objects: &[Value], ignore_defaults: bool) -> Rules {
        let mut known = Known { class: "linkerd".to_owned(), ignore_defaults, objects: BTreeMap::new() };
        let objects = objects.iter().map(|object| serde_json::from_value(object.clone()).unwrap()).collect();
        known.apply(Event::All(objects, String::new()));
        known.rules()
    }

    #[track_caller]
    fn check(rules: &Rules, host: &str, path: &str, expected: Option<&str>) {
        let found = rules.find(host.as_bytes(), path.as_bytes());
        let found = found.map(|backend| format!("{}/{}/{}", backend.namespace, backend.port, backend.service));
        assert_eq!(found.as_deref(), expected, "{host}{path}");
    }

    fn to(service: &str) -> Value {
        json!({ "service": { "name": service, "port": { "name": "http" } } })
    }

    fn object(name: &str, host: Option<&str>, paths: &[(&str, &str)]) -> Value {
        let path = |(number, (kind, path)): (usize, &(&str, &str))| json!({ "pathType": kind, "path": path, "backend": to(&format!("{name}{number}")) });
        let paths: Vec<_> = paths.iter().enumerate().map(path).collect();
        let mut rule = json!({ "http": { "paths": paths } });
        if let Some(host) = host {
            rule["host"] = json!(host);
        }
        json!({ "metadata": { "name": name, "namespace": "n" }, "spec": { "rules": [rule] } })
    }

    #[test]
    fn the_originals_tests_hold() {
        let object = json!({
            "metadata": { "name": "a", "namespace": "fooNamespace" },
            "spec": {
                "defaultBackend": { "service": { "name": "defaultService", "port": { "name": "defaultPort" } } },
                "rules": [{ "host": "foo.bar.com", "http": { "paths": [
                    { "path": "/fooPath/.*", "pathType": "ImplementationSpecific",
                      "backend": { "service": { "name": "fooPathService", "port": { "name": "fooPathPort" } } } },
                    { "pathType": "ImplementationSpecific",
                      "backend": { "service": { "name": "fooHostService", "port": { "number": 80 } } } },
                ] } }],
            },
        });
        let rules = known(std::slice::from_ref(&object), false);
        check(&rules, "foo.bar.com", "/penguins", Some("fooNamespace/80/fooHostService"));
        check(&rules, "foo.bar.com:4140", "/fooPath/penguins", Some("fooNamespace/fooPathPort/fooPathService"));
        check(&rules, "authority", "/fooPath/puffins", Some("fooNamespace/defaultPort/defaultService"));
        check(&known(&[object], true), "authority", "/fooPath/puffins", None);
    }

    #[test]
    fn typed_paths_are_ranked_as_kubernetes_says() {
        let typed =
            object("t", Some("a.com"), &[("Prefix", "/"), ("Prefix", "/x/"), ("Exact", "/x/y"), ("Prefix", "/x/y")]);
        let rules = known(
            &[typed, object("w", Some("*.com"), &[("Prefix", "/")]), object("z", None, &[("Exact", "/only")])],
            false,
        );
        check(&rules, "a.com", "/x/y", Some("n/http/t2"));
        check(&rules, "a.com", "/x/y/z", Some("n/http/t3"));
        check(&rules, "a.com", "/x", Some("n/http/t1"));
        check(&rules, "a.com", "/xy", Some("n/http/t0"));
        check(&rules, "b.com", "/xy", Some("n/http/w0"));
        check(&rules, "a.b.com", "/only", Some("n/http/z0"));
        check(&rules, "a.b.com", "/other", None);
    }

    #[test]
    fn objects_of_other_classes_and_broken_paths_are_left_out() {
        let mut ours = object("a", None, &[("Exact", "/a"), ("ImplementationSpecific", "/(")]);
        ours["spec"]["ingressClassName"] = json!("linkerd");
        let mut theirs = object("b", None, &[("Exact", "/b")]);
        theirs["spec"]["ingressClassName"] = json!("nginx");
        let mut annotated = object("c", None, &[("Exact", "/c")]);
        annotated["metadata"]["annotations"] = json!({ CLASS: "nginx" });
        let rules = known(&[ours, theirs, annotated, object("d", None, &[("Exact", "/d")])], false);
        for (path, expected) in
            [("/a", Some("n/http/a0")), ("/b", None), ("/c", None), ("/d", Some("n/http/d0")), ("/(", None)]
        {
            check(&rules, "x", path, expected);
        }
    }
}
