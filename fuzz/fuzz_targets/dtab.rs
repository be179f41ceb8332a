//! Dtabs: no panic; read → show → read is stable; the index of a large table finds what reading all
//! of it finds. The input is a dtab, optionally behind a path and a line feed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use names::{Dentry, Dtab, NameTree, Path};

fuzz_target!(|text: &str| {
    let (path, text) = match text.split_once('\n') {
        Some((path, rest)) if path.starts_with('/') => (Path::read(path).unwrap_or_else(|_| Path::empty()), rest),
        _ => (Path::empty(), text),
    };
    let Ok(dtab) = Dtab::read(text) else { return };
    let shown = dtab.show_exact();
    let again = Dtab::read(&shown);
    assert_eq!(again.as_ref(), Ok(&dtab), "{shown}");
    assert_eq!(again.map(|dtab| dtab.show_exact()), Ok(shown));
    assert!(Dtab::read(&dtab.to_string()).is_ok(), "{dtab}");
    for entry in dtab.entries() {
        assert_eq!(Dentry::read(&format!("{}=>{}", entry.prefix, entry.dst.show_exact())).as_ref(), Ok(entry));
    }
    assert_eq!(dtab.simplified().simplified(), dtab.simplified());

    let matching = |dtab: &Dtab| dtab.matching(&path).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    let by_reading: Vec<usize> =
        (0..dtab.entries().len()).rev().filter(|number| dtab.entries()[*number].prefix.matches(&path)).collect();
    assert_eq!(matching(&dtab), by_reading);
    // Long enough for the index, with the same entries behind others that never match.
    let other = Dtab::read(&"/never/matches=>!;".repeat(20)).expect("a dtab");
    let indexed = other.concat(&dtab);
    if !path.starts_with(&Path::read("/never/matches").expect("a path")) {
        assert_eq!(matching(&indexed), by_reading.iter().map(|number| number + 20).collect::<Vec<_>>());
        assert_eq!(indexed.lookup(&path), dtab.lookup(&path));
    }
    if by_reading.is_empty() {
        assert_eq!(dtab.lookup(&path), NameTree::Neg);
    }
});
