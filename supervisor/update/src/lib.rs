//! What the one-shot units of an update do. Each reads its request, does one thing, and leaves a result; none decides what comes next.

pub mod copy;
pub mod drop;
pub mod esp;
pub mod exchange;
pub mod install;
pub mod look;
pub mod tree;
