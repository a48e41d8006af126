//! The update bundle: what it holds, who signed it, and reading it in one pass without trusting a byte of it. Writes no slot, asks no network:
//! bytes come from a [`std::io::Read`], verified ones go to whoever asked.

pub mod manifest;
