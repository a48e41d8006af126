//! Gathers the licences of everything in the image into one archive beside it.

use crate::base::Base;
use crate::crates::Crate;
use crate::error::{Error, IoContext, Result};
use crate::project::Project;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// zstd's level: small enough in about a second.
const LEVEL: i32 = 12;

/// Beginnings of the names of files that a crate's licence is in.
const NAMES: [&str; 6] = [
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "unlicense",
];

pub fn write(
    project: &Project,
    base: &Base,
    crates: &[Crate],
    mattermost: &Path,
    to: &Path,
) -> Result<()> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    from_packages(base, &mut files)?;
    if let Ok(text) = fs::read(project.loader().join("copyright")) {
        files.insert("debian/systemd-boot-efi/copyright".to_owned(), text);
    }
    for one in crates {
        from_crate(one, &mut files)?;
    }
    add_named(mattermost, "mattermost", &mut files)?;
    let own = project.root.join("LICENSE");
    if own.exists() {
        files.insert(
            "atalaya/LICENSE".to_owned(),
            fs::read(&own).during("read", &own)?,
        );
    }
    pack(&files, to)
}

fn from_packages(base: &Base, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let doc = base.tree.join("usr/share/doc");
    for package in base.packages()? {
        let name = package.name;
        // Some packages link to the documentation of another of the same source.
        let Some(path) = inside(&base.tree, &doc.join(&name).join("copyright")) else {
            continue;
        };
        let text = fs::read(&path).during("read", &path)?;
        files.insert(format!("debian/{name}/copyright"), text);
    }
    let common = base.tree.join("usr/share/common-licenses");
    for entry in fs::read_dir(&common).during("list", &common)?.flatten() {
        if let Some(path) = inside(&base.tree, &entry.path()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = fs::read(&path).during("read", &path)?;
            files.insert(format!("debian/common-licenses/{name}"), text);
        }
    }
    Ok(())
}

/// The file that `path` leads to, if that is one inside the tree.
fn inside(tree: &Path, path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    (real.starts_with(tree.canonicalize().ok()?) && real.is_file()).then_some(real)
}

fn from_crate(one: &Crate, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let place = format!("crates/{}-{}", one.name, one.version);
    // The licence by name, for the crates that ship no text.
    files.insert(
        format!("{place}/SPDX"),
        format!("{}\n", one.licence).into_bytes(),
    );
    add_named(&one.folder, &place, files)
}

fn add_named(folder: &Path, place: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder).during("list", folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_ascii_lowercase();
        let wanted =
            NAMES.iter().any(|start| lower.starts_with(start)) || lower.contains("license");
        if wanted && entry.path().is_file() {
            let text = fs::read(entry.path()).during("read", &entry.path())?;
            files.insert(format!("{place}/{name}"), text);
        }
    }
    Ok(())
}

fn pack(files: &BTreeMap<String, Vec<u8>>, to: &Path) -> Result<()> {
    let written = || -> std::io::Result<()> {
        let encoder = zstd::Encoder::new(File::create(to)?, LEVEL)?;
        let mut archive = tar::Builder::new(encoder);
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    };
    written().map_err(|source| Error::Io {
        operation: "write",
        object: to.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crates_texts_and_its_licences_name_are_packed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["LICENSE-MIT", "Cargo.toml"] {
            File::create(folder.path().join(name))
                .unwrap()
                .write_all(b"text")
                .unwrap();
        }
        let mut files = BTreeMap::new();
        let one = Crate {
            name: "a".into(),
            version: "1".into(),
            licence: "MIT".into(),
            folder: folder.path().to_owned(),
        };
        from_crate(&one, &mut files).unwrap();
        let archive = folder.path().join("l.tar.zst");
        pack(&files, &archive).unwrap();
        let mut read = tar::Archive::new(zstd::Decoder::new(File::open(archive).unwrap()).unwrap());
        let names: Vec<String> = read
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["crates/a-1/LICENSE-MIT", "crates/a-1/SPDX"]);
    }

    #[test]
    fn links_that_lead_out_of_the_tree_are_not_followed() {
        let tree = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.path().join("copyright")).unwrap();
        assert_eq!(inside(tree.path(), &tree.path().join("copyright")), None);
    }
}
