//! Everything about certificates: which one a connection gets, where they come from, when they are made anew.

pub mod acme;
pub mod certificates;
pub mod challenges;
mod constraints;
mod fixed;
mod internal;
pub mod report;
pub mod serving;
mod store;
mod throwaway;

pub use internal::CertificateError;
