//! Filling a slot from a bundle, verified and read back, against what an administrator would type: `zstd -d | tee >(sha256sum) | dd conv=fsync`
//! and one read of what was written. Both write over a file on the same disk, and take turns. Besides: what has to be fetched where the running
//! slot holds another version, against xdelta3 between the two.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use atalaya_bundle::keys::{
    KeySet, KeySets, Purpose, Signatures, SignedKeySet, SigningKey, TrustFile,
};
use atalaya_bundle::manifest::Mattermost;
use atalaya_bundle::writer::{Description, Parts, Prepared};
use atalaya_core::update::record::{Image, Slot};
use atalaya_core::update::task::{Install, Outcome, Rules, Source, Staged};
use atalaya_suites::place::{Image as Built, Place};
use atalaya_update::install::{Kept, Machine, Partitions, Slots, install};
use tempfile::TempDir;

use crate::stats::Sample;
use crate::table::Table;
use crate::{mebibytes, progress};

const ROUNDS: usize = 5;
const LOADER: &str = "cache/loader/systemd-bootx64.efi";

pub fn measure(place: &Place) -> anyhow::Result<Vec<Table>> {
    let image = place.test_image()?;
    let ground = Ground::new(place, &image)?;
    let mut tables = vec![against_dd(&ground)?];
    if let Ok(next) = place.next_test_image() {
        tables.push(against_xdelta3(place, &image, &next)?);
    }
    Ok(tables)
}

fn against_dd(ground: &Ground) -> anyhow::Result<Table> {
    let compressed = ground.path("root.zst");
    let root = ground.path("plain");
    run(Command::new("zstd")
        .args(["-q", "-19", "-T0", "-f", "-o"])
        .arg(&compressed)
        .arg(&root))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut memory = 0;
    let bar = progress("slot", ROUNDS);
    for _ in 0..ROUNDS {
        forget_memory()?;
        ground.empty_slot()?;
        let begun = Instant::now();
        let staged = ground.install()?;
        ours.push(begun.elapsed().as_secs_f64());
        ensure!(staged.progress.reused == 0, "the slot was not empty");
        memory = memory.max(highest_memory()?);

        ground.empty_slot()?;
        let begun = Instant::now();
        let slot = ground.path("root-b");
        run(Command::new("bash").args(["-o", "pipefail", "-c"]).arg(format!(
            "zstd -dcq {} | tee >(sha256sum >/dev/null) | dd of={} bs=1M conv=fsync,notrunc status=none iflag=fullblock",
            compressed.display(),
            slot.display(),
        )))?;
        drop_cached(&slot)?;
        let bytes = fs::metadata(&root)?.len();
        io::copy(
            &mut io::Read::take(File::open(&slot)?, bytes),
            &mut io::sink(),
        )?;
        theirs.push(begun.elapsed().as_secs_f64());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (ours, theirs): (Sample, Sample) =
        (ours.into_iter().collect(), theirs.into_iter().collect());
    let mut table = Table::new(["slot", "MiB", "s, median of 5", "ratio", "peak memory, MiB"]);
    let size = mebibytes(fs::metadata(&root)?.len());
    let seconds = |sample: &Sample| format!("{:.2}", sample.median());
    table.row([
        "zstd -d, sha256sum, dd conv=fsync, one read",
        &size,
        &seconds(&theirs),
        "1.00",
        "",
    ]);
    table.row([
        "ours: signatures, digests, writing, reading back",
        &size,
        &seconds(&ours),
        &format!("{:.2}", ours.median() / theirs.median()),
        &mebibytes(memory),
    ]);
    Ok(table)
}

fn against_xdelta3(place: &Place, old: &Built, new: &Built) -> anyhow::Result<Table> {
    let ground = Ground::new(place, new)?;
    // The running slot holds the old version.
    for (name, file) in [("root-a", "atalaya.root"), ("verity-a", "atalaya.verity")] {
        fs::copy(old.file(file)?, ground.path(name))?;
    }
    ground.empty_slot()?;
    let staged = ground.install()?;
    let delta = ground.path("delta");
    run(Command::new("xdelta3")
        .args(["-q", "-e", "-9", "-f", "-B", "268435456", "-s"])
        .arg(old.file("atalaya.root")?)
        .arg(new.file("atalaya.root")?)
        .arg(&delta))?;
    let theirs = fs::metadata(&delta)?.len();
    // The kernel image and the loader are the same work for both.
    let manifest = ground.prepared()?;
    let files = manifest.uki.bytes + manifest.loader.bytes;
    let ours = staged.progress.fetched.saturating_sub(files);
    let mut table = Table::new(["another version: bytes for the root", "MiB", "ratio"]);
    table.row(["xdelta3 -9", &mebibytes(theirs), "1.00"]);
    table.row([
        "ours, with hash tree, index and signatures",
        &mebibytes(ours),
        &format!("{:.2}", ours as f64 / theirs as f64),
    ]);
    Ok(table)
}

/// Files that stand for two slots, and a bundle.
struct Ground {
    folder: TempDir,
}

impl Ground {
    fn new(place: &Place, image: &Built) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("atalaya-bench-")
            .tempdir_in("/var/tmp")?;
        let ground = Self { folder };
        let key = SigningKey::from_seed(&[7; 32]);
        let set = KeySet::new(1, 1, vec![key.public()])?;
        let sets = vec![SignedKeySet {
            signatures: vec![key.sign_set(&set)],
            set,
        }];
        let scratch = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(ground.path("scratch"))?;
        let parts = Parts {
            root: image.file("atalaya.root")?,
            verity: image.file("atalaya.verity")?,
            uki: image.file("atalaya.efi")?,
            loader: place.root().join(LOADER),
        };
        let root = parts.root.clone();
        let mut prepared = Prepared::new(parts, description(), scratch, |_| {})?;
        let signatures = Signatures {
            signatures: vec![key.sign_manifest(prepared.manifest_bytes())],
        };
        let mut bundle = File::create(ground.path("bundle"))?;
        prepared.write(&KeySets { sets: sets.clone() }, &signatures, &mut bundle)?;
        ground.lay("manifest", prepared.manifest_bytes())?;
        let trust = TrustFile {
            purpose: Purpose::Development,
            sets,
        };
        ground.lay("trust.json", &serde_json::to_vec(&trust)?)?;
        let bytes = prepared.manifest().root.blocks * 4096;
        let mut plain = File::create(ground.path("plain"))?;
        io::copy(&mut io::Read::take(File::open(root)?, bytes), &mut plain)?;
        for name in ["root-a", "verity-a"] {
            ground.lay(name, &[0; 8192])?;
        }
        Ok(ground)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lay(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        File::create(self.path(name))?.write_all(content)?;
        Ok(())
    }

    fn prepared(&self) -> anyhow::Result<atalaya_bundle::Manifest> {
        Ok(serde_json::from_slice(&fs::read(self.path("manifest"))?)?)
    }

    /// Zeros on all of the other slot, on the disk and not in memory, as it is before a first update.
    fn empty_slot(&self) -> anyhow::Result<()> {
        let size = fs::metadata(self.path("plain"))?.len();
        for (name, bytes) in [("root-b", size), ("verity-b", 64 << 20)] {
            let path = self.path(name);
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            file.rewind()?;
            io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut file)?;
            file.sync_all()?;
            drop_cached(&path)?;
        }
        // What is on its way to the disk of other things would be waited for by whoever comes next.
        nix::unistd::sync();
        Ok(())
    }

    fn install(&self) -> anyhow::Result<Staged> {
        let slot = |letter: &str, write| {
            let part = |name: &str| self.path(&format!("{name}-{letter}"));
            Partitions::open(&part("root"), &part("verity"), write)
        };
        let machine = Machine {
            slots: Slots {
                running: slot("a", false)?,
                target: slot("b", true)?,
            },
            kept: Kept {
                ukis: self.path("update/uki"),
                loaders: self.path("update/loader"),
                key_sets: self.path("update/keysets.json"),
            },
            trust: self.path("trust.json"),
            progress: self.path("progress.json"),
            medium: self.path("medium"),
            variables: self.path("efivars"),
        };
        let request = Install {
            source: Source::File(self.path("bundle").display().to_string()),
            slot: Slot::B,
            rules: rules(),
        };
        match install(&request, &machine, || Ok(())) {
            Outcome::Done(staged) => Ok(staged),
            Outcome::Refused(refusal) => bail!("the bundle was refused: {}", refusal.what),
        }
    }
}

