//! What is below a directory.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path as FilePath, PathBuf},
    time::SystemTime,
};

use names::{Label, Path};

/// Directories within directories, and entries in all: beyond that nobody keeps endpoint files.
const DEEPEST: usize = 16;
const MOST_ENTRIES: usize = 200_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Directory(BTreeMap<Label, Node>),
    File(Stamp),
}

/// Tells, mostly, whether a file was changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    file: (u64, u64),
}

/// Walks; what cannot be listed is taken from `before`, and told to `trouble`.
pub(super) fn walk(root: &FilePath, before: Option<&Node>, trouble: &mut Vec<String>) -> Option<Node> {
    let mut walk = Walk { above: Vec::new(), entries: 0, trouble };
    walk.directory(root, before)
}

struct Walk<'a> {
    /// The directories that this one is in, so that a link to one of them is not followed for ever.
    above: Vec<(u64, u64)>,
    entries: usize,
    trouble: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &FilePath, before: Option<&Node>) -> Option<Node> {
        match self.list(path, before) {
            Ok(node) => Some(node),
            // A directory that went away since its parent was listed is gone; the root is not.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.above.is_empty() => None,
            Err(error) => {
                self.trouble.push(format!("{}: {error}", path.display()));
                before.cloned()
            }
        }
    }

    fn list(&mut self, path: &FilePath, before: Option<&Node>) -> io::Result<Node> {
        let found = fs::metadata(path)?;
        let identity = (found.dev(), found.ino());
        let mut inside = BTreeMap::new();
        if self.above.contains(&identity) || self.above.len() >= DEEPEST {
            return Ok(Node::Directory(inside));
        }
        let old = match before {
            Some(Node::Directory(old)) => Some(old),
            _ => None,
        };
        let listing = fs::read_dir(path)?;
        self.above.push(identity);
        for entry in listing {
            let entry = entry.inspect_err(|_| {
                self.above.pop();
            })?;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                self.trouble.push(format!("{}: more than {MOST_ENTRIES} entries", path.display()));
                break;
            }
            let label = Label::from(entry.file_name().as_bytes());
            let old = old.and_then(|old| old.get(&label));
            if let Some(node) = self.entry(&entry.path(), old) {
                inside.insert(label, node);
            }
        }
        self.above.pop();
        Ok(Node::Directory(inside))
    }

    fn entry(&mut self, path: &FilePath, before: Option<&Node>) -> Option<Node> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => self.directory(path, before),
            Ok(found) if found.is_file() => Some(Node::File(Stamp::of(&found))),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.trouble.push(format!("{}: {error}", path.display()));
                before.cloned()
            }
        }
    }
}

impl Stamp {
    pub(super) fn of(found: &fs::Metadata) -> Stamp {
        Stamp { modified: found.modified().ok(), size: found.len(), file: (found.dev(), found.ino()) }
    }
}

impl Node {
    /// What stands at `path`.
    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        path.labels().iter().try_fold(self, |node, label| match node {
            Node::Directory(inside) => inside.get(label),
            Node::File(_) => None,
        })
    }

    /// How much of `path` leads to a regular file: the number of labels.
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        let mut node = self;
        for (depth, label) in path.labels().iter().enumerate() {
            match node {
                Node::Directory(inside) => node = inside.get(label)?,
                Node::File(_) => return Some(depth),
            }
        }
        matches!(node, Node::File(_)).then_some(path.len())
    }

    /// All files, with their names relative to this directory.
    pub(super) fn files(&self) -> Vec<(Path, &Stamp)> {
        fn collect<'a>(node: &'a Node, at: &mut Vec<Label>, into: &mut Vec<(Path, &'a Stamp)>) {
            match node {
                Node::File(stamp) => into.extend(Path::from_labels(at.iter()).map(|path| (path, stamp))),
                Node::Directory(inside) => inside.iter().for_each(|(label, node)| {
                    at.push(label.clone());
                    collect(node, at, into);
                    at.pop();
                }),
            }
        }
        let mut files = Vec::new();
        collect(self, &mut Vec::new(), &mut files);
        files
    }
}

/// Where the file named `name` is.
pub(super) fn on_disk(root: &FilePath, name: &Path) -> PathBuf {
    name.labels().iter().fold(root.to_owned(), |path, label| path.join(std::ffi::OsStr::from_bytes(label)))
}
