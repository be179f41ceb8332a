//! Properties of values: what is shown reads back, simplifying changes no meaning, the index changes no answer.

#![allow(clippy::unwrap_used)]

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use names::{Dentry, Dtab, NameTree, Path, Prefix, Weighted};
use proptest::{collection::vec, prelude::*};

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-c]".prop_map(String::into_bytes),
        1 => "[a-z0-9_:.#$%-]{1,5}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..4),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    vec(label(), 0..5).prop_map(|labels| Path::from_labels(labels).unwrap())
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(1.0),
        Just(0.0),
        Just(0.005),
        (0u32..10_000).prop_map(|n| f64::from(n) / 1000.0),
        any::<f64>().prop_map(f64::abs).prop_filter("finite", |weight| weight.is_finite()),
    ]
}

/// Trees as the parser makes them: alternates and unions have at least two branches.
fn tree() -> impl Strategy<Value = NameTree<Path>> {
    let end = prop_oneof![
        4 => path().prop_map(NameTree::Leaf),
        1 => Just(NameTree::Neg),
        1 => Just(NameTree::Fail),
        1 => Just(NameTree::Empty),
    ];
    end.prop_recursive(4, 24, 4, |inner| {
        let branch = (weight(), inner.clone()).prop_map(|(weight, tree)| Weighted { weight, tree });
        prop_oneof![vec(inner, 2..4).prop_map(NameTree::Alt), vec(branch, 2..4).prop_map(NameTree::Union)]
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    vec(prop_oneof![4 => label().prop_map(Some), 1 => Just(None)], 0..4).prop_map(|elems| {
        let shown = elems.iter().map(|elem| match elem {
            None => "/*".to_owned(),
            Some(label) => Path::from_labels([label]).unwrap().show(),
        });
        let text: String = shown.collect();
        Prefix::read(if text.is_empty() { "/" } else { &text }).unwrap()
    })
}

fn dtab(entries: std::ops::Range<usize>) -> impl Strategy<Value = Dtab> {
    let entry = (prefix(), tree()).prop_map(|(prefix, dst)| Dentry { prefix, dst });
    vec(entry, entries).prop_map(Dtab::new)
}

/// What the tree can answer, with weights left aside: the original calls this evaluation-equivalent.
fn answers(tree: &NameTree<Path>) -> Option<Vec<Path>> {
    let mut leaves: Vec<Path> = tree.eval()?.into_iter().cloned().collect();
    leaves.sort();
    Some(leaves)
}

fn unweighted(tree: &NameTree<Path>) -> NameTree<Path> {
    match tree {
        NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(unweighted).collect()),
        NameTree::Union(branches) => NameTree::Union(
            branches.iter().map(|branch| Weighted { weight: 1.0, tree: unweighted(&branch.tree) }).collect(),
        ),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shown_path_reads_back(path in path()) {
        prop_assert_eq!(Path::read(&path.show()).unwrap(), path);
    }

    #[test]
    fn a_tree_shown_exactly_reads_back(tree in tree()) {
        prop_assert_eq!(NameTree::read(&tree.show_exact()).unwrap(), tree);
    }

    #[test]
    fn showing_loses_only_digits_of_weights(tree in tree()) {
        prop_assert_eq!(unweighted(&NameTree::read(&tree.to_string()).unwrap()), unweighted(&tree));
    }

    #[test]
    fn a_dtab_shown_exactly_reads_back(dtab in dtab(0..6)) {
        prop_assert_eq!(Dtab::read(&dtab.show_exact()).unwrap(), dtab);
    }

    #[test]
    fn simplifying_changes_no_answer_and_comes_to_an_end(tree in tree()) {
        let simplified = tree.simplified();
        prop_assert_eq!(answers(&simplified), answers(&tree));
        prop_assert_eq!(simplified.simplified(), simplified);
    }

    #[test]
    fn a_large_dtab_answers_as_a_naive_reading_of_its_entries(dtab in dtab(0..60), path in path()) {
        let wanted: Vec<usize> = (0..dtab.entries().len()).rev()
            .filter(|number| dtab.entries()[*number].prefix.matches(&path)).collect();
        let got: Vec<usize> = dtab.matching(&path).into_iter().map(|(number, _)| number).collect();
        prop_assert_eq!(got, wanted);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn tables_put_together_answer_as_one(parts in vec(dtab(0..30), 1..4), large in dtab(0..3), path in path()) {
        // Repeated, so that it is large enough to be shared instead of copied.
        let base: Vec<Dentry> = parts[0].entries().iter().cycle().take(if parts[0].is_empty() { 0 } else { 300 }).cloned().collect();
        let all: Vec<Dentry> = std::iter::once(base.as_slice()).chain(parts[1..].iter().map(Dtab::entries))
            .chain([large.entries()]).flatten().cloned().collect();
        let whole = parts[1..].iter().chain([&large]).fold(Dtab::new(base), |dtab, more| dtab.concat(more));
        let flat = Dtab::new(all);
        let places = |dtab: &Dtab| dtab.matching(&path).into_iter().map(|(place, _)| place).collect::<Vec<_>>();
        prop_assert_eq!(places(&whole), places(&flat));
        prop_assert_eq!(whole.lookup(&path), flat.lookup(&path));
        prop_assert_eq!((whole.len(), whole.last()), (flat.len(), flat.last()));
        prop_assert_eq!(&whole, &flat);
        let hash = std::hash::RandomState::new();
        prop_assert_eq!(hash.hash_one(&whole), hash.hash_one(&flat));
        let other = whole.concat(&Dtab::read("/other=>/dtab").unwrap());
        prop_assert!(hash.hash_one(&other) != hash.hash_one(&whole) && other != whole);
        prop_assert_eq!(whole.to_string(), flat.to_string());
    }

    #[test]
    fn what_no_changed_entry_begins_means_what_it_meant(
        old in dtab(0..90), edits in vec((any::<prop::sample::Index>(), 0u8..4, dtab(1..2)), 0..6), path in path(),
    ) {
        let mut entries = old.entries().to_vec();
        for (place, what, fresh) in edits {
            let place = if entries.is_empty() { 0 } else { place.index(entries.len()) };
            match what {
                0 if !entries.is_empty() => drop(entries.remove(place)),
                1 if !entries.is_empty() => entries[place] = fresh.entries()[0].clone(),
                2 if !entries.is_empty() => {
                    let moved = entries.remove(place);
                    entries.insert(0, moved);
                }
                _ => entries.insert(place, fresh.entries()[0].clone()),
            }
        }
        let new = Dtab::new(entries);
        if !old.changed(&new).iter().any(|prefix| prefix.matches(&path)) {
            prop_assert_eq!(old.lookup(&path), new.lookup(&path));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_is_an_error_and_no_more(text in "[/a*=>;|&()!~$#\\\\x0-9. é\n]{0,40}") {
        let _ = Path::read(&text);
        let _ = NameTree::read(&text);
        let _ = Prefix::read(&text);
        if let Ok(dtab) = Dtab::read(&text) {
            prop_assert_eq!(Dtab::read(&dtab.show_exact()).unwrap(), dtab);
        }
    }
}

#[test]
fn any_nesting_is_an_error_or_a_tree() {
    for depth in [10, 199, 200, 201, 100_000] {
        let text = format!("{}/a{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(NameTree::read(&text).is_ok(), depth <= 200, "{depth}");
    }
}

#[test]
fn a_lookup_in_two_hundred_thousand_entries_does_not_read_them_all() {
    let entries = (0..200_000).map(|n| Dentry::read(&format!("/svc/s{n} => /srv/s{n}")).unwrap());
    let dtab = Dtab::new(entries.collect());
    let path = |n: usize| Path::read(&format!("/svc/s{n}/x")).unwrap();
    dtab.lookup(&path(0));
    let paths: Vec<Path> = (0..10_000).map(|n| path(n * 20)).collect();
    let begin = Instant::now();
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(dtab.lookup(path).to_string(), format!("/srv/s{}/x", number * 20));
    }
    // Reading all would be two thousand million comparisons.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// As the default identifier makes them: what tells them apart comes late.
#[test]
fn neither_a_long_common_beginning_nor_a_wildcard_makes_a_lookup_slow() {
    let entry = |n: usize| match n % 10 {
        0 => Dentry::read(&format!("/http/1.1/*/s{n} => /srv/any{n}")).unwrap(),
        _ => Dentry::read(&format!("/http/1.1/GET/s{n} => /srv/s{n}")).unwrap(),
    };
    let dtab = Dtab::new((0..50_000).map(entry).collect());
    let local = Dtab::read("/http/1.1/GET/s40 => /local").unwrap();
    let path = |n: usize| Path::read(&format!("/http/1.1/GET/s{n}/x")).unwrap();
    dtab.lookup(&path(0));
    let begin = Instant::now();
    for number in (0..50_000).step_by(20) {
        let shown = dtab.concat(&local).lookup(&path(number)).to_string();
        let expected = format!("/srv/any{number}/x");
        assert_eq!(shown, if number == 40 { format!("/local/x | {expected}") } else { expected });
        assert_eq!(dtab.lookup(&path(number + 1)).to_string(), format!("/srv/s{}/x", number + 1));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn of_a_large_table_only_what_differs_has_changed() {
    let entries = || (0..5_000).map(|n| Dentry::read(&format!("/svc/s{n} => /srv/s{n}")).unwrap()).collect::<Vec<_>>();
    let old = Dtab::new(entries());
    let changed = |new: Vec<Dentry>| {
        let mut shown: Vec<String> = old.changed(&Dtab::new(new)).iter().map(Prefix::to_string).collect();
        shown.sort();
        shown.dedup();
        shown
    };
    assert_eq!(changed(entries()), Vec::<String>::new());
    let mut edited = entries();
    edited[7] = Dentry::read("/svc/s7 => /srv/other").unwrap();
    edited[4_000] = Dentry::read("/svc/*/x => /srv/other").unwrap();
    assert_eq!(changed(edited), ["/svc/*/x", "/svc/s4000", "/svc/s7"]);
    let mut moved = entries();
    let first = moved.remove(3);
    moved.insert(3_000, first);
    moved.remove(3_500);
    moved.insert(10, Dentry::read("/svc => !").unwrap());
    moved.push(Dentry::read("/svc => !").unwrap());
    assert_eq!(changed(moved), ["/svc", "/svc/s3", "/svc/s3500"]);
}
