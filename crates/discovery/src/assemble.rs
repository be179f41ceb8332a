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
    build_namers_after(configs, precedence, surroundings, None)
}

/// Like [`build_namers`], in place of others: those whose config is the same stay, with all that they know.
/// One with transformers is built anew, because these look at the others.
///
/// # Panics
/// Outside a tokio runtime.
pub fn build_namers_after(
    configs: &[NamerConfig],
    precedence: Precedence,
    surroundings: &Surroundings,
    before: Option<(&[NamerConfig], &Namers)>,
) -> Result<Namers, ConfigError> {
    let global = before.map_or_else(global::namer, |(_, namers)| namers.global().clone());
    let kept = |config: &NamerConfig| {
        let (configs, namers) = before?;
        let same = |other: &NamerConfig| other == config && config.transformers().is_empty();
        // They stand in the order in which they are asked: the last of the document first.
        let (_, namer) = namers.configured().iter().rev().nth(configs.iter().position(same)?)?;
        Some(namer.clone())
    };
    let mut built: Vec<(Path, Arc<dyn Namer>)> = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let at = |error: ConfigError| error.under(&format!("[{number}]"));
        config.check().map_err(at)?;
        let prefix = config.prefix().map_err(at)?;
        if precedence == Precedence::NoOverlap {
            no_overlap(&prefix, &configs[..number]).map_err(at)?;
        }
        let full = one_label("#").concat(&prefix);
        let namer = match kept(config) {
            Some(namer) => namer,
            None => build_namer(config, &full, surroundings).map_err(at)?,
        };
        built.push((full, namer));
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
