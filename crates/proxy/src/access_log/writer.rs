//! The access log's thread: takes batches of lines and writes them, as long as somebody sends some.
//!
//! A disk that is full, or gone, costs lines and nothing else: the log says so once, and again when
//! writing works.

use std::sync::mpsc::Receiver;

use jiff::Timestamp;
use telemetry::Shard;

use super::Batch;
use super::file::Target;

/// What was lost since it was last said, and why.
#[derive(Default)]
struct Losses {
    lines: u64,
    failing: bool,
}

pub(super) fn run(batches: &Receiver<Batch>, mut target: Target, shard: &Shard, router: &str) {
    let written = shard.counter(&["rt", router, "access_log", "lines"]);
    let dropped = shard.counter(&["rt", router, "access_log", "dropped_lines"]);
    let mut losses = Losses::default();
    while let Ok(batch) = batches.recv() {
        if batch.lost > 0 {
            dropped.add(batch.lost);
            tracing::warn!(router, lines = batch.lost, "the access log could not keep up, lines are lost");
        }
        let lines = memchr::memchr_iter(b'\n', &batch.bytes).count() as u64;
        match target.write(&batch.bytes, Timestamp::now()) {
            Ok(()) => {
                written.add(lines);
                if losses.failing {
                    tracing::info!(router, lost = losses.lines, "the access log can be written again");
                    losses = Losses::default();
                }
            }
            Err(failed) => {
                written.add(lines.saturating_sub(failed.lines));
                dropped.add(failed.lines);
                losses.lines += failed.lines;
                if !losses.failing {
                    losses.failing = true;
                    let (path, error) = (target.path().display(), failed.error);
                    tracing::error!(router, %path, %error, "cannot write the access log; lines are lost until I can");
                }
            }
        }
    }
}
