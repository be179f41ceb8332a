//! What is wrong with a `tls` section or with the files that it names.

use std::fmt::Display;
use std::path::Path;

/// Names the key below the section, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Error {
    /// `certPath`, `clientAuth.keyPath`, `trustCerts[1]`; empty for the section as a whole.
    pub key: String,
    /// What is wrong, with the file's name, and what would be right.
    pub message: String,
}

impl Error {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Error {
        Error { key: key.into(), message: message.into() }
    }

    pub(crate) fn file(key: impl Into<String>, file: &Path, message: impl Display) -> Error {
        Error::new(key, format!("{}: {message}", file.display()))
    }

    /// The same, below another key: `clientAuth` and `keyPath` make `clientAuth.keyPath`.
    #[must_use]
    pub fn under(self, parent: &str) -> Error {
        let key = match (parent, self.key.as_str()) {
            ("", key) => key.to_owned(),
            (parent, "") => parent.to_owned(),
            (parent, key) => format!("{parent}.{key}"),
        };
        Error { key, ..self }
    }
}
