//! Composes the image's root: Debian's packages by the rules, overlays, our programs, the Mattermost release, and the last
//! steps that make it an appliance. It decides what lies where; it does not build or download anything.

use crate::base::{self, Base};
use crate::error::{Error, IoContext, Result};
use crate::loader::Loader;
use crate::programs::{INIT, PROGRAMS};
use crate::project::Project;
use crate::rules::Rules;
use crate::tree::{Modes, Tree};
use crate::{cpio, modules, programs};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Parts<'a> {
    pub base: &'a Base,
    pub loader: &'a Loader,
    /// The unpacked release: what becomes /opt/mattermost.
    pub mattermost: &'a Path,
    /// The text of /usr/lib/atalaya/release.json.
    pub release: &'a str,
    /// The text of /usr/lib/atalaya/update-trust.json.
    pub trust: &'a str,
    pub test: bool,
    /// The major version of its PostgreSQL.
    pub postgresql: u32,
    /// Leave out programs that were never built.
    pub as_built: bool,
}

/// Names the system to the boot loader. It has no version on purpose: the loader must order entries by file name only.
pub const OS_RELEASE: &str = "NAME=Atalaya\nPRETTY_NAME=Atalaya\nID=atalaya\nID_LIKE=debian\n";

/// A menu would wait for nobody, and an editor would let anybody change the command line.
const LOADER_CONF: &str = "timeout 0\neditor no\nauto-entries no\nreboot-on-error yes\n";

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

const POWER_COMMANDS: [&str; 3] = ["poweroff", "reboot", "halt"];

/// The folders of overlays/ that belong into an image, in the order of their names; `test` only into the test image.
pub fn overlays(project: &Project, test: bool) -> Result<Vec<PathBuf>> {
    let folder = project.overlays();
    let mut found: Vec<PathBuf> = fs::read_dir(&folder)
        .during("list", &folder)?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter(|entry| test || entry.file_name() != "test")
        .map(|entry| entry.path())
        .collect();
    // The test overlay lies on top.
    found.sort_by_key(|path| (path.ends_with("test"), path.clone()));
    Ok(found)
}

pub fn root(project: &Project, parts: &Parts<'_>, place: PathBuf) -> Result<Tree> {
    let mut rules = rules(project, "root.rules")?;
    if parts.postgresql != base::POSTGRESQL {
        rules.extend(self::rules(project, "next-postgresql.rules")?);
    }
    let tree = Tree::new(place)?;
    tree.lay(&parts.base.tree, "", Modes::Kept, &|path| rules.takes(path))?;
    hide_shell(&tree, &parts.base.tree)?;
    tree.file("/usr/lib/os-release", 0o644, OS_RELEASE.as_bytes())?;
    tree.link("/etc/os-release", "../usr/lib/os-release")?;
    tree.link("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")?;
    // Empty: a machine's own id is laid over it.
    tree.file("/etc/machine-id", 0o444, b"")?;
    for overlay in overlays(project, parts.test)? {
        tree.lay(&overlay, "", Modes::Plain, &|_| true)?;
    }
    if parts.postgresql != base::POSTGRESQL {
        raise_postgresql(&tree, parts.postgresql)?;
    }
    install_programs(project, &tree, parts)?;
    tree.folder("/opt/mattermost", 0o755)?;
    tree.lay(parts.mattermost, "/opt/mattermost", Modes::Plain, &|_| true)?;
    tree.file(
        "/usr/lib/atalaya/release.json",
        0o644,
        parts.release.as_bytes(),
    )?;
    tree.file(
        "/usr/lib/atalaya/update-trust.json",
        0o644,
        parts.trust.as_bytes(),
    )?;
    let repart = project.image_sources().join("repart.d");
    tree.folder("/usr/lib/atalaya/repart.d", 0o755)?;
    tree.lay(&repart, "/usr/lib/atalaya/repart.d", Modes::Plain, &|_| {
        true
    })?;
    make_directories(project, &tree)?;
    lay_loader(project, &tree, parts.loader)?;
    Ok(tree)
}

fn rules(project: &Project, name: &str) -> Result<Rules> {
    let file = project.image_sources().join(name);
    let text = fs::read_to_string(&file).during("read", &file)?;
    Rules::parse(&format!("image/{name}"), &text)
}

