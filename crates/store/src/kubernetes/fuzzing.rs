//! Doors for `fuzz/`, and for tests that go through them with less time; in no other build.

use std::sync::Arc;

use kube::core::DynamicObject;

use super::object;

/// An object of a cluster, as somebody else may have left it: it is a revision or has a reason why not, and what
/// we write over it reads back.
///
/// # Panics
/// If it does not.
pub fn object(json: &[u8]) {
    let Ok(found) = serde_json::from_slice::<DynamicObject>(json) else { return };
    let before = object::history(&found).into_iter().map(Arc::new).collect::<Vec<_>>();
    let revision = match object::revision(&found) {
        Ok(revision) => revision,
        Err(why) => return assert!(!why.is_empty()),
    };
    let written = object::written(Some(found), &revision, &before).expect("written");
    let text = serde_json::to_string(&written).expect("JSON");
    let again = serde_json::from_str::<DynamicObject>(&text).expect("an object");
    let read = object::revision(&again).expect("what we wrote");
    assert_eq!((&read.dtab, &read.author, &read.comment), (&revision.dtab, &revision.author, &revision.comment));
    // What is remembered is cut, never changed.
    for (kept, was) in object::history(&again).iter().zip(&before) {
        assert_eq!((&kept.dtab, kept.version), (&was.dtab, was.version));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_over_an_object_reads_back() {
        let seeds: [&[u8]; 1] = [include_bytes!("../../../../fuzz/seeds/store_object/dtab")];
        testkit::mutation::mutations(&seeds, 5_000).for_each(|bytes| super::object(&bytes));
    }
}
