//! Every key of `appliance.toml`, in the order of its documentation; what is told about them is made from here.
//!
//! The keys of one table stand together, those of the top first, so that what is written in this order is valid.

mod edge;
mod machine;
mod tls;

use super::key::{Key, Secrecy};
use super::reader::File;

const TABLES: [&[Key]; 4] = [machine::KEYS, tls::KEYS, edge::KEYS, machine::UPDATE];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

pub(super) fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// Whether something stands below it.
pub(super) fn is_table(path: &str) -> bool {
    all().any(|key| below(path, key.table()).is_some())
}

/// What may stand in a table, for whoever has written something else there.
pub(super) fn allowed_in(table: &str, file: File) -> String {
    let mut names: Vec<String> = all()
        .filter(|key| key.table() == table)
        .filter(|key| key.secrecy != Secrecy::Once || file == File::Seed)
        .map(|key| key.name().to_owned())
        .collect();
    for key in all() {
        let Some(rest) = below(table, key.table()).filter(|rest| !rest.is_empty()) else {
            continue;
        };
        let child = rest.split('.').next().unwrap_or_default();
        let name = match table {
            "" => format!("[{child}]"),
            table => format!("[{table}.{child}]"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// What follows in `path` after a table's name; empty for the table itself.
pub(super) fn below<'p>(table: &str, path: &'p str) -> Option<&'p str> {
    match table {
        "" => Some(path),
        table => match path.strip_prefix(table)? {
            "" => Some(""),
            rest => rest.strip_prefix('.'),
        },
    }
}
