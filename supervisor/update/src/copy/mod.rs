//! `copy`: the next generation as a reflink copy of the present one. Refuses where the database was not shut down, or where space may run out.
