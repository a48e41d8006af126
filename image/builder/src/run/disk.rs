//! Makes and changes run/disk.raw while the machine is off.

use super::RunError;
use super::gpt::{self, Extent};
use super::place::{Place, State};
use crate::artifacts::root_hash_of;
use crate::error::{IoContext, Result};
use crate::manifest::Manifest;
use crate::process;
use crate::project::Project;
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

/// Writes root, verity and UKI of the slot last booted; nothing else on the disk is touched.
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
    let slot = match state.slot.as_str() {
        "a" => layout.slots[0],
        "b" => layout.slots[1],
        _ => return Err(strange("the slot last booted is not known").into()),
    };
    let parts = &manifest.artifacts;
    write_extent(&disk, slot.root, &output.join(&parts.root.name))?;
    write_extent(&disk, slot.verity, &output.join(&parts.verity.name))?;
    let esp = Esp {
        tools: ToolsTree::at(project.tools()).map_err(RunError::from)?,
        image: format!("{}@@{}", disk.display(), layout.esp.start),
        log: place.folder().join("esp.log"),
    };
    let name = esp
        .entry_of(&state.root_hash, place.folder())?
        .ok_or_else(|| strange("its boot entry was not found"))?;
    esp.write(&output.join(&parts.uki.name), &name)
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

    /// The name of the UKI that starts the root with this hash. Where there is but one, it is that one: a replacement that
    /// was interrupted leaves an entry that cannot be read.
    fn entry_of(&self, root_hash: &str, folder: &Path) -> Result<Option<String>> {
        let text = process::read(
            "listing the boot entries",
            self.command("mdir")?.args(["-b", ENTRIES]),
            &self.log,
        )?;
        let names = entries(&text);
        if let [only] = names.as_slice() {
            return Ok(Some(only.clone()));
        }
        let copy = folder.join("entry.efi");
        for name in names {
            process::run(
                "reading a boot entry",
                self.command("mcopy")?
                    .args(["-n", "-o", &format!("{ENTRIES}/{name}")])
                    .arg(&copy),
                &self.log,
            )?;
            let bytes = fs::read(&copy).during("read", &copy)?;
            fs::remove_file(&copy).during("remove", &copy)?;
            if root_hash_of(&bytes).as_deref() == Some(root_hash) {
                return Ok(Some(name));
            }
        }
        Ok(None)
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
