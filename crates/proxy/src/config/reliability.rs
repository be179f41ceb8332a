//! Budgets, backoffs, failure accrual, response classifiers.

use balance::accrual::{self, Policy};
use balance::{Backoff, Budget, BudgetConfig};
use serde::Deserialize;
use serde_json::Value;

use super::part::{At, Plugin, Problems, given};
use crate::settings::Classifier;

const SECOND: u64 = 1_000_000_000;
const BACKOFF: Plugin = Plugin { what: "backoff", default: None, built: &["constant", "jittered"], not_built: &[] };
const ACCRUAL: Plugin = Plugin {
    what: "failure accrual",
    default: None,
    built: &["io.l5d.consecutiveFailures", "io.l5d.successRate", "io.l5d.successRateWindowed", "none"],
    not_built: &[],
};
const CLASSIFIER: Plugin = Plugin {
    what: "response classifier",
    default: None,
    built: &[
        "io.l5d.http.nonRetryable5XX",
        "io.l5d.http.retryableRead5XX",
        "io.l5d.http.retryableIdempotent5XX",
        "io.l5d.http.retryableAll5XX",
        "io.l5d.http.allSuccessful",
    ],
    not_built: &[],
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BudgetKeys {
    ttl_secs: Option<u64>,
    min_retries_per_sec: Option<u64>,
    percent_can_retry: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstantKeys {
    ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JitteredKeys {
    min_ms: Option<u64>,
    max_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsecutiveKeys {
    failures: Option<u32>,
    backoff: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SuccessRateKeys {
    success_rate: f64,
    requests: u32,
    backoff: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WindowedKeys {
    success_rate: f64,
    window: u64,
    backoff: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffOnlyKeys {
    backoff: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

pub(super) fn budget(value: &Value, at: &At, problems: &mut Problems) -> Option<BudgetConfig> {
    let keys = problems.read::<BudgetKeys>(at, value)?;
    let default = BudgetConfig::default();
    let config = BudgetConfig {
        ttl_secs: keys.ttl_secs.unwrap_or(default.ttl_secs),
        min_retries_per_sec: keys.min_retries_per_sec.unwrap_or(default.min_retries_per_sec),
        percent_can_retry: keys.percent_can_retry.unwrap_or(default.percent_can_retry),
    };
    problems.note(at, Budget::new(&config)).map(|_| config)
}

/// `backoff`, wherever it stands.
pub(super) fn backoff(value: &Value, at: &At, problems: &mut Problems) -> Option<Backoff> {
    let (kind, rest) = problems.kind(at, value, &BACKOFF)?;
    if kind == "constant" {
        let keys = problems.read::<ConstantKeys>(at, &rest)?;
        return Some(Backoff::constant(keys.ms.unwrap_or(0)));
    }
    let keys = problems.read::<JitteredKeys>(at, &rest)?;
    problems.note(at, Backoff::jittered(keys.min_ms.unwrap_or(0), keys.max_ms.unwrap_or(0)))
}

pub(super) fn accrual(value: &Value, at: &At, problems: &mut Problems) -> Option<accrual::Config> {
    let (kind, rest) = problems.kind(at, value, &ACCRUAL)?;
    let (policy, backoff) = match kind.as_str() {
        "io.l5d.consecutiveFailures" => {
            let keys = problems.read::<ConsecutiveKeys>(at, &rest)?;
            problems.positive(at, "failures", keys.failures.map(u64::from));
            (Policy::ConsecutiveFailures { failures: keys.failures.unwrap_or(5) }, keys.backoff)
        }
        "io.l5d.successRate" => {
            let keys = problems.read::<SuccessRateKeys>(at, &rest)?;
            problems.positive(at, "requests", Some(keys.requests.into()));
            rate(keys.success_rate, at, problems);
            (Policy::SuccessRate { success_rate: keys.success_rate, requests: keys.requests }, keys.backoff)
        }
        "io.l5d.successRateWindowed" => {
            let keys = problems.read::<WindowedKeys>(at, &rest)?;
            problems.positive(at, "window", Some(keys.window));
            rate(keys.success_rate, at, problems);
            let window = keys.window.saturating_mul(SECOND);
            (Policy::SuccessRateWindowed { success_rate: keys.success_rate, window }, keys.backoff)
        }
        _ => (Policy::None, problems.read::<BackoffOnlyKeys>(at, &rest)?.backoff),
    };
    let backoff = match given(backoff.as_ref()) {
        Some(value) => self::backoff(value, &at.key("backoff"), problems)?,
        None => Backoff::ACCRUAL,
    };
    Some(accrual::Config { policy, backoff })
}

fn rate(given: f64, at: &At, problems: &mut Problems) {
    if !(0.0..=1.0).contains(&given) {
        problems.add(&at.key("successRate"), format!("must be between 0.0 and 1.0, not {given}"));
    }
}

pub(super) fn classifier(value: &Value, at: &At, problems: &mut Problems) -> Option<Classifier> {
    let (kind, rest) = problems.kind(at, value, &CLASSIFIER)?;
    problems.read::<NoKeys>(at, &rest)?;
    Some(match kind.as_str() {
        "io.l5d.http.retryableRead5XX" => Classifier::RetryableRead5xx,
        "io.l5d.http.retryableIdempotent5XX" => Classifier::RetryableIdempotent5xx,
        "io.l5d.http.retryableAll5XX" => Classifier::RetryableAll5xx,
        "io.l5d.http.allSuccessful" => Classifier::AllSuccessful,
        _ => Classifier::NonRetryable5xx,
    })
}
