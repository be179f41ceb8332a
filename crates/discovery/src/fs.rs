//! `io.l5d.fs`: names are files below a directory, endpoints their lines.
//!
//! ```text
//! disco/world-v1      127.0.0.1 7721
//!                     127.0.0.1 7722
//! /#/io.l5d.fs/world-v1/x  →  /#/io.l5d.fs/world-v1, residual /x
//! ```
//!
//! A file that comes or goes changes trees; a file that is edited changes only addresses. Unlike the
//! original, every change is seen (it missed renames), and trouble changes nothing that was good:
//! a file that cannot be read or has a bad line keeps its last endpoints, a root that cannot be listed
//! its files. `state()` and the log tell. A bad file that never was good is a leaf with a failed address.
//! Writers should write another file and rename it; one that is written in place and looks unfinished
//! (empty, no newline at the end, a bad line) is looked at again a moment later before it counts.

mod files;
mod parse;
mod walk;

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use names::{NameTree, Path};
use naming::{Bound, Live, Name, Namer, NamerTree, Publisher, State};
use notify::RecursiveMode;
use serde::Deserialize;
use serde_json::json;

use self::{
    files::Files,
    walk::{Node, Stamp, walk},
};
use crate::{
    ConfigError, TransformerConfig,
    watch::{self, Root, Touched, Waker, Watch},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Must be a directory when the process starts.
    pub root_dir: PathBuf,
    /// `/io.l5d.fs` by default.
    #[serde(default, deserialize_with = "crate::config::shown_if_given")]
    pub prefix: Option<Path>,
    #[serde(default)]
    pub transformers: Vec<TransformerConfig>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(default)]
    pub experimental: bool,
}

impl Config {
    /// Reads the directory, then watches it. `full` is the prefix with `/#`.
    pub fn build(&self, full: &Path) -> Result<FileNamer, ConfigError> {
        let refuse = |why: String| ConfigError::new("rootDir", format!("`{}` {why}", self.root_dir.display()));
        if !self.root_dir.is_dir() {
            return Err(refuse("is not a directory".to_owned()));
        }
        let waker = Waker::default();
        let known = Known {
            root: self.root_dir.clone(),
            prefix: full.clone(),
            tree: None,
            trouble: Vec::new(),
            files: Files::new(self.root_dir.clone(), waker.clone()),
            lookups: HashMap::new(),
            names: Live::channel(State::Pending).0,
        };
        let known = Arc::new(Mutex::new(known));
        lock(&known).scan(&Touched { anything: true, ..Touched::default() });
        let root = Root { directory: self.root_dir.clone(), mode: RecursiveMode::Recursive };
        let scanned = Arc::downgrade(&known);
        let watch = watch::start(&full.show(), root, waker, move |touched| {
            scanned.upgrade().and_then(|known| lock(&known).scan(touched))
        });
        let watch = watch.map_err(|error| refuse(format!("cannot be watched: {error}")))?;
        Ok(FileNamer { known, _watch: watch })
    }
}

/// See the module's documentation.
pub struct FileNamer {
    known: Arc<Mutex<Known>>,
    _watch: Watch,
}

/// What is known of the directory, and who reads it.
struct Known {
    root: PathBuf,
    prefix: Path,
    tree: Option<Node>,
    /// Directories that could not be listed, and why.
    trouble: Vec<String>,
    files: Files,
    lookups: HashMap<Path, Publisher<NamerTree>>,
    names: Publisher<Arc<[Path]>>,
}

impl Known {
    /// Looks at everything, or at the files that were touched if only known ones were; reads what changed,
    /// publishes. Says when to look again at the latest.
    fn scan(&mut self, touched: &Touched) -> Option<Duration> {
        if let Some(found) = self.only_known(touched) {
            return self.files.look_at(&found, touched);
        }
        let mut trouble = Vec::new();
        self.tree = walk(&self.root, self.tree.as_ref(), &mut trouble);
        if trouble != self.trouble {
            trouble.iter().for_each(|why| tracing::warn!(namer = %self.prefix, %why, "keeping what was there"));
            self.trouble = trouble;
        }
        let found = self.tree.as_ref().map(Node::files).unwrap_or_default();
        let again = self.files.update(found, touched);
        self.lookups.retain(|_, publisher| !publisher.is_closed());
        let mut lookups = std::mem::take(&mut self.lookups);
        lookups.iter_mut().for_each(|(path, publisher)| publisher.set(self.look(path)));
        self.lookups = lookups;
        self.names.set(self.top_level());
        again
    }

    /// The files that were touched, if all of them were there before and are there now: no name comes or goes,
    /// and among ten thousand files only these need a look.
    fn only_known(&self, touched: &Touched) -> Option<Vec<(Path, Stamp)>> {
        if touched.anything || touched.paths.is_empty() {
            return None;
        }
        let tree = self.tree.as_ref()?;
        let mut known = Vec::new();
        for path in &touched.paths {
            let labels = path.strip_prefix(&self.root).ok()?.components().map(|part| part.as_os_str().as_bytes());
            let name = Path::from_labels(labels)?;
            match (tree.get(&name), std::fs::metadata(path)) {
                (Some(Node::File(_)), Ok(found)) if found.is_file() => known.push((name, Stamp::of(&found))),
                // What a writer renames to a known name is gone by now.
                (None, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                _ => return None,
            }
        }
        Some(known)
    }

    fn look(&mut self, path: &Path) -> State<NamerTree> {
        let Some(tree) = &self.tree else { return State::Pending };
        let Some(length) = tree.file(path) else { return State::Ok(NameTree::Neg) };
        let name = path.take(length);
        let addr = self.files.addr(&name);
        let bound = Bound::new(self.prefix.concat(&name), path.drop_first(length), addr);
        State::Ok(NameTree::Leaf(Name::Bound(bound)))
    }

    fn top_level(&self) -> State<Arc<[Path]>> {
        let Some(Node::Directory(inside)) = &self.tree else { return State::Pending };
        let files = inside.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        State::Ok(
            files.filter_map(|(label, _)| Path::from_labels([label])).map(|name| self.prefix.concat(&name)).collect(),
        )
    }
}

impl Namer for FileNamer {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let mut known = lock(&self.known);
        if let Some(publisher) = known.lookups.get(path) {
            return publisher.live();
        }
        let (publisher, live) = Live::channel(known.look(path));
        known.lookups.insert(path.clone(), publisher);
        live
    }

    /// Files at the top level only. The original lists directories there, too, which bind to nothing.
    fn bound_names(&self) -> Live<Arc<[Path]>> {
        lock(&self.known).names.live()
    }

    /// `{"rootDir","trouble":[…],"files":{"web":{"endpoints":2,"trouble"?}}}`
    fn state(&self) -> serde_json::Value {
        let known = lock(&self.known);
        json!({ "rootDir": known.root, "trouble": known.trouble, "files": known.files.state() })
    }
}

/// What it guards is replaced in whole steps: a panic elsewhere leaves it usable.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
