//! recvmsg and sendmsg with descriptors and credentials, shared by `seqpacket` and `notify`.
//!
//! nix's recvmsg gives up on MSG_CTRUNC and so leaks what did arrive; here every descriptor is owned from the start.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The most descriptors in one message, either way.
pub const MAX_FDS: usize = 16;

/// Who sent a message, as the kernel says, translated into the receiver's pid namespace (0: not visible there).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// One datagram.
#[derive(Debug)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
    pub credentials: Option<Credentials>,
    /// Bytes or control data did not fit: the message must not be believed.
    pub truncated: bool,
}

/// Room for the control data, aligned as `cmsghdr` needs it.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 256]);

/// With `MSG_PEEK` in `flags` the message stays in the socket, and its descriptors are duplicates.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    limit: usize,
    flags: libc::c_int,
) -> io::Result<Received> {
    let mut bytes = vec![0u8; limit];
    let mut control = Control([MaybeUninit::zeroed(); 256]);
    let mut slice = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is a plain C struct for which all zeroes is valid.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    let count = loop {
        // SAFETY: header points at buffers of the lengths given, alive until the end of this function.
        let result = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut header,
                libc::MSG_CMSG_CLOEXEC | flags,
            )
        };
        match usize::try_from(result) {
            Ok(count) => break count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    bytes.truncate(count);
    let mut received = Received {
        bytes,
        fds: Vec::new(),
        credentials: None,
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    };
    // SAFETY: the kernel filled msg_control up to msg_controllen; the CMSG macros stay inside it.
    unsafe {
        let mut cursor = libc::CMSG_FIRSTHDR(&raw const header);
        while !cursor.is_null() {
            take_control(cursor, &mut received);
            cursor = libc::CMSG_NXTHDR(&raw const header, cursor);
        }
    }
    Ok(received)
}

/// # Safety
/// `cursor` is a control message that the kernel wrote.
unsafe fn take_control(cursor: *const libc::cmsghdr, received: &mut Received) {
    // SAFETY: by the contract the header and `cmsg_len` bytes from it are readable; reads are unaligned.
    unsafe {
        let message = &*cursor;
        let data = libc::CMSG_DATA(cursor);
        let length = message.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..length / size_of::<i32>() {
                    let fd = data.cast::<i32>().add(index).read_unaligned();
                    received.fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                let sender = data.cast::<libc::ucred>().read_unaligned();
                received.credentials = Some(Credentials {
                    pid: sender.pid,
                    uid: sender.uid,
                    gid: sender.gid,
                });
            }
            _ => {}
        }
    }
}

pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    if fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let raw: Vec<i32> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[io::IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