/// The unit files as they will be once they name another major version.
fn raise_postgresql(tree: &Tree, major: u32) -> Result<()> {
    const UNITS: &str = "/usr/lib/atalaya/units";
    let (before, after) = (
        format!("/postgresql/{}", base::POSTGRESQL),
        format!("/postgresql/{major}"),
    );
    let folder = tree.at(UNITS);
    for entry in fs::read_dir(&folder).during("list", &folder)? {
        let path = entry.during("list", &folder)?.path();
        let text = fs::read_to_string(&path).during("read", &path)?;
        if text.contains(&before) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = text.replace(&before, &after);
            tree.file(&format!("{UNITS}/{name}"), 0o644, text.as_bytes())?;
        }
    }
    Ok(())
}

/// What mkosi and the firmware need to boot it.
pub fn lay_loader(project: &Project, tree: &Tree, loader: &Loader) -> Result<()> {
    tree.copy(
        &loader.path,
        "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        0o644,
    )?;
    // The stub is Debian 13's, as its kernel is; only the loader has to be newer.
    tree.copy(
        &project.tools().join(STUB.trim_start_matches('/')),
        STUB,
        0o644,
    )?;
    tree.file("/efi/loader/loader.conf", 0o644, LOADER_CONF.as_bytes())
}

/// initdb needs a shell, so there is one, outside every path and in a folder that only root enters; units that need it get
/// it bound over the empty /usr/bin/sh.
fn hide_shell(tree: &Tree, base: &Path) -> Result<()> {
    tree.copy(
        &base.join("usr/bin/dash"),
        "/usr/lib/atalaya/private/sh",
        0o755,
    )?;
    tree.folder("/usr/lib/atalaya/private", 0o700)?;
    tree.file("/usr/bin/sh", 0o644, b"")
}

fn install_programs(project: &Project, tree: &Tree, parts: &Parts<'_>) -> Result<()> {
    for program in PROGRAMS.iter().chain([&INIT]) {
        let Some(place) = program.place else { continue };
        let file = programs::path(project, program);
        if (program.test && !parts.test) || (parts.as_built && !file.exists()) {
            continue;
        }
        tree.copy(&file, place, 0o755)?;
    }
    for name in POWER_COMMANDS {
        tree.link(
            &format!("/usr/sbin/{name}"),
            "/usr/lib/atalaya/atalaya-init",
        )?;
    }
    Ok(())
}

pub fn make_directories(project: &Project, tree: &Tree) -> Result<()> {
    let file = project.image_sources().join("directories.list");
    let text = fs::read_to_string(&file).during("read", &file)?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = line.split_once(' ').and_then(|(path, mode)| {
            let mode = u32::from_str_radix(mode.trim(), 8).ok()?;
            path.starts_with('/').then_some((path, mode))
        });
        let (path, mode) = parsed.ok_or_else(|| Error::Syntax {
            file: "image/directories.list".to_owned(),
            line: number + 1,
            problem: "expected `/PATH MODE`".to_owned(),
        })?;
        tree.folder(path, mode)?;
    }
    Ok(())
}

/// The initrd: our init and the modules that reach and check the root, nothing else.
pub fn initrd(project: &Project, base: &Base) -> Result<Vec<u8>> {
    let release = base.kernel()?;
    let folder = base.tree.join("usr/lib/modules").join(&release);
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).during("read", &path)
    };
    let order = modules::plan(
        &modules::Tables {
            dep: &text("modules.dep")?,
            softdep: &text("modules.softdep")?,
            alias: &text("modules.alias")?,
            builtin: &text("modules.builtin")?,
        },
        &modules::WANTED,
    )
    .map_err(|what| Error::KernelModule { what })?;

    let mut archive = cpio::Archive::default();
    for name in [
        "dev",
        "etc",
        "etc/atalaya-stage1",
        "proc",
        "root",
        "run",
        "sys",
        "modules",
    ] {
        archive.folder(name);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    // Where there is no console the standard streams are closed, and a Rust program opens this one for them or aborts.
    archive.character_device("dev/null", 0o666, 1, 3);
    let mut list = String::new();
    for path in &order {
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = folder.join(path);
        let bytes = fs::read(&file).during("read", &file)?;
        let place = format!("modules/{name}");
        archive.file(&place, 0o644, &bytes);
        list.push_str(&format!("/{place}\n"));
    }
    archive.file("etc/atalaya-stage1/modules", 0o644, list.as_bytes());
    let init = programs::path(project, &INIT);
    archive.file("init", 0o755, &fs::read(&init).during("read", &init)?);
    Ok(archive.finish())
}
