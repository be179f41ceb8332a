//! Logs for people: one line each, on standard error, with a level and fields.

use std::io::IsTerminal;

use anyhow::Context;
use clap::{Args, ValueEnum};
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
pub fn start(logs: &Logs, is_server: bool) -> anyhow::Result<()> {
    let default = if is_server { "info" } else { "warn" };
    let text = logs.filter.as_deref().filter(|text| !text.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(text).with_context(|| format!("--log {text}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match logs.format {
        Format::Text => lines.with_target(false).init(),
        Format::Json => lines.json().init(),
    }
    Ok(())
}
