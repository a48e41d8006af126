//! What a unit sees, may do and may use up.

use serde::{Deserialize, Serialize};

use crate::unit::values::{Capability, DataSource, MemoryMax};

/// Limits of the unit's cgroup (v2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// More is not to be had: the kernel kills in the cgroup.
    pub memory_max: Option<MemoryMax>,
    /// On running out of memory all of the unit dies, not one process of it.
    pub memory_oom_group: bool,
    /// Processes and threads.
    #[cfg_attr(test, schemars(range(min = 1, max = 4194304)))]
    pub tasks_max: Option<u32>,
    /// 1 to 10000; 100 is everybody's.
    #[cfg_attr(test, schemars(range(min = 1, max = 10000)))]
    pub cpu_weight: Option<u32>,
    /// Hundredths of one processor: 150 is one and a half.
    #[cfg_attr(test, schemars(range(min = 1, max = 100000)))]
    pub cpu_percent: Option<u32>,
    /// 1 to 10000; 100 is everybody's.
    #[cfg_attr(test, schemars(range(min = 1, max = 10000)))]
    pub io_weight: Option<u32>,
}

/// What the unit sees and may do. The default is: nothing of /data, no device but the harmless, no capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The hidden shell is bound over /bin/sh.
    pub shell: bool,
    /// false: a network of its own with nothing but a loopback.
    pub network: bool,
    /// Shares System V and POSIX memory with the machine: only for those whose locks against a second start need it.
    pub machine_ipc: bool,
    /// Sees the processes of other users in /proc.
    pub all_processes: bool,
    /// Groups of system calls beside the common ones, or single ones; all others end in EPERM.
    pub syscalls: Vec<String>,
    /// Places below /run, /dev, /sys and /proc/sys that it may write to, besides its own runtime directories.
    pub writable: Vec<String>,
    /// In the bounding and the ambient set.
    pub capabilities: Vec<Capability>,
    /// Every capability, /data and the real /dev; for the few that set the machine up.
    pub privileged: bool,
    /// The real /dev.
    pub devices: bool,
    pub data: Vec<DataMount>,
    pub data_read: Vec<DataMount>,
    /// Those of the mounts above from which programs may be executed.
    pub exec_paths: Vec<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            shell: false,
            network: true,
            machine_ipc: false,
            all_processes: false,
            syscalls: Vec::new(),
            writable: Vec::new(),
            capabilities: Vec::new(),
            privileged: false,
            devices: false,
            data: Vec::new(),
            data_read: Vec::new(),
            exec_paths: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DataMount {
    pub source: DataSource,
    /// Where the unit sees it.
    pub path: String,
    /// Make the source where it is missing: mode 0700, owned by the unit's user.
    #[serde(default)]
    pub create: bool,
    /// Emptied before each start of the unit.
    #[serde(default)]
    pub empty: bool,
}
