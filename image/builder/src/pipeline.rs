//! The build from end to end: which stage comes when, and what need not be done again. Each stage's work is in its own module.

use crate::artifacts::{self, Artifacts};
use crate::base::{self, Base};
use crate::digest::Inputs;
use crate::error::{Error, IoContext, Result};
use crate::loader::{self, Loader};
use crate::manifest::{Component, Manifest, Release, Update, VERSION, upstream_version, version};
use crate::mirrors::{self, Mirrors};
use crate::programs::{INIT, PROGRAMS};
use crate::progress::Progress;
use crate::project::{Project, Variant};
use crate::{
    audit, compose, crates, keys, licences, lock, mkosi, preflight, process, programs, release,
    tools,
};
use atalaya_bundle::keys::Purpose;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Options {
    pub mirror: Option<String>,
    pub security_mirror: Option<String>,
    /// Fetch Debian's packages, the tools and the loader anew.
    pub refresh: bool,
    pub variant: Variant,
    /// Whose updates the image takes.
    pub keys: Purpose,
    /// Take the programs as they were built last and leave out those that never were.
    pub as_built: bool,
    pub release: release::Wanted,
}

pub struct Built {
    pub manifest: Manifest,
    /// Where it lies.
    pub folder: PathBuf,
    /// Why the stand-in was taken though nobody asked for it.
    pub fallback: Option<String>,
}

/// Builds what is not built yet and gives the manifest of the image that is then in place.
pub fn build(project: &Project, options: &Options, progress: &mut Progress) -> Result<Built> {
    preflight::check(project)?;
    let _lock = lock::take(project)?;
    let mirrors = mirrors::of_this_machine(
        Path::new("/etc/apt"),
        options.mirror.clone(),
        options.security_mirror.clone(),
    )?;
    let test = options.variant.test;
    let output_folder = project.output(&options.variant);
    let work = project.work(&options.variant);
    if work.exists() {
        fs::remove_dir_all(&work).during("remove", &work)?;
    }
    fs::create_dir_all(&work).during("create folder", &work)?;

    let loader = prepare_tools(project, &mirrors, options.refresh, progress)?;

    let stage = progress.stage("Rust");
    if options.as_built {
        stage.finish("programs as built last");
    } else {
        programs::build(project)?;
        stage.finish("programs");
    }

    let stage = progress.stage("release");
    let mattermost = release::prepare(project, &options.release, &stage)?;
    stage.finish(&format!("Mattermost {}", mattermost.about.version));
    let trust = keys::trusted(project, options.keys, mattermost.about.kind)?;

    let packages = if options.variant.next_postgresql {
        base::Packages::NextPostgresql
    } else {
        base::Packages::Appliance
    };
    let major = packages.postgresql();
    let base = prepare_base(project, &mirrors, packages, options.refresh, progress)?;

    let stage = progress.stage("image");
    let packages = base.packages()?;
    let name = format!("postgresql-{major}");
    let postgresql = packages
        .iter()
        .find(|package| package.name == name)
        .map(|package| upstream_version(&package.version).to_owned())
        .ok_or_else(|| Error::Image {
            problem: "it has no PostgreSQL".to_owned(),
        })?;
    let build = build_id(
        project,
        &base,
        &loader,
        &mattermost.about.sha256,
        &trust.text,
        &options.variant,
    )?;
    if let Some(manifest) = existing(&output_folder, &build) {
        fs::remove_dir_all(&work).during("remove", &work)?;
        stage.finish("unchanged");
        return Ok(Built {
            manifest,
            folder: output_folder,
            fallback: mattermost.fallback,
        });
    }
    let fallback = mattermost.fallback.clone();
    let rules = release::update(project)?;
    let release = Release {
        product: "atalaya".to_owned(),
        version: match &options.variant.version {
            Some(other) => version(&other.to_string(), mattermost.about.kind),
            None => version(VERSION, mattermost.about.kind),
        },
        build,
        built: crate::clock::rfc3339(build_time(project)),
        mattermost: mattermost.about.clone(),
        postgresql,
        epoch: rules.epoch,
    };
    stage.say("composing the root");
    let parts = compose::Parts {
        base: &base,
        loader: &loader,
        mattermost: &mattermost.tree,
        release: &to_json(&release)?,
        trust: &trust.text,
        test,
        postgresql: major,
        as_built: options.as_built,
    };
    let root = compose::root(project, &parts, work.join("root"))?;
    audit::check(&root.root, test)?;
    let initrd = work.join("initrd");
    atalaya_sys::durable::write(&initrd, &compose::initrd(project, &base)?, 0o644, None)?;
    stage.say("file systems, verity and UKI");
    let kernel = base.kernel()?;
    let disk = Disk {
        work: &work,
        root: &root.root,
        initrd: &initrd,
        kernel: &kernel,
        version: &release.version,
        partition: None,
    };
    let artifacts = make_disk(project, &mirrors, &disk)?;
    stage.say("licences and manifest");
    let crates = crates::in_image(project, test)?;
    let output = work.join("output");
    licences::write(
        project,
        &base,
        &crates,
        &mattermost.tree,
        &output.join("licences.tar.zst"),
    )?;
    // The bundle takes it from here: the cache may hold a newer one by then.
    let kept = output.join(artifacts::LOADER);
    fs::copy(&loader.path, &kept).during("copy", &loader.path)?;
    let manifest = Manifest {
        release,
        test,
        kernel,
        loader: Component {
            version: loader.version,
            sha256: loader.sha256,
        },
        update: Update {
            minimum_from: rules.minimum_from,
            forbidden_from: rules.forbidden_from,
            postgresql_from: match options.variant.next_postgresql {
                true => vec![base::POSTGRESQL],
                false => Vec::new(),
            },
            trust: trust.purpose,
            key_set: trust.key_set,
        },
        artifacts,
        packages,
        crates,
    };
    atalaya_sys::durable::write(
        &output.join("manifest.json"),
        to_json(&manifest)?.as_bytes(),
        0o644,
        None,
    )?;
    artifacts::put_into_place(&output, &output_folder)?;
    fs::remove_dir_all(&work).during("remove", &work)?;
    stage.finish(&format!(
        "atalaya {}, build {}",
        manifest.release.version, manifest.release.build
    ));
    Ok(Built {
        manifest,
        folder: output_folder,
        fallback,
    })
}

