//! Where things are. The defaults are the appliance's; tests give their own by flags.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[derive(Clone, Debug)]
pub struct Options {
    /// Unit files.
    pub units: PathBuf,
    /// /run/atalaya
    pub run: PathBuf,
    /// None: there is no data partition, or it could not be mounted.
    pub data: Option<PathBuf>,
    /// Root of the cgroup v2 tree.
    pub cgroup: PathBuf,
    /// The helper that builds sandboxes.
    pub sandbox: PathBuf,
    /// The hidden shell.
    pub shell: PathBuf,
    pub release: PathBuf,
    /// The slot that was booted.
    pub slot: String,
    /// Which generation of /data is in use; none if this version has no data of its own.
    pub generation: Option<u32>,
    /// EFI variables.
    pub variables: PathBuf,
    /// Where udevd shows file systems by their labels.
    pub labels: PathBuf,
    /// How long a migration may get nowhere, in milliseconds, if it is not what the configuration says.
    pub patience_ms: Option<u64>,
    /// No init above: reap here. For tests.
    pub no_init: bool,
    /// Write to the consoles and the status port.
    pub consoles: bool,
}

impl Options {
    /// # Errors
    /// An argument that is not known.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let absent = std::env::var("ATALAYA_DATA").is_ok_and(|value| value == "absent");
        let mut options = Self {
            units: "/usr/lib/atalaya/units".into(),
            run: "/run/atalaya".into(),
            data: Some("/data".into()),
            cgroup: "/sys/fs/cgroup".into(),
            sandbox: "/usr/lib/atalaya/atalaya-sandbox".into(),
            shell: "/usr/lib/atalaya/private/sh".into(),
            release: "/usr/lib/atalaya/release.json".into(),
            slot: String::new(),
            generation: Some(1),
            variables: "/sys/firmware/efi/efivars".into(),
            labels: "/dev/disk/by-label".into(),
            patience_ms: None,
            no_init: false,
            consoles: true,
        };
        let mut arguments = arguments.skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--units" => options.units = value()?.into(),
                "--run" => options.run = value()?.into(),
                "--data" => options.data = Some(value()?.into()),
                "--cgroup" => options.cgroup = value()?.into(),
                "--sandbox" => options.sandbox = value()?.into(),
                "--shell" => options.shell = value()?.into(),
                "--release" => options.release = value()?.into(),
                "--variables" => options.variables = value()?.into(),
                "--labels" => options.labels = value()?.into(),
                "--patience-ms" => options.patience_ms = Some(value()?.parse()?),
                "--no-init" => options.no_init = true,
                "--no-consoles" => options.consoles = false,
                _ => bail!("unknown argument {flag}"),
            }
        }
        if absent {
            options.data = None;
        }
        options.slot =
            read_slot(&options.run.join("boot.json")).unwrap_or_else(|| "none".to_owned());
        Ok(options)
    }
}

impl Options {
    /// Where the wish that users stay out is kept; nowhere without /data.
    pub fn maintenance(&self) -> Option<PathBuf> {
        let data = self.data.as_ref()?;
        Some(data.join("state/maintenance.json"))
    }
}

impl Options {
    /// /run/atalaya/update: what the units of an update are asked and answer.
    pub fn update(&self) -> PathBuf {
        self.run.join("update")
    }

    /// Where the record of updates is kept; nowhere without /data.
    pub fn update_record(&self) -> Option<PathBuf> {
        Some(self.data.as_ref()?.join("update"))
    }
}

/// Stage 1 writes down from what it booted.
fn read_slot(record: &Path) -> Option<String> {
    let text = std::fs::read(record).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(record.get("slot")?.as_str()?.to_owned())
}
