//! From config documents to the namers and interpreters of a process.

use std::sync::Arc;

use names::Path;
use naming::{Interpreter, Namer, Namers, Transformed, TransformedNamer, Transformer};

use crate::{
    ConfigError, NamerConfig, Surroundings, TransformerConfig,
    config::{check_all, one_label},
    global,
};

/// What holds where several namers could answer for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// In a router: the last in the document is asked first.
    LastWins,
    /// In the control plane: refused.
    NoOverlap,
}

/// The namers of a process, in the order in which they are asked, the global one (`/$/…`) behind them.
/// Error paths are relative to the list: `[0].rootDir`.
///
/// # Panics
/// Outside a tokio runtime.
pub fn build_namers(
    configs: &[NamerConfig],
    precedence: Precedence,
    surroundings: &Surroundings,
) -> Result<Namers, ConfigError> {
    let global = global::namer();
    let mut built: Vec<(Path, Arc<dyn Namer>)> = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let at = |error: ConfigError| error.under(&format!("[{number}]"));
        config.check().map_err(at)?;
        let prefix = config.prefix().map_err(at)?;
        if precedence == Precedence::NoOverlap {
            no_overlap(&prefix, &configs[..number]).map_err(at)?;
        }
        let full = one_label("#").concat(&prefix);
        built.push((full.clone(), build_namer(config, &full, surroundings).map_err(at)?));
    }
    // Transformers that bind a path do so by namers without transformers, so that none waits for itself.
    let plain: Vec<_> = match precedence {
        Precedence::LastWins => built.iter().rev().cloned().collect(),
        Precedence::NoOverlap => Vec::new(),
    };
    let plain = Namers::new(plain, global.clone());
    for (number, (config, entry)) in configs.iter().zip(&mut built).enumerate() {
        let transformers = build_transformers(config.transformers(), &plain, surroundings);
        let transformers = transformers.map_err(|error| error.under(&format!("[{number}]")))?;
        if !transformers.is_empty() {
            entry.1 = Arc::new(TransformedNamer::new(entry.1.clone(), transformers));
        }
    }
    built.reverse();
    Ok(Namers::new(built, global))
}

fn build_namer(config: &NamerConfig, full: &Path, surroundings: &Surroundings) -> Result<Arc<dyn Namer>, ConfigError> {
    Ok(match config {
        NamerConfig::Fs(config) => Arc::new(config.build(full)?),
        NamerConfig::Rewrite(config) => Arc::new(config.build()),
        NamerConfig::Kubernetes(config) => Arc::new(config.build(full, surroundings)?),
        NamerConfig::KubernetesNamespace(config) => Arc::new(config.build(full, surroundings)?),
        NamerConfig::KubernetesExternal(config) => Arc::new(config.build(full, surroundings)?),
        other => {
            let message = format!("the namer `{}` is not supported yet", other.kind());
            return Err(ConfigError::new("kind", message));
        }
    })
}

fn no_overlap(prefix: &Path, before: &[NamerConfig]) -> Result<(), ConfigError> {
    for other in before {
        let other = other.prefix()?;
        if other.starts_with(prefix) || prefix.starts_with(&other) {
            let message = format!("Namers must not have overlapping prefixes: {other} & {prefix}");
            return Err(ConfigError::new("prefix", message));
        }
    }
    Ok(())
}

fn build_transformers(
    configs: &[TransformerConfig],
    namers: &Namers,
    surroundings: &Surroundings,
) -> Result<Vec<Arc<dyn Transformer>>, ConfigError> {
    let build = |(number, config): (usize, &TransformerConfig)| {
        config.build(namers, surroundings).map_err(|error| error.under(&format!("transformers[{number}]")))
    };
    configs.iter().enumerate().map(build).collect()
}

/// `interpreter` behind its `transformers:`; `interpreter` itself where there are none.
/// Error paths are relative to the interpreter: `transformers[0].port`.
///
/// # Panics
/// Outside a tokio runtime.
pub fn transformed(
    interpreter: Arc<dyn Interpreter>,
    configs: &[TransformerConfig],
    namers: &Namers,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Interpreter>, ConfigError> {
    check_all(configs)?;
    let transformers = build_transformers(configs, namers, surroundings)?;
    Ok(if transformers.is_empty() { interpreter } else { Arc::new(Transformed::new(interpreter, transformers)) })
}
