//! `/dtab/NS`: the entries, how a name is bound, the history; `/dtab/NS/explain` without the history.

use askama::Template;

use super::{Fleet, Followers, Lease, Revision, dtab_href};
use crate::diff::Diff;
use crate::explain::{Asked, Entry, newest};
use crate::parts::{Icon, Mark, width};
use crate::{Shell, format};

/// One namespace.
#[derive(Debug, Template)]
#[template(path = "control/dtab.html")]
pub struct DtabPage {
    pub shell: Shell,
    pub namespace: String,
    /// Newest first; the first is shown. Not empty.
    pub history: Vec<Revision>,
    /// There are revisions before these.
    pub has_more: bool,
    pub fleet: Fleet,
    /// Of this namespace.
    pub leases: Vec<Lease>,
    pub asked: Asked,
    /// The explanation alone, with the dtab that it was made under.
    pub is_explain: bool,
    /// What a form did or could not do.
    pub notice: Option<Notice>,
}

/// What became of a form.
#[derive(Debug, Clone)]
pub struct Notice {
    pub what: String,
    pub is_bad: bool,
}

/// One entry with what is known about it.
struct Line<'a> {
    number: usize,
    entry: &'a Entry,
    since: Option<&'a Revision>,
    lease: Option<&'a Lease>,
}

/// A branch of an entry's destination: its text, and its share if it is weighted.
struct Part {
    text: String,
    width: Option<String>,
    is_first: bool,
    is_new: bool,
}

impl DtabPage {
    fn current(&self) -> Option<&Revision> {
        self.history.first()
    }

    fn is_deleted(&self) -> bool {
        self.current().is_none_or(|current| current.action == "delete")
    }

    fn followers(&self) -> Followers {
        self.fleet.followers(&self.namespace)
    }

    fn href(&self) -> String {
        dtab_href(&self.namespace)
    }

    fn endpoint(&self) -> String {
        format!("/api/1/dtabs/{}", crate::web::segment(&self.namespace))
    }

    fn version(&self) -> &str {
        self.current().map_or("", |current| &current.version)
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let Some(current) = self.current() else { return Vec::new() };
        let line = |(at, entry)| Line {
            number: at + 1,
            entry,
            since: self.since(entry),
            lease: self.leases.iter().find(|lease| lease.entry == entry.prefix),
        };
        current.entries.iter().enumerate().map(line).collect()
    }

    /// The revision that put it there as it is; `None` if that was before what is known.
    fn since(&self, entry: &Entry) -> Option<&Revision> {
        let with = self.history.iter().take_while(|revision| revision.entries.contains(entry)).count();
        if with == self.history.len() && self.has_more {
            return None;
        }
        self.history.get(with.checked_sub(1)?)
    }

    /// Each with what it changed, and whether it can be put back.
    fn revisions(&self) -> Vec<(&Revision, Option<Diff>, bool)> {
        let revisions = self.history.iter().enumerate().map(|(at, revision)| {
            let before = self.history.get(at + 1);
            let diff = match before {
                Some(before) => Some(Diff::of(&before.entries, &revision.entries)),
                None if self.has_more => None,
                None => Some(Diff::of(&[], &revision.entries)),
            };
            (revision, diff, at > 0 && revision.action != "delete")
        });
        revisions.collect()
    }

    fn behind(&self) -> String {
        let routers = self.fleet.routers.iter().filter(|router| {
            router.namespaces.get(&self.namespace).is_some_and(|serves| !serves.current || !router.is_live())
        });
        routers.map(|router| router.router.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn notice_mark(&self, notice: &Notice) -> Mark {
        if notice.is_bad { Mark::new("failed", "bad", "Not done") } else { Mark::new("succeeded", "ok", "Done") }
    }
}

impl Line<'_> {
    /// The branches of a union with bars, anything else as it is.
    fn parts(&self) -> Vec<Part> {
        let shown = self.entry.shown();
        let texts = shown.split(" & ").collect::<Vec<_>>();
        let weight = |text: &&str| text.split_once(" * ").and_then(|(weight, _)| weight.parse::<f64>().ok());
        let weights = texts.iter().map(weight).collect::<Option<Vec<_>>>();
        // An alternative within a union has no share of its own.
        let is_union = texts.len() > 1 && !shown.contains(['|', '(']);
        let weights = weights.filter(|weights| is_union && weights.iter().sum::<f64>() > 0.0);
        let Some(weights) = weights else {
            return vec![Part { text: shown, width: None, is_first: true, is_new: false }];
        };
        let sum = weights.iter().sum::<f64>();
        let newest = newest(texts.iter().map(|text| format::tail(text)));
        let parts = texts.iter().zip(weights).enumerate();
        parts
            .map(|(at, (text, weight))| Part {
                text: (*text).to_owned(),
                width: Some(width(weight / sum)),
                is_first: at == 0,
                is_new: newest.as_deref() == Some(format::tail(text)),
            })
            .collect()
    }
}
