//! Bundles of a made-up image, from its folder to what a machine verifies.

use super::*;
use crate::artifacts::Artifact;
use crate::digest;
use crate::error::Error;
use crate::manifest::made_up;
use crate::pipeline::to_json;
use atalaya_bundle::keys::TrustFile;
use atalaya_bundle::sample;
use std::io::{Seek, SeekFrom};

struct Bench {
    folder: tempfile::TempDir,
    project: Project,
}

impl Bench {
    /// A project in which an image lies that was built.
    fn new(kind: Kind, trust: Purpose) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::new(folder.path().to_owned(), None);
        fs::create_dir_all(project.image_sources()).unwrap();
        let bench = Self { folder, project };
        bench.build(kind, trust, "one");
        bench
    }

    fn build(&self, kind: Kind, trust: Purpose, content: &str) {
        let output = self.output();
        fs::create_dir_all(&output).unwrap();
        let root = sample::root(40, content);
        let tree = sample::tree(&root, "salt");
        let parts = sample::parts(&output, &root, &tree);
        fs::rename(&parts.loader, output.join(LOADER)).unwrap();
        let artifact = |path: &Path| Artifact {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            size: fs::metadata(path).unwrap().len(),
            sha256: digest::of_file(path).unwrap(),
        };
        let mut manifest = made_up::manifest();
        manifest.release.build = content.to_owned();
        manifest.release.built = "2026-01-01T00:00:00Z".to_owned();
        manifest.release.mattermost.kind = kind;
        manifest.release.mattermost.schema = Some(158);
        manifest.update.minimum_from = "0.1.0".to_owned();
        manifest.update.trust = trust;
        manifest.artifacts.root = artifact(&parts.root);
        manifest.artifacts.verity = artifact(&parts.verity);
        manifest.artifacts.uki = artifact(&parts.uki);
        manifest.artifacts.root_hash = digest::hex(tree.root_hash());
        let text = to_json(&manifest).unwrap();
        let path = output.join("manifest.json");
        atalaya_sys::durable::write(&path, text.as_bytes(), 0o644, None).unwrap();
    }

    fn output(&self) -> PathBuf {
        self.project.output(&Variant::default())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Three release keys, a, b and c, of which two have to sign.
    fn ceremony(&self) {
        let names = ["a", "b", "c"];
        let publics: Vec<PathBuf> = names.map(|name| self.at(&format!("{name}.pub"))).into();
        for name in names {
            keys::new(&self.at(name)).unwrap();
        }
        let request = self.at("set");
        keys::rotate(&self.project, 2, &publics, None, &request).unwrap();
        for name in names {
            keys::sign(&request, &self.at(name), true).unwrap();
        }
        keys::accept(&self.project, &[request]).unwrap();
    }

    fn make(&self, signers: Signers) -> Result<PathBuf> {
        let options = Options {
            variant: Variant::default(),
            output: None,
            signers,
        };
        make(&self.project, &options, &mut Progress::new())
    }

    fn refused(&self, signers: Signers) -> Error {
        self.make(signers).err().unwrap()
    }
}

#[test]
fn the_same_image_gives_the_same_bundle_and_its_machines_take_it() {
    let bench = Bench::new(Kind::Standin, Purpose::Development);
    let place = bench.make(Signers::Here(Vec::new())).unwrap();
    let first = fs::read(&place).unwrap();
    assert_eq!(fs::read(bench.output().join(LINK)).unwrap(), first);
    // Signed anew, with what was made before.
    fs::remove_file(&place).unwrap();
    bench.make(Signers::Here(Vec::new())).unwrap();
    assert_eq!(fs::read(&place).unwrap(), first);
    // Everything anew.
    for entry in fs::read_dir(bench.output()).unwrap().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|it| it == "unsigned" || it == "bundle")
        {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    bench.make(Signers::Here(Vec::new())).unwrap();
    assert_eq!(fs::read(&place).unwrap(), first);

    let text = keys::trusted(&bench.project, Purpose::Development, Kind::Standin)
        .unwrap()
        .text;
    let image: TrustFile = serde_json::from_str(&text).unwrap();
    let trust = Trust::new(image, None).unwrap();
    let head = reader::verify(Seekable(File::open(&place).unwrap()), &trust).unwrap();
    assert_eq!(head.manifest.mattermost.schema, 158);
    inspect(&bench.project, &place, true).unwrap();
    // Another image in the same place has another bundle.
    bench.build(Kind::Standin, Purpose::Development, "two");
    bench.make(Signers::Here(Vec::new())).unwrap();
    assert_ne!(fs::read(&place).unwrap(), first);
}

