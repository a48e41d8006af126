//! The one-shot programs of the first minutes: reading a seed, rendering the configuration, making the database, refusing
//! newer data, making the first administrator. One room for each; `main` only chooses.
//!
//! Every one of them may be cut off at any point and be run again. What a valid configuration is, what the files say and
//! which data may be used is decided in `atalaya-core`; here it is carried out. No secret is ever printed or part of an
//! error: not the password of a request, not a token of an answer.

pub mod administrator;
pub mod first_login;
pub mod initdb;
pub mod local;
pub mod machine;
pub mod pg_upgrade;
pub mod places;
pub mod random;
pub mod render;
pub mod seed;
pub mod version_gate;
