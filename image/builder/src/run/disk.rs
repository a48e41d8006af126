//! Makes and changes run/disk.raw while the machine is off.

use super::RunError;
use super::gpt::{self, Extent};
use super::place::{Place, State};
use crate::artifacts::root_hash_of;
use crate::digest::hex;
use crate::error::{IoContext, Result};
use crate::manifest::Manifest;
use crate::process;
use crate::project::Project;
use atalaya_bundle::Tree;
use atalaya_vm::ToolsTree;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

/// Enough of a disk's start for its partition table.
const TABLE: usize = 64 * 1024;

/// A sparse copy of the image, grown.
pub fn create(place: &Place, image: &Path, gib: u64) -> Result<()> {
    let size = fs::metadata(image).during("look at", image)?.len();
    // Something for the data must remain.
    let needed = (size >> 30) + 2;
    if gib < needed {
        return Err(RunError::DiskTooSmall { given: gib, needed }.into());
    }
    let disk = place.disk();
    let new = Project::temporary_beside(&disk);
    process::run(
        "copying the image",
        Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .arg(image)
            .arg(&new),
        &place.folder().join("copy.log"),
    )?;
    OpenOptions::new()
        .write(true)
        .open(&new)
        .and_then(|file| file.set_len(gib << 30))
        .during("grow", &new)?;
    fs::rename(&new, &disk).during("rename into place", &disk)
}

/// Writes root, verity and UKI over the system that would boot; nothing else on the disk is touched. The machine sees that
/// it was installed anew, and keeps its data.
pub fn replace(
    project: &Project,
    place: &Place,
    output: &Path,
    manifest: &Manifest,
    state: &State,
) -> Result<()> {
    let disk = place.disk();
    let strange = |problem: &str| RunError::Disk {
        disk: disk.clone(),
        problem: problem.to_owned(),
    };
    let mut start = vec![0; TABLE];
    File::open(&disk)
        .and_then(|mut file| file.read_exact(&mut start))
        .during("read", &disk)?;
    let layout = gpt::parse(&start).ok_or_else(|| strange("its partition table is not ours"))?;
    let esp = Esp {
        tools: ToolsTree::at(project.tools()).map_err(RunError::from)?,
        image: format!("{}@@{}", disk.display(), layout.esp.start),
        log: place.folder().join("esp.log"),
    };
    let names = esp.entries()?;
    let name = next(&names).map_err(strange)?;
    let boots = esp.root_hash_in(name, place.folder())?;
    let mut slot = None;
    for candidate in layout.slots {
        if boots.is_some() && held(&disk, candidate.verity)? == boots {
            slot = Some(candidate);
        }
    }
    // A replacement that was interrupted leaves a slot that no entry names: it was the one last booted.
    let slot = match (slot, state.slot.as_str()) {
        (Some(slot), _) => slot,
        (None, "a") => layout.slots[0],
        (None, "b") => layout.slots[1],
        (None, _) => return Err(strange("the slot last booted is not known").into()),
    };
    let parts = &manifest.artifacts;
    write_extent(&disk, slot.root, &output.join(&parts.root.name))?;
    write_extent(&disk, slot.verity, &output.join(&parts.verity.name))?;
    esp.write(&output.join(&parts.uki.name), name)
}

/// The root hash of what lies in a slot; none if it is nothing.
fn held(disk: &Path, verity: Extent) -> Result<Option<String>> {
    let mut area = Vec::new();
    File::open(disk)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(verity.start))?;
            file.take(verity.size).read_to_end(&mut area)
        })
        .during("read", disk)?;
    let tree = Tree::blocks_in(&area).and_then(|blocks| {
        let bytes = usize::try_from(Tree::area_bytes(blocks)).unwrap_or(usize::MAX);
        area.truncate(bytes);
        Tree::parse(area)
    });
    Ok(tree.ok().map(|tree| hex(tree.root_hash())))
}

/// The entry that the loader takes next: the highest number. Those with a counter are an update's that has not ended.
fn next(names: &[String]) -> std::result::Result<&str, &'static str> {
    let number = |name: &str| -> Option<u32> {
        let name = name.to_ascii_lowercase();
        let stem = name.strip_prefix("atalaya_")?.strip_suffix(".efi")?;
        stem.split('+').next()?.parse().ok()
    };
    let numbered = names.iter().filter_map(|name| Some((number(name)?, name)));
    let (_, highest) = numbered.max().ok_or("it has no boot entry")?;
    if highest.contains('+') {
        return Err("an update is under way on it");
    }
    Ok(highest)
}

