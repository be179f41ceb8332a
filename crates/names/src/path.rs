//! A path: a sequence of non-empty byte strings.

use std::{fmt, str::FromStr, sync::Arc};

use crate::ParseError;

/// One element of a path: any non-empty bytes, not necessarily UTF-8.
pub type Label = Arc<[u8]>;

/// A path such as `/svc/world`. Cheap to clone; equality is byte-wise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Path {
    labels: Arc<[Label]>,
}

impl Path {
    /// The empty path, shown as `/`.
    pub fn empty() -> Path { Path { labels: Arc::from([]) } }
    /// Builds a path from raw labels; `None` if one of them is empty.
    pub fn from_labels<I, L>(_labels: I) -> Option<Path> where I: IntoIterator<Item = L>, L: AsRef<[u8]> { unimplemented!() }
    /// Parses shown text. Blanks and comments around it are allowed.
    pub fn read(_text: &str) -> Result<Path, ParseError> { unimplemented!() }
    /// The labels, in order.
    pub fn labels(&self) -> &[Label] { &self.labels }
    pub fn len(&self) -> usize { self.labels.len() }
    pub fn is_empty(&self) -> bool { self.labels.is_empty() }
    pub fn starts_with(&self, _prefix: &Path) -> bool { unimplemented!() }
    /// The first `n` labels (all, if fewer).
    pub fn take(&self, _n: usize) -> Path { unimplemented!() }
    /// Without the first `n` labels (empty, if fewer).
    pub fn drop_first(&self, _n: usize) -> Path { unimplemented!() }
    pub fn concat(&self, _suffix: &Path) -> Path { unimplemented!() }
    /// Shown text: the same as `Display`.
    pub fn show(&self) -> String { self.to_string() }
}

impl fmt::Display for Path { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { unimplemented!() } }
impl FromStr for Path { type Err = ParseError; fn from_str(s: &str) -> Result<Path, ParseError> { Path::read(s) } }
