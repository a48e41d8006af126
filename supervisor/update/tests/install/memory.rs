//! What an installation holds in memory: it runs in a process of its own, so that nobody else's memory counts.

use std::process::Command;

use atalaya_bundle::sample;

use crate::ground::{Ground, done, file, rules};

const CHILD: &str = "ATALAYA_TEST_GROUND";
const BLOCK: usize = 4096;
const BLOCKS: usize = (192 << 20) / BLOCK;
/// 64 MiB are allowed for a slot of 2 GiB. Of those the hash tree takes 16 and the index of the running slot 8; here they are smaller by the
/// same factor as the slots.
const MOST_KIB: usize = ((64 << 20) - (24 << 20) * 29 / 32) / 1024;

#[test]
fn an_installation_needs_little_memory() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(folder.as_ref());
    }
    let running: Vec<u8> = std::iter::repeat_n([1; BLOCK], BLOCKS).flatten().collect();
    let ground = Ground::new(&running, "salt");
    drop(running);
    // Few of its blocks are alike, so the tree is no smaller than another.
    let mut root = vec![0; BLOCKS * BLOCK];
    for (number, block) in root.chunks_exact_mut(BLOCK).enumerate() {
        block[..8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    ground.lay("new.atalaya", &ground.bundle(&root));
    std::fs::File::options()
        .write(true)
        .open(ground.path("root-b"))
        .unwrap()
        .set_len(root.len() as u64)
        .unwrap();
    let verity = std::fs::File::options()
        .write(true)
        .open(ground.path("verity-b"));
    verity.unwrap().set_len(64 << 20).unwrap();
    let name = "memory::an_installation_needs_little_memory";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, ground.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let highest = String::from_utf8(ground.read("peak")).unwrap();
    let highest: usize = highest.parse().unwrap();
    assert!(highest < MOST_KIB, "{highest} KiB of {MOST_KIB}");
    assert_eq!(
        ground.valid(),
        Some(*sample::tree(&root, crate::ground::NEW).root_hash())
    );
}

fn child(folder: &std::path::Path) {
    let ground = Ground::at(folder);
    done(ground.install_from(file(&ground.path("new.atalaya")), rules()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let highest = highest.unwrap().trim().trim_end_matches(" kB");
    ground.lay("peak", highest.as_bytes());
}
