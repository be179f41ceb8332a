//! A tree as branches of rows.

use super::node::added;
use super::{Address, Bound, Entry, Node};
use crate::format;
use crate::parts::{Mark, Ver, width};

/// An explanation, ready to show.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The name that was asked for.
    pub path: String,
    pub goes: Vec<Goes>,
    pub(crate) root: Branch,
    /// Why it goes nowhere, if it does.
    pub nowhere: Option<String>,
}

/// Where a share of the requests goes.
#[derive(Debug, Clone)]
pub struct Goes {
    pub id: String,
    /// 0 to 1
    pub share: f64,
    /// Sum of the shares before it.
    before: f64,
    is_new: bool,
}

/// Rows one below the other, then what they branch into.
#[derive(Debug, Clone, Default)]
pub struct Branch {
    pub rows: Vec<Row>,
    pub branches: Vec<Branch>,
    /// Not taken.
    pub is_dead: bool,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// `1st` of several alternatives.
    pub tag: Option<String>,
    /// Share of its union, and the class of its bar.
    pub weight: Option<(f64, &'static str)>,
    /// What the entry put there.
    pub marked: String,
    pub rest: String,
    pub by: By,
    pub out: Option<Mark>,
    pub note: String,
    pub class: &'static str,
    pub endpoints: Vec<String>,
}

/// What led to a row.
#[derive(Debug, Clone, Default)]
pub enum By {
    #[default]
    Asked,
    Entry {
        entry: Entry,
        /// Its number in the dtab, from 1; `None` for one that the request brought.
        number: Option<usize>,
        is_override: bool,
    },
    Branch {
        number: Option<usize>,
    },
    /// The tree does not say.
    Unknown,
    Transformer(String),
}

/// The entries that numbers refer to.
struct Reader<'a> {
    entries: &'a [Entry],
    overrides: &'a [Entry],
}

impl Explained {
    /// `entries` are the dtab's, in its order; `overrides` those that the request brings.
    pub fn new(tree: &Node, entries: &[Entry], overrides: &[Entry]) -> Explained {
        let mut found = Vec::new();
        tree.goes(1.0, &mut found);
        let newest = newest(found.iter().map(|(id, _)| format::tail(id)));
        let mut before = 0.0;
        let goes = found.into_iter().map(|(id, share)| {
            let is_new = newest.as_deref() == Some(format::tail(&id));
            let goes = Goes { id, share, before, is_new };
            before += share;
            goes
        });
        let goes = goes.collect::<Vec<_>>();
        let mut root = Branch::default();
        let reader = Reader { entries, overrides };
        reader.walk(tree, None, By::Asked, &mut root);
        let nowhere = goes.is_empty().then(|| nowhere(tree));
        Explained { path: path(tree).to_owned(), goes, root, nowhere }
    }

