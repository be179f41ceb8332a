//! `client` and `service`: for all names at once, or by prefix (`io.l5d.static`).

use std::time::Duration;

use names::PathMatcher;
use serde::Deserialize;
use serde_json::Value;

use super::load_balancer;
use super::part::{At, Plugin, Problems, given};
use super::reliability;
use super::server::{Side, session, socket_options};
use crate::settings::{ByPrefix, Client, Pool, Section, Service};

const GLOBAL: &str = "io.l5d.global";
const CLIENT: Plugin =
    Plugin { what: "client", default: Some(GLOBAL), built: &[GLOBAL, "io.l5d.static"], not_built: &[] };
const SERVICE: Plugin =
    Plugin { what: "service", default: Some(GLOBAL), built: &[GLOBAL, "io.l5d.static"], not_built: &[] };
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticKeys {
    configs: Option<Vec<Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClientKeys {
    load_balancer: Option<Value>,
    host_connection_pool: Option<Value>,
    fail_fast: Option<bool>,
    failure_accrual: Option<Value>,
    request_attempt_timeout_ms: Option<u64>,
    requeue_budget: Option<Value>,
    client_session: Option<Value>,
    socket_options: Option<Value>,
    tls: Option<Value>,
    forward_client_cert: Option<bool>,
    request_authorizers: Option<Vec<Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PoolKeys {
    min_size: Option<usize>,
    max_size: Option<usize>,
    idle_time_ms: Option<u64>,
    max_waiters: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceKeys {
    total_timeout_ms: Option<u64>,
    retries: Option<Value>,
    response_classifier: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesKeys {
    budget: Option<Value>,
    backoff: Option<Value>,
}

pub(super) fn clients(value: Option<&Value>, at: &At, problems: &mut Problems) -> ByPrefix<Client> {
    let clients = by_prefix(value, at, &CLIENT, problems, client);
    for (pattern, client) in &clients.entries {
        let section = client.tls.as_ref().filter(|section| section.config.is_on());
        let name = section.and_then(|section| Some((section, section.config.common_name.as_deref()?)));
        if let Some((section, name)) = name
            && let Some(key) = uncaptured(name, pattern)
        {
            let text = format!("`{{{key}}}` is not captured by the prefix: write it there, or take it out of the name");
            problems.add(&At::place(&section.at).key("commonName"), text);
        }
    }
    clients
}

pub(super) fn services(value: Option<&Value>, at: &At, problems: &mut Problems) -> ByPrefix<Service> {
    by_prefix(value, at, &SERVICE, problems, service)
}

fn by_prefix<T: Default>(
    value: Option<&Value>,
    at: &At,
    plugin: &Plugin,
    problems: &mut Problems,
    one: fn(&Value, &At, &mut Problems) -> Option<T>,
) -> ByPrefix<T> {
    let Some((kind, rest)) = value.and_then(|value| problems.kind(at, value, plugin)) else {
        return ByPrefix::default();
    };
    if kind == GLOBAL {
        return ByPrefix::global(one(&rest, at, problems).unwrap_or_default());
    }
    let Some(keys) = problems.read::<StaticKeys>(at, &rest) else { return ByPrefix::default() };
    let Some(configs) = keys.configs else {
        problems.add(&at.key("configs"), "`io.l5d.static` needs a list: [{prefix: /…, …}]");
        return ByPrefix::default();
    };
    let at = at.key("configs");
    let entries = configs.iter().enumerate().filter_map(|(number, value)| {
        let at = at.nth(number);
        let (prefix, rest) = prefix(value, &at, problems)?;
        Some((PathMatcher::new(&prefix), one(&rest, &at, problems)?))
    });
    ByPrefix { entries: entries.collect() }
}

fn prefix(value: &Value, at: &At, problems: &mut Problems) -> Option<(String, Value)> {
    let Value::Object(entries) = value else {
        problems.add(at, "expected a mapping: {prefix: /…, …}");
        return None;
    };
    let mut rest = entries.clone();
    match rest.shift_remove("prefix") {
        Some(Value::String(prefix)) if prefix.starts_with('/') => Some((prefix, Value::Object(rest))),
        Some(other) => {
            problems.add(&at.key("prefix"), format!("expected a pattern such as `/svc/{{name}}`, not {other}"));
            None
        }
        None => {
            problems.add(&at.key("prefix"), "is missing");
            None
        }
    }
}

fn client(value: &Value, at: &At, problems: &mut Problems) -> Option<Client> {
    let keys = problems.read::<ClientKeys>(at, value)?;
    let load_balancer = given(keys.load_balancer.as_ref());
    let load_balancer = load_balancer.and_then(|value| load_balancer::read(value, &at.key("loadBalancer"), problems));
    let session = given(keys.client_session.as_ref());
    let session = session.and_then(|value| self::session(value, &at.key("clientSession"), problems));
    let socket = socket_options(keys.socket_options.as_ref(), at, Side::Client, problems);
    if keys.request_authorizers.as_ref().is_some_and(|list| !list.is_empty()) {
        problems.add(&at.key("requestAuthorizers"), "not supported yet: there are none here (Istio's mixer)");
    }
    problems.positive(at, "requestAttemptTimeoutMs", keys.request_attempt_timeout_ms);
    let pool = given(keys.host_connection_pool.as_ref());
    let accrual = given(keys.failure_accrual.as_ref());
    let budget = given(keys.requeue_budget.as_ref());
    Some(Client {
        load_balancer,
        pool: pool.and_then(|value| self::pool(value, &at.key("hostConnectionPool"), problems)),
        accrual: accrual.and_then(|value| reliability::accrual(value, &at.key("failureAccrual"), problems)),
        attempt_timeout: keys.request_attempt_timeout_ms.map(Duration::from_millis),
        requeue_budget: budget.and_then(|value| reliability::budget(value, &at.key("requeueBudget"), problems)),
        tls: given(keys.tls.as_ref()).and_then(|value| tls(value, &at.key("tls"), problems)),
        forward_client_cert: keys.forward_client_cert,
        session,
        socket,
        fail_fast: keys.fail_fast,
    })
}

fn pool(value: &Value, at: &At, problems: &mut Problems) -> Option<Pool> {
    let keys = problems.read::<PoolKeys>(at, value)?;
    let min = keys.min_size.unwrap_or(0);
    match keys.max_size {
        Some(0) => problems.add(&at.key("maxSize"), "must be greater than 0"),
        Some(max) if max < min => {
            problems.add(&at.key("maxSize"), format!("{max} is less than minSize, {min}"));
        }
        _ => {}
    }
    let idle = keys.idle_time_ms.map(Duration::from_millis);
    Some(Pool { min, max: keys.max_size, idle, max_waiters: keys.max_waiters })
}

/// Its files are read later.
fn tls(value: &Value, at: &At, problems: &mut Problems) -> Option<Section<tls::client::Config>> {
    let config = problems.read::<tls::client::Config>(at, value)?;
    if let Err(error) = config.check(tls::client::Naming::CommonName) {
        problems.add(&at.key(&error.key), error.message);
    }
    Some(Section { at: at.path().to_owned(), config })
}

/// The first `{key}` of a name for which the pattern has nothing.
fn uncaptured<'a>(name: &'a str, pattern: &PathMatcher) -> Option<&'a str> {
    let mut parts = name.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(key, _)| key));
    parts.find(|key| !pattern.keys().any(|known| known == *key))
}

fn service(value: &Value, at: &At, problems: &mut Problems) -> Option<Service> {
    let keys = problems.read::<ServiceKeys>(at, value)?;
    problems.positive(at, "totalTimeoutMs", keys.total_timeout_ms);
    let classifier = given(keys.response_classifier.as_ref());
    let mut service = Service {
        total_timeout: keys.total_timeout_ms.map(Duration::from_millis),
        classifier: classifier
            .and_then(|value| reliability::classifier(value, &at.key("responseClassifier"), problems)),
        ..Service::default()
    };
    let at = at.key("retries");
    if let Some(retries) = given(keys.retries.as_ref()).and_then(|value| problems.read::<RetriesKeys>(&at, value)) {
        let budget = given(retries.budget.as_ref());
        service.retry_budget = budget.and_then(|value| reliability::budget(value, &at.key("budget"), problems));
        let backoff = given(retries.backoff.as_ref());
        service.backoff = backoff.and_then(|value| reliability::backoff(value, &at.key("backoff"), problems));
    }
    Some(service)
}
