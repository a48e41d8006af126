//! What a unit cannot do, wall by wall, and that each wall can be opened by the unit file where it says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use atalaya_core::unit::parse_unit;
use atalayad::options::Options;
use support::script::{act, has, refused, run, says};
use support::{Ground, put};

#[test]
fn unit_program() {
    support::play();
}

/// An ordinary user who is nobody's on this machine.
const USER: &str = "user = \"nobody\"\n";
const NOBODY: u32 = 65534;

#[test]
fn signals_and_limits_are_not_inherited() {
    let ground = Ground::new();
    let lines = run(
        &ground,
        &format!("{USER}rlimits = {{ nofile = 555, core = 4096 }}\n"),
        "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr '\\t' ' '
         tr -s ' ' < /proc/self/limits",
    );
    says(
        &lines,
        &[
            "SigBlk: 0000000000000000",
            // The helper is a Rust program, and those ignore SIGPIPE.
            "SigIgn: 0000000000000000",
            "Max open files 555 555 files ",
            "Max core file size 4096 4096 bytes ",
            "Max cpu time unlimited unlimited seconds ",
            "Max msgqueue size 819200 819200 bytes ",
            "Max realtime priority 0 0 ",
        ],
    );
    let lines = run(&ground, USER, "ulimit -c; ulimit -s");
    says(&lines, &["0", "8192"]);
}

#[test]
fn calls_that_no_unit_needs_end_in_eperm() {
    let ground = Ground::new();
    let lines = act(&ground, "walls", USER);
    says(
        &lines,
        &[
            "thread: done",
            "child: exit status: 0",
            "namespace: EPERM",
            "trace: EPERM",
        ],
    );
}

#[test]
fn a_group_of_calls_can_be_asked_for() {
    let ground = Ground::new();
    let extra = format!("{USER}[sandbox]\nsyscalls = [\"@debug\"]\n");
    says(
        &act(&ground, "walls", &extra),
        &["namespace: EPERM", "trace: done"],
    );
}

#[test]
fn an_unknown_call_is_refused_with_what_is_allowed() {
    let reason = refused(&Ground::new(), "[sandbox]\nsyscalls = [\"@everything\"]\n");
    assert!(
        reason.contains("\"@everything\"") && reason.contains("allowed are @default"),
        "{reason}"
    );
}

/// Something of the same user outside: a process, a port, an abstract socket.
struct Outside {
    process: Child,
    _listener: TcpListener,
    _socket: UnixListener,
    role: String,
}

