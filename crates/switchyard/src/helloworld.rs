//! The tutorial's application: `hello` calls `world`, each answers with its text and its address.
//!
//! Flags, environment and answers are those of the original Go program, both setters included;
//! gRPC is refused until it is built. While it drains it answers with `Connection: close`.

mod answer;
pub mod duration;
mod server;
mod upstream;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgAction, Args};

use crate::exit::Exit;
use crate::web;
use answer::Application;
use upstream::Upstream;

/// The original's flags; one dash or two.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Address to serve on.
    #[arg(long, default_value = ":7777", allow_hyphen_values = true, value_name = "HOST:PORT")]
    addr: String,
    /// Text to answer with; `TARGET_WORLD` in the environment wins over it.
    #[arg(long, default_value = "Hello", allow_hyphen_values = true)]
    text: String,
    /// Service to call for the rest of the answer; empty for none.
    #[arg(long, default_value = "", allow_hyphen_values = true, value_name = "HOST[:PORT]")]
    target: String,
    /// Time to wait before each answer, at most 10s.
    #[arg(long, default_value = "0", allow_hyphen_values = true, value_name = "DURATION")]
    latency: String,
    /// Share of requests to answer with 500, from 0.0 to 1.0.
    #[arg(long = "failure-rate", default_value_t = 0.0, allow_hyphen_values = true)]
    failure_rate: f64,
    /// Answer with JSON.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    json: bool,
    /// `http`; `grpc` is not supported yet.
    #[arg(long, default_value = "http")]
    protocol: String,
}

const MOST_LATENCY: Duration = Duration::from_secs(10);

/// Serves until SIGINT or SIGTERM.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    match arguments.protocol.as_str() {
        "http" => {}
        "grpc" => bail!("-protocol grpc is not supported yet: use -protocol http"),
        other => bail!("unsupported protocol: {other}"),
    }
    let latency = duration::parse(&arguments.latency)
        .with_context(|| format!("-latency {}: not a duration such as 250ms", arguments.latency))?;
    if latency > MOST_LATENCY {
        bail!("latency cannot exceed 10s");
    }
    if !(0.0..=1.0).contains(&arguments.failure_rate) {
        bail!("-failure-rate {}: must be between 0.0 and 1.0", arguments.failure_rate);
    }
    let upstream = match arguments.target.as_str() {
        "" => None,
        target => Some(Upstream::new(target, |name| std::env::var(name).ok())?),
    };
    let application = Application {
        text: full_text(arguments.text, |name| std::env::var_os(name)),
        upstream,
        json: arguments.json,
        behaviour: answer::Behaviour::new(latency, arguments.failure_rate),
    };
    web::block_on(server::serve(arguments.addr, application))?;
    Ok(Exit::Ok)
}

/// The environment's text if there is one, and this instance's address after it.
fn full_text(text: String, environment: impl Fn(&str) -> Option<OsString>) -> String {
    let of =
        |name| environment(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty());
    let text = of("TARGET_WORLD").unwrap_or(text);
    match of("POD_IP") {
        Some(address) => format!("{text} ({address})"),
        None => text,
    }
}
