//! What the tests of the control plane share. (A `mod.rs`, because Cargo takes `tests/common.rs` for a test.)
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part.

pub mod router;
pub mod stream;

use std::time::Duration;

use control::{Config, Server};
use serde_json::{Value, json};
use testkit::http::{self, Answer};

/// Long enough for a debug binary on a busy machine; nothing waits for it to pass.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A control plane in this process, on free ports, with a runtime of its own.
pub struct Namerd {
    /// `http://127.0.0.1:PORT`
    pub api: String,
    pub admin: String,
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
}

impl Namerd {
    pub fn with_namespaces(namespaces: Value) -> Namerd {
        Namerd::start(json!({ "kind": "io.l5d.inMemory", "namespaces": namespaces }), json!([]), 0)
    }

    /// A store on disk at `file`.
    pub fn on_disk(file: &std::path::Path, port: u16) -> Namerd {
        Namerd::start(json!({ "kind": "io.switchyard.sqlite", "path": file }), json!([]), port)
    }

    pub fn start(storage: Value, namers: Value, port: u16) -> Namerd {
        Namerd::start_with(storage, namers, port, |_| {})
    }

    pub fn start_with(storage: Value, namers: Value, port: u16, change: impl FnOnce(&mut Config)) -> Namerd {
        let document = json!({
            "admin": { "port": 0 },
            "storage": storage,
            "namers": namers,
            "interfaces": [{ "kind": "io.l5d.httpController", "port": port }],
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = Config::read(document).unwrap();
        change(&mut config);
        let server = runtime.block_on(Server::start(config)).unwrap();
        Namerd {
            api: format!("http://{}", server.interfaces()[0]),
            admin: format!("http://{}", server.admin()),
            runtime,
            server: Some(server),
        }
    }

    pub fn port(&self) -> u16 {
        self.api.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn authority(&self) -> &str {
        self.api.trim_start_matches("http://")
    }

    pub fn get(&self, target: &str) -> Answer {
        http::get(&format!("{}{target}", self.api), &[])
    }

    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let url = format!("{}{target}", self.api);
        http::request(method, &url, headers, Some(body.as_bytes())).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// Puts a dtab; the version that it got.
    #[track_caller]
    pub fn put(&self, namespace: &str, dtab: &str) -> String {
        let answer =
            self.send("PUT", &format!("/api/1/dtabs/{namespace}"), &[("Content-Type", "application/dtab")], dtab);
        assert_eq!(answer.status, 204, "{}", answer.text());
        answer.header("etag").unwrap().to_owned()
    }

    pub fn delete(&self, namespace: &str) {
        assert_eq!(self.send("DELETE", &format!("/api/1/dtabs/{namespace}"), &[], "").status, 204);
    }

    pub fn stop(mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.stop(Some(Duration::from_secs(5))));
    }
}
