//! Which kernel modules the initrd carries and in which order stage 1 loads them: dependencies and soft dependencies first.
//! Pure: works on the text of depmod's files.

use std::collections::{BTreeMap, BTreeSet};

/// What a machine may need to reach its disk and to check it. Missing hardware makes a module fail to load, which stage 1
/// passes over.
pub const WANTED: [&str; 41] = [
    // the watchdog first: a hang from here on ends in a reboot
    "i6300esb",
    "lpc_ich",
    "i2c_i801",
    "iTCO_wdt",
    "sp5100_tco",
    "softdog",
    // the verified root; before the disks, because stage 1 stops loading when it has found its own
    "sha256",
    "sha256-ssse3",
    "dm-mod",
    "dm-verity",
    "erofs",
    "efivarfs",
    // loaded beside the rest, for PID 1
    "xfs",
    "evdev",
    "button",
    // virtual machines
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "hv_storvsc",
    "hyperv_keyboard",
    "vmw_pvscsi",
    "mptspi",
    "mptsas",
    "xen-blkfront",
    // bare metal
    "nvme",
    "ahci",
    "ata_piix",
    "megaraid_sas",
    "mpt3sas",
    "hpsa",
    "smartpqi",
    "xhci_pci",
    "ehci_pci",
    "uas",
    "usb-storage",
    "usbhid",
    "hid-generic",
    "sdhci_pci",
    "sdhci_acpi",
    "mmc_block",
    "sd_mod",
];

/// The text of depmod's files.
pub struct Tables<'a> {
    pub dep: &'a str,
    pub softdep: &'a str,
    pub alias: &'a str,
    pub builtin: &'a str,
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// Paths (relative to the modules' folder) in the order of loading, or the name that is neither a module nor built in.
pub fn plan(tables: &Tables, wanted: &[&str]) -> Result<Vec<String>, String> {
    let mut planner = Planner {
        files: parse_dep(tables.dep),
        soft: parse_softdep(tables.softdep),
        aliases: parse_alias(tables.alias),
        builtin: tables.builtin.lines().map(name_of).collect(),
        seen: BTreeSet::new(),
        order: Vec::new(),
    };
    for name in wanted {
        if !planner.add(name) {
            return Err((*name).to_owned());
        }
    }
    Ok(planner.order)
}

struct Planner {
    /// name -> (file, files it needs, the last to be loaded first)
    files: BTreeMap<String, (String, Vec<String>)>,
    soft: BTreeMap<String, Soft>,
    aliases: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
    seen: BTreeSet<String>,
    order: Vec<String>,
}

impl Planner {
    /// Whether `name` is known; a name that is only built in adds nothing.
    fn add(&mut self, name: &str) -> bool {
        let name = normal(name);
        let Some((file, needs)) = self.files.get(&name).cloned() else {
            let providers = self.aliases.get(&name).cloned().unwrap_or_default();
            for provider in &providers {
                self.add(provider);
            }
            return !providers.is_empty() || self.builtin.contains(&name);
        };
        if !self.seen.insert(name.clone()) {
            return true;
        }
        let soft = self.soft.remove(&name).unwrap_or_default();
        // A soft dependency that this kernel does not have is no fault.
        for before in &soft.before {
            self.add(before);
        }
        for needed in needs.iter().rev() {
            self.add(&name_of(needed));
        }
        self.order.push(file);
        for after in &soft.after {
            self.add(after);
        }
        true
    }
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split(".ko").next().unwrap_or(file))
}

fn parse_dep(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            (name_of(file), (file.to_owned(), needs))
        })
        .collect()
}

fn parse_softdep(text: &str) -> BTreeMap<String, Soft> {
    let mut found: BTreeMap<String, Soft> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("softdep") {
            continue;
        }
        let Some(name) = words.next() else { continue };
        let soft = found.entry(normal(name)).or_default();
        let mut list = &mut soft.before;
        for word in words {
            match word {
                "pre:" => list = &mut soft.before,
                "post:" => list = &mut soft.after,
                name => list.push(name.to_owned()),
            }
        }
    }
    found
}

fn parse_alias(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("alias"), Some(alias), Some(name)) = (words.next(), words.next(), words.next())
            && !alias.contains(['*', '?', '['])
        {
            found
                .entry(normal(alias))
                .or_default()
                .push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: Tables = Tables {
        dep: "kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz\n\
              kernel/lib/libcrc32c.ko.xz:\n\
              kernel/crypto/crc32c_generic.ko.xz:\n\
              kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n\
              kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz\n\
              kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n\
              kernel/drivers/md/dm-mod.ko.xz:\n\
              kernel/a.ko.xz:\n\
              kernel/b.ko.xz:\n",
        softdep: "# comment\nsoftdep libcrc32c pre: crc32c\nsoftdep a post: b pre: absent\n",
        alias: "alias crc32c crc32c_generic\nalias crc32c crc32c_intel\nalias pci:v*d* a\n",
        builtin: "kernel/drivers/built.ko\n",
    };

    #[test]
    fn dependencies_come_first_and_only_once() {
        let order = plan(&TABLES, &["dm-verity", "dm_mod"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/drivers/md/dm-mod.ko.xz",
                "kernel/drivers/md/dm-bufio.ko.xz",
                "kernel/drivers/md/dm-verity.ko.xz"
            ]
        );
    }

    #[test]
    fn soft_dependencies_by_alias_come_before_what_wants_them() {
        let order = plan(&TABLES, &["erofs"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/crypto/crc32c_generic.ko.xz",
                "kernel/arch/x86/crypto/crc32c-intel.ko.xz",
                "kernel/lib/libcrc32c.ko.xz",
                "kernel/fs/erofs/erofs.ko.xz"
            ]
        );
    }

    #[test]
    fn post_dependencies_follow_and_absent_soft_ones_are_passed_over() {
        assert_eq!(
            plan(&TABLES, &["a"]).unwrap(),
            ["kernel/a.ko.xz", "kernel/b.ko.xz"]
        );
    }

    #[test]
    fn built_in_is_known_and_a_wrong_name_is_told() {
        assert_eq!(plan(&TABLES, &["built"]).unwrap(), Vec::<String>::new());
        assert_eq!(plan(&TABLES, &["nonsense"]).unwrap_err(), "nonsense");
    }
}
