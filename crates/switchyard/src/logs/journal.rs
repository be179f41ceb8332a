//! Lines for systemd's journal, which has the time of each already, and reads its priority off its start
//! (sd-daemon(3): `<3>` to `<7>`).

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error goes to the journal itself (systemd.exec(5), `JOURNAL_STREAM`), and not, say, to a
/// file that a shell between has opened.
pub fn is_standard_error() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let own = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    own.and_then(|file| file.metadata()).is_ok_and(|file| is_stream(&stream, file.dev(), file.ino()))
}

/// `DEVICE:INODE`, both decimal.
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Standard error, each event after its priority.
pub struct Lines;

pub struct Event {
    priority: &'static str,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event { priority: priority(Level::INFO) }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Event {
        Event { priority: priority(*of.level()) }
    }
}

impl Write for Event {
    /// Takes whole events, which is how they come, in one write: others write to the same place.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = [self.priority.as_bytes(), event].concat();
        io::stderr().lock().write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_told_by_device_and_inode() {
        assert!(is_stream("9:21", 9, 21));
        for other in ["9:22", "8:21", "9", "", "9:21:1", "a:b"] {
            assert!(!is_stream(other, 9, 21), "{other}");
        }
    }
}
