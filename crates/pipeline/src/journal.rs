//! The journal: one file per deploy, one JSON line per event, on the disk before anything is done.
//!
//! ```text
//! STATE/journal/000012.jsonl    {"begin":…}  {"step":…}  {"step":…}      while it is under way
//!                               {"whole":…}                             when it is over
//! ```
//!
//! A line that broke off (the last one, without its newline) never counted. Space for a revert is
//! reserved ahead of need, so that a disk that fills up is noticed while it can still be written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::story::{Head, Step, Story};

/// Lines of a revert, and some to spare.
const LINES_OF_A_REVERT: u64 = 16;
/// A line is at least taken for this long: later ones may be longer.
const SHORTEST_LINE: u64 = 8 * 1024;

/// Directory of all files.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
}

/// One deploy's file, open for more lines.
#[derive(Debug)]
pub(crate) struct Pen {
    path: PathBuf,
    file: File,
    length: u64,
    /// Up to here there is space.
    reserved: u64,
}

/// Whether there is space for what may still come.
#[derive(Debug)]
pub(crate) enum Space {
    Enough,
    /// This line was written; only a revert's worth of others still can be.
    Low(io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("journal {}: line {line} cannot be read; move the file away to go on without this deploy", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("journal {}: line {line} is out of place; move the file away to go on without this deploy", path.display())]
    Order { path: PathBuf, line: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Begin(Box<(Head, Step)>),
    Step(Box<Step>),
    Whole(Box<Story>),
}

impl Journal {
    /// Reads everything there is, oldest first.
    pub fn open(directory: &Path) -> Result<(Journal, Vec<Story>), JournalError> {
        let failed = |source| JournalError::File { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut stories = Vec::new();
        for item in fs::read_dir(directory).map_err(failed)? {
            let path = item.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".new") {
                fs::remove_file(&path).map_err(|source| JournalError::File { path: path.clone(), source })?;
            } else if name.ends_with(".jsonl") {
                stories.extend(read(&path)?);
            }
        }
        stories.sort_by_key(Story::id);
        Ok((Journal { directory: directory.to_owned() }, stories))
    }

    fn path(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{id:06}.jsonl"))
    }

    /// A new file with its first line. Fails if the space for a deploy is not there.
    pub fn begin(&self, head: &Head, step: &Step) -> Result<Pen, JournalError> {
        let path = self.path(head.id);
        let made = || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            let mut pen = Pen { path: path.clone(), file, length: 0, reserved: 0 };
            pen.reserve(2 * least(0))?;
            pen.write(&line(&Line::Begin(Box::new((head.clone(), step.clone()))))?)?;
            File::open(&self.directory)?.sync_all()?;
            Ok(pen)
        };
        made().map_err(|source| {
            // Half a deploy is none. The reason is already on its way.
            drop(fs::remove_file(&path));
            JournalError::File { path: path.clone(), source }
        })
    }

    /// Goes on with a file that was read.
    pub fn resume(&self, id: u64) -> Result<Pen, JournalError> {
        let path = self.path(id);
        let opened = || {
            let bytes = fs::read(&path)?;
            // A line that broke off is written over; to cut it off would give back what is reserved.
            let length = whole(&bytes).len() as u64;
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let reserved = file.metadata()?.blocks() * 512;
            Ok(Pen { path: path.clone(), file, length, reserved })
        };
        opened().map_err(|source| JournalError::File { path: path.clone(), source })
    }
}

impl Pen {
    /// On the disk when it returns. After an error the file is as it was.
    pub fn append(&mut self, step: &Step) -> Result<Space, JournalError> {
        let failed = |path: &Path, source| JournalError::File { path: path.to_owned(), source };
        let bytes = line(&Line::Step(Box::new(step.clone()))).map_err(|source| failed(&self.path, source))?;
        self.write(&bytes).map_err(|source| failed(&self.path, source))?;
        let least = least(bytes.len());
        if self.reserved >= self.length + least {
            return Ok(Space::Enough);
        }
        Ok(match self.reserve(2 * least) {
            Ok(()) => Space::Enough,
            Err(error) => Space::Low(error),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, self.length).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What is cut off here gives its reserved space back too.
                self.file.set_len(self.length)?;
                self.reserved = self.length;
                Err(error)
            }
        }
    }

    /// Space behind the end, without changing the length.
    fn reserve(&mut self, length: u64) -> io::Result<()> {
        let (from, length) = (self.length as libc::off_t, length as libc::off_t);
        // SAFETY: an open descriptor, no pointers.
        let done = unsafe { libc::fallocate(self.file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, from, length) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            _ if done == 0 => {}
            // A filesystem that cannot: every line then takes its chance.
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => {}
            _ => return Err(error),
        }
        self.reserved = self.length + length as u64;
        Ok(())
    }

    /// The deploy is over: one line in place of all, by rename. If that cannot be, all lines stay.
    pub fn finish(self, story: &Story) -> Result<(), JournalError> {
        let temporary = self.path.with_extension("new");
        let written = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&line(&Line::Whole(Box::new(story.clone())))?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        written().map_err(|source| {
            drop(fs::remove_file(&temporary));
            drop(self.file.set_len(self.length));
            JournalError::File { path: self.path.clone(), source }
        })
    }
}

/// What must be left behind a line of this length.
fn least(line: usize) -> u64 {
    LINES_OF_A_REVERT * (line as u64).max(SHORTEST_LINE)
}

fn line(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Up to the last newline.
fn whole(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)]
}

/// `None`: it was never begun, because its first line broke off.
fn read(path: &Path) -> Result<Option<Story>, JournalError> {
    let failed = |source| JournalError::File { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(failed)?;
    let mut story: Option<Story> = None;
    for (index, bytes) in whole(&bytes).split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = serde_json::from_slice(bytes).map_err(|source| JournalError::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        match (line, &mut story) {
            (Line::Begin(begin), None) => story = Some(Story::begin(begin.0, begin.1)),
            (Line::Whole(whole), None) => story = Some(*whole),
            (Line::Step(step), Some(story)) => story.step(*step),
            _ => return Err(JournalError::Order { path: path.to_owned(), line: index + 1 }),
        }
    }
    if story.is_none() {
        fs::remove_file(path).map_err(failed)?;
    }
    Ok(story)
}
