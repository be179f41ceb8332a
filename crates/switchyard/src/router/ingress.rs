//! `identifier: {kind: io.l5d.ingress}`: the rules of a cluster's Ingress objects, given to the data plane.

use std::sync::Arc;
use std::time::Duration;

use discovery::kubernetes::ingress::{Config, Rules};
use discovery::{ConfigError, Surroundings};
use naming::{Live, State};
use proxy::config::{self, Problem};
use proxy::settings::{Identifier, RequestRules, Ruled, Settings};

/// Servers begin to listen without rules that take longer than this to get.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a document asks for rules.
pub fn places(settings: &Settings) -> impl Iterator<Item = &Ruled> {
    settings.routers.iter().flat_map(|router| &router.identifiers).filter_map(|identifier| match identifier {
        Identifier::Ruled(ruled) => Some(ruled),
        _ => None,
    })
}

/// The keys of one such place.
pub fn read(place: &Ruled) -> Result<Config, Vec<Problem>> {
    let config: Config = config::typed(&place.path, &place.keys)?;
    config.check().map_err(|error| vec![super::plan::problem(&error, &place.path)])?;
    Ok(config)
}

/// Puts rules into all places; those that are slow to come are not waited for for long.
///
/// # Errors
/// What cannot be built.
pub async fn fill(settings: &Settings, surroundings: &Surroundings) -> Result<(), Vec<Problem>> {
    for place in places(settings) {
        let refuse = |error: ConfigError| vec![super::plan::problem(&error, &place.path)];
        let mut rules = read(place)?.build(surroundings).map_err(refuse)?;
        if tokio::time::timeout(PATIENCE, rules.settled()).await.is_err() {
            tracing::warn!("{}: the cluster's ingress rules are not known yet", place.path);
        }
        place.set(Arc::new(Known(rules)));
    }
    Ok(())
}

struct Known(Live<Arc<Rules>>);

impl RequestRules for Known {
    fn name(&self, host: &[u8], path: &[u8]) -> Result<Option<[Arc<str>; 3]>, String> {
        self.0.with(|rules| match rules {
            State::Ok(rules) => Ok(rules
                .find(host, path)
                .map(|backend| [backend.namespace.clone(), backend.port.clone(), backend.service.clone()])),
            State::Pending => Err("the cluster's ingress rules are not known yet".to_owned()),
            State::Failed(why) => Err(why.to_string()),
        })
    }
}