fn description() -> Description {
    let text = str::to_owned;
    Description {
        product: text("atalaya"),
        kind: text("standin"),
        architecture: text("x86_64"),
        version: text("0.2.0"),
        build: text("0"),
        built: text("2026-01-01T00:00:00Z"),
        epoch: 1,
        key_set: 1,
        minimum_from: text("0.1.0"),
        forbidden_from: Vec::new(),
        mattermost: Mattermost {
            version: text("0"),
            schema: 1,
        },
        postgresql: text("17"),
        postgresql_from: Vec::new(),
    }
}

fn rules() -> Rules {
    let text = str::to_owned;
    Rules {
        running: Image {
            version: text("0.1.0"),
            root_hash: String::new(),
            epoch: 1,
            uki: String::new(),
        },
        product: text("atalaya"),
        kind: text("standin"),
        architecture: text("x86_64"),
        schema: Some(1),
        postgresql: text("17"),
        epoch_floor: 1,
        key_set: 1,
        quarantine: Vec::new(),
        allow_downgrade: false,
        allow_quarantined: false,
        external_database: false,
        external_backup: None,
    }
}

fn drop_cached(path: &Path) -> anyhow::Result<()> {
    atalaya_sys::pages::forget(&File::open(path)?, path, 0, 0)?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("failed to run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// From here on the kernel counts this process' highest memory anew (proc_pid_clear_refs(5)).
fn forget_memory() -> anyhow::Result<()> {
    File::options()
        .write(true)
        .open("/proc/self/clear_refs")?
        .write_all(b"5")?;
    Ok(())
}

/// In bytes.
fn highest_memory() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? * 1024)
}
