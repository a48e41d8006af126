//! SOCK_SEQPACKET pairs that carry whole messages and descriptors (init <-> atalayad).
//!
//! These return `io::Result`, so that they fit into an event loop's readiness check (`WouldBlock`); the caller knows the
//! object's name.

use crate::message;
use crate::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

pub use crate::message::{Credentials, MAX_FDS, Received};

/// A connected pair, both ends non-blocking and close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )
    .context("create", "a seqpacket socket pair")
}

/// Sends one whole message with up to [`MAX_FDS`] descriptors, never in part and never raising SIGPIPE.
///
/// # Errors
/// `WouldBlock` if the peer does not read, `BrokenPipe` if it is gone, `EMSGSIZE` if the message is too long.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    message::send(socket, bytes, fds)
}

/// Receives one message of at most `limit` bytes; `None` means that the peer closed its end.
///
/// Descriptors are close-on-exec. Of a message with `truncated` set only the fact can be used.
pub fn recv_with_fds(socket: BorrowedFd<'_>, limit: usize) -> io::Result<Option<Received>> {
    let received = message::receive(socket, limit, 0)?;
    if received.bytes.is_empty() && received.fds.is_empty() {
        return Ok(None);
    }
    Ok(Some(received))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (left, right) = pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send_with_fds(left.as_fd(), b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut received = recv_with_fds(right.as_fd(), 64).unwrap().unwrap();
        assert_eq!(received.bytes, b"hello");
        assert!(!received.truncated);
        let passed = received.fds.pop().unwrap();
        assert!(received.fds.is_empty());
        File::from(passed).write_all(b"through").unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn truncation_is_seen_and_leaks_no_descriptor() {
        let (left, right) = pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send_with_fds(left.as_fd(), &[7; 100], &[writer.as_fd()]).unwrap();
        drop(writer);
        let received = recv_with_fds(right.as_fd(), 10).unwrap().unwrap();
        assert!(received.truncated);
        drop(received);
        // End of file on the pipe proves that the last copy of its write end is gone.
        assert_eq!(File::from(reader).read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn an_empty_socket_would_block_and_a_closed_one_ends() {
        let (left, right) = pair().unwrap();
        let error = recv_with_fds(right.as_fd(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert!(recv_with_fds(right.as_fd(), 10).unwrap().is_none());
        let error = send_with_fds(right.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
