//! Which system calls a unit may make: groups of them in the manner of systemd's `@system-service`, some for everybody,
//! some to be asked for (`sandbox.syscalls`: "@clock", or the name of a single call). What is in no group nobody gets.

use std::collections::BTreeSet;

use nix::libc;

/// Calls that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// With its "@".
    pub name: &'static str,
    /// Why it is for everybody, or what it lets its owner do.
    pub why: &'static str,
    /// Every unit has it.
    pub common: bool,
    calls: &'static [(&'static str, libc::c_long)],
}

macro_rules! group {
    ($name:literal, $common:literal, $why:literal, $($call:ident)*) => {
        Group { name: $name, why: $why, common: $common, calls: &[$((stringify!($call), libc::$call)),*] }
    };
}

/// All that can be given. The rest of the kernel's calls are obsolete, dangerous or of no use to a unit.
pub const GROUPS: &[Group] = &[
    group!("@default", true, "a program starts, asks for memory and threads, waits and ends",
        SYS_arch_prctl SYS_brk SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_execve SYS_exit
        SYS_exit_group SYS_futex SYS_futex_waitv SYS_get_robust_list SYS_get_thread_area SYS_getegid SYS_geteuid
        SYS_getgid SYS_getgroups SYS_getpgid SYS_getpgrp SYS_getpid SYS_getppid SYS_getrandom SYS_getresgid
        SYS_getresuid SYS_getrlimit SYS_getsid SYS_gettid SYS_gettimeofday SYS_getuid SYS_madvise SYS_membarrier
        SYS_mmap SYS_mprotect SYS_mremap SYS_mseal SYS_munmap SYS_nanosleep SYS_pause SYS_prlimit64
        SYS_restart_syscall SYS_rseq SYS_rt_sigreturn SYS_sched_getaffinity SYS_sched_yield SYS_set_robust_list
        SYS_set_thread_area SYS_set_tid_address SYS_time SYS_uname SYS_sysinfo SYS_getcpu SYS_umask),
    group!("@basic-io", true, "reads and writes what is open",
        SYS_close SYS_close_range SYS_dup SYS_dup2 SYS_dup3 SYS_lseek SYS_pread64 SYS_preadv SYS_preadv2
        SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readv SYS_write SYS_writev SYS_sendfile SYS_splice
        SYS_tee SYS_copy_file_range SYS_ioctl SYS_fcntl SYS_flock SYS_fadvise64 SYS_readahead),
    group!("@file-system", true, "which files, the mounts and Landlock decide",
        SYS_access SYS_chdir SYS_chmod SYS_creat SYS_faccessat SYS_faccessat2 SYS_fallocate SYS_fchdir
        SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fgetxattr SYS_flistxattr SYS_fremovexattr SYS_fsetxattr
        SYS_fstat SYS_fstatfs SYS_ftruncate SYS_futimesat SYS_getcwd SYS_getdents SYS_getdents64 SYS_getxattr
        SYS_inotify_add_watch SYS_inotify_init SYS_inotify_init1 SYS_inotify_rm_watch SYS_lgetxattr SYS_link
        SYS_linkat SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lsetxattr SYS_lstat SYS_mkdir SYS_mkdirat
        SYS_mknod SYS_mknodat SYS_name_to_handle_at SYS_newfstatat SYS_open SYS_openat SYS_openat2 SYS_readlink
        SYS_readlinkat SYS_removexattr SYS_rename SYS_renameat SYS_renameat2 SYS_rmdir SYS_setxattr SYS_stat
        SYS_statfs SYS_statx SYS_symlink SYS_symlinkat SYS_truncate SYS_unlink SYS_unlinkat SYS_utime
        SYS_utimensat SYS_utimes),
    group!("@chown", true, "without CAP_CHOWN only among the unit's own groups",
        SYS_chown SYS_fchown SYS_fchownat SYS_lchown),
    group!("@io-event", true, "waits for what is open",
        SYS_epoll_create SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_epoll_wait
        SYS_eventfd SYS_eventfd2 SYS_poll SYS_ppoll SYS_pselect6 SYS_select),
    group!("@aio", true, "the old asynchronous I/O, which databases use",
        SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit),
    group!("@ipc", true, "within the unit's own IPC namespace",
        SYS_memfd_create SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend
        SYS_mq_unlink SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_pipe SYS_pipe2 SYS_semctl SYS_semget
        SYS_semop SYS_semtimedop SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget),
    group!("@network-io", true, "sockets; whom they reach, the network namespace decides",
        SYS_accept SYS_accept4 SYS_bind SYS_connect SYS_getpeername SYS_getsockname SYS_getsockopt SYS_listen
        SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_setsockopt SYS_shutdown
        SYS_socket SYS_socketpair),
    group!("@process", true, "children and threads, none of them in a new namespace",
        SYS_capget SYS_capset SYS_clone SYS_clone3 SYS_execveat SYS_fork SYS_getpriority SYS_getrusage SYS_kill
        SYS_pidfd_open SYS_pidfd_send_signal SYS_prctl SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_setpgid
        SYS_setsid SYS_tgkill SYS_times SYS_tkill SYS_vfork SYS_wait4 SYS_waitid SYS_personality),
    group!("@resources", true, "its own priority and placement",
        SYS_get_mempolicy SYS_ioprio_get SYS_ioprio_set SYS_mbind SYS_mincore SYS_sched_get_priority_max
        SYS_sched_get_priority_min SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
        SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
        SYS_sched_setscheduler SYS_set_mempolicy SYS_setpriority SYS_setrlimit),
    group!("@signal", true, "takes signals",
        SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigsuspend SYS_rt_sigtimedwait
        SYS_sigaltstack SYS_signalfd SYS_signalfd4),
    group!("@sync", true, "makes data safe",
        SYS_fdatasync SYS_fsync SYS_msync SYS_sync SYS_sync_file_range SYS_syncfs),
    group!("@timer", true, "waits for a time",
        SYS_alarm SYS_getitimer SYS_setitimer SYS_timer_create SYS_timer_delete SYS_timer_getoverrun
        SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime),
    group!("@memlock", true, "keeps secrets out of swap, as far as its limit goes",
        SYS_mlock SYS_mlock2 SYS_mlockall SYS_munlock SYS_munlockall),
    group!("@setuid", true, "without CAP_SETUID and CAP_SETGID only to what it is already",
        SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid
        SYS_setuid),
    group!("@sandbox", true, "gives up more by itself (chronyd's own filter)",
        SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_seccomp),
    group!("@clock", false, "sets the time (with CAP_SYS_TIME)",
        SYS_adjtimex SYS_clock_adjtime SYS_clock_settime SYS_settimeofday),
    group!("@module", false, "loads drivers (with CAP_SYS_MODULE)",
        SYS_delete_module SYS_finit_module SYS_init_module),
    group!("@mount", false, "mounts (with CAP_SYS_ADMIN)",
        SYS_chroot SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_mount SYS_mount_setattr SYS_move_mount
        SYS_open_tree SYS_pivot_root SYS_umount2),
    group!("@hostname", false, "names the machine (with CAP_SYS_ADMIN)",
        SYS_setdomainname SYS_sethostname),
    group!("@namespaces", false, "makes and enters namespaces",
        SYS_setns SYS_unshare),
    group!("@keyring", false, "the kernel's key ring",
        SYS_add_key SYS_keyctl SYS_request_key),
    group!("@io-uring", false, "system calls by a queue that no filter sees",
        SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup),
    group!("@raw-io", false, "the machine's ports (with CAP_SYS_RAWIO)",
        SYS_ioperm SYS_iopl),
    group!("@debug", false, "reads and changes other processes",
        SYS_kcmp SYS_perf_event_open SYS_pidfd_getfd SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace),
    group!(
        "@bpf",
        false,
        "programs in the kernel (with CAP_BPF)",
        SYS_bpf
    ),
    group!("@reboot", false, "ends the machine (with CAP_SYS_BOOT)",
        SYS_kexec_file_load SYS_kexec_load SYS_reboot),
];

