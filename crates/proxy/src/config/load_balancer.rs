//! `loadBalancer`: the five kinds of the original with all their keys.

use balance::{Aperture, Strategy};
use serde::Deserialize;
use serde_json::Value;

use super::part::{At, Plugin, Problems};
use crate::settings::LoadBalancer;

const LOAD_BALANCER: Plugin = Plugin {
    what: "load balancer",
    default: None,
    built: &["p2c", "ewma", "aperture", "heap", "roundRobin"],
    not_built: &[],
};
const MILLI: u64 = 1_000_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct P2cKeys {
    max_effort: Option<u32>,
    enable_probation: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EwmaKeys {
    max_effort: Option<u32>,
    decay_time_ms: Option<u32>,
    enable_probation: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ApertureKeys {
    max_effort: Option<u32>,
    smooth_window_ms: Option<u32>,
    low_load: Option<f64>,
    high_load: Option<f64>,
    min_aperture: Option<u32>,
    enable_probation: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeapKeys {
    enable_probation: Option<bool>,
}

pub(super) fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<LoadBalancer> {
    let (kind, rest) = problems.kind(at, value, &LOAD_BALANCER)?;
    let (strategy, probation) = match kind.as_str() {
        "ewma" => {
            let keys = problems.read::<EwmaKeys>(at, &rest)?;
            let decay = keys.decay_time_ms.map_or(10_000, u64::from) * MILLI;
            (Strategy::Ewma { max_effort: effort(keys.max_effort), decay }, keys.enable_probation)
        }
        "aperture" => {
            let keys = problems.read::<ApertureKeys>(at, &rest)?;
            let default = Aperture::default();
            let aperture = Aperture {
                max_effort: effort(keys.max_effort),
                window: keys.smooth_window_ms.map_or(default.window, |millis| u64::from(millis) * MILLI),
                low: keys.low_load.unwrap_or(default.low),
                high: keys.high_load.unwrap_or(default.high),
                min: keys.min_aperture.unwrap_or(default.min),
            };
            (Strategy::Aperture(aperture), keys.enable_probation)
        }
        "heap" => (Strategy::Heap, problems.read::<HeapKeys>(at, &rest)?.enable_probation),
        "roundRobin" => {
            // Nothing depends on the effort: which endpoints are open is known, so the first try finds one.
            let keys = problems.read::<P2cKeys>(at, &rest)?;
            problems.positive(at, "maxEffort", keys.max_effort.map(u64::from));
            (Strategy::RoundRobin, keys.enable_probation)
        }
        _ => {
            let keys = problems.read::<P2cKeys>(at, &rest)?;
            (Strategy::P2c { max_effort: effort(keys.max_effort) }, keys.enable_probation)
        }
    };
    problems.note(at, strategy.check())?;
    Some(LoadBalancer { strategy, probation: probation.unwrap_or(false) })
}

fn effort(given: Option<u32>) -> u32 {
    given.unwrap_or(Strategy::MAX_EFFORT)
}
