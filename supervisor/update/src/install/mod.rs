//! `install`: streams a bundle to the slot that is not running, every byte verified before it counts.
