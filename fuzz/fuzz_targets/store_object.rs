//! Dtabs as objects of a cluster: whatever somebody wrote there is a revision, or has a reason why not, and what is
//! written over it reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| store::fuzzing::object(bytes));
