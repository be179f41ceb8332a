//! Paths: no panic; what is shown reads back as the same path, and shows the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use names::{Path, Prefix};

fuzz_target!(|bytes: &[u8]| {
    // Any labels can be shown, also those that no text had.
    if let Some(path) = Path::from_labels(bytes.split(|byte| *byte == b'/').filter(|label| !label.is_empty())) {
        assert_eq!(Path::read(&path.show()).as_ref(), Ok(&path));
        for n in 0..=path.len() + 1 {
            assert_eq!(path.take(n).concat(&path.drop_first(n)), path);
            assert!(path.starts_with(&path.take(n)));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = Path::read(text) {
        let shown = path.show();
        let again = Path::read(&shown);
        assert_eq!(again.as_ref(), Ok(&path));
        assert_eq!(again.map(|path| path.show()), Ok(shown));
        assert!(path.labels().iter().all(|label| !label.is_empty()));
        // Every path is a prefix, of itself at least.
        let prefix = Prefix::read(text).expect("a path is a prefix");
        assert!(prefix.matches(&path));
    }
    if let Ok(prefix) = Prefix::read(text) {
        assert_eq!(Prefix::read(&prefix.to_string()), Ok(prefix));
    }
});
