//! What `namerctl` reads and writes: its config files, and dtabs as Go writes them, which any JSON reader reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remote::Entry;

#[path = "../../crates/switchyard/src/dtab/config_file.rs"]
#[allow(dead_code)]
mod config_file;
#[path = "../../crates/switchyard/src/dtab/go_json.rs"]
mod go_json;

/// As in the binary.
mod remote {
    #[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
    pub struct Entry {
        #[serde(default)]
        pub prefix: String,
        #[serde(default)]
        pub dst: String,
    }

    #[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
    pub struct VersionedDtab {
        #[serde(default)]
        pub version: String,
        #[serde(default)]
        pub dtab: Vec<Entry>,
    }
}

fuzz_target!(|text: &str| {
    for ending in ["json", "yaml", "toml", "hcl", "properties"] {
        if let Ok(Some(url)) = config_file::value(text, ending) {
            assert!(url.len() <= text.len() * 4);
        }
    }
    let dtab = serde_json::from_str::<remote::VersionedDtab>(text).unwrap_or_else(|_| remote::VersionedDtab {
        version: text.to_owned(),
        dtab: text.lines().map(|line| Entry { prefix: line.to_owned(), dst: text.to_owned() }).take(3).collect(),
    });
    let shown = go_json::versioned(&dtab);
    assert_eq!(serde_json::from_str::<remote::VersionedDtab>(&shown).expect("JSON"), dtab, "{shown}");
    assert_eq!(serde_json::from_str::<Vec<String>>(&go_json::strings(&[text.to_owned()])).expect("JSON"), [text]);
});
