//! The state machine of one unit: what happens to it comes in as an [`Event`] with the time, what is to be done comes out
//! as a list of [`Effect`]s. It does nothing itself and knows no other unit; `system` tells it whether those that it
//! requires are ready. docs/transitions.md has every state with every event.
//!
//! ```text
//!             requirements ready            program runs           READY=1, answer, ...
//! Stopped -> Waiting -> Starting(Forking -> Sandboxing -> Readying) -> Running -> Stopping -> Stopped
//!               ^          |                                             |
//!               +-- Backoff <--------------- failed ---------------------+      Starting(Working -> Emptying) -> Done
//!                      |                                                           ^                              |
//!                      +-> Failed, when the window has no room for another start   +---------- timer -------------+
//! ```
//! Happy path of a service: Start, Spawned, Executed, Ready; then Stop, Exited, Emptied. Whatever the way a run ends, its
//! cgroup is killed and must be empty (`occupied` is false) before the next run may begin.
//! Failure paths: the helper cannot be forked, the sandbox cannot be built, the program ends or is not ready in time, it
//! is stuck while it runs: each leads through Backoff to another start or to Failed, with the stage at which it happened.

mod begin;
mod care;
mod end;
mod event;
mod record;
mod state;
mod step;

pub use event::{Effect, Event};
pub use record::Machine;
pub use state::{
    AfterStop, Desired, ExitStatus, Requirements, Stage, StartPhase, State, StopPhase,
};
