//! Writes `appliance.toml`: what is not as by default, in the order of its documentation. Decides nothing.

use super::key::Secrecy;
use super::reader::File;
use super::{Seed, keys};

const HEAD: &str = "# What this machine is. Read at every boot; everything else is made from it.\n";

pub(super) fn text(seed: &Seed, file: File) -> String {
    let default = Seed::default();
    let mut out = HEAD.to_owned();
    let mut table = "";
    for key in keys::all() {
        let belongs = match key.secrecy {
            Secrecy::Public => true,
            Secrecy::Kept => file != File::Public,
            Secrecy::Once => file == File::Seed,
        };
        let value = key.value(seed).filter(|_| belongs);
        let Some(value) = value.filter(|value| key.value(&default).as_ref() != Some(value)) else {
            continue;
        };
        if key.table() != table {
            table = key.table();
            out.push_str(&format!("\n[{table}]\n"));
        }
        out.push_str(&format!("{} = {value}\n", key.name()));
    }
    out
}
