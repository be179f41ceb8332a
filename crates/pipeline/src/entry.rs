//! The one entry of a dtab that a deploy edits. Pure.

use names::{Dentry, Dtab, NameTree, Path, Prefix};

/// What a dtab has under the deploy's prefix.
#[derive(Debug, PartialEq)]
pub(crate) enum Entry<'a> {
    None,
    One(&'a NameTree<Path>),
    /// More than one: only the last wins, so editing either would be wrong.
    Many(String),
}

pub(crate) fn find<'a>(dtab: &'a Dtab, entry: &str) -> Entry<'a> {
    let wanted = Prefix::read(entry).ok();
    let found: Vec<&Dentry> = dtab.entries().iter().filter(|dentry| Some(&dentry.prefix) == wanted.as_ref()).collect();
    match found.as_slice() {
        [] => Entry::None,
        [one] => Entry::One(&one.dst),
        many => {
            let all: Vec<String> = many.iter().map(|dentry| dentry.dst.show_exact()).collect();
            Entry::Many(all.join(&format!(" ; {entry} => ")))
        }
    }
}

/// The same dtab with another right side for `entry`; `None` if `dst` is no name tree.
pub(crate) fn with(dtab: &Dtab, entry: &str, dst: &str) -> Option<Dtab> {
    let replacement = Dentry::read(&format!("{entry} => {dst}")).ok()?;
    let entries = dtab.entries().iter().map(|dentry| match dentry.prefix == replacement.prefix {
        true => replacement.clone(),
        false => dentry.clone(),
    });
    Some(Dtab::new(entries.collect()))
}

/// Whether the tree is what this text says, however it is written.
pub(crate) fn is(tree: &NameTree<Path>, text: &str) -> bool {
    Dentry::read(&format!("/x => {text}")).is_ok_and(|dentry| dentry.dst == *tree)
}

/// The first entry whose right side names `version`, and that right side.
pub(crate) fn user_of(dtab: &Dtab, version: &str) -> Option<(String, String)> {
    let user = dtab.entries().iter().find(|dentry| labels(&dentry.dst).iter().any(|label| label == version))?;
    Some((user.prefix.to_string(), user.dst.show_exact()))
}

/// All labels that right sides name.
pub(crate) fn all_labels(dtab: &Dtab) -> Vec<String> {
    dtab.entries().iter().flat_map(|dentry| labels(&dentry.dst)).collect()
}

fn labels(tree: &NameTree<Path>) -> Vec<String> {
    let mut labels = Vec::new();
    tree.map(&mut |path| {
        labels.extend(path.labels().iter().map(|label| String::from_utf8_lossy(label).into_owned()));
    });
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtab(text: &str) -> Dtab {
        Dtab::read(text).unwrap()
    }

    #[test]
    fn the_one_entry_is_replaced_and_nothing_else() {
        let before = dtab("/srv=>/#/fs;/host/world=>/srv/world-v1;/host=>/srv;/x=>0.125*/a & 3*/b");
        let after = with(&before, "/host/world", "1 * /tmp/world-v2 & 9 * /tmp/world-v1").unwrap();
        let expected = "/srv=>/#/fs;/host/world=>/tmp/world-v2 & 9*/tmp/world-v1;/host=>/srv;/x=>0.125*/a & 3*/b";
        assert_eq!(after.show_exact(), expected);
        let Entry::One(tree) = find(&after, "/host/world") else { panic!("one entry") };
        assert!(is(tree, "1 * /tmp/world-v2 & 9 * /tmp/world-v1"));
        assert!(is(tree, "/tmp/world-v2 & 9.0*/tmp/world-v1"));
        assert!(!is(tree, "/tmp/world-v2 & 8*/tmp/world-v1"));
        assert_eq!(with(&before, "/host/world", "no tree"), None);
    }

    #[test]
    fn no_entry_and_two_entries_are_told_apart() {
        assert_eq!(find(&dtab("/a=>/b"), "/host/world"), Entry::None);
        let two = dtab("/host/world=>/srv/world-v1;/host/world=>/srv/world-v2");
        assert_eq!(find(&two, "/host/world"), Entry::Many("/srv/world-v1 ; /host/world => /srv/world-v2".to_owned()));
    }

    #[test]
    fn whoever_names_a_version_is_found_by_whole_labels() {
        let dtab = dtab("/a=>/srv/world-v11;/b=>/x | 2*/y & 3*/tmp/world-v1/z");
        assert_eq!(user_of(&dtab, "world-v1").unwrap().0, "/b");
        assert_eq!(user_of(&dtab, "world-v11").unwrap().0, "/a");
        assert_eq!(user_of(&dtab, "world-v2"), None);
    }
}
