//! Logs for people: one line each, on standard error, with a level and fields. Levels can be changed
//! while a server runs.

mod journal;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::{Args, ValueEnum};
use proxy::admin::{Level, Levels, UnknownLevel};
use tracing_subscriber::EnvFilter;

/// What may be said about logs on every command line.
#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// What to log: `error`, `warn`, `info`, `debug`, or by part, such as `info,proxy=debug`.
    #[arg(long = "log", global = true, env = "SWITCHYARD_LOG", value_name = "FILTER")]
    pub filter: Option<String>,
    /// One line of text or one JSON object for each event.
    #[arg(long = "log-format", global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Starts logging. Servers say what changes; commands only what goes wrong.
pub fn start(logs: &Logs, is_server: bool) -> anyhow::Result<Filter> {
    let default = if is_server { "info" } else { "warn" };
    let text = logs.filter.as_deref().filter(|text| !text.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(text).with_context(|| format!("--log {text}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written (a full disk) would be told on the same standard error, and its
        // failure is a panic: what serves requests must not die of its log.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let replace: Replace = match logs.format {
        Format::Text if journal::is_standard_error() => {
            let lines = lines.with_target(false).with_level(false).without_time();
            let lines = lines.with_writer(journal::Lines).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        Format::Text => {
            let lines = lines.with_target(false).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        Format::Json => {
            let lines = lines.json().with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    Ok(Filter::new(text, replace))
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The log's filter, which can be changed. Clones are the same filter.
#[derive(Clone)]
pub struct Filter {
    inner: Arc<Inner>,
}

struct Inner {
    levels: Mutex<Known>,
    replace: Replace,
}

/// `root` and parts, with tracing's names of levels.
#[derive(Clone)]
struct Known {
    root: String,
    parts: BTreeMap<String, String>,
    /// Directives about spans and fields, which are kept as they are.
    others: Vec<String>,
}

/// Parts that have a row on the page from the start.
const PARTS: &[&str] = &["control", "discovery", "naming", "pipeline", "proxy", "supervise", "switchyard"];
/// The original's names, and ours.
const NAMES: &[(&str, &str)] = &[
    ("ALL", "trace"),
    ("TRACE", "trace"),
    ("DEBUG", "debug"),
    ("INFO", "info"),
    ("WARNING", "warn"),
    ("ERROR", "error"),
    ("CRITICAL", "error"),
    ("FATAL", "error"),
    ("OFF", "off"),
];

impl Filter {
    fn new(text: &str, replace: Replace) -> Filter {
        let mut known = Known { root: "error".to_owned(), parts: BTreeMap::new(), others: Vec::new() };
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.split_once('=') {
                _ if directive.contains('[') => known.others.push(directive.to_owned()),
                None if is_level(directive) => known.root = directive.to_ascii_lowercase(),
                None => drop(known.parts.insert(directive.to_owned(), "trace".to_owned())),
                Some((part, level)) => drop(known.parts.insert(part.to_owned(), level.to_ascii_lowercase())),
            }
        }
        Filter { inner: Arc::new(Inner { levels: Mutex::new(known), replace }) }
    }
}

fn is_level(text: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| text.eq_ignore_ascii_case(level))
}

/// `warn` as the original calls it.
fn shown(level: &str) -> String {
    let name = NAMES.iter().skip(1).find(|(_, ours)| *ours == level).map_or(level, |(name, _)| name);
    name.to_ascii_uppercase()
}

impl Known {
    fn text(&self) -> String {
        let parts = self.parts.iter().map(|(part, level)| format!("{part}={level}"));
        let all = std::iter::once(self.root.clone()).chain(parts).chain(self.others.iter().cloned());
        all.collect::<Vec<_>>().join(",")
    }
}

impl Levels for Filter {
    fn all(&self) -> Vec<Level> {
        let known = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts: BTreeMap<&str, &str> = PARTS.iter().map(|part| (*part, known.root.as_str())).collect();
        parts.extend(known.parts.iter().map(|(part, level)| (part.as_str(), level.as_str())));
        let root = std::iter::once(("root", known.root.as_str()));
        root.chain(parts).map(|(logger, level)| Level { logger: logger.to_owned(), level: shown(level) }).collect()
    }

    /// A name that cannot be a part's changes nothing, as in the original.
    fn set(&self, logger: &str, level: &str) -> Result<(), UnknownLevel> {
        let unknown = || UnknownLevel(level.to_owned());
        let named = NAMES.iter().find(|(name, ours)| level.eq_ignore_ascii_case(name) || level == *ours);
        let (_, level) = named.ok_or_else(unknown)?;
        let mut known = self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
        match logger {
            "" | "root" => next.root = (*level).to_owned(),
            part if part.bytes().all(is_part) => drop(next.parts.insert(part.to_owned(), (*level).to_owned())),
            _ => return Ok(()),
        }
        let replaced = EnvFilter::try_new(next.text()).map_err(|error| error.to_string()).and_then(&self.inner.replace);
        match replaced {
            Ok(()) => {
                *known = next;
                drop(known);
                tracing::info!(logger, level, "log level changed");
            }
            Err(error) => tracing::warn!(logger, level, error, "cannot change the log level"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_the_filter_and_written_back_to_it() {
        let last = Arc::new(Mutex::new(String::new()));
        let seen = last.clone();
        let replace: Replace = Box::new(move |filter| {
            *seen.lock().unwrap() = filter.to_string();
            Ok(())
        });
        let filter = Filter::new("warn,proxy=DEBUG", replace);
        let level = |name: &str| filter.all().into_iter().find(|row| row.logger == name).map(|row| row.level);
        assert_eq!(filter.all()[0], Level { logger: "root".into(), level: "WARNING".into() });
        assert_eq!((level("proxy"), level("naming")), (Some("DEBUG".into()), Some("WARNING".into())));
        assert_eq!(filter.set("proxy", "LOUD"), Err(UnknownLevel("LOUD".into())));
        filter.set("proxy", "ALL").unwrap();
        filter.set("root", "FATAL").unwrap();
        filter.set("no such thing", "OFF").unwrap();
        assert_eq!((level("proxy"), level("root")), (Some("TRACE".into()), Some("ERROR".into())));
        let text = last.lock().unwrap().clone();
        assert!(text.contains("proxy=trace") && text.contains("error") && !text.contains("such"), "{text}");
    }
}
