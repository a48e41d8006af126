//! Proofs in the DNS.
