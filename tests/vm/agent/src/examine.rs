//! What is on a disk that a power cut has left: `atalaya-agent examine vdb` prints an [`Examined`] as JSON. The disk is
//! looked at as if it had just been plugged in, whatever was read from it before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use atalaya_core::update::record::{self, FILES, Record};
use atalaya_init::disk::scan;
use atalaya_init::stage1::slots;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A tmpfs: nothing of the machine's own is touched.
const PLACE: &str = "/run/atalaya-examine";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const DATA: &str = "atalaya-data";

/// A disk as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The newest valid record; none: neither of the two is one.
    pub record: Option<Record>,
    /// The kernel images on the boot partition.
    pub entries: Vec<BootEntry>,
    /// Root hashes, and in which slot each is.
    pub slots: BTreeMap<String, String>,
    /// The kernel images on /data whose content is what their name says.
    pub kept: Vec<String>,
    /// The generations, by number.
    pub generations: BTreeMap<u32, Generation>,
}

/// A file in EFI/Linux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEntry {
    /// `atalaya_000002+3.efi`.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// The root hash that it boots.
    pub root_hash: Option<String>,
}

/// One of /data/gen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// What pg_controldata calls the state of its database.
    pub database: Option<String>,
    /// Digests of the uploaded files, by their path.
    pub files: BTreeMap<String, String>,
}

/// Looks at the disk with this name of the kernel's.
pub fn examine(disk: &str) -> anyhow::Result<Examined> {
    let disk = plug_in_again(disk)?;
    let found = scan::disk(&disk).with_context(|| format!("{disk} has no partition table"))?;
    let device = |what: &str, chosen: &dyn Fn(&atalaya_init::disk::gpt::Partition) -> bool| {
        let partition = found.partitions.iter().find(|partition| chosen(partition));
        partition
            .and_then(|partition| scan::partition_device(&disk, partition.number))
            .with_context(|| format!("{disk} has no partition for {what}"))
    };
    let entries = {
        let esp = device("booting", &|partition| partition.kind == ESP)?;
        let mounted = Mounted::at("esp", &esp, "vfat", MsFlags::MS_RDONLY, "")?;
        boot_entries(&mounted.0.join("EFI/Linux"))?
    };
    let data = device("data", &|partition| partition.label == DATA)?;
    // Its log is recovered, so it is mounted to be written; the machine's own may be a copy of it.
    let mounted = Mounted::at("data", &data, "xfs", MsFlags::empty(), "nouuid")?;
    let data = &mounted.0;
    let files = FILES.map(|name| fs::read(data.join("update").join(name)).ok());
    let chosen = record::choose([files[0].as_deref(), files[1].as_deref()]);
    let record = chosen.ok().flatten().map(|chosen| chosen.record);
    let mut held = BTreeMap::new();
    for pair in slots::plan_pairs(&found.partitions) {
        let slot = pair.letter.to_string();
        let hash = slots::held(&found, &pair).context("failed to read a slot")?;
        held.extend(hash.map(|hash| (hash, slot)));
    }
    Ok(Examined {
        record,
        entries,
        slots: held,
        kept: kept_images(&data.join("update/uki"))?,
        generations: generations(&data.join("gen"))?,
    })
}

/// The driver lets go of the disk and takes it again: partitions are read anew, and nothing that was cached is left.
fn plug_in_again(disk: &str) -> anyhow::Result<String> {
    const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_blk";
    let device = fs::canonicalize(format!("/sys/class/block/{disk}/device"))
        .with_context(|| format!("there is no disk {disk}"))?;
    let name = device.file_name().context("the disk has no device")?;
    for order in ["unbind", "bind"] {
        let file = Path::new(DRIVER).join(order);
        // A file of the kernel's, to which one write is one order.
        #[expect(clippy::disallowed_methods, reason = "no file that could be replaced")]
        fs::write(&file, name.as_encoded_bytes())
            .with_context(|| format!("failed to {order} {disk}"))?;
    }
    let block = fs::read_dir(device.join("block"))
        .with_context(|| format!("{disk} did not come back"))?
        .next()
        .context("the disk did not come back")??;
    let name = block.file_name().into_string();
    name.ok().context("the disk's name is no text")
}

/// A file system that is unmounted when it is no longer looked at.
struct Mounted(PathBuf);

