//! The file behind an access log: opened, rolled, and opened again where somebody moved it away.
//!
//! Names and times are those of twitter-util's `FileHandler`: `access.log` is set aside as
//! `access-20260131.log` (daily, weekly), `access-20260131-13.log` (hourly) or `access-20260131-130207.log`
//! (by size), with the time at which it was opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};

use crate::settings::{AccessLog, Roll};

/// How often it is looked whether the file is still in its place, in seconds.
const LOOK: i64 = 1;

/// The process's own output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Which stream a path means.
pub(crate) fn stream_of(path: &Path) -> Option<Stream> {
    match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => Some(Stream::Stdout),
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => Some(Stream::Stderr),
        _ => None,
    }
}

/// Where lines go.
pub(super) enum Target {
    Stream(Stream, PathBuf),
    File(Box<Rolling>),
}

/// A file with its policy.
pub(super) struct Rolling {
    settings: AccessLog,
    zone: TimeZone,
    /// None while it cannot be opened.
    file: Option<File>,
    opened: Timestamp,
    looked: Timestamp,
    rolls: Option<Timestamp>,
    bytes: u64,
    /// The last line was not written whole.
    is_torn: bool,
}

/// A batch that was not written whole.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// Lines that are lost.
    pub(super) lines: u64,
}

impl Target {
    pub(super) fn open(settings: &AccessLog, zone: TimeZone, now: Timestamp) -> io::Result<Target> {
        if let Some(stream) = stream_of(&settings.path) {
            return Ok(Target::Stream(stream, settings.path.clone()));
        }
        let mut rolling = Rolling {
            settings: AccessLog { path: std::path::absolute(&settings.path)?, ..settings.clone() },
            zone,
            file: None,
            opened: now,
            looked: now,
            rolls: None,
            bytes: 0,
            is_torn: false,
        };
        rolling.open(now, settings.append)?;
        Ok(Target::File(Box::new(rolling)))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Target::Stream(_, path) => path,
            Target::File(rolling) => &rolling.settings.path,
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<(), Failed> {
        let failed = |error| Failed { error, lines: count(lines) };
        match self {
            Target::Stream(Stream::Stdout, _) => io::stdout().lock().write_all(lines).map_err(failed),
            Target::Stream(Stream::Stderr, _) => io::stderr().lock().write_all(lines).map_err(failed),
            Target::File(rolling) => rolling.write(lines, now),
        }
    }
}

impl Rolling {
    fn open(&mut self, now: Timestamp, append: bool) -> io::Result<()> {
        let path = &self.settings.path;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let file = options.open(path)?;
        if !append {
            file.set_len(0)?;
        }
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        (self.opened, self.looked) = (now, now);
        self.rolls = next_roll(self.settings.roll, &now.to_zoned_datetime(self.zone.clone()));
        Ok(())
    }

    fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<(), Failed> {
        let mut rest = lines;
        let failed = |error, rest: &[u8]| Failed { error, lines: count(rest) };
        self.look(now).map_err(|error| failed(error, rest))?;
        if self.rolls.is_some_and(|rolls| now > rolls) {
            self.roll(now).map_err(|error| failed(error, rest))?;
        }
        while !rest.is_empty() {
            let fits = match self.settings.roll {
                Roll::Size(most) => match fitting(rest, most.saturating_sub(self.bytes)) {
                    // A line that is larger than a whole file has one of its own.
                    0 if self.bytes == 0 => memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1),
                    0 => {
                        self.roll(now).map_err(|error| failed(error, rest))?;
                        continue;
                    }
                    fits => fits,
                },
                _ => rest.len(),
            };
            self.append(&rest[..fits]).map_err(|(error, written)| failed(error, &rest[written..]))?;
            rest = &rest[fits..];
        }
        Ok(())
    }

    /// Somebody may have moved the file away, or removed it: a new one takes its place.
    fn look(&mut self, now: Timestamp) -> io::Result<()> {
        if self.file.is_some() && now.as_second() - self.looked.as_second() < LOOK {
            return Ok(());
        }
        self.looked = now;
        let open = self.file.as_ref().map(File::metadata).transpose()?;
        let there = std::fs::metadata(&self.settings.path).ok();
        let place = |found: std::fs::Metadata| (found.dev(), found.ino());
        if open.is_none() || open.map(place) != there.map(place) {
            self.file = None;
            // What a new place holds already is never this process's to throw away.
            self.open(now, true)?;
        }
        Ok(())
    }

