//! What a process in the sandbox sees and what it cannot do. Each test runs one-shots and reads what they said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use support::script::{has, run};
use support::{Ground, put};

#[test]
fn unit_program() {
    support::play();
}

#[test]
fn an_ordinary_unit_has_no_power_and_sees_no_data() {
    let ground = Ground::new();
    put(&ground.path("data/secret"), "secret");
    let data = ground.path("data").display().to_string();
    let script = format!(
        "grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status | tr '\\t' ' '
         ls {data} | wc -l
         touch /etc/x 2>/dev/null || echo root is read-only
         touch {data}/x 2>/dev/null || echo data is closed
         touch /dev/x 2>/dev/null || echo dev is closed
         echo >/dev/null && echo null works
         touch /dev/shm/x && echo shm works
         touch /tmp/x && ls /tmp | tr '\\n' ' '
         umask
         cat /proc/self/oom_score_adj
         ulimit -n
         pwd
         echo env $(env | cut -d= -f1 | sort | tr '\\n' ' ')
         echo fds $(ls /proc/self/fd | tr '\\n' ' ')"
    );
    let lines = run(
        &ground,
        "user = \"nobody\"\ndirectory = \"/usr\"\noom_score_adj = 123\nrlimits = { nofile = 777 }\numask = \"0027\"\nenvironment = { GREETING = \"hi\" }\n",
        &script,
    );
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            has(&lines, &format!("{set}: 0000000000000000")),
            "{set}: {lines:#?}"
        );
    }
    for wanted in [
        "NoNewPrivs: 1",
        "Uid: 65534 65534 65534 65534",
        "0",
        "root is read-only",
        "data is closed",
        "dev is closed",
        "null works",
        "shm works",
        // The private /tmp is empty; then the umask.
        "x 0027",
        "123",
        "777",
        "/usr",
        "env GREETING HOME LANG LOGNAME NOTIFY_SOCKET PATH PWD USER",
        // 3 is ls's own.
        "fds 0 1 2 3",
    ] {
        assert!(has(&lines, wanted), "{wanted:?} is not in {lines:#?}");
    }
}

#[test]
fn root_in_the_sandbox_is_root_without_power() {
    let ground = Ground::new();
    let lines = run(
        &ground,
        "",
        "grep -E '^Cap(Eff|Bnd)' /proc/self/status | tr '\\t' ' '
         mount -t tmpfs none /mnt 2>/dev/null || echo cannot mount
         chown nobody /tmp 2>/dev/null || echo cannot chown",
    );
    for wanted in [
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "cannot mount",
        "cannot chown",
    ] {
        assert!(has(&lines, wanted), "{wanted:?} is not in {lines:#?}");
    }
}

#[test]
fn capabilities_are_exactly_the_listed_ones_for_an_ordinary_user() {
    let ground = Ground::new();
    let lines = run(
        &ground,
        "user = \"nobody\"\n[sandbox]\ncapabilities = [\"CAP_NET_BIND_SERVICE\", \"CAP_SYS_TIME\"]\n",
        "grep ^Cap /proc/self/status | tr '\\t' ' '",
    );
    // Bits 10 and 25 of linux/capability.h.
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            has(&lines, &format!("{set}: 0000000002000400")),
            "{set}: {lines:#?}"
        );
    }
}

#[test]
fn data_is_mounted_as_the_unit_file_says() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path("data/shared")).unwrap();
    put(&ground.path("data/shared/note"), "note");
    let lines = run(
        &ground,
        "user = \"nobody\"\n[sandbox]\ndata = [{ source = \"gen:own\", path = \"/mnt\", create = true }, { source = \"data:tools\", path = \"/mnt/tools\", create = true }]\ndata_read = [{ source = \"data:shared\", path = \"/srv\" }, { source = \"gen:.\", path = \"/opt\" }]\nexec_paths = [\"/mnt/tools\"]\n",
        "stat -c '%U %a' /mnt
         echo x >/mnt/file && echo writes
         cat /srv/note && echo
         echo generation: $(ls /opt)
         echo x 2>/dev/null >/srv/x || echo shared is read-only
         cp /bin/true /mnt/true && chmod +x /mnt/true
         /mnt/true 2>/dev/null || echo no programs here
         cp /bin/true /mnt/tools/true && /mnt/tools/true && echo programs there",
    );
    for wanted in [
        "nobody 700",
        "writes",
        "note",
        "generation: own",
        "shared is read-only",
        "no programs here",
        "programs there",
    ] {
        assert!(has(&lines, wanted), "{wanted:?} is not in {lines:#?}");
    }
    assert!(ground.path("data/gen/1/own/file").is_file());
}