#[test]
fn release_keys_sign_on_separate_machines() {
    let bench = Bench::new(Kind::Official, Purpose::Release);
    bench.ceremony();
    let text = bench.refused(Signers::Here(Vec::new())).to_string();
    assert!(text.contains("none of which lies about"), "{text}");
    let request = bench.make(Signers::Asked(bench.at("request"))).unwrap();
    let copies: Vec<PathBuf> = ["a", "c"]
        .map(|name| {
            let copy = bench.at(&format!("signed-{name}"));
            fs::copy(&request, &copy).unwrap();
            keys::sign(&copy, &bench.at(name), true).unwrap();
            copy
        })
        .into();
    let few = bench.refused(Signers::Elsewhere(copies[..1].to_vec()));
    assert!(few.to_string().contains("no machine would take"), "{few}");
    assert!(!bench.output().join(LINK).exists());
    let place = bench.make(Signers::Elsewhere(copies.clone())).unwrap();
    inspect(&bench.project, &place, false).unwrap();
    // The signatures are of this image only.
    bench.build(Kind::Official, Purpose::Release, "two");
    let text = bench.refused(Signers::Elsewhere(copies)).to_string();
    assert!(text.contains("signed for another bundle"), "{text}");
}

#[test]
fn no_release_key_signs_the_stand_in() {
    let bench = Bench::new(Kind::Standin, Purpose::Release);
    bench.ceremony();
    let request = bench.make(Signers::Asked(bench.at("request"))).unwrap();
    let before = fs::read(&request).unwrap();
    let error = keys::sign(&request, &bench.at("a"), true).err().unwrap();
    assert!(
        error.to_string().contains("no release key signs"),
        "{error}"
    );
    assert_eq!(fs::read(&request).unwrap(), before);
}

#[test]
fn a_part_that_has_changed_and_a_byte_that_was_changed_are_found() {
    let bench = Bench::new(Kind::Standin, Purpose::Development);
    let place = bench.make(Signers::Here(Vec::new())).unwrap();
    let mut file = File::options().write(true).open(&place).unwrap();
    let size = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(size - 2048)).unwrap();
    file.write_all(b"x").unwrap();
    assert!(inspect(&bench.project, &place, true).is_err());
    bench.build(Kind::Standin, Purpose::Development, "two");
    let root = bench.output().join("root");
    let mut file = File::options().append(true).open(&root).unwrap();
    file.write_all(b"x").unwrap();
    let text = bench.refused(Signers::Here(Vec::new())).to_string();
    assert!(text.contains("is damaged"), "{text}");
}

#[test]
fn without_an_image_or_a_schema_there_is_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let project = Project::new(folder.path().to_owned(), None);
    let options = Options {
        variant: Variant::default(),
        output: None,
        signers: Signers::Here(Vec::new()),
    };
    let text = make(&project, &options, &mut Progress::new())
        .err()
        .unwrap()
        .to_string();
    assert!(text.contains("there is no image"), "{text}");
    let mut manifest = made_up::manifest();
    manifest.release.mattermost.schema = None;
    let sets = KeySets { sets: Vec::new() };
    assert!(description(&manifest, &sets).is_err());
}
