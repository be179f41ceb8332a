//! The router's document: whatever JSON it is, reading it ends in a config or in problems, each with
//! a text; never in both, never in neither.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    match proxy::config::read(&document).finish([]) {
        Ok(config) => assert!(!config.settings.routers.is_empty()),
        Err(problems) => {
            assert!(!problems.is_empty(), "{document}");
            assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
    }
});
