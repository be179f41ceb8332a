//! The delegation table: ordered entries `prefix => tree`; the last entry that matches wins.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Label, NameTree, ParseError, Path};

/// One element of a prefix.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Elem { Label(Label), /** `*`: any one label. */ Any }

/// The left side of an entry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix { elems: Arc<[Elem]> }

impl Prefix {
    pub fn read(_text: &str) -> Result<Prefix, ParseError> { unimplemented!() }
    pub fn elems(&self) -> &[Elem] { &self.elems }
    pub fn matches(&self, _path: &Path) -> bool { unimplemented!() }
}
impl fmt::Display for Prefix { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { unimplemented!() } }

/// One entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Dentry { pub prefix: Prefix, pub dst: NameTree<Path> }
impl Dentry { pub fn read(_text: &str) -> Result<Dentry, ParseError> { unimplemented!() } }
impl fmt::Display for Dentry { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { unimplemented!() } }

/// A whole table. Cheap to clone. `Display` is the original's `show`.
#[derive(Clone, PartialEq, Debug)]
pub struct Dtab { entries: Arc<[Dentry]> }

impl Dtab {
    pub fn empty() -> Dtab { Dtab { entries: Arc::from([]) } }
    pub fn new(entries: Vec<Dentry>) -> Dtab { Dtab { entries: entries.into() } }
    pub fn read(_text: &str) -> Result<Dtab, ParseError> { unimplemented!() }
    pub fn entries(&self) -> &[Dentry] { &self.entries }
    pub fn is_empty(&self) -> bool { self.entries.is_empty() }
    /// `self`'s entries, then `more`'s, which therefore win.
    pub fn concat(&self, _more: &Dtab) -> Dtab { unimplemented!() }
    /// One rewriting step; `Neg` where nothing matches.
    pub fn lookup(&self, _path: &Path) -> NameTree<Path> { unimplemented!() }
    pub fn simplified(&self) -> Dtab { unimplemented!() }
    /// Like `Display`, but weights keep every digit.
    pub fn show_exact(&self) -> String { unimplemented!() }
}
impl fmt::Display for Dtab { fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result { unimplemented!() } }
impl FromStr for Dtab { type Err = ParseError; fn from_str(s: &str) -> Result<Dtab, ParseError> { Dtab::read(s) } }
