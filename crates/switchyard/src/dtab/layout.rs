//! How a dtab stands on a page: the original's columns.

use super::remote::{Entry, VersionedDtab};

/// The version line, if there is a version, and one line for each entry.
pub fn pretty(dtab: &VersionedDtab) -> String {
    let mut text = String::new();
    if !dtab.version.is_empty() {
        text.push_str(&format!("# version {}\n", dtab.version));
    }
    text.push_str(&lines(&dtab.dtab));
    text
}

/// Entries with their arrows in one column. Widths are bytes, as in the original.
pub fn lines(entries: &[Entry]) -> String {
    let longest = entries.iter().map(|entry| entry.prefix.len()).max().unwrap_or(0);
    entries
        .iter()
        .map(|Entry { prefix, dst }| {
            let width = longest - prefix.len() + 2;
            format!("{prefix}  {:>width$} {dst} ;\n", "=>")
        })
        .collect()
}

/// All on one line, no version.
pub fn compact(entries: &[Entry]) -> String {
    entries.iter().map(|Entry { prefix, dst }| format!("{prefix}=>{dst};")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_stand_in_one_column() {
        let entries = [("/foo", "/bar"), ("/foo/bar/baz", "/bah")]
            .map(|(prefix, dst)| Entry { prefix: prefix.into(), dst: dst.into() });
        assert_eq!(lines(&entries), "/foo          => /bar ;\n/foo/bar/baz  => /bah ;\n");
        assert_eq!(compact(&entries), "/foo=>/bar;/foo/bar/baz=>/bah;");
    }
}