    pub(crate) fn label(&self) -> String {
        let parts = self.goes.iter().map(|goes| format!("{} {}", format::percent(goes.share), format::tail(&goes.id)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl Goes {
    pub(crate) fn percent(&self) -> String {
        format::percent(self.share)
    }

    pub(crate) fn width(&self) -> String {
        width(self.share)
    }

    pub(crate) fn x(&self) -> String {
        width(self.before)
    }

    pub(crate) fn class(&self) -> &'static str {
        if self.is_new { "c-new" } else { "c-cur" }
    }

    pub(crate) fn ver(&self) -> Ver {
        Ver { name: format::tail(&self.id).to_owned(), is_new: self.is_new }
    }
}

impl Row {
    pub(crate) fn percent(&self) -> String {
        format::percent(self.weight.map_or(f64::NAN, |(share, _)| share))
    }

    pub(crate) fn width(&self) -> String {
        width(self.weight.map_or(0.0, |(share, _)| share))
    }

    pub(crate) fn entry_number(&self) -> Option<usize> {
        match self.by {
            By::Entry { number, .. } => number,
            _ => None,
        }
    }

    pub(crate) fn endpoints_text(&self) -> String {
        format::counted(self.endpoints.len() as u64, "endpoint")
    }
}

impl Reader<'_> {
    /// What led from `before` to this node: as the tree says, else the last entry that leads there.
    fn leads(&self, before: &str, node: &Node) -> By {
        let known = self.entries.iter().chain(self.overrides);
        let entry = node.dentry().or_else(|| known.rev().find(|entry| is_rewrite(entry, before, path(node))));
        entry.map_or(By::Unknown, |entry| self.by(entry))
    }

    fn by(&self, entry: &Entry) -> By {
        let is_override = self.overrides.iter().any(|known| known.is_same(entry));
        let number = self.entries.iter().rposition(|known| known.is_same(entry)).map(|at| at + 1);
        By::Entry { entry: entry.clone(), number: number.filter(|_| !is_override), is_override }
    }

    /// Adds the rows of this node and those below it. `before` is the name that `by` was applied to.
    fn walk(&self, node: &Node, before: Option<&str>, by: By, branch: &mut Branch) {
        let mut row = self.row(path(node), before, by);
        match node {
            Node::Delegate { path, delegate, .. } => {
                branch.rows.push(row);
                self.walk(delegate, Some(path), self.leads(path, delegate), branch);
            }
            Node::Alt { path, alt, .. } => {
                row.note = format!("{} alternatives", alt.len());
                branch.rows.push(row);
                let taken = alt.iter().position(|node| !node.is_nothing());
                for (n, node) in alt.iter().enumerate() {
                    let mut below = Branch { is_dead: taken != Some(n), ..Branch::default() };
                    self.walk(node, Some(path), self.leads(path, node), &mut below);
                    if let Some(first) = below.rows.first_mut() {
                        first.tag = Some(ordinal(n + 1));
                        if taken.is_some_and(|taken| n > taken) && first.note.is_empty() && first.out.is_none() {
                            first.note = "only if those before find nothing".to_owned();
                        }
                    }
                    branch.branches.push(below);
                }
            }
            Node::Union { path, union, .. } => {
                row.note = "draw by weight".to_owned();
                let number = row.entry_number();
                branch.rows.push(row);
                let sum = union.iter().map(|branch| branch.weight).sum::<f64>();
                let mut reached = Vec::new();
                for weighted in union {
                    weighted.tree.goes(1.0, &mut reached);
                }
                let newest = newest(reached.iter().map(|(id, _)| format::tail(id)));
                for weighted in union {
                    let is_dead = weighted.tree.is_nothing() || weighted.weight <= 0.0;
                    let mut below = Branch { is_dead, ..Branch::default() };
                    self.walk(&weighted.tree, Some(path), By::Branch { number }, &mut below);
                    let mut leads = Vec::new();
                    weighted.tree.goes(1.0, &mut leads);
                    let is_new = leads.iter().any(|(id, _)| newest.as_deref() == Some(format::tail(id)));
                    if let Some(first) = below.rows.first_mut() {
                        let share = if sum > 0.0 { weighted.weight / sum } else { 0.0 };
                        first.weight = Some((share, if is_new { "c-new" } else { "c-cur" }));
                    }
                    branch.branches.push(below);
                }
            }
            Node::Leaf { bound, .. } => {
                leaf(&mut row, bound);
                branch.rows.push(row);
            }
            Node::Transformation { name, bound, tree, .. } => {
                row.note = outcome(&bound.addr).1.text;
                branch.rows.push(row);
                let transformer = added(tree, &bound.id).unwrap_or(name).to_owned();
                self.walk(tree, None, By::Transformer(transformer), branch);
            }
            Node::Neg { .. } => end(row, "skip", "skipped", "Nothing there (neg)", branch),
            Node::Fail { .. } => end(row, "bad", "failed", "Refused (fail): no alternative is tried", branch),
            Node::Empty { .. } => end(row, "skip", "skipped", "Exists, has no endpoints (empty)", branch),
            Node::Exception { message, .. } => end(row, "bad", "failed", message, branch),
        }
    }

    fn row(&self, path: &str, before: Option<&str>, by: By) -> Row {
        let kept = match (&by, before) {
            (By::Entry { entry, .. }, Some(before)) if before != path => {
                Some(labels(before).saturating_sub(labels(&entry.prefix)))
            }
            _ => None,
        };
        let (marked, rest) = match kept {
            Some(kept) => split_end(path, kept),
            None => ("", path),
        };
        Row { marked: marked.to_owned(), rest: rest.to_owned(), by, ..Row::default() }
    }
}

fn end(mut row: Row, icon: &'static str, class: &'static str, text: &str, branch: &mut Branch) {
    row.out = Some(Mark::new(class, icon, text));
    row.class = "leaf nil";
    branch.rows.push(row);
}

fn leaf(row: &mut Row, bound: &Bound) {
    let (class, mark) = outcome(&bound.addr);
    row.out = Some(mark);
    row.class = class;
    if let Address::Bound { addrs } = &bound.addr {
        row.endpoints = addrs.iter().map(super::node::SocketAddress::text).collect();
    }
    if !bound.path.is_empty() && bound.path != "/" {
        row.note = format!("residual {}", bound.path);
    }
}

fn outcome(addr: &Address) -> (&'static str, Mark) {
    match addr {
        Address::Bound { addrs } if addrs.is_empty() => ("leaf nil", Mark::new("failed", "bad", "Bound, no endpoint")),
        Address::Bound { addrs } => {
            let text = format!("Bound, {}", format::counted(addrs.len() as u64, "endpoint"));
            ("leaf", Mark::new("healthy", "ok", text))
        }
        Address::Neg => ("leaf nil", Mark::new("skipped", "skip", "Nothing there (neg)")),
        Address::Failed { cause } => ("leaf nil", Mark::new("failed", "bad", cause.clone())),
        Address::Pending => ("leaf old", Mark::new("stale", "clock", "Not known yet")),
    }
}

fn path(node: &Node) -> &str {
    match node {
        Node::Delegate { path, .. }
        | Node::Alt { path, .. }
        | Node::Union { path, .. }
        | Node::Leaf { path, .. }
        | Node::Neg { path, .. }
        | Node::Fail { path, .. }
        | Node::Empty { path, .. }
        | Node::Exception { path, .. }
        | Node::Transformation { path, .. } => path,
    }
}

fn nowhere(node: &Node) -> String {
    match node {
        Node::Delegate { delegate: next, .. } | Node::Transformation { tree: next, .. } => nowhere(next),
        Node::Alt { alt, .. } => {
            alt.iter().find(|node| !node.is_nothing()).or(alt.last()).map_or_else(String::new, nowhere)
        }
        Node::Union { .. } => "No branch of the union leads to an endpoint.".to_owned(),
        Node::Leaf { bound, .. } => match &bound.addr {
            Address::Failed { cause } => format!("{}: {cause}", bound.id),
            _ => format!("{} has no endpoint.", bound.id),
        },
        Node::Neg { path, .. } => match path.strip_prefix("/#/") {
            Some(_) => format!("The namer knows no {}.", path.trim_start_matches("/#")),
            None => format!("No entry leads on from {path}."),
        },
        Node::Fail { path, .. } => format!("{path} is refused by a fail (!)."),
        Node::Empty { path, .. } => format!("{path} exists and has no endpoints."),
        Node::Exception { message, .. } => message.clone(),
    }
}

fn labels(path: &str) -> usize {
    path.split('/').filter(|label| !label.is_empty()).count()
}

/// Whether this entry turns one name into the other. Destinations that branch are not looked into.
fn is_rewrite(entry: &Entry, before: &str, after: &str) -> bool {
    if labels(before) < labels(&entry.prefix) {
        return false;
    }
    let prefix = entry.prefix.split('/').filter(|label| !label.is_empty());
    let mut labels = before.split('/').filter(|label| !label.is_empty());
    let matches = prefix.zip(labels.by_ref()).all(|(wanted, label)| wanted == "*" || wanted == label);
    let rest = labels.map(|label| format!("/{label}")).collect::<String>();
    matches && after == format!("{}{rest}", entry.dst.trim_end_matches('/'))
}

/// The path's head, and its last `kept` labels.
fn split_end(path: &str, kept: usize) -> (&str, &str) {
    let at = match kept {
        0 => path.len(),
        _ => path.rmatch_indices('/').nth(kept - 1).map_or(0, |(at, _)| at),
    };
    path.split_at(at)
}

fn ordinal(number: usize) -> String {
    let end = match (number % 10, number % 100) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// Of several versions of one thing (`world-v9`, `world-v10`), the highest; `None` if they are not that.
pub(crate) fn newest<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let split = |name: &'a str| {
        let stem = name.trim_end_matches(|char: char| char.is_ascii_digit());
        Some((stem, name[stem.len()..].parse::<u64>().ok()?, name))
    };
    let mut names = names.map(split).collect::<Option<Vec<_>>>()?;
    names.sort_by_key(|(_, number, _)| *number);
    names.dedup();
    let (stem, _, last) = *names.last()?;
    (names.len() > 1 && names.iter().all(|(other, _, _)| *other == stem)).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(prefix: &str, dst: &str) -> Entry {
        Entry { prefix: prefix.into(), dst: dst.into(), exact: None }
    }

    #[test]
    fn a_split_with_a_failover_reads_as_it_is_drawn() {
        let bound = |id: &str| json!({ "addr": { "type": "bound", "addrs": [{ "ip": "127.0.0.1", "port": 1 }], "meta": {} }, "id": id, "path": "/" });
        let split = json!({ "prefix": "/host/world", "dst": "1 * /tmp/world-v2 & 9 * /tmp/world-v1" });
        let leaf = |version: &str| json!({ "type": "leaf", "path": format!("/#/io.l5d.fs/{version}"), "dentry": { "prefix": "/tmp", "dst": "/#/io.l5d.fs" }, "bound": bound(&format!("/#/io.l5d.fs/{version}")) });
        let branch = |version: &str| json!({ "type": "delegate", "path": format!("/tmp/{version}"), "dentry": split, "delegate": leaf(version) });
        let tree = json!({
            "type": "delegate", "path": "/svc/world", "delegate": {
                "type": "alt", "path": "/host/world", "dentry": { "prefix": "/svc", "dst": "/host" }, "alt": [
                    { "type": "union", "path": "/host/world", "dentry": split, "union": [
                        { "weight": 1.0, "tree": branch("world-v2") }, { "weight": 9.0, "tree": branch("world-v1") }] },
                    { "type": "neg", "path": "/srv/world", "dentry": { "prefix": "/host", "dst": "/srv" } },
                ] },
        });
        let tree = serde_json::from_value::<Node>(tree).unwrap();
        let entries = [
            entry("/host", "/srv"),
            entry("/svc", "/host"),
            entry("/host/world", "1 * /tmp/world-v2 & 9 * /tmp/world-v1"),
        ];
        let explained = Explained::new(&tree, &entries, &[entry("/tmp", "/#/io.l5d.fs")]);
        assert_eq!(explained.label(), "10% world-v2, 90% world-v1");
        assert_eq!(explained.goes.iter().map(|goes| goes.is_new).collect::<Vec<_>>(), [true, false]);
        let root = &explained.root;
        let shown = root.rows.iter().map(|row| (row.marked.as_str(), row.rest.as_str(), row.entry_number()));
        assert_eq!(shown.collect::<Vec<_>>(), [("", "/svc/world", None), ("/host", "/world", Some(2))]);
        let [union, failover] = &root.branches[..] else { panic!("{root:?}") };
        assert_eq!((union.is_dead, failover.is_dead), (false, true));
        assert_eq!(union.rows[0].tag.as_deref(), Some("1st"));
        let last = &union.branches[0].rows[1];
        assert_eq!((last.marked.as_str(), last.rest.as_str(), last.class), ("/#/io.l5d.fs", "/world-v2", "leaf"));
        assert!(matches!(last.by, By::Entry { is_override: true, number: None, .. }));
        let trace = tree.trace("/#/io.l5d.fs/world-v1").unwrap();
        assert_eq!(
            trace.used.iter().map(|entry| entry.prefix.as_str()).collect::<Vec<_>>(),
            ["/svc", "/host/world", "/tmp"]
        );
        assert_eq!(trace.unused, [(entry("/host", "/srv"), "an earlier alternative leads somewhere")]);
        assert!(tree.trace("/nobody").is_none());
    }

    #[test]
    fn a_name_that_goes_nowhere_says_why() {
        let neg = json!({ "type": "delegate", "path": "/svc/wrold", "delegate": { "type": "neg", "path": "/#/io.l5d.fs/wrold", "dentry": { "prefix": "/svc", "dst": "/#/io.l5d.fs" } } });
        let explained = Explained::new(&serde_json::from_value(neg).unwrap(), &[], &[]);
        assert_eq!(explained.nowhere.as_deref(), Some("The namer knows no /io.l5d.fs/wrold."));
        assert!(explained.goes.is_empty());
    }

    #[test]
    fn the_entry_of_a_transformation_is_found() {
        let cases = [
            ("/srv", "/#/fs", "/srv/world", "/#/fs/world", true),
            ("/*/x", "/y", "/srv/x/z", "/y/z", true),
            ("/srv/world/deep", "/#/fs", "/srv", "/#/fs", false),
            ("/srv", "/#/fs", "/srv/world", "/#/fs/other", false),
        ];
        for (prefix, dst, before, after, expected) in cases {
            assert_eq!(is_rewrite(&entry(prefix, dst), before, after), expected, "{prefix} => {dst}");
        }
    }

    #[test]
    fn only_versions_of_one_thing_have_a_newest() {
        let of = |names: &[&str]| newest(names.iter().copied());
        assert_eq!(of(&["world-v9", "world-v10"]).as_deref(), Some("world-v10"));
        assert_eq!(of(&["world-v1"]), None);
        assert_eq!(of(&["world-v1", "hello-v2"]), None);
        assert_eq!(of(&["world", "hello"]), None);
    }
}
