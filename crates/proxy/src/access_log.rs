//! The access log: one line per answer of an endpoint, written by a thread of its own.
//!
//! ```text
//!  workers: line ──▶ buffer ── full, or 50 ms ──▶ channel ──▶ thread: roll, write
//!                      └ full channel: wait in the buffer, up to a bound; then lines are lost, and counted
//! ```
//! No worker ever waits for a disk. Lines are Linkerd 1.7's, byte for byte:
//! `HOST PEER - - [dd/MM/yyyy:HH:mm:ss zone] "GET /uri HTTP/1.1" 200 LENGTH "REFERER" "AGENT"`.

mod file;
mod writer;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use telemetry::Registry;

use crate::settings;

pub(crate) use file::stream_of;

/// A buffer of this size is handed over at once.
const BATCH: usize = 16 * 1024;
/// Buffers under way to the thread.
const BATCHES: usize = 64;
/// Beyond this, a worker that gets rid of nothing loses lines.
const MOST: usize = 256 * 1024;
/// What stands in place of what is not there.
const NONE: &[u8] = b"-";

/// Lines of one worker, in order, and how many before them were lost.
struct Batch {
    bytes: Vec<u8>,
    lost: u64,
}

/// One router's log, for the whole process.
pub(crate) struct AccessLog {
    sender: SyncSender<Batch>,
    thread: JoinHandle<()>,
}

impl AccessLog {
    /// Opens the file, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn start(
        settings: &settings::AccessLog,
        router: &str,
        registry: &Registry,
    ) -> std::io::Result<AccessLog> {
        let zone = zone();
        let target = file::Target::open(settings, zone, Timestamp::now())?;
        let (sender, batches): (_, Receiver<Batch>) = sync_channel(BATCHES);
        let shard = registry.shard();
        let router = router.to_owned();
        let run = move || writer::run(&batches, target, &shard, &router);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
        Ok(AccessLog { sender, thread })
    }

    /// For one worker.
    pub(crate) fn sender(&self) -> Sender {
        Sender(self.sender.clone())
    }

    /// Waits until everything is written. The workers' ends must be gone by then.
    pub(crate) fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

/// A worker's end of the channel.
#[derive(Clone)]
pub(crate) struct Sender(SyncSender<Batch>);

/// One router's lines on one worker.
pub(crate) struct Lines {
    sender: SyncSender<Batch>,
    buffer: RefCell<Vec<u8>>,
    lost: Cell<u64>,
    stamp: RefCell<Stamp>,
}

/// The time as the lines show it, made anew every second.
struct Stamp {
    zone: TimeZone,
    second: u64,
    text: String,
}

/// What a line tells.
pub(crate) struct Line<'a> {
    /// The request's head as it goes on.
    pub request: &'a [u8],
    /// The Host that the client sent, where another goes on.
    pub host: Option<&'a [u8]>,
    pub peer: IpAddr,
    pub status: u16,
    /// The answer's Content-Length.
    pub length: Option<&'a [u8]>,
}

