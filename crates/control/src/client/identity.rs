//! Who follows, and how it takes its leave.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A router, as the fleet shows it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The router's label, `outgoing`.
    pub router: String,
    /// The process, `host:pid`: unique among all routers of a control plane.
    pub process: String,
    /// Base URL of its admin server, `http://127.0.0.1:9990`.
    pub admin: Option<String>,
    /// Shared by all routers of a process.
    pub farewell: Farewell,
}

impl Identity {
    /// A router of this process.
    pub fn of_this_process(router: &str, admin: Option<String>, farewell: &Farewell) -> Identity {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost");
        Identity {
            router: router.to_owned(),
            process: format!("{host}:{}", std::process::id()),
            admin,
            farewell: farewell.clone(),
        }
    }
}

/// Lets a process that ends say so on all its follow streams, so that nobody waits for it. What is
/// bound stays bound and is not updated any more.
#[derive(Clone, Debug, Default)]
pub struct Farewell {
    pub(super) said: CancellationToken,
    pub(super) streams: TaskTracker,
}

impl Farewell {
    /// Says goodbye, and waits until it is on its way, at most `within`. Call it when the data plane has
    /// drained. False if some stream could not.
    pub async fn say(&self, within: Duration) -> bool {
        self.said.cancel();
        self.streams.close();
        tokio::time::timeout(within, self.streams.wait()).await.is_ok()
    }
}
