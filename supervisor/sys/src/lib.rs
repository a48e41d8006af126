//! The only crate with unsafe.
#![allow(unsafe_code)]