pub fn prepare_tools(
    project: &Project,
    mirrors: &Mirrors,
    refresh: bool,
    progress: &mut Progress,
) -> Result<Loader> {
    let stage = progress.stage("tools tree");
    let fresh = refresh || !tools::are_ready(project);
    if fresh {
        tools::make(project, mirrors)?;
    }
    if refresh && project.loader().exists() {
        fs::remove_dir_all(project.loader()).during("remove", &project.loader())?;
    }
    let loader = loader::prepare(project, mirrors)?;
    stage.finish(if fresh { "made" } else { "from the cache" });
    Ok(loader)
}

pub fn prepare_base(
    project: &Project,
    mirrors: &Mirrors,
    packages: base::Packages,
    refresh: bool,
    progress: &mut Progress,
) -> Result<Base> {
    let stage = progress.stage("packages");
    let fresh = refresh || !base::is_ready(project, packages)?;
    if fresh {
        base::make(project, mirrors, packages)?;
    }
    let base = base::open(project, packages)?;
    stage.finish(if fresh { "installed" } else { "from the cache" });
    Ok(base)
}

/// The same inputs have the same id, and such an image is not built twice.
fn build_id(
    project: &Project,
    base: &Base,
    loader: &Loader,
    release: &str,
    trust: &str,
    variant: &Variant,
) -> Result<String> {
    let test = variant.test;
    let mut inputs = Inputs::default();
    inputs.text("version", VERSION);
    inputs.text("variant", &variant.to_string());
    inputs.text("trust", trust);
    inputs.text("base", &base.id);
    inputs.text("loader", &loader.sha256);
    inputs.text("release", release);
    // The composing code itself.
    if let Ok(own) = std::env::current_exe() {
        inputs.path("builder", &own)?;
    }
    let sources = project.image_sources();
    for name in [
        "release.toml",
        "mkosi.conf",
        "mkosi.profiles",
        "mkosi.repart",
        "repart.d",
        "root.rules",
        "next-postgresql.rules",
        "directories.list",
    ] {
        inputs.path(name, &sources.join(name))?;
    }
    for overlay in compose::overlays(project, test)? {
        let name = overlay
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        inputs.path(&name, &overlay)?;
    }
    for program in PROGRAMS.iter().chain([&INIT]) {
        if program.place.is_some() && (test || !program.test) {
            inputs.path(program.binary, &programs::path(project, program))?;
        }
    }
    let mut id = inputs.finish();
    id.truncate(16);
    Ok(id)
}

