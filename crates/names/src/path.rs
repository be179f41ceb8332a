//! A path: a sequence of non-empty byte strings.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    ParseError,
    parser::{Parser, is_showable},
};

/// One element of a path: any non-empty bytes, not necessarily UTF-8.
pub type Label = Arc<[u8]>;

/// A path such as `/svc/world`. Cheap to clone; equality is byte-wise, per label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Path {
    labels: Arc<[Label]>,
}

impl Path {
    /// The empty path, shown as `/`.
    pub fn empty() -> Path {
        Path { labels: Arc::from([]) }
    }

    /// Builds a path from raw labels; `None` if one of them is empty.
    pub fn from_labels<I, L>(labels: I) -> Option<Path>
    where
        I: IntoIterator<Item = L>,
        L: AsRef<[u8]>,
    {
        let labels = labels
            .into_iter()
            .map(|label| Some(label.as_ref()).filter(|bytes| !bytes.is_empty()).map(Label::from))
            .collect::<Option<Vec<Label>>>()?;
        Some(Path::from_nonempty(labels))
    }

    /// Labels that are known not to be empty.
    pub(crate) fn from_nonempty(labels: Vec<Label>) -> Path {
        Path { labels: labels.into() }
    }

    /// Parses shown text. Blanks and comments around it are allowed.
    pub fn read(text: &str) -> Result<Path, ParseError> {
        Parser::new(text).path()
    }

    /// The labels, in order.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Label by label; every path starts with `/`.
    pub fn starts_with(&self, prefix: &Path) -> bool {
        self.labels.starts_with(&prefix.labels)
    }

    /// The first `n` labels (all, if fewer).
    pub fn take(&self, n: usize) -> Path {
        if n >= self.len() { self.clone() } else { Path { labels: self.labels[..n].into() } }
    }

    /// Without the first `n` labels (empty, if fewer).
    pub fn drop_first(&self, n: usize) -> Path {
        if n == 0 { self.clone() } else { Path { labels: self.labels[n.min(self.len())..].into() } }
    }

    /// `self`'s labels, then `suffix`'s.
    pub fn concat(&self, suffix: &Path) -> Path {
        match (self.is_empty(), suffix.is_empty()) {
            (true, _) => suffix.clone(),
            (_, true) => self.clone(),
            _ => Path { labels: self.labels.iter().chain(suffix.labels.iter()).cloned().collect() },
        }
    }

    /// Shown text: the same as `Display`.
    pub fn show(&self) -> String {
        self.to_string()
    }
}

/// Raw if every byte can be shown, else every byte of the label as `\xhh`.
pub(crate) fn show_label(label: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if label.iter().copied().all(is_showable) {
        return f.write_str(&String::from_utf8_lossy(label));
    }
    label.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("/");
        }
        self.labels.iter().try_for_each(|label| {
            f.write_str("/")?;
            show_label(label, f)
        })
    }
}

impl FromStr for Path {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Path, ParseError> {
        Path::read(text)
    }
}
