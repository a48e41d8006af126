//! Tests of the whole: the image in a virtual machine, seen from outside as a user and an administrator see it.
//!
//! The tests themselves are in `tests/`; here is what they are written with. Nothing in here knows how the image is
//! built or how the supervisor works inside. A missing image is a failure with a message, never a skip.

pub mod aftermath;
pub mod appliance;
pub mod authority;
pub mod browser;
pub mod client;
pub mod confined;
pub mod disk;
pub mod download;
pub mod inside;
pub mod place;
pub mod story;
pub mod stream;
pub mod updating;
pub mod workshop;