pub fn existing(output: &Path, build: &str) -> Option<Manifest> {
    let text = fs::read_to_string(output.join("manifest.json")).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let complete = [
        &manifest.artifacts.disk,
        &manifest.artifacts.root,
        &manifest.artifacts.verity,
        &manifest.artifacts.uki,
    ]
    .into_iter()
    .all(|file| fs::metadata(output.join(&file.name)).is_ok_and(|data| data.len() == file.size));
    (manifest.release.build == build && complete).then_some(manifest)
}

/// What becomes a disk image.
pub struct Disk<'a> {
    pub work: &'a Path,
    pub root: &'a Path,
    pub initrd: &'a Path,
    pub kernel: &'a str,
    pub version: &'a str,
    /// One more file for systemd-repart: its name and its text.
    pub partition: Option<(&'a str, &'a str)>,
}

pub fn make_disk(project: &Project, mirrors: &Mirrors, disk: &Disk<'_>) -> Result<Artifacts> {
    let sources = disk_sources(project, disk.work, disk.kernel)?;
    if let Some((name, text)) = disk.partition {
        let file = sources.join("mkosi.repart").join(name);
        atalaya_sys::durable::write(&file, text.as_bytes(), 0o644, None)?;
    }
    let results = disk.work.join("disk");
    mkosi::run(
        project,
        mirrors,
        &mkosi::Run {
            profiles: &["disk"],
            from_next: &[],
            folder: &results,
            sources: &sources,
            arguments: vec![
                format!("--base-tree={}", disk.root.display()),
                format!("--initrd={}", disk.initrd.display()),
            ],
        },
    )?;
    artifacts::collect(&results, &disk.work.join("output"), disk.version)
}

/// A copy of the mkosi files in which the kernel's own file, which is in the UKI already, is left out of the root.
fn disk_sources(project: &Project, work: &Path, kernel: &str) -> Result<PathBuf> {
    let sources = work.join("mkosi");
    process::run(
        "copying the image's description",
        // -L: where a project's folder is but a link to another's, that one must not be changed.
        Command::new("cp")
            .arg("-rL")
            .arg(project.image_sources())
            .arg(&sources),
        &project.logs().join("copy.log"),
    )?;
    let file = sources.join("mkosi.repart/20-root-a.conf");
    let mut text = fs::read_to_string(&file).during("read", &file)?;
    text.push_str(&format!("ExcludeFiles=/usr/lib/modules/{kernel}/vmlinuz\n"));
    atalaya_sys::durable::write(&file, text.as_bytes(), 0o644, None)?;
    Ok(sources)
}

/// When the image was built, as far as it can be told reproducibly: SOURCE_DATE_EPOCH, else the time of the newest commit.
pub fn build_time(project: &Project) -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let committed = || {
        let output = Command::new("git")
            .args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"])
            .current_dir(&project.root)
            .output()
            .ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    given.or_else(committed).unwrap_or_else(now)
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

pub fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|source| Error::Io {
            operation: "write as JSON",
            object: "the manifest".to_owned(),
            source: source.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_never_changed_even_where_it_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        let file = real.join("mkosi.repart/20-root-a.conf");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::File::create(&file).unwrap();
        let root = folder.path().join("project");
        let work = root.join("build/work");
        fs::create_dir_all(&work).unwrap();
        std::os::unix::fs::symlink(&real, root.join("image")).unwrap();
        let project = Project::new(root, None);
        let copy = disk_sources(&project, &work, "6.0").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        let text = fs::read_to_string(copy.join("mkosi.repart/20-root-a.conf")).unwrap();
        assert_eq!(text, "ExcludeFiles=/usr/lib/modules/6.0/vmlinuz\n");
    }
}
