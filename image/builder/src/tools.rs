//! The tools tree: a small Debian 13 that holds mkosi, systemd-repart, QEMU and whatever else the pipeline runs, so that the
//! machine itself needs very little.

use crate::error::{IoContext, Result};
use crate::mirrors::Mirrors;
use crate::process;
use crate::project::Project;
use std::fs;
use std::process::Command;

// knot and pebble are for the edge's tests: a DNS server that takes signed updates, and an ACME authority.
const PACKAGES: [&str; 34] = [
    "apt",
    "bubblewrap",
    "btrfs-progs",
    "ca-certificates",
    "cpio",
    "cryptsetup-bin",
    "debian-archive-keyring",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "genisoimage",
    "kmod",
    "knot",
    "mkosi",
    "mmdebstrap",
    "mtools",
    "openssl",
    "ovmf",
    "pebble",
    "python3-cryptography",
    "python3-pefile",
    "python3-virt-firmware",
    "qemu-system-x86",
    "sbsigntool",
    "systemd",
    "systemd-boot-efi",
    "systemd-boot-tools",
    "systemd-repart",
    "systemd-ukify",
    "uidmap",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// The file that says with which packages the tree was made; written last, so a tree without it is half-made.
const STAMP: &str = "etc/atalaya-tools";

/// Whether a complete tree with these packages is there.
pub fn are_ready(project: &Project) -> bool {
    fs::read_to_string(project.tools().join(STAMP)).is_ok_and(|text| text == stamp())
}

fn stamp() -> String {
    PACKAGES.join("\n")
}

/// Makes the tree beside its place and puts it there when it is complete.
pub fn make(project: &Project, mirrors: &Mirrors) -> Result<()> {
    let place = project.tools();
    let work = Project::temporary_beside(&place);
    for old in [&work, &place] {
        if old.exists() {
            fs::remove_dir_all(old).during("remove", old)?;
        }
    }
    process::run(
        "making the tools tree",
        Command::new("mmdebstrap")
            .arg("--variant=apt")
            .arg("--architectures=amd64")
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg("trixie")
            .arg(&work)
            .arg(&mirrors.main),
        &project.logs().join("tools.log"),
    )?;
    atalaya_sys::durable::write(&work.join(STAMP), stamp().as_bytes(), 0o644, None)?;
    fs::rename(&work, &place).during("rename into place", &place)
}
