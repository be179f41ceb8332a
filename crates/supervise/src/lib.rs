//! Processes that outlive their supervisor: started detached, watched, restarted with the same
//! identity, adopted by process id and start time when a supervisor comes back.
//!
//! One directory, one supervisor (a lock says so). In it, per process, `NAME.json` is the [`Spec`]
//! (what should run) and `NAME.state.json` the [`Running`] (what runs). Both are replaced by rename.
//! Not here: what the processes are, and who may reach them.

mod spec;
mod supervisor;

pub use spec::{Ready, Running, Spec, SpecError};
pub use supervisor::{Error, Leave, Status, Supervisor};
