//! The delegation table: ordered entries `prefix => tree`; the last entry that matches wins.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use crate::{Label, NameTree, ParseError, Path, parser::Parser, path::show_label};

/// One element of a prefix.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Elem {
    Label(Label),
    /// `*`: any one label.
    Any,
}

/// The left side of an entry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    elems: Arc<[Elem]>,
}

impl Prefix {
    pub(crate) fn new(elems: Vec<Elem>) -> Prefix {
        Prefix { elems: elems.into() }
    }

    pub fn read(text: &str) -> Result<Prefix, ParseError> {
        Parser::new(text).prefix()
    }

    pub fn elems(&self) -> &[Elem] {
        &self.elems
    }

    /// Whether `path` begins with this prefix; `/` matches everything.
    pub fn matches(&self, path: &Path) -> bool {
        self.elems.len() <= path.len()
            && self.elems.iter().zip(path.labels()).all(|(elem, label)| match elem {
                Elem::Any => true,
                Elem::Label(wanted) => wanted == label,
            })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.elems.is_empty() {
            return f.write_str("/");
        }
        self.elems.iter().try_for_each(|elem| {
            f.write_str("/")?;
            match elem {
                Elem::Any => f.write_str("*"),
                Elem::Label(label) => show_label(label, f),
            }
        })
    }
}

/// One entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Dentry {
    pub prefix: Prefix,
    pub dst: NameTree<Path>,
}

impl Dentry {
    /// Reads one entry; a `;` behind it is an error here.
    pub fn read(text: &str) -> Result<Dentry, ParseError> {
        Parser::new(text).dentry()
    }

    /// The destination with what `path` has behind the prefix appended to each leaf.
    pub fn rewrite(&self, path: &Path) -> NameTree<Path> {
        let suffix = path.drop_first(self.prefix.elems.len());
        self.dst.map(&mut |leaf| leaf.concat(&suffix))
    }
}

impl fmt::Display for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=>{}", self.prefix, self.dst)
    }
}

/// A whole table. Cheap to clone. `Display` is the original's `show`.
#[derive(Clone)]
pub struct Dtab {
    table: Arc<Table>,
}

struct Table {
    entries: Vec<Dentry>,
    index: OnceLock<Index>,
}

/// Entry numbers by what their prefix begins with, so that a lookup in a large table reads only
/// entries that can match: those with the path's first two labels, those with its first label and
/// then a `*` or nothing, and those that begin with `*` or are `/`.
#[derive(Default)]
struct Index {
    first_two: HashMap<(Label, Label), Vec<usize>>,
    first: HashMap<Label, Vec<usize>>,
    any: Vec<usize>,
}

/// Below this number of entries reading them all is cheaper than an index.
const INDEX_FROM: usize = 16;

impl Index {
    fn of(entries: &[Dentry]) -> Index {
        let mut index = Index::default();
        for (number, entry) in entries.iter().enumerate() {
            match entry.prefix.elems() {
                [Elem::Label(first), Elem::Label(second), ..] => {
                    index.first_two.entry((first.clone(), second.clone())).or_default().push(number)
                }
                [Elem::Label(first), ..] => index.first.entry(first.clone()).or_default().push(number),
                _ => index.any.push(number),
            }
        }
        index
    }

    /// Numbers of the entries that may match, in order.
    fn candidates(&self, path: &Path) -> Vec<usize> {
        let mut numbers = self.any.clone();
        if let [first, rest @ ..] = path.labels() {
            numbers.extend(self.first.get(first).into_iter().flatten());
            if let [second, ..] = rest {
                numbers.extend(self.first_two.get(&(first.clone(), second.clone())).into_iter().flatten());
            }
        }
        numbers.sort_unstable();
        numbers
    }
}

impl Dtab {
    pub fn empty() -> Dtab {
        Dtab::new(Vec::new())
    }

    pub fn new(entries: Vec<Dentry>) -> Dtab {
        Dtab { table: Arc::new(Table { entries, index: OnceLock::new() }) }
    }

    pub fn read(text: &str) -> Result<Dtab, ParseError> {
        Parser::new(text).dtab().map(Dtab::new)
    }

    pub fn entries(&self) -> &[Dentry] {
        &self.table.entries
    }

    pub fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }

    /// Whether both are clones of one table: cheap, and never true of tables that differ.
    pub fn is_same(&self, other: &Dtab) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }

    /// `self`'s entries, then `more`'s, which therefore win.
    pub fn concat(&self, more: &Dtab) -> Dtab {
        match (self.is_empty(), more.is_empty()) {
            (true, _) => more.clone(),
            (_, true) => self.clone(),
            _ => Dtab::new(self.entries().iter().chain(more.entries()).cloned().collect()),
        }
    }

    /// The entries that match, with their place in the table, last first: the order in which they count.
    pub fn matching(&self, path: &Path) -> Vec<(usize, &Dentry)> {
        let entries = self.entries();
        let keep = |number: usize| Some((number, &entries[number])).filter(|(_, entry)| entry.prefix.matches(path));
        if entries.len() < INDEX_FROM {
            return (0..entries.len()).rev().filter_map(keep).collect();
        }
        let index = self.table.index.get_or_init(|| Index::of(entries));
        index.candidates(path).into_iter().rev().filter_map(keep).collect()
    }

    /// One rewriting step; `Neg` where nothing matches.
    pub fn lookup(&self, path: &Path) -> NameTree<Path> {
        let mut trees: Vec<_> = self.matching(path).into_iter().map(|(_, entry)| entry.rewrite(path)).collect();
        match trees.len() {
            0 => NameTree::Neg,
            1 => trees.swap_remove(0),
            _ => NameTree::Alt(trees),
        }
    }

    /// Each destination simplified; entries that are then `~` go.
    pub fn simplified(&self) -> Dtab {
        let simplified = self.entries().iter().filter_map(|entry| match entry.dst.simplified() {
            NameTree::Neg => None,
            dst => Some(Dentry { prefix: entry.prefix.clone(), dst }),
        });
        Dtab::new(simplified.collect())
    }

    /// Like `Display`, but weights keep every digit.
    pub fn show_exact(&self) -> String {
        let shown = self.entries().iter().map(|entry| format!("{}=>{}", entry.prefix, entry.dst.show_exact()));
        shown.collect::<Vec<_>>().join(";")
    }
}

impl PartialEq for Dtab {
    fn eq(&self, other: &Dtab) -> bool {
        Arc::ptr_eq(&self.table, &other.table) || self.entries() == other.entries()
    }
}

impl fmt::Debug for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dtab({})", self.show_exact())
    }
}

impl fmt::Display for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().iter().enumerate().try_for_each(|(number, entry)| {
            f.write_str(if number == 0 { "" } else { ";" })?;
            entry.fmt(f)
        })
    }
}

impl FromStr for Dtab {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Dtab, ParseError> {
        Dtab::read(text)
    }
}