fn write_extent(disk: &Path, extent: Extent, part: &Path) -> Result<()> {
    let bytes = fs::metadata(part).during("look at", part)?.len();
    if bytes > extent.size {
        return Err(RunError::Disk {
            disk: disk.to_owned(),
            problem: format!("{} does not fit into its partition", part.display()),
        }
        .into());
    }
    let mut source = File::open(part).during("open", part)?;
    let mut target = OpenOptions::new()
        .write(true)
        .open(disk)
        .during("open", disk)?;
    target
        .seek(SeekFrom::Start(extent.start))
        .and_then(|_| std::io::copy(&mut source, &mut target))
        .and_then(|_| target.flush())
        .and_then(|()| target.sync_all())
        .during("write", disk)
}

/// The ESP inside the disk file, by mtools.
struct Esp {
    tools: ToolsTree,
    image: String,
    log: std::path::PathBuf,
}

const ENTRIES: &str = "::/EFI/Linux";

impl Esp {
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.tools.command(program).map_err(RunError::from)?;
        command
            .env("MTOOLS_SKIP_CHECK", "1")
            .args(["-i", &self.image]);
        Ok(command)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let text = process::read(
            "listing the boot entries",
            self.command("mdir")?.args(["-b", ENTRIES]),
            &self.log,
        )?;
        Ok(entries(&text))
    }

    /// The root that an entry starts; none if the entry cannot be understood.
    fn root_hash_in(&self, name: &str, folder: &Path) -> Result<Option<String>> {
        let copy = folder.join("entry.efi");
        process::run(
            "reading a boot entry",
            self.command("mcopy")?
                .args(["-n", "-o", &format!("{ENTRIES}/{name}")])
                .arg(&copy),
            &self.log,
        )?;
        let bytes = fs::read(&copy).during("read", &copy)?;
        fs::remove_file(&copy).during("remove", &copy)?;
        Ok(root_hash_of(&bytes))
    }

    fn write(&self, uki: &Path, name: &str) -> Result<()> {
        process::run(
            "writing the boot entry",
            self.command("mcopy")?
                .arg("-o")
                .arg(uki)
                .arg(format!("{ENTRIES}/{name}")),
            &self.log,
        )
    }
}

fn entries(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.trim().rsplit('/').next())
        .filter(|name| name.to_ascii_lowercase().ends_with(".efi"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atalaya_bundle::sample;

    #[test]
    fn only_entries_are_listed() {
        assert_eq!(
            entries(
                "::/EFI/Linux/atalaya_000001.efi\n::/EFI/Linux/B+2-1.EFI\n::/EFI/Linux/x.tmp\n\n"
            ),
            ["atalaya_000001.efi", "B+2-1.EFI"]
        );
    }

    #[test]
    fn what_boots_next_is_replaced_unless_an_update_is_under_way() {
        let next = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            next(&names).map(str::to_owned)
        };
        let (one, two) = ("atalaya_000001.efi", "ATALAYA_000002.EFI");
        assert_eq!(next(&[one]).unwrap(), one);
        assert_eq!(next(&[two, one, "other.efi"]).unwrap(), two);
        assert!(next(&[one, "atalaya_000002+2-1.efi"]).is_err());
        assert_eq!(
            next(&["atalaya_000002+0-3.efi", "atalaya_000003.efi"]).unwrap(),
            "atalaya_000003.efi"
        );
        assert!(next(&["other.efi"]).is_err());
    }

    #[test]
    fn a_slot_is_known_by_its_tree() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let tree = sample::tree(&sample::root(300, "x"), "salt");
        let mut bytes = vec![0; 512];
        bytes.extend_from_slice(tree.area());
        bytes.resize(bytes.len() + 8192, 7);
        let size = bytes.len() as u64;
        File::create(&disk).unwrap().write_all(&bytes).unwrap();
        let held = |start| {
            let extent = Extent {
                start,
                size: size - start,
            };
            held(&disk, extent).unwrap()
        };
        assert_eq!(held(512), Some(hex(tree.root_hash())));
        assert_eq!(held(0), None);
    }

    #[test]
    fn a_part_is_written_into_its_extent_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, part) = (folder.path().join("disk"), folder.path().join("part"));
        File::create(&disk).unwrap().write_all(&[7; 100]).unwrap();
        File::create(&part).unwrap().write_all(&[1; 10]).unwrap();
        write_extent(
            &disk,
            Extent {
                start: 20,
                size: 16,
            },
            &part,
        )
        .unwrap();
        let mut wanted = vec![7; 100];
        wanted[20..30].fill(1);
        assert_eq!(fs::read(&disk).unwrap(), wanted);
        assert!(write_extent(&disk, Extent { start: 20, size: 9 }, &part).is_err());
    }
}
