//! What the tests of the binary share. (A `mod.rs`, because Cargo takes `tests/common.rs` for a test.)
#![allow(dead_code)] // Each test file uses its part.

pub mod demo;

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::process::Process;

/// Long enough for a debug binary on a busy machine; nothing waits for it to pass.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Our binary under its own name.
pub fn switchyard() -> Command {
    Command::new(env!("CARGO_BIN_EXE_switchyard"))
}

/// A control plane with a store in memory, on free ports.
pub struct Namerd {
    /// `http://127.0.0.1:PORT`
    pub api: String,
    process: Process,
}

impl Namerd {
    pub fn with_namespaces(namespaces: &Value) -> Namerd {
        Namerd::with(json!({
            "admin": { "port": 0 },
            "storage": { "kind": "io.l5d.inMemory", "namespaces": namespaces },
            "interfaces": [{ "kind": "io.l5d.httpController", "port": 0 }],
        }))
    }

    pub fn with(document: Value) -> Namerd {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("namerd.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let process = Process::start(switchyard().arg("namerd").arg(&file));
        let line = process.line("serving io.l5d.httpController on ", LIMIT);
        let api = line.rsplit(" on ").next().unwrap().trim().to_owned();
        Namerd { api: format!("http://{api}"), process }
    }
}
