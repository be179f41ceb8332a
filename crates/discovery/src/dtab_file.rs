//! The interpreter `io.l5d.fs`: a dtab in a file stands below the caller's.
//!
//! The file must exist at the start. Afterwards a file that vanished, cannot be read or does not parse
//! leaves the last good dtab in force (the original stops binding new names); `served()` says why.

use std::{
    path::{Path as FilePath, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use names::Dtab;
use naming::{ConfiguredInterpreter, Live, Namers, Publisher, Served, State};
use notify::RecursiveMode;
use serde::Deserialize;

use crate::{
    ConfigError, TransformerConfig,
    watch::{self, Root, SETTLING, Waker},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    pub dtab_file: PathBuf,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

impl Config {
    /// Without its transformers.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(&self, namers: &Namers) -> Result<ConfiguredInterpreter, ConfigError> {
        let refuse = |why: String| ConfigError::new("dtabFile", format!("`{}` {why}", self.dtab_file.display()));
        if !self.dtab_file.is_file() {
            return Err(refuse("is not a file".to_owned()));
        }
        let (dtab, own) = Live::channel(State::Pending);
        let (said, served) = Live::channel(State::Pending);
        let mut reader = Reader { file: self.dtab_file.clone(), dtab, said, text: None, unsettled: None };
        reader.scan();
        let directory = match self.dtab_file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let root = Root { directory, mode: RecursiveMode::NonRecursive };
        let watch = watch::start("dtab file", root, Waker::default(), move |_| reader.scan());
        let watch = watch.map_err(|error| refuse(format!("cannot be watched: {error}")))?;
        let own = own.keeping(std::sync::Arc::new(watch));
        Ok(ConfiguredInterpreter::serving(Some(own), namers.clone(), served))
    }
}

struct Reader {
    file: PathBuf,
    dtab: Publisher<Dtab>,
    said: Publisher<Served>,
    /// What was read last.
    text: Option<String>,
    /// What was read since, where it looks unfinished, and since when it has read so.
    unsettled: Option<(String, Instant)>,
}

impl Reader {
    /// Says when to look again at the latest. A writer that truncates first must not empty the dtab.
    fn scan(&mut self) -> Option<Duration> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) => {
                self.text = None;
                self.fail(format!("cannot read {}: {error}", self.file.display()));
                return None;
            }
        };
        if self.text.as_ref() == Some(&text) {
            self.unsettled = None;
            return None;
        }
        let good = matches!(self.dtab.get(), State::Ok(_));
        if good && !text.ends_with('\n') {
            let since = match self.unsettled.take() {
                Some((before, since)) if before == text => since,
                _ => Instant::now(),
            };
            if since.elapsed() < SETTLING {
                self.unsettled = Some((text, since));
                return Some(SETTLING);
            }
        }
        self.unsettled = None;
        match Dtab::read(&text) {
            Ok(dtab) => {
                self.dtab.set(State::Ok(dtab));
                let confirmed = Some(SystemTime::now());
                self.said.put(State::Ok(Served { confirmed, ..Served::default() }));
            }
            Err(error) => self.fail(describe(&self.file, &error)),
        }
        self.text = Some(text);
        None
    }

    fn fail(&self, why: String) {
        let kept = matches!(self.dtab.get(), State::Ok(_));
        let before = self.said.get().ok().unwrap_or_default();
        if before.stale.as_deref() != Some(why.as_str()) {
            tracing::warn!(%why, kept, "bad dtab file");
            self.said.put(State::Ok(Served { stale: Some(why.as_str().into()), ..before }));
        }
        if !kept {
            self.dtab.set(State::Failed(why.into()));
        }
    }
}

fn describe(file: &FilePath, error: &names::ParseError) -> String {
    format!("{}: {error}", file.display())
}
