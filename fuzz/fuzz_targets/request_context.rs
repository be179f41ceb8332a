//! What a router reads from a request's headers, and writes of it: names, dtabs, deadlines, traces in all forms,
//! `Via`, `Forwarded`, the access log's line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| proxy::fuzzing::request(bytes));
