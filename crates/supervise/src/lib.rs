//! Processes that outlive their supervisor: started detached, watched, restarted with the same
//! identity, adopted by process id and start time when a supervisor comes back.
//!
//! ```text
//! DIR/.lock               one supervisor at a time
//! DIR/NAME.json           what should run   (Spec)
//! DIR/NAME.state.json     what runs         (Running)
//! ```
//!
//! Files are replaced by rename. A process carries the name of its directory in its environment, so
//! that one whose supervisor died before it could write the state file is found all the same.
//! Not here: what the processes are, and who may reach them.

mod keeper;
mod kernel;
mod probe;
mod spawn;
mod spec;
mod supervisor;

pub use spec::{Ready, Running, Spec, SpecError};
pub use supervisor::{Error, Leave, Status, Supervisor, kill_recorded};