impl Lines {
    pub(crate) fn new(sender: Sender) -> Lines {
        let stamp = Stamp { zone: zone(), second: 0, text: String::new() };
        Lines { sender: sender.0, buffer: RefCell::default(), lost: Cell::new(0), stamp: RefCell::new(stamp) }
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() >= MOST {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        line.append(self.stamp.borrow_mut().at(second), &mut buffer);
        if buffer.len() >= BATCH && buffer.len() < BATCH * 2 {
            drop(buffer);
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        let batch = Batch { bytes: std::mem::take(&mut *buffer), lost: self.lost.take() };
        match self.sender.try_send(batch) {
            Ok(()) => buffer.reserve(BATCH + 1024),
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                *buffer = batch.bytes;
                self.lost.set(batch.lost);
            }
        }
    }
}

impl Drop for Lines {
    /// The router is gone, perhaps by a reload: the worker goes on, and must not wait for a disk here either.
    fn drop(&mut self) {
        let batch = Batch { bytes: self.buffer.take(), lost: self.lost.take() };
        // A thread that is gone has said so.
        let Err(TrySendError::Full(batch)) = self.sender.try_send(batch) else { return };
        let sender = self.sender.clone();
        let waiting = std::thread::Builder::new().name("access-log-rest".to_owned()).spawn(move || {
            // As above.
            let _ = sender.send(batch);
        });
        if let Err(error) = waiting {
            tracing::warn!(%error, "the last lines of an access log are lost");
        }
    }
}

impl Stamp {
    fn at(&mut self, second: u64) -> &[u8] {
        if self.second != second || self.text.is_empty() {
            self.second = second;
            let time = Timestamp::from_second(second.cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = time.to_zoned_datetime(self.zone.clone()).strftime("%d/%m/%Y:%H:%M:%S %Z").to_string();
        }
        self.text.as_bytes()
    }
}

impl Line<'_> {
    pub(crate) fn append(&self, time: &[u8], out: &mut Vec<u8>) {
        let mut lines = self.request.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let request_line = lines.next().unwrap_or_default();
        let (mut host, mut referer, mut agent) = (self.host, None, None);
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let slot = match line[..colon].len() {
                4 if line[..colon].eq_ignore_ascii_case(b"host") => &mut host,
                7 if line[..colon].eq_ignore_ascii_case(b"referer") => &mut referer,
                10 if line[..colon].eq_ignore_ascii_case(b"user-agent") => &mut agent,
                _ => continue,
            };
            // The first of a name counts, as for everybody else.
            slot.get_or_insert_with(|| line[colon + 1..].trim_ascii());
        }
        let part = |out: &mut Vec<u8>, before: &[u8], value: &[u8]| {
            out.extend_from_slice(before);
            out.extend_from_slice(value);
        };
        part(out, b"", host.unwrap_or(NONE));
        out.push(b' ');
        // Writing to a vector cannot fail.
        let _ = write!(out, "{}", self.peer);
        part(out, b" - - [", time);
        part(out, b"] \"", request_line);
        let _ = write!(out, "\" {}", self.status);
        part(out, b" ", self.length.unwrap_or(NONE));
        part(out, b" \"", referer.unwrap_or(NONE));
        part(out, b"\" \"", agent.unwrap_or(NONE));
        out.extend_from_slice(b"\"\n");
    }
}

/// The system's time zone (`TZ`, `/etc/localtime`); UTC where there is none.
fn zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// Whether two routers would write to the same place.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    stream_of(a).is_none() && std::path::absolute(a).ok() == std::path::absolute(b).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: &str, length: Option<&str>) -> String {
        let line = Line {
            request: request.as_bytes(),
            host: None,
            peer: IpAddr::from([10, 0, 0, 1]),
            status: 402,
            length: length.map(str::as_bytes),
        };
        let mut stamp = Stamp { zone: TimeZone::UTC, second: 0, text: String::new() };
        let mut out = Vec::new();
        line.append(stamp.at(1_469_664_000), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_line_is_the_originals() {
        let request = "HEAD /foo?bar=bah HTTP/1.1\r\nHost: monkeys\r\nUser-Agent: a b\r\nreferer: http://x/\r\n\r\n";
        assert_eq!(
            line(request, Some("304374")),
            "monkeys 10.0.0.1 - - [28/07/2016:00:00:00 UTC] \"HEAD /foo?bar=bah HTTP/1.1\" 402 304374 \
             \"http://x/\" \"a b\"\n"
        );
    }

    #[test]
    fn what_is_not_there_is_a_dash() {
        assert_eq!(
            line("GET / HTTP/1.0\r\n\r\n", None),
            "- 10.0.0.1 - - [28/07/2016:00:00:00 UTC] \"GET / HTTP/1.0\" 402 - \"-\" \"-\"\n"
        );
    }

    #[test]
    fn the_zone_is_shown_by_its_abbreviation() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let mut stamp = Stamp { zone, second: 0, text: String::new() };
        assert_eq!(stamp.at(1_469_664_000), b"28/07/2016:02:00:00 CEST");
    }

    #[test]
    fn a_full_channel_loses_lines_and_counts_them() {
        let (sender, batches) = sync_channel(1);
        let lines = Lines::new(Sender(sender));
        let line = Line {
            request: b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n",
            host: None,
            peer: IpAddr::from([10, 0, 0, 1]),
            status: 200,
            length: None,
        };
        let mut one = Vec::new();
        line.append(b"time", &mut one);
        (0..10_000).for_each(|_| lines.write(&line));
        assert!(lines.lost.get() > 5000, "{}", lines.lost.get());
        let first = batches.recv().expect("a batch");
        assert!(first.lost == 0 && first.bytes.len() >= BATCH);
        lines.flush();
        let second = batches.recv().expect("a batch");
        assert!(second.lost > 5000 && second.bytes.len() < MOST + 200);
        assert_eq!(lines.lost.get(), 0);
    }
}
