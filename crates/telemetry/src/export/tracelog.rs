//! `io.l5d.tracelog`: spans in the log, under the logger's name of the original.

use std::fmt::Write;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::Level;

use super::Task;
use crate::spans::{Sampled, Side, Span};

/// `/logging.json` and `--log` know it by this name.
pub const LOGGER: &str = "io.l5d.tracelog";

/// The keys of `io.l5d.tracelog`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// 0.0 to 1.0
    pub sample_rate: f64,
    pub level: Level,
}

impl Default for Config {
    fn default() -> Config {
        Config { sample_rate: 1.0, level: Level::INFO }
    }
}

/// Until the inbox is closed and empty.
pub(super) async fn run(config: Config, mut inbox: mpsc::Receiver<Arc<Sampled>>, task: Task) {
    while let Some(sampled) = inbox.recv().await {
        for span in &sampled.spans {
            log(config.level, &line(span));
        }
        task.state.sent(sampled.spans.len() as u64, 0);
    }
}

fn log(level: Level, line: &str) {
    // A target and a level have to be constants.
    match level {
        Level::ERROR => tracing::error!(target: "io.l5d.tracelog", "{line}"),
        Level::WARN => tracing::warn!(target: "io.l5d.tracelog", "{line}"),
        Level::INFO => tracing::info!(target: "io.l5d.tracelog", "{line}"),
        Level::DEBUG => tracing::debug!(target: "io.l5d.tracelog", "{line}"),
        Level::TRACE => tracing::trace!(target: "io.l5d.tracelog", "{line}"),
    }
}

/// Ids as `trace.span<:parent`, the form of the original's records.
fn line(span: &Span) -> String {
    let side = match span.side {
        Side::Server => "server",
        Side::Client => "client",
    };
    let mut line = String::new();
    if span.trace_high != 0 {
        // Writing to a string cannot fail.
        let _ = write!(line, "{:016x}", span.trace_high);
    }
    let parent = span.parent.unwrap_or(span.id);
    let _ = write!(line, "{:016x}.{:016x}<:{parent:016x} {side} {:?}", span.trace, span.id, span.name);
    let _ = write!(line, " {} us", span.nanos / 1000);
    for (name, fact) in &span.facts {
        let _ = write!(line, " {name}={:?}", fact.shown());
    }
    for event in &span.events {
        let _ = write!(line, " {}@{}us", event.name, event.at.saturating_sub(span.start) / 1000);
    }
    if let Some(error) = &span.error {
        let _ = write!(line, " error={error:?}");
    }
    line
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::spans::{Event, Fact};

    pub(crate) fn span() -> Span {
        Span {
            trace_high: 0,
            trace: 0xabc,
            id: 2,
            parent: Some(1),
            side: Side::Client,
            name: "GET".to_owned(),
            start: 1_700_000_000_000_000_000,
            nanos: 1_500_000,
            service: "#/io.l5d.fs/web".to_owned(),
            local: Some("127.0.0.1:4140".parse().expect("an address")),
            remote: Some("[::1]:8080".parse().expect("an address")),
            facts: vec![
                ("http.req.method", Fact::text("GET")),
                ("http.uri", Fact::text("/a?b=c")),
                ("http.rsp.status", Fact::Number(503)),
                ("l5d.success", Fact::Real(0.0)),
            ],
            events: vec![Event { at: 1_700_000_000_000_200_000, name: "finagle.retry".to_owned() }],
            error: Some("no \"answer\"".to_owned()),
            is_debug: false,
            state: Some("a=b".to_owned()),
        }
    }

    #[test]
    fn a_span_is_one_line() {
        let expected = "0000000000000abc.0000000000000002<:0000000000000001 client \"GET\" 1500 us \
                        http.req.method=\"GET\" http.uri=\"/a?b=c\" http.rsp.status=\"503\" l5d.success=\"0.0\" \
                        finagle.retry@200us error=\"no \\\"answer\\\"\"";
        assert_eq!(line(&span()), expected);
    }
}
