//! What changed between two dtabs, entry by entry.

use askama::Template;
use askama::filters::HtmlSafe;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::explain::Entry;

/// Longer dtabs than this are compared as a whole: nobody reads ten thousand lines of a difference.
const MOST: usize = 2000;

/// Removed and added entries, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Template)]
#[template(
    source = r#"<div class="diff{% if is_boxed %} box{% endif %}">{% for (is_added, text) in lines %}<div class="{% if *is_added %}add{% else %}del{% endif %}"><span class="vh">{% if *is_added %}added: {% else %}removed: {% endif %}</span>{{ text }} ;</div>{% endfor %}{% if lines.is_empty() %}<div class="ctx">no entry changed</div>{% endif %}</div>"#,
    ext = "html"
)]
pub struct Diff {
    /// `true` is added.
    pub lines: Vec<(bool, String)>,
    pub is_boxed: bool,
}

impl HtmlSafe for Diff {}

impl Diff {
    pub fn of(before: &[Entry], after: &[Entry]) -> Diff {
        let ops = if before.len() + after.len() > MOST {
            let whole = DiffOp::Replace { old_index: 0, old_len: before.len(), new_index: 0, new_len: after.len() };
            vec![whole]
        } else {
            capture_diff_slices(Algorithm::Myers, before, after)
        };
        let mut lines = Vec::new();
        for op in ops.iter().filter(|op| !matches!(op, DiffOp::Equal { .. })) {
            lines.extend(before[op.old_range()].iter().map(|entry| (false, entry.text())));
            lines.extend(after[op.new_range()].iter().map(|entry| (true, entry.text())));
        }
        Diff { lines, is_boxed: false }
    }

    pub fn boxed(self) -> Diff {
        Diff { is_boxed: true, ..self }
    }

    /// `/host/world => /srv/world-v2`, or how many entries changed.
    pub(crate) fn in_words(&self) -> String {
        let added = self.lines.iter().filter(|(is_added, _)| *is_added).count();
        match self.lines.iter().find(|(is_added, _)| *is_added) {
            Some((_, text)) if added == 1 => text.clone(),
            _ => crate::format::counted(self.lines.len() as u64, "line") + " changed",
        }
    }

    /// The prefixes that it touches.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|(_, text)| text.split_once(" => ")).map(|(prefix, _)| prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtab(entries: &[&str]) -> Vec<Entry> {
        let entry = |text: &&str| {
            let (prefix, dst) = text.split_once(" => ").unwrap();
            Entry { prefix: prefix.into(), dst: dst.into(), exact: None }
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = dtab(&["/srv => /#/fs", "/host/world => /srv/v1", "/svc => /host"]);
        let after = dtab(&["/srv => /#/fs", "/host/world => /srv/v2", "/svc => /host", "/x => /y"]);
        let diff = Diff::of(&before, &after);
        let lines = [(false, "/host/world => /srv/v1"), (true, "/host/world => /srv/v2"), (true, "/x => /y")];
        assert_eq!(diff.lines, lines.map(|(is_added, text)| (is_added, text.to_owned())));
        assert_eq!(diff.prefixes().collect::<Vec<_>>(), ["/host/world", "/host/world", "/x"]);
        assert_eq!(diff.in_words(), "3 lines changed");
        assert!(Diff::of(&before, &before).lines.is_empty());
    }
}
