//! `esp`: makes the boot partition hold what is wanted, in an order in which a power cut at any point leaves something that boots.