impl Outside {
    fn new() -> Self {
        let process = Command::new("sleep")
            .arg("600")
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = format!("atalaya-walls-{}", process.id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self {
            role: format!("reach {} {port} {name}", process.id()),
            process,
            _listener: listener,
            _socket: UnixListener::bind_addr(&address).unwrap(),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn landlock_keeps_a_unit_from_strangers() {
    let (ground, outside) = (Ground::new(), Outside::new());
    says(
        &act(&ground, &outside.role, USER),
        &[
            "signal: PermissionDenied",
            "abstract: PermissionDenied",
            "connect: done",
            "bind: done",
        ],
    );
    // Whoever asks by a signal whether the owner of an old lock lives.
    let extra = format!("{USER}[sandbox]\nmachine_ipc = true\n");
    says(&act(&ground, &outside.role, &extra), &["signal: done"]);
}

#[test]
fn without_network_there_is_no_tcp_at_all() {
    let (ground, outside) = (Ground::new(), Outside::new());
    let extra = format!("{USER}[sandbox]\nnetwork = false\n");
    // Not "refused", which its own loopback would say.
    says(
        &act(&ground, &outside.role, &extra),
        &["connect: PermissionDenied", "bind: PermissionDenied"],
    );
}

#[test]
fn whose_sockets_are_opened_for_it_opens_none() {
    let (ground, outside) = (Ground::new(), Outside::new());
    let port = support::free_port();
    let extra = format!("{USER}listen = [{{ name = \"web\", address = \"127.0.0.1:{port}\" }}]\n");
    says(
        &act(&ground, &outside.role, &extra),
        &["connect: done", "bind: PermissionDenied"],
    );
}

#[test]
fn landlock_holds_where_owners_and_mounts_would_not() {
    let ground = Ground::new();
    let script = "echo 500 2>/dev/null > /proc/self/oom_score_adj && echo written || echo refused";
    says(&run(&ground, "", script), &["refused"]);
    says(&run(&ground, USER, script), &["written"]);
    // The kernel lets nobody mount who is under Landlock.
    let mounting = "[sandbox]\ncapabilities = [\"CAP_SYS_ADMIN\"]\nsyscalls = [\"@mount\"]\n";
    says(
        &run(&ground, mounting, "mount -t tmpfs none /mnt && echo mounts"),
        &["mounts"],
    );
}

#[test]
fn other_users_processes_are_invisible() {
    let ground = Ground::new();
    let script = "test -e /proc/1 && echo sees init || echo sees no init
        test -e /proc/self/status && echo sees itself";
    says(
        &run(&ground, USER, script),
        &["sees no init", "sees itself"],
    );
    says(&run(&ground, "", script), &["sees no init", "sees itself"]);
    let extra = format!("{USER}[sandbox]\nall_processes = true\n");
    says(&run(&ground, &extra, script), &["sees init"]);
}

#[test]
fn system_v_memory_is_its_own_unless_locks_need_the_machines() {
    let ground = Ground::new();
    let namespace = |name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    let text = |name| namespace(name).display().to_string();
    let script = "for n in ipc pid net user mnt; do readlink /proc/self/ns/$n; done";
    let lines = run(&ground, USER, script);
    assert!(
        !has(&lines, &text("ipc")) && !has(&lines, &text("mnt")),
        "{lines:#?}"
    );
    says(&lines, &[&text("pid"), &text("net"), &text("user")]);
    let lines = run(&ground, "[sandbox]\nmachine_ipc = true\n", script);
    says(&lines, &[&text("ipc")]);
}

#[test]
fn nothing_of_the_machine_can_be_written_but_what_is_named() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path("run/open")).unwrap();
    let root = ground.root.display();
    let script = format!(
        "for d in /run {root}/run /sys/kernel /proc/sys/kernel /etc /usr /var/tmp /dev; do
         grep -q ro, /proc/self/mountinfo; touch $d/x 2>/dev/null && echo wrote $d; done
         echo 1 2>/dev/null > /proc/sys/vm/drop_caches && echo wrote a switch
         touch {root}/run/open/x && echo wrote where it may"
    )
    .replace("do\n         grep", "do grep");
    let extra = format!(
        "[sandbox]\nwritable = [\"{root}/run/open\"]\n\
         # Everything that root's ordinary rights open, and no Landlock.\n\
         capabilities = [\"CAP_DAC_OVERRIDE\", \"CAP_SYS_ADMIN\"]\n"
    );
    let lines = run(&ground, &extra, &script);
    assert_eq!(lines_that_say(&lines, "wrote"), ["wrote where it may"]);
    // And one that is not there is no reason to go on without it.
    let missing = format!("[sandbox]\nwritable = [\"{root}/run/missing\"]\n");
    let reason = refused(&ground, &missing);
    assert!(reason.contains("run/missing"), "{reason}");
}

#[test]
fn what_is_said_to_syslog_has_somebody_to_hear_it() {
    let ground = Ground::new();
    says(
        &run(&ground, USER, "test -S /dev/log && echo there"),
        &["there"],
    );
}

fn lines_that_say<'a>(lines: &'a [String], word: &str) -> Vec<&'a str> {
    let lines = lines.iter().map(String::as_str);
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn a_description_says_what_is_enforced() {
    let ground = Ground::new();
    let options = Options::parse(std::iter::once(String::new()).chain(ground.arguments())).unwrap();
    let text = "description = \"x\"\ntype = \"service\"\nexec = [\"/bin/true\"]\nuser = \"nobody\"\n\
        [resources]\nmemory_max = \"64M\"\ncpu_percent = 50\n\
        [sandbox]\nnetwork = false\nsyscalls = [\"@clock\"]\ncapabilities = [\"CAP_SYS_TIME\"]\n";
    let unit = parse_unit("x", "x.toml", text).unwrap();
    let told = atalayad::run::describe(&options, &unit);
    assert_eq!(told["uid"], NOBODY);
    assert_eq!(told["capabilities"], serde_json::json!(["CAP_SYS_TIME"]));
    assert_eq!(told["namespaces"]["network"], "own");
    assert_eq!(told["namespaces"]["pid"], "machine");
    assert_eq!(told["limits"]["memory_max"], 64 << 20);
    assert_eq!(told["limits"]["cpu_max"], "50000 100000");
    assert_eq!(told["limits"]["rlimits"]["core"], serde_json::json!([0, 0]));
    assert_eq!(told["landlock"]["tcp"], "none");
    assert_eq!(told["landlock"]["status"], "fully enforced");
    let groups = told["system_calls"]["groups"].as_array().unwrap();
    assert!(groups.contains(&"@clock".into()) && !groups.contains(&"@mount".into()));
    let stranger = parse_unit("x", "x.toml", &text.replace("nobody", "stranger")).unwrap();
    let told = atalayad::run::describe(&options, &stranger);
    assert_eq!(told["error"], "there is no user stranger");
}

#[test]
fn a_credential_is_the_units_alone() {
    let ground = Ground::new();
    let secret = "swordfish-0451-of-the-tests";
    put(&ground.path("data/key"), secret);
    let extra = format!(
        "{USER}credentials = [{{ name = \"key\", source = \"{}\" }}]\n",
        ground.path("data/key").display()
    );
    // Alive while the test looks for it.
    let script = "stat -c '%U %a' $CREDENTIALS_DIRECTORY $CREDENTIALS_DIRECTORY/key
        wc -c < $CREDENTIALS_DIRECTORY/key
        grep credentials /proc/self/mountinfo | cut -d' ' -f6
        touch $CREDENTIALS_DIRECTORY/x 2>/dev/null || echo closed
        echo looked
        exec sleep 600";
    ground.unit(
        "probe",
        &format!("type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"\"\"{script}\"\"\"]\n{extra}"),
    );
    let atalayad = ground.start();
    ground.wait("probe", |_| has(&ground.log("probe"), "looked"));
    let lines = ground.log("probe");
    says(
        &lines,
        &[
            "nobody 500",
            "nobody 400",
            &secret.len().to_string(),
            "closed",
        ],
    );
    let flags = lines.iter().find(|line| line.starts_with("ro,")).unwrap();
    for flag in ["nosuid", "nodev", "noexec"] {
        assert!(flags.contains(flag), "{flags}");
    }
    // Not in any environment or command line, nor where the machine sees it.
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["environ", "cmdline"] {
            let text = std::fs::read(process.path().join(file)).unwrap_or_default();
            assert!(
                !String::from_utf8_lossy(&text).contains(secret),
                "{:?}",
                process.path().join(file)
            );
        }
    }
    let seen = std::fs::read_dir(ground.path("run/credentials")).unwrap();
    assert_eq!(seen.count(), 0);
    atalayad.stop();
    assert!(!ground.stored().iter().any(|line| line.contains(secret)));
}

#[test]
fn a_credential_is_no_way_round_the_owners_of_files() {
    let ground = Ground::new();
    std::os::unix::fs::symlink("/etc/shadow", ground.path("run/key")).unwrap();
    let extra = format!(
        "{USER}credentials = [{{ name = \"key\", source = \"{}\" }}]\n",
        ground.path("run/key").display()
    );
    let reason = refused(&ground, &extra);
    assert!(reason.contains("run/key"), "{reason}");
}