#[test]
fn a_unit_without_network_has_a_loopback_of_its_own() {
    let ground = Ground::new();
    let own = std::fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    let script = "readlink /proc/self/ns/net; echo devices $(ls /sys/class/net 2>/dev/null | wc -l); cut -d: -f1 /proc/self/net/dev | tail -n +3 | tr -d ' '; cat /proc/self/net/if_inet6 | cut -c1-32";
    let lines = run(&ground, "[sandbox]\nnetwork = false\n", script);
    assert!(!has(&lines, &own), "{lines:#?}");
    assert!(has(&lines, "lo") && !has(&lines, "eth0"), "{lines:#?}");
    // ::1 is there only when lo is up.
    assert!(
        has(&lines, "00000000000000000000000000000001"),
        "{lines:#?}"
    );
}

#[test]
fn a_privileged_unit_keeps_its_power_and_sees_data() {
    let ground = Ground::new();
    put(&ground.path("data/secret"), "secret");
    let data = ground.path("data").display().to_string();
    let script = format!(
        "cat {data}/secret; echo; grep ^CapEff /proc/self/status; grep NoNewPrivs /proc/self/status | tr '\\t' ' '; mount -t tmpfs none /mnt && echo mounts; touch /mnt/x"
    );
    let lines = run(&ground, "[sandbox]\nprivileged = true\n", &script);
    assert!(
        has(&lines, "secret") && has(&lines, "mounts") && has(&lines, "NoNewPrivs: 1"),
        "{lines:#?}"
    );
    assert!(!has(&lines, "CapEff:\t0000000000000000"), "{lines:#?}");
    // What it mounts stays its own.
    assert!(!std::path::Path::new("/mnt/x").exists());
}

#[test]
fn runtime_directories_are_made_once_for_their_user() {
    let ground = Ground::new();
    let directory = ground.path("run/own");
    let lines = run(
        &ground,
        &format!(
            "user = \"nobody\"\nruntime_directories = [{{ path = \"{}\", mode = \"0750\" }}]\n",
            directory.display()
        ),
        &format!(
            "stat -c '%U %a' {0}; touch {0}/x && echo writes",
            directory.display()
        ),
    );
    assert!(
        has(&lines, "nobody 750") && has(&lines, "writes"),
        "{lines:#?}"
    );
    assert!(directory.join("x").exists());
}

#[test]
fn what_is_to_start_empty_starts_empty_and_links_lead_nowhere() {
    let ground = Ground::new();
    std::fs::create_dir_all(ground.path("data/gen/1/scratch/left")).unwrap();
    put(&ground.path("data/gen/1/scratch/left/over"), "old");
    put(&ground.path("data/gen/1/kept"), "beside it");
    std::os::unix::fs::symlink(
        ground.path("data/gen/1/kept"),
        ground.path("data/gen/1/scratch/link"),
    )
    .unwrap();
    let lines = run(
        &ground,
        "[sandbox]\ndata = [{ source = \"gen:scratch\", path = \"/mnt\", empty = true }]\n",
        "ls -A /mnt; echo new > /mnt/new && echo writes",
    );
    assert!(has(&lines, "writes"), "{lines:#?}");
    assert!(!has(&lines, "left") && !has(&lines, "link"), "{lines:#?}");
    assert!(ground.path("data/gen/1/scratch/new").exists());
    assert!(ground.path("data/gen/1/kept").exists());
}
