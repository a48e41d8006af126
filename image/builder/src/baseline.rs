//! The benchmark's baseline: the same Debian packages, kernel, initrd, verified root and Mattermost, with systemd as PID 1
//! and nginx in front. It decides only what is laid into that root, and shares every other step with the appliance's
//! build; it must never be shipped.

use crate::artifacts;
use crate::base::{Base, Packages};
use crate::compose::{self, OS_RELEASE};
use crate::digest::Inputs;
use crate::error::{IoContext, Result};
use crate::loader::Loader;
use crate::manifest::{Component, Manifest, Release, Update, VERSION, version};
use crate::mirrors;
use crate::pipeline::{self, Disk, Options};
use crate::programs::{self, PROGRAMS};
use crate::progress::Progress;
use crate::project::Project;
use crate::rules::Rules;
use crate::tree::{Modes, Tree};
use crate::{lock, preflight, release};
use atalaya_core::appliance::Appliance;
use atalaya_core::render::{self, Facts};
use std::fs;
use std::path::{Path, PathBuf};

/// The benchmark's machines have this much memory and so many processors.
const MEMORY: u64 = 1536 << 20;
const CPUS: u32 = 2;

/// Made with the image: who builds it has root, and a machine of systemd's would have been partitioned by an installer.
const DATA: &str = "[Partition]\nType=linux-generic\nLabel=atalaya-data\nFormat=xfs\n\
                    SizeMinBytes=8G\nSizeMaxBytes=8G\nSplitName=-\n";

/// Of the appliance's overlays only what is not about its units: users, names, the network's configuration.
const OVERLAYS: [&str; 2] = ["base", "network"];

/// Makes the first database in the same way as the appliance does. At later boots nothing of the project runs.
const FIRSTBOOT: &str = "atalaya-firstboot";

/// Builds what is not built yet into build/image-baseline.
pub fn build(project: &Project, options: &Options, progress: &mut Progress) -> Result<()> {
    preflight::check(project)?;
    let _lock = lock::take(project)?;
    let mirrors = mirrors::of_this_machine(
        Path::new("/etc/apt"),
        options.mirror.clone(),
        options.security_mirror.clone(),
    )?;
    let work = project.baseline_work();
    if work.exists() {
        fs::remove_dir_all(&work).during("remove", &work)?;
    }
    fs::create_dir_all(&work).during("create folder", &work)?;
    let loader = pipeline::prepare_tools(project, &mirrors, false, progress)?;
    if !options.as_built {
        let stage = progress.stage("Rust");
        programs::build(project)?;
        stage.finish("programs");
    }
    let stage = progress.stage("release");
    let mattermost = release::prepare(project, &options.release, &stage)?;
    stage.finish(&format!("Mattermost {}", mattermost.about.version));
    let packages = Packages::Baseline;
    let base = pipeline::prepare_base(project, &mirrors, packages, options.refresh, progress)?;

    let stage = progress.stage("baseline");
    let build = build_id(project, &base, &loader, &mattermost.about.sha256)?;
    if pipeline::existing(&project.baseline_output(), &build).is_some() {
        fs::remove_dir_all(&work).during("remove", &work)?;
        stage.finish("unchanged");
        return Ok(());
    }
    let release = Release {
        product: "atalaya-baseline".to_owned(),
        version: version(VERSION, mattermost.about.kind),
        build,
        built: crate::clock::rfc3339(pipeline::build_time(project)),
        mattermost: mattermost.about.clone(),
        postgresql: String::new(),
        epoch: 0,
    };
    stage.say("composing the root");
    let root = root(project, &base, &loader, &mattermost.tree, work.join("root"))?;
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
        partition: Some(("50-data.conf", DATA)),
    };
    let artifacts = pipeline::make_disk(project, &mirrors, &disk)?;
    let output = work.join("output");
    let manifest = Manifest {
        release,
        test: true,
        kernel,
        loader: Component {
            version: loader.version,
            sha256: loader.sha256,
        },
        // Nothing is ever updated to it.
        update: Update {
            minimum_from: String::new(),
            forbidden_from: Vec::new(),
            postgresql_from: Vec::new(),
            trust: atalaya_bundle::keys::Purpose::Development,
            key_set: 0,
        },
        artifacts,
        packages: base.packages()?,
        crates: Vec::new(),
    };
    let text = pipeline::to_json(&manifest)?;
    atalaya_sys::durable::write(&output.join("manifest.json"), text.as_bytes(), 0o644, None)?;
    artifacts::put_into_place(&output, &project.baseline_output())?;
    fs::remove_dir_all(&work).during("remove", &work)?;
    stage.finish("built");
    Ok(())
}

/// The same inputs have the same id, and such an image is not built twice.
fn build_id(project: &Project, base: &Base, loader: &Loader, release: &str) -> Result<String> {
    let mut inputs = Inputs::default();
    inputs.text("base", &base.id);
    inputs.text("loader", &loader.sha256);
    inputs.text("release", release);
    if let Ok(own) = std::env::current_exe() {
        inputs.path("builder", &own)?;
    }
    inputs.path("baseline", &project.baseline_sources())?;
    inputs.path("image", &project.image_sources().join("mkosi.profiles"))?;
    for overlay in OVERLAYS {
        inputs.path(overlay, &project.overlays().join(overlay))?;
    }
    inputs.path("init", &programs::path(project, &programs::INIT))?;
    let mut id = inputs.finish();
    id.truncate(16);
    Ok(id)
}