    /// On trouble: how many bytes went.
    fn append(&mut self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let Some(file) = &mut self.file else { return Err((io::ErrorKind::NotFound.into(), 0)) };
        if self.is_torn {
            file.write_all(b"\n").map_err(|error| (error, 0))?;
            self.is_torn = false;
        }
        let mut written = 0;
        while written < lines.len() {
            match file.write(&lines[written..]) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
                Ok(more) => {
                    written += more;
                    self.bytes += more as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_torn = written > 0 && lines[written - 1] != b'\n';
                    return Err((error, written));
                }
            }
        }
        Ok(())
    }

    /// Sets the file aside, and begins a new one.
    fn roll(&mut self, now: Timestamp) -> io::Result<()> {
        let (path, opened) = (&self.settings.path, self.opened.to_zoned_datetime(self.zone.clone()));
        std::fs::rename(path, aside(path, self.settings.roll, &opened))?;
        self.file = None;
        self.open(now, true)?;
        if let Some(keep) = self.settings.keep {
            remove_old(&self.settings.path, keep);
        }
        Ok(())
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The longest part of whole lines that has at most so many bytes.
fn fitting(lines: &[u8], most: u64) -> usize {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(lines.len());
    memchr::memrchr(b'\n', &lines[..most]).map_or(0, |end| end + 1)
}

/// When a file that is opened now is set aside.
fn next_roll(roll: Roll, now: &ZonedDateTime) -> Option<Timestamp> {
    let midnight = |days: i64| now.start_of_day().and_then(|day| day.checked_add(days.days()));
    let next = match roll {
        Roll::Never | Roll::Size(_) => return None,
        Roll::Hourly => {
            now.with().minute(0).second(0).subsec_nanosecond(0).build().and_then(|hour| hour.checked_add(1.hour()))
        }
        Roll::Daily => midnight(1),
        Roll::Weekly(day) => {
            let today = i64::from(now.weekday().to_sunday_zero_offset());
            let days = (i64::from(day) - 1 - today).rem_euclid(7);
            midnight(if days == 0 { 7 } else { days })
        }
    };
    next.ok().map(|next| next.timestamp())
}

/// `access.log` as it is called when it is set aside.
fn aside(path: &Path, roll: Roll, opened: &ZonedDateTime) -> PathBuf {
    let format = match roll {
        Roll::Never => "%Y",
        Roll::Hourly => "%Y%m%d-%H",
        Roll::Daily | Roll::Weekly(_) => "%Y%m%d",
        Roll::Size(_) => "%Y%m%d-%H%M%S",
    };
    let (prefix, suffix) = parts(path);
    let name = format!("{prefix}-{}", opened.strftime(format));
    let free = |name: &String| std::fs::symlink_metadata(path.with_file_name(name)).is_err();
    let first = format!("{name}{suffix}");
    // Two files of one second, or of one hour after a restart: nothing is overwritten.
    let later = (1..10_000).map(|n| format!("{name}.{n}{suffix}"));
    path.with_file_name(std::iter::once(first.clone()).chain(later).find(free).unwrap_or(first))
}

/// What comes before the last dot of a file's name, and the rest.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rfind('.') {
        Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
        None => (name, String::new()),
    }
}

/// Of the files that were set aside the last `keep` stay.
fn remove_old(path: &Path, keep: usize) {
    let (prefix, suffix) = parts(path);
    let is_aside = |name: &str| {
        let stamp = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&suffix));
        let stamp = stamp.and_then(|rest| rest.strip_prefix('-'));
        stamp.is_some_and(|stamp| {
            !stamp.is_empty() && stamp.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        })
    };
    let Some(listed) = path.parent().and_then(|directory| std::fs::read_dir(directory).ok()) else { return };
    let names = listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = names.filter(|name| is_aside(name)).collect::<Vec<_>>();
    names.sort_by_cached_key(|name| order(name, &suffix));
    for name in names.iter().take(names.len().saturating_sub(keep)) {
        let old = path.with_file_name(name);
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "cannot remove an old access log");
        }
    }
}

/// Time, then number: `-20260131.10.log` comes after `-20260131.9.log`.
fn order(name: &str, suffix: &str) -> (String, u32) {
    let stamp = name.strip_suffix(suffix).unwrap_or(name);
    match stamp.rsplit_once('.') {
        Some((stamp, number)) => (stamp.to_owned(), number.parse().unwrap_or(0)),
        None => (stamp.to_owned(), 0),
    }
}

#[cfg(test)]
mod tests;
