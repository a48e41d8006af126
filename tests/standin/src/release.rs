//! Packs the stand-in as a tarball laid out like the release. The same input gives the same bytes.
//!
//! Everything is owned by root, sorted, with one fixed time. The tarball is written beside its place and renamed.

use crate::layout::Identity;
use flate2::{Compression, GzBuilder};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// 2026-01-01, for every entry.
const TIME: u64 = 1_767_225_600;

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is not NNNNNN_name.sql")]
    MigrationName(PathBuf),
    #[error("{0} is not a version such as 11.7.9")]
    Version(String),
}

/// Further migrations for a made-up newer release, by file name.
#[derive(Debug)]
pub struct ExtraMigration {
    pub file: String,
    pub sql: Vec<u8>,
}

impl ExtraMigration {
    fn version(&self) -> Option<i64> {
        self.file.split_once('_')?.0.parse().ok()
    }
}

pub fn read_migration(path: &Path) -> Result<ExtraMigration, ReleaseError> {
    let file = path
        .file_name()
        .and_then(|n| n.to_str())
        .filter(|n| {
            n.strip_suffix(".sql")
                .and_then(|n| n.split_once('_'))
                .is_some_and(|(v, _)| v.parse::<i64>().is_ok())
        })
        .ok_or_else(|| ReleaseError::MigrationName(path.to_owned()))?
        .to_owned();
    Ok(ExtraMigration {
        file,
        sql: read(path)?,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ReleaseError> {
    std::fs::read(path).map_err(|source| ReleaseError::Read {
        path: path.to_owned(),
        source,
    })
}

/// One thing in the tarball: path below `mattermost/`, mode, bytes (none for a folder).
type Item = (String, u32, Option<Vec<u8>>);

/// Writes the tarball with the programs of `bin_dir`. A release with faults has them wherever it runs.
pub fn write(
    bin_dir: &Path,
    version: &str,
    migrations: Vec<ExtraMigration>,
    faults: &str,
    out: &Path,
) -> Result<(), ReleaseError> {
    let good = version.split('.').count() == 3
        && version
            .split('.')
            .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if !good {
        return Err(ReleaseError::Version(version.to_owned()));
    }
    let schema = crate::store::migrations::known(None)
        .iter()
        .map(|one| one.version)
        .chain(migrations.iter().filter_map(ExtraMigration::version))
        .max()
        .unwrap_or_default();
    let mut items = contents(Identity {
        schema,
        faults: faults.to_owned(),
        ..Identity::new(version)
    });
    for program in ["mattermost", "mmctl"] {
        let bytes = read(&bin_dir.join(program))?;
        items.push((format!("bin/{program}"), 0o755, Some(bytes)));
    }
    for migration in migrations {
        items.push((
            format!("migrations/{}", migration.file),
            0o644,
            Some(migration.sql),
        ));
    }
    items.sort_by(|a, b| a.0.cmp(&b.0));
    let part = out.with_extension("part");
    let failed = |source| ReleaseError::Write {
        path: out.to_owned(),
        source,
    };
    let written = pack(&items, &part).and_then(|()| std::fs::rename(&part, out));
    if written.is_err() {
        std::fs::remove_file(&part).ok();
    }
    written.map_err(failed)
}

fn pack(items: &[Item], part: &Path) -> std::io::Result<()> {
    let file = BufWriter::new(File::create(part)?);
    let gzip = GzBuilder::new().mtime(0).write(file, Compression::new(6));
    let mut tar = Builder::new(gzip);
    let mut folders: Vec<String> = Vec::new();
    for (path, mode, bytes) in items {
        let whole = format!("mattermost/{path}");
        for (at, _) in whole.match_indices('/') {
            let folder = whole[..=at].to_owned();
            if !folders.contains(&folder) {
                add(&mut tar, &folder, 0o755, EntryType::Directory, &[])?;
                folders.push(folder);
            }
        }
        if let Some(bytes) = bytes {
            add(&mut tar, &whole, *mode, EntryType::Regular, bytes)?;
        }
    }
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    file.get_ref().sync_all()
}

fn add<W: Write>(
    tar: &mut Builder<W>,
    path: &str,
    mode: u32,
    kind: EntryType,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// Everything but the programs. Paths that end in `/` are empty folders.
fn contents(identity: Identity) -> Vec<Item> {
    let identity = serde_json::to_string_pretty(&identity).unwrap_or_default();
    let config = serde_json::to_string_pretty(&crate::config::defaults()).unwrap_or_default();
    let mut items: Vec<Item> = vec![
        (
            "STANDIN".into(),
            0o644,
            Some(format!("{identity}\n").into()),
        ),
        (
            "config/config.json".into(),
            0o644,
            Some(format!("{config}\n").into()),
        ),
    ];
    for (path, text) in [
        ("NOTICE.txt", NOTICE),
        ("README.md", NOTICE),
        ("client/root.html", include_str!("../client/root.html")),
        ("client/standin.css", include_str!("../client/standin.css")),
        ("client/standin.js", include_str!("../client/standin.js")),
        ("fonts/README.txt", "The stand-in draws no avatars.\n"),
        ("i18n/en.json", "[]\n"),
        ("i18n/es.json", "[]\n"),
        ("templates/README.txt", "The stand-in sends no mail.\n"),
    ] {
        items.push((path.to_owned(), 0o644, Some(text.into())));
    }
    for folder in [
        "client/plugins/",
        "logs/",
        "plugins/",
        "prepackaged_plugins/",
    ] {
        items.push((folder.to_owned(), 0o755, None));
    }
    items
}

const NOTICE: &str =
    "This is a stand-in for the Mattermost server, made by the Atalaya project for tests.
It is not Mattermost, holds none of its code, and must not be used to keep real conversations.
Licence: Apache-2.0
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_gives_the_same_bytes_and_the_releases_layout() {
        let folder = std::env::temp_dir().join(crate::ids::new_id());
        std::fs::create_dir(&folder).unwrap();
        for program in ["mattermost", "mmctl"] {
            std::fs::copy("/bin/true", folder.join(program)).unwrap();
        }
        let tarball = |name: &str| {
            let out = folder.join(name);
            let extra = ExtraMigration {
                file: "000900_more.sql".to_owned(),
                sql: b"SELECT 1".to_vec(),
            };
            write(&folder, "12.0.1", vec![extra], "lose-post", &out).unwrap();
            std::fs::read(out).unwrap()
        };
        let first = tarball("a.tar.gz");
        assert_eq!(first, tarball("b.tar.gz"));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&first[..]));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().uid().unwrap(), 0);
            let name = entry.path().unwrap().display().to_string();
            if name == "mattermost/STANDIN" {
                let said: Identity = serde_json::from_reader(&mut entry).unwrap();
                assert_eq!((said.schema, said.faults.as_str()), (900, "lose-post"));
            }
            names.push(name);
        }
        for wanted in [
            "mattermost/bin/mattermost",
            "mattermost/bin/mmctl",
            "mattermost/config/config.json",
            "mattermost/i18n/en.json",
            "mattermost/client/root.html",
            "mattermost/migrations/000900_more.sql",
            "mattermost/STANDIN",
        ] {
            assert!(names.iter().any(|n| n == wanted), "{wanted} in {names:?}");
        }
        assert!(write(&folder, "eleven", Vec::new(), "", &folder.join("c")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