fn root(
    project: &Project,
    base: &Base,
    loader: &Loader,
    mattermost: &Path,
    place: PathBuf,
) -> Result<Tree> {
    let sources = project.baseline_sources();
    let rules = Rules::parse("root.rules", &rules_text(project)?)?;
    let tree = Tree::new(place)?;
    tree.lay(&base.tree, "", Modes::Kept, &|path| rules.takes(path))?;
    tree.file("/usr/lib/os-release", 0o644, OS_RELEASE.as_bytes())?;
    tree.link("/etc/os-release", "../usr/lib/os-release")?;
    tree.link("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")?;
    for overlay in OVERLAYS {
        let overlay = project.overlays().join(overlay);
        tree.lay(&overlay, "", Modes::Plain, &|path| {
            !path.starts_with("/usr/lib/atalaya")
        })?;
    }
    tree.lay(&sources.join("root"), "", Modes::Plain, &|_| true)?;
    let list = sources.join("masked.list");
    for unit in listed(&fs::read_to_string(&list).during("read", &list)?) {
        tree.link(&format!("/etc/systemd/system/{unit}"), "/dev/null")?;
    }
    write_configuration(&tree)?;
    for program in PROGRAMS.iter().filter(|it| it.binary == FIRSTBOOT) {
        let file = programs::path(project, program);
        tree.copy(&file, &format!("/usr/lib/atalaya/{FIRSTBOOT}"), 0o755)?;
    }
    // Stage 1 ends by executing this: the one thing that tells the two roots apart.
    tree.link("/usr/lib/atalaya/atalaya-init", "../systemd/systemd")?;
    tree.folder("/opt/mattermost", 0o755)?;
    tree.lay(mattermost, "/opt/mattermost", Modes::Plain, &|_| true)?;
    compose::make_directories(project, &tree)?;
    compose::lay_loader(project, &tree, loader)?;
    Ok(tree)
}

/// The baseline's own rules, and the appliance's about drivers: both roots hold the same.
fn rules_text(project: &Project) -> Result<String> {
    let own = project.baseline_sources().join("root.rules");
    let other = project.image_sources().join("root.rules");
    let mut text = fs::read_to_string(&own).during("read", &own)?;
    let appliance = fs::read_to_string(&other).during("read", &other)?;
    for line in appliance.lines().filter(|line| is_about_drivers(line)) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

fn is_about_drivers(line: &str) -> bool {
    line.starts_with("drop /usr/lib/modules/")
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// PostgreSQL and Mattermost read what they would read in an appliance of this size, from other places.
fn write_configuration(tree: &Tree) -> Result<()> {
    let facts = Facts {
        memory_bytes: MEMORY,
        cpus: CPUS,
        addresses: Vec::new(),
        found_site: Some(atalaya_core::appliance::SiteAddress::of_hostname(
            &Appliance::default().hostname,
        )),
        release: atalaya_core::release::Release {
            product: String::new(),
            version: String::new(),
            build: String::new(),
            built: String::new(),
            mattermost: atalaya_core::release::MattermostRelease {
                version: String::new(),
                kind: atalaya_core::release::Kind::Standin,
                source: String::new(),
                sha256: String::new(),
            },
            postgresql: String::new(),
            epoch: 0,
        },
    };
    let rendered = render::render(&Appliance::default(), &facts);
    for (name, text) in [
        ("postgresql.conf", &rendered.postgresql_conf),
        ("pg_hba.conf", &rendered.pg_hba_conf),
        ("pg_ident.conf", &rendered.pg_ident_conf),
        ("mattermost.env", &rendered.mattermost_env),
    ] {
        let text = moved(text);
        tree.file(&format!("/etc/baseline/{name}"), 0o644, text.as_bytes())?;
    }
    Ok(())
}

fn moved(text: &str) -> String {
    text.replace("/run/atalaya/conf/", "/etc/baseline/")
        .replace("/var/lib/mattermost/", "/data/mattermost/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_blank_lines() {
        let found: Vec<_> = listed("# a\n\n one.service \ntwo.socket\n").collect();
        assert_eq!(found, ["one.service", "two.socket"]);
    }

    #[test]
    fn only_the_appliances_rules_about_drivers_are_shared() {
        assert!(is_about_drivers("drop /usr/lib/modules/*/kernel/sound"));
        assert!(!is_about_drivers("drop /usr/lib/x86_64-linux-gnu/perl*"));
        assert!(!is_about_drivers("keep /usr/bin: kmod"));
    }

    #[test]
    fn configuration_points_to_the_baselines_places() {
        let text =
            moved("hba_file = '/run/atalaya/conf/pg_hba.conf'\nD=/var/lib/mattermost/files/");
        assert_eq!(
            text,
            "hba_file = '/etc/baseline/pg_hba.conf'\nD=/data/mattermost/files/"
        );
    }
}
