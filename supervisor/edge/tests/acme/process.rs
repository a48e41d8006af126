//! The edge as a process.
