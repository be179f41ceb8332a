//! The namers and interpreters of a document, built; and built anew around what stays.

use std::sync::Arc;

use control::client::{Farewell, Identity};
use discovery::{ConfigError, NamerConfig, Precedence, Surroundings};
use names::Dtab;
use naming::Namers;
use proxy::config::Problem;
use serde_json::Value;

use super::difference::label;
use super::plan::{self, Plan};

/// See the module's documentation.
pub struct Built {
    configs: Vec<NamerConfig>,
    pub namers: Namers,
    /// One for each router, in the order of the document.
    pub interpreters: Vec<Interpreter>,
}

/// One router's interpreter.
pub struct Interpreter {
    /// The router's label.
    pub router: String,
    pub kind: &'static str,
    /// The router's base dtab.
    pub dtab: Dtab,
    pub built: Arc<dyn naming::Interpreter>,
    /// It was there before.
    pub is_kept: bool,
    /// As the document says it.
    value: Value,
}

/// Where parts are built: how this process introduces itself to a control plane, what they share.
pub struct Place<'a> {
    /// The admin server's URL.
    pub admin: String,
    pub farewell: &'a Farewell,
    pub surroundings: &'a Surroundings,
}

impl Built {
    /// Builds what `before` has not.
    ///
    /// # Errors
    /// What is wrong with the document, as far as it shows only now.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn of(plan: &Plan, before: Option<&Built>, place: &Place<'_>) -> Result<Built, Problem> {
        let same_namers = before.filter(|before| before.configs == plan.namers);
        let namers = match same_namers {
            Some(before) => before.namers.clone(),
            None => {
                let before = before.map(|before| (before.configs.as_slice(), &before.namers));
                discovery::build_namers_after(&plan.namers, Precedence::LastWins, place.surroundings, before)
                    .map_err(refused("namers"))?
            }
        };
        let mut interpreters = Vec::new();
        let documents = plan.config.shown["routers"].as_array().cloned().unwrap_or_default();
        let dtabs = plan.config.settings.routers.iter().map(|router| router.dtab.clone());
        for (number, ((config, document), dtab)) in plan.interpreters.iter().zip(&documents).zip(dtabs).enumerate() {
            let (router, value) = (label(document), document["interpreter"].clone());
            let is_same = |other: &&Interpreter| {
                let unmoved = same_namers.is_some() || !config.needs_namers();
                unmoved && other.router == router && other.value == value
            };
            let known = before.and_then(|before| before.interpreters.iter().find(is_same));
            let built = match known {
                Some(known) => known.built.clone(),
                None => {
                    let at = format!("routers[{number}].interpreter");
                    let admin = Some(place.admin.clone());
                    let identity = Identity::of_this_process(&router, admin, place.farewell);
                    config.build(&namers, identity, place.surroundings).map_err(refused(&at))?
                }
            };
            let is_kept = known.is_some();
            interpreters.push(Interpreter { router, kind: config.kind(), dtab, built, is_kept, value });
        }
        Ok(Built { configs: plan.namers.clone(), namers, interpreters })
    }
}

/// A part that could not be built, as a problem of the document.
fn refused(path: &str) -> impl Fn(ConfigError) -> Problem {
    move |error| plan::problem(&error, path)
}
