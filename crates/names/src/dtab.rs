//! The delegation table: ordered entries `prefix => tree`; the last entry that matches wins.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Arc, OnceLock},
};

use crate::{
    Label, NameTree, ParseError, Path, changes, fingerprint::Fingerprint, index::Index, parser::Parser,
    path::show_label,
};

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
    /// A large table and what was put behind it: not copied together for one request.
    halves: Option<(Dtab, Dtab)>,
    /// Those of a table with halves are copied when somebody wants them all.
    entries: OnceLock<Vec<Dentry>>,
    index: OnceLock<Index>,
    fingerprint: OnceLock<Fingerprint>,
}

impl Table {
    fn new(halves: Option<(Dtab, Dtab)>, entries: OnceLock<Vec<Dentry>>) -> Table {
        Table { halves, entries, index: OnceLock::new(), fingerprint: OnceLock::new() }
    }
}

/// Below this number of entries reading them all is cheaper than an index.
const INDEX_FROM: usize = 16;
/// From this number on, a table is shared with those that it is part of.
const SHARED_FROM: usize = 256;

impl Dtab {
    pub fn empty() -> Dtab {
        Dtab::new(Vec::new())
    }

    pub fn new(entries: Vec<Dentry>) -> Dtab {
        Dtab { table: Arc::new(Table::new(None, entries.into())) }
    }

    pub fn read(text: &str) -> Result<Dtab, ParseError> {
        Parser::new(text).dtab().map(Dtab::new)
    }

    pub fn entries(&self) -> &[Dentry] {
        self.table.entries.get_or_init(|| match &self.table.halves {
            Some((first, second)) => first.entries().iter().chain(second.entries()).cloned().collect(),
            None => Vec::new(),
        })
    }

    pub fn len(&self) -> usize {
        match &self.table.halves {
            Some((first, second)) => first.len() + second.len(),
            None => self.entries().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry that wins over all others.
    pub fn last(&self) -> Option<&Dentry> {
        match &self.table.halves {
            Some((first, second)) => second.last().or_else(|| first.last()),
            None => self.entries().last(),
        }
    }

    /// Whether both are clones of one table: cheap, and never true of tables that differ.
    pub fn is_same(&self, other: &Dtab) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }

    /// `self`'s entries, then `more`'s, which therefore win. Costs no more than the smaller of a large and a
    /// small one.
    pub fn concat(&self, more: &Dtab) -> Dtab {
        match (self.is_empty(), more.is_empty()) {
            (true, _) => return more.clone(),
            (_, true) => return self.clone(),
            _ => {}
        }
        let halves = if self.len() + more.len() < SHARED_FROM {
            return Dtab::new(self.entries().iter().chain(more.entries()).cloned().collect());
        } else if let Some((first, second)) = &self.table.halves
            && second.len() < SHARED_FROM
        {
            (first.clone(), second.concat(more))
        } else {
            (self.clone(), more.clone())
        };
        Dtab { table: Arc::new(Table::new(Some(halves), OnceLock::new())) }
    }

    /// The entries that match, with their place in the table, last first: the order in which they count.
    pub fn matching(&self, path: &Path) -> Vec<(usize, &Dentry)> {
        if let Some((first, second)) = &self.table.halves {
            let behind = first.len();
            let mut found: Vec<_> =
                second.matching(path).into_iter().map(|(place, entry)| (behind + place, entry)).collect();
            found.extend(first.matching(path));
            return found;
        }
        let entries = self.entries();
        if entries.len() < INDEX_FROM {
            let all = entries.iter().enumerate().rev();
            return all.filter(|(_, entry)| entry.prefix.matches(path)).collect();
        }
        let index = self.table.index.get_or_init(|| Index::of(entries.iter().map(|entry| &entry.prefix)));
        index.matching(path).into_iter().map(|number| (number as usize, &entries[number as usize])).collect()
    }

    /// Prefixes such that `new` says the same as `self` for every path that begins with none of them.
    pub fn changed(&self, new: &Dtab) -> Vec<Prefix> {
        if self.is_same(new) { Vec::new() } else { changes::changed(self, new) }
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

    /// Of a table that is made of others it follows from theirs.
    fn fingerprint(&self) -> Fingerprint {
        *self.table.fingerprint.get_or_init(|| match &self.table.halves {
            Some((first, second)) => first.fingerprint().then(second.fingerprint()),
            None => Fingerprint::of(self.entries()),
        })
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
        if Arc::ptr_eq(&self.table, &other.table) {
            return true;
        }
        // Where both were hashed already.
        if let (Some(one), Some(other)) = (self.table.fingerprint.get(), other.table.fingerprint.get())
            && one != other
        {
            return false;
        }
        match (&self.table.halves, &other.table.halves) {
            (Some((first, second)), Some((other_first, other_second))) if first.len() == other_first.len() => {
                first == other_first && second == other_second
            }
            _ => self.len() == other.len() && self.entries() == other.entries(),
        }
    }
}

/// Reads every entry once in the life of a table.
impl Hash for Dtab {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.fingerprint().hash(state);
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