/// What a unit may call: the common groups and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub numbers: BTreeSet<i64>,
    /// Groups, the common ones too.
    pub groups: Vec<&'static str>,
    /// What was asked for by its own name.
    pub single: Vec<String>,
}

/// Resolves `sandbox.syscalls`.
///
/// # Errors
/// A name that is not there, with what is allowed.
pub fn allow(asked: &[String]) -> Result<Allowed, String> {
    let wanted = |group: &&Group| group.common || asked.iter().any(|name| name == group.name);
    let given: Vec<&Group> = GROUPS.iter().filter(wanted).collect();
    let mut allowed = Allowed {
        numbers: given
            .iter()
            .flat_map(|group| group.calls)
            .map(|(_, number)| *number)
            .collect(),
        groups: given.iter().map(|group| group.name).collect(),
        single: Vec::new(),
    };
    for name in asked {
        if allowed.groups.contains(&name.as_str()) {
            continue;
        }
        let Some(number) = number_of(name) else {
            let groups: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
            return Err(format!(
                "{name:?} in sandbox.syscalls is neither a group nor a system call that can be given: allowed are {} and \
                 single calls of them such as \"clock_adjtime\"",
                groups.join(", ")
            ));
        };
        allowed.numbers.insert(number);
        allowed.single.push(name.clone());
    }
    Ok(allowed)
}

fn number_of(name: &str) -> Option<i64> {
    GROUPS
        .iter()
        .flat_map(|group| group.calls)
        .find(|(call, _)| call.strip_prefix("SYS_") == Some(name))
        .map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_given() {
        let common = allow(&[]).unwrap();
        assert!(common.numbers.contains(&libc::SYS_read));
        for dangerous in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_ptrace,
            libc::SYS_clock_settime,
            libc::SYS_reboot,
            libc::SYS_init_module,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
        ] {
            assert!(!common.numbers.contains(&dangerous), "{dangerous}");
        }
        let more = allow(&["@clock".into(), "bpf".into(), "@sync".into()]).unwrap();
        let added: Vec<i64> = more.numbers.difference(&common.numbers).copied().collect();
        assert_eq!(added.len(), 5, "{added:?}");
        assert!(more.groups.contains(&"@clock") && more.single == ["bpf"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_is_allowed() {
        for name in ["@everything", "clock", "sys_read", ""] {
            let error = allow(&[name.to_owned()]).unwrap_err();
            assert!(error.contains(&format!("{name:?}")), "{error}");
            assert!(error.contains("@clock, @module"), "{error}");
        }
    }

    #[test]
    fn each_call_is_in_one_group() {
        let mut seen = BTreeSet::new();
        for (name, _) in GROUPS.iter().flat_map(|group| group.calls) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
