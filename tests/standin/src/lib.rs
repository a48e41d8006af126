//! A stand-in for the Mattermost server, for tests and for images built where the official release cannot be had.
//!
//! What it is: a small server, written from recordings of a real server's answers (`contract/`) and from the
//! vendor's public API documentation, that keeps its data in PostgreSQL and files on disk and answers what the
//! appliance relies on of API v4. It is packed like the release and goes through the same path.
//!
//! What it is not: Mattermost. It holds none of the vendor's code, no permissions scheme, no plugins, no calls,
//! no notifications, no import or export. Nobody should keep real conversations in it. Nothing in the product may
//! ask which of the two it runs.

pub mod api;
pub mod config;
pub mod faults;
pub mod hub;
pub mod ids;
pub mod layout;
pub mod listen;
pub mod logline;
pub mod mmctl;
pub mod model;
pub mod passwords;
pub mod release;
pub mod server;
pub mod store;
