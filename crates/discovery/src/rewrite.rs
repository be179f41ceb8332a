//! `io.l5d.rewrite`: names that match a pattern become other names.
//!
//! ```yaml
//! - kind: io.l5d.rewrite
//!   prefix: /portNsSvcToK8s
//!   pattern: "/{port}/{ns}/{svc}"
//!   name: "/k8s/{ns}/{port}/{svc}"
//! ```

use names::{NameTree, Path, PathMatcher};
use naming::{Live, Name, Namer, NamerTree};
use serde::Deserialize;

use crate::TransformerConfig;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    #[serde(deserialize_with = "crate::config::shown")]
    pub prefix: Path,
    /// What is behind the match is dropped.
    pub pattern: String,
    pub name: String,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

impl Config {
    pub fn build(&self) -> Rewrite {
        Rewrite { pattern: PathMatcher::new(&self.pattern), name: self.name.clone() }
    }
}

/// See the module's documentation.
pub struct Rewrite {
    pattern: PathMatcher,
    name: String,
}

impl Namer for Rewrite {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let Some(captures) = self.pattern.captures(path) else { return Live::constant(NameTree::Neg) };
        match Path::read(&PathMatcher::substitute(&self.name, &captures)) {
            Ok(path) => Live::constant(NameTree::Leaf(Name::Path(path))),
            Err(error) => Live::failed(error.to_string()),
        }
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "name": self.name })
    }
}
