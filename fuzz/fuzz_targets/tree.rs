//! Name trees: no panic; shown with every digit they read back the same; simplifying keeps what
//! they evaluate to, and has nothing left to do the second time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use names::NameTree;

fuzz_target!(|text: &str| {
    let Ok(tree) = NameTree::read(text) else { return };
    let shown = tree.show_exact();
    let again = NameTree::read(&shown);
    assert_eq!(again.as_ref(), Ok(&tree), "{shown}");
    // The original's form keeps two decimals of a weight: after that it is stable.
    let rounded = NameTree::read(&tree.to_string()).expect("what is shown reads");
    assert_eq!(NameTree::read(&rounded.to_string()).as_ref(), Ok(&rounded));

    let simplified = tree.simplified();
    assert_eq!(simplified.simplified(), simplified);
    assert_eq!(NameTree::read(&simplified.show_exact()).as_ref(), Ok(&simplified));
    let failed = |tree: &NameTree<_>| tree.eval().is_none();
    assert_eq!(failed(&simplified), failed(&tree), "{shown} and {}", simplified.show_exact());
    if let (Some(one), Some(other)) = (tree.eval(), simplified.eval()) {
        assert_eq!(one, other, "{shown}");
    }
});
