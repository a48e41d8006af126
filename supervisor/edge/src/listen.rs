//! Listening sockets: those that the supervisor opened and keeps, so that a restart refuses no connection; its own where it
//! gave none. IPv6 and IPv4 on one, IPv4 alone where the machine has no IPv6.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use atalaya_sys::fds::take_inherited;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::handover::{Predecessor, inherit};

/// Connections that may wait for accept.
const BACKLOG: u32 = 1024;

#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What the supervisor passed (LISTEN_FDS), by name; or the run before this one, if it started this one.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: BTreeMap<String, std::net::TcpListener>,
    /// Waits for a word that this run serves.
    pub(crate) predecessor: Option<Predecessor>,
}

impl Inherited {
    /// To be called once, before anything else opens descriptors.
    ///
    /// # Errors
    /// Fewer are open than were announced.
    pub fn take() -> std::io::Result<Self> {
        if let Some(inheritance) = inherit()? {
            return Ok(Self {
                sockets: (inheritance.sockets.into_iter())
                    .map(|(name, socket)| (name, socket.into()))
                    .collect(),
                predecessor: Some(inheritance.predecessor),
            });
        }
        let mut sockets = BTreeMap::new();
        for (number, name) in sd_notify::listen_fds_with_names()? {
            let socket = take_inherited(number).map_err(|error| error.source)?;
            sockets.insert(name, std::net::TcpListener::from(socket));
        }
        Ok(Self {
            sockets,
            predecessor: None,
        })
    }

    /// The socket of that name, else one of our own on `address`.
    pub fn listen(&mut self, name: &str, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let Some(socket) = self.sockets.remove(name) else {
            return listen(address);
        };
        socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket))
            .map_err(|source| ListenError { address, source })
    }
}

/// Listens on an address; `[::]` means every address of both families.
fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = match bind(address) {
        // No IPv6 in the kernel, or switched off on every interface.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && lacks_ipv6(&error) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    };
    bound.map_err(|source| ListenError { address, source })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        setsockopt(
            &socket,
            sockopt::Ipv6V6Only,
            &!address.ip().is_unspecified(),
        )?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn lacks_ipv6(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

/// Prepares a client's connection: answers go out at once, and a peer that is gone or takes nothing for `limit` is cut off by the kernel.
pub fn prepare(stream: &TcpStream, limit: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &60)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &20)?;
    setsockopt(
        &socket,
        sockopt::TcpUserTimeout,
        &u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
    )?;
    Ok(())
}