impl Mounted {
    fn at(
        name: &str,
        device: &Path,
        kind: &str,
        flags: MsFlags,
        options: &str,
    ) -> anyhow::Result<Mounted> {
        let place = Path::new(PLACE).join(name);
        fs::create_dir_all(&place).context("failed to make a place to mount on")?;
        mount(Some(device), &place, Some(kind), flags, Some(options))
            .with_context(|| format!("failed to mount {} as {kind}", device.display()))?;
        Ok(Mounted(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever examines next finds it taken and says so.
        umount2(&self.0, MntFlags::empty()).ok();
    }
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file =
        File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece);
        match read.with_context(|| format!("failed to read {}", path.display()))? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// What a kernel image is.
struct Kernel {
    sha256: String,
    root_hash: Option<String>,
}

impl Kernel {
    /// There are few, many disks hold them, and under emulation to compare is much faster than to hash and to search: one that was met before lies
    /// in the place, in a folder named after its digest, as a file named after its root hash.
    fn of(content: &[u8]) -> anyhow::Result<Kernel> {
        const NONE: &str = "none";
        let known = Path::new(PLACE).join("known");
        for (sha256, folder) in names(&known)? {
            for (root_hash, file) in names(&folder)? {
                if is_content(&file, content)? {
                    let root_hash = (root_hash != NONE).then_some(root_hash);
                    return Ok(Kernel { sha256, root_hash });
                }
            }
        }
        let sha256 = hex(&Sha256::digest(content));
        let root_hash = root_hash(content);
        let folder = known.join(&sha256);
        fs::create_dir_all(&folder).context("failed to make a place for what is known")?;
        let file = File::create(folder.join(root_hash.as_deref().unwrap_or(NONE)));
        file.and_then(|mut file| file.write_all(content))
            .context("failed to keep what is known")?;
        Ok(Kernel { sha256, root_hash })
    }
}

/// Read only as far as they are the same.
fn is_content(path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut piece = vec![0; 1 << 18];
    for expected in content.chunks(piece.len()) {
        let found = &mut piece[..expected.len()];
        file.read_exact(found)?;
        if found != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut list = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let entry =
                    entry.with_context(|| format!("failed to list {}", folder.display()))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                list.push((name, entry.path()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => bail!("failed to list {}: {error}", folder.display()),
    }
    list.sort();
    Ok(list)
}

fn boot_entries(folder: &Path) -> anyhow::Result<Vec<BootEntry>> {
    let images = names(folder)?.into_iter();
    let images = images.filter(|(name, _)| name.to_ascii_lowercase().ends_with(".efi"));
    images
        .map(|(name, path)| {
            let content = fs::read(&path).with_context(|| format!("failed to read {name}"))?;
            let Kernel { sha256, root_hash } = Kernel::of(&content)?;
            Ok(BootEntry {
                name,
                sha256,
                root_hash,
            })
        })
        .collect()
}

/// The first `roothash=` in a kernel image.
fn root_hash(image: &[u8]) -> Option<String> {
    const WORD: &[u8] = b"roothash=";
    let at = memchr::memmem::find(image, WORD)? + WORD.len();
    let hash = std::str::from_utf8(image.get(at..at + 64)?).ok()?;
    let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| hash.to_owned())
}

fn kept_images(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut list = Vec::new();
    for (name, path) in names(folder)? {
        if let Some(stem) = name.strip_suffix(".efi")
            && Kernel::of(&fs::read(&path)?)?.sha256 == stem
        {
            list.push(stem.to_owned());
        }
    }
    Ok(list)
}

fn generations(folder: &Path) -> anyhow::Result<BTreeMap<u32, Generation>> {
    let mut list = BTreeMap::new();
    for (name, path) in names(folder)? {
        let Ok(number) = name.parse() else { continue };
        let mut files = BTreeMap::new();
        let root = path.join("mattermost/files");
        digest_tree(&root, &root, &mut files)?;
        list.insert(
            number,
            Generation {
                database: database_state(&path.join("postgres/17")),
                files,
            },
        );
    }
    Ok(list)
}

fn digest_tree(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    for (_, path) in names(folder)? {
        if path.is_dir() {
            digest_tree(root, &path, files)?;
        } else if let Ok(below) = path.strip_prefix(root) {
            files.insert(below.to_string_lossy().into_owned(), sha256(&path)?);
        }
    }
    Ok(())
}

fn database_state(folder: &Path) -> Option<String> {
    let output = Command::new("/usr/lib/postgresql/17/bin/pg_controldata")
        .arg(folder)
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Database cluster state:"))?;
    Some(line.trim().to_owned())
}
