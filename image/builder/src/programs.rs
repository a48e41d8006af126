//! Builds our own programs with Cargo and knows where each goes in the image.

use crate::error::Result;
use crate::process;
use crate::project::Project;
use std::path::PathBuf;
use std::process::Command;

/// Statically linked, so that it runs in the initrd, where nothing else is.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// For size: PID 1 is in memory all the time, and has no hot loop (1.7 MiB of PSS instead of 1.9).
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C panic=abort -C opt-level=s";

pub struct Program {
    pub package: &'static str,
    pub binary: &'static str,
    /// Absolute in the image; `None`: used on this machine only.
    pub place: Option<&'static str>,
    /// Only in the test image.
    pub test: bool,
}

const fn installed(package: &'static str, binary: &'static str, place: &'static str) -> Program {
    Program {
        package,
        binary,
        place: Some(place),
        test: false,
    }
}

pub const INIT: Program = installed(
    "atalaya-init",
    "atalaya-init",
    "/usr/lib/atalaya/atalaya-init",
);

/// Makes the stand-in's tarball out of [`STANDIN_PARTS`], on this machine.
pub const STANDIN_RELEASE: Program = Program {
    package: "atalaya-standin",
    binary: "standin-release",
    place: None,
    test: false,
};

/// The programs of the stand-in, beside its maker.
pub const STANDIN_PARTS: [&str; 3] = ["standin-release", "mattermost", "mmctl"];

pub const PROGRAMS: [Program; 10] = [
    installed("atalayad", "atalayad", "/usr/lib/atalaya/atalayad"),
    installed(
        "atalayad",
        "atalaya-sandbox",
        "/usr/lib/atalaya/atalaya-sandbox",
    ),
    installed(
        "atalaya-edge",
        "atalaya-edge",
        "/usr/lib/atalaya/atalaya-edge",
    ),
    installed(
        "atalaya-firstboot",
        "atalaya-firstboot",
        "/usr/lib/atalaya/atalaya-firstboot",
    ),
    installed(
        "atalaya-probe",
        "atalaya-probe",
        "/usr/lib/atalaya/atalaya-probe",
    ),
    installed(
        "atalaya-console",
        "atalaya-console",
        "/usr/lib/atalaya/atalaya-console",
    ),
    installed(
        "atalaya-update",
        "atalaya-update",
        "/usr/lib/atalaya/atalaya-update",
    ),
    installed("atalaya", "atalaya", "/usr/bin/atalaya"),
    STANDIN_RELEASE,
    Program {
        package: "atalaya-agent",
        binary: "atalaya-agent",
        place: Some("/usr/lib/atalaya/atalaya-agent"),
        test: true,
    },
];

pub fn build(project: &Project) -> Result<()> {
    // The whole workspace, so that crates shared by its members have one set of features and are compiled once.
    process::run(
        "building the programs",
        cargo(project).args(["--workspace", "--bins"]),
        &project.logs().join("cargo.log"),
    )?;
    process::run(
        "building init",
        cargo(project)
            .args(["-p", INIT.package, "--target", STATIC_TARGET])
            .env("RUSTFLAGS", STATIC_FLAGS),
        &project.logs().join("cargo-init.log"),
    )
}

fn cargo(project: &Project) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(&project.root)
        // Set by a Cargo that runs this program; they would make it build everything again.
        .env_remove("CARGO_MANIFEST_DIR")
        .args(["build", "--release"]);
    command
}

pub fn path(project: &Project, program: &Program) -> PathBuf {
    let mut folder = project.build().join("cargo");
    if program.binary == INIT.binary {
        folder.push(STATIC_TARGET);
    }
    folder.join("release").join(program.binary)
}
