//! The server side of sd_notify's socket: a datagram with the sender's credentials and perhaps descriptors.
//!
//! What a message means, and whether its sender may say it, is decided by the caller.

use crate::message;
use crate::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind as nix_bind, setsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use crate::message::{Credentials, Received};

/// The longest datagram that sd_notify's senders use (systemd reads one page).
pub const LIMIT: usize = 4096;

/// A non-blocking datagram socket at `path` (at most 107 bytes) that asks the kernel for credentials; what stood there
/// is replaced. `mode` is the socket file's.
pub fn bind(path: &Path, mode: u32) -> Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.context("remove the old socket", path.display())?,
    }
    let server = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .context("create a socket for", path.display())?;
    setsockopt(&server, sockopt::PassCred, &true)
        .context("ask for credentials on", path.display())?;
    let address = UnixAddr::new(path).context("use as a socket address", path.display())?;
    nix_bind(server.as_raw_fd(), &address).context("bind", path.display())?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
        .context("change the mode of", path.display())?;
    Ok(server)
}

/// Receives one datagram (`WouldBlock` when there is none). Truncated ones carry `truncated`.
pub fn recv(server: BorrowedFd<'_>) -> io::Result<Received> {
    recv_up_to(server, LIMIT)
}

/// The same, of at most `limit` bytes.
pub fn recv_up_to(server: BorrowedFd<'_>, limit: usize) -> io::Result<Received> {
    message::receive(server, limit, 0)
}

/// What [`recv`] would give; the datagram stays where it is.
pub fn peek(server: BorrowedFd<'_>) -> io::Result<Received> {
    message::receive(server, LIMIT, libc::MSG_PEEK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_datagram_names_its_sender() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let server = bind(&path, 0o666).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"READY=1", &path).unwrap();
        let received = recv(server.as_fd()).unwrap();
        assert_eq!(received.bytes, b"READY=1");
        let sender = received.credentials.unwrap();
        assert_eq!(u32::try_from(sender.pid).unwrap(), std::process::id());
        assert_eq!(sender.uid, nix::unistd::getuid().as_raw());
        assert!(!received.truncated);

        client.send_to(b"STOPPING=1", &path).unwrap();
        for _ in 0..2 {
            assert_eq!(peek(server.as_fd()).unwrap().bytes, b"STOPPING=1");
        }
        assert_eq!(recv(server.as_fd()).unwrap().bytes, b"STOPPING=1");
        assert!(peek(server.as_fd()).is_err());

        client.send_to(&[b'x'; LIMIT + 1], &path).unwrap();
        assert!(recv(server.as_fd()).unwrap().truncated);
        assert_eq!(
            recv(server.as_fd()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
