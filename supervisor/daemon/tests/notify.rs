//! Who is believed on a notify socket, and that nothing stays of the rest. A program of its own, because it counts the
//! descriptors of the whole process.
#![allow(clippy::unwrap_used)] // what a test needs is not only in #[test]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use atalaya_sys::reap;
use atalayad::notify::{Expected, Word, hear, take};

/// One test at a time: each has descriptors of its own.
static ALONE: Mutex<()> = Mutex::new(());

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn only_the_own_cgroup_and_user_are_believed_and_nothing_else_leaves_a_descriptor() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let server = atalaya_sys::notify::bind(&path, 0o666).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.connect(&path).unwrap();
    let own = reap::cgroup_of(i32::try_from(std::process::id()).unwrap()).unwrap();
    let right = Expected {
        cgroup: own.rsplit('/').next().unwrap().to_owned(),
        uid: 0,
    };
    let stale = Expected {
        cgroup: "unit.1".into(),
        uid: 0,
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    let send = |bytes: &[u8], fds: usize| {
        let fds = vec![null.as_raw_fd(); fds];
        // Not by atalaya_sys, which sends no more than it would take.
        nix::sys::socket::sendmsg::<()>(
            client.as_raw_fd(),
            &[io::IoSlice::new(bytes)],
            &[nix::sys::socket::ControlMessage::ScmRights(&fds)],
            nix::sys::socket::MsgFlags::empty(),
            None,
        )
        .unwrap();
    };
    let before = open_descriptors();
    for _ in 0..50 {
        // Of another run or unit.
        send(b"FDSTORE=1", 1);
        assert!(hear(server.as_fd(), &stale).unwrap().is_none());
        // Malformed.
        send(b"FDSTORE=1\nnonsense", 3);
        assert!(hear(server.as_fd(), &right).unwrap().is_none());
        send(b"FDSTORE=1\0", 3);
        assert!(hear(server.as_fd(), &right).unwrap().is_none());
        // Longer than a page, so cut by the kernel.
        send(&[b'X'; 5000], 2);
        assert!(hear(server.as_fd(), &right).unwrap().is_none());
        // More descriptors than there is room for: the kernel cuts the control data (MSG_CTRUNC).
        send(b"FDSTORE=1", 200);
        assert!(hear(server.as_fd(), &right).unwrap().is_none());
    }
    assert_eq!(open_descriptors(), before);
    send(b"FDSTORE=1", 2);
    // It stays until it is taken.
    for _ in 0..2 {
        let heard = hear(server.as_fd(), &right).unwrap().unwrap();
        assert_eq!((heard.words, heard.fds.len()), (vec![Word::FdStore], 2));
    }
    take(server.as_fd());
    let none = hear(server.as_fd(), &right).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn another_user_in_the_own_cgroup_is_not_believed() {
    let _alone = ALONE.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let server = atalaya_sys::notify::bind(&path, 0o666).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.connect(&path).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    let own = reap::cgroup_of(pid).unwrap();
    let cgroup = own.rsplit('/').next().unwrap().to_owned();
    // Root may say that it is somebody else.
    let say_as = |uid: u32| {
        let somebody = nix::libc::ucred { pid, uid, gid: uid };
        nix::sys::socket::sendmsg::<()>(
            client.as_raw_fd(),
            &[io::IoSlice::new(b"READY=1")],
            &[nix::sys::socket::ControlMessage::ScmCredentials(
                &somebody.into(),
            )],
            nix::sys::socket::MsgFlags::empty(),
            None,
        )
        .unwrap();
    };
    let expected = Expected { cgroup, uid: 1000 };
    for (uid, is_believed) in [(1001, false), (1000, true), (0, true)] {
        say_as(uid);
        let heard = hear(server.as_fd(), &expected).unwrap();
        assert_eq!(heard.is_some(), is_believed, "{uid}");
        if is_believed {
            take(server.as_fd());
        }
    }
}
