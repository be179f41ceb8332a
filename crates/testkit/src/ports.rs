//! Port offsets for demos that run side by side, in this test process and in others.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

/// An offset that nobody else has while this lives.
pub struct Offset {
    pub value: u16,
    _lock: File,
}

/// All demo ports with these offsets stay below the range of outgoing connections.
const FIRST: u16 = 6000;
const STEP: u16 = 61;
const SLOTS: u16 = 270;

/// Takes an offset such that all of `ports` moved by it are free now.
pub fn take(ports: &[u16]) -> Offset {
    let start = (std::process::id() % u32::from(SLOTS)) as u16;
    for n in 0..SLOTS {
        let value = FIRST + STEP * ((start + n) % SLOTS);
        let path = std::env::temp_dir().join(format!("switchyard-test-ports-{value}"));
        let Ok(lock) = File::create(path) else {
            continue;
        };
        if lock.try_lock().is_err() {
            continue;
        }
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port + value)).is_ok();
        if ports.iter().all(is_free) {
            return Offset { value, _lock: lock };
        }
    }
    panic!("no free range of ports");
}
