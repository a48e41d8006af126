//! Listening sockets of units: where they are to be, from the unit's file or from a rendered one, and opening them. When
//! they are opened and closed is decided by the owner of state: they outlive the unit's runs, so that a restart refuses no
//! connection.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use atalaya_core::unit::{Listen, Unit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use serde::{Deserialize, Serialize};

/// An open one.
#[derive(Debug)]
pub struct Socket {
    pub place: Place,
    pub fd: OwnedFd,
}

/// Which one it is: what init keeps beside the descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, SocketAddr)", into = "(String, SocketAddr)")]
pub struct Place {
    /// In LISTEN_FDNAMES.
    pub name: String,
    pub address: SocketAddr,
}

impl From<(String, SocketAddr)> for Place {
    fn from((name, address): (String, SocketAddr)) -> Self {
        Self { name, address }
    }
}

impl From<Place> for (String, SocketAddr) {
    fn from(place: Place) -> Self {
        (place.name, place.address)
    }
}

/// Where the unit's sockets are to be now. Reads the rendered files.
///
/// # Errors
/// A file, a key in it or an address that is not there, in words.
pub fn places(unit: &Unit) -> Result<Vec<Place>, String> {
    unit.listen.iter().map(place).collect()
}

fn place(entry: &Listen) -> Result<Place, String> {
    let (text, origin) = match (&entry.address, &entry.file, &entry.key) {
        (Some(address), _, _) => (address.clone(), "the unit's file".to_owned()),
        (None, Some(file), Some(key)) => (read_key(file, key)?, format!("{key} in {file}")),
        (None, _, _) => return Err(format!("nothing says where {} listens", entry.name)),
    };
    let address = text
        .parse()
        .map_err(|_| format!("{origin} is {text:?}, not an IP address and a port"))?;
    Ok(Place {
        name: entry.name.clone(),
        address,
    })
}

/// `a.b` is the key `b` of the table `a`.
fn read_key(file: &str, key: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("failed to read {file}: {error}"))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| format!("failed to read {file}: {}", error.message()))?;
    let mut parts = key.split('.');
    let mut value = parts.next().and_then(|part| table.get(part));
    for part in parts {
        value = value.and_then(|value| value.get(part));
    }
    value
        .and_then(toml::Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("there is no text {key} in {file}"))
}

/// Opens a listening socket. An IPv6 one takes IPv4 too, whatever the machine's default is.
///
/// # Errors
/// What could not be done, in words.
pub fn open(address: SocketAddr) -> Result<OwnedFd, String> {
    try_open(address).map_err(|error| format!("failed to listen on {address}: {}", error.desc()))
}

fn try_open(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    // Blocking, as programs expect of what they are passed (systemd.socket(5)).
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    // All that the kernel allows may wait while nobody accepts: a restart is such a time.
    listen(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn entry(address: Option<&str>, file: Option<&str>, key: Option<&str>) -> Listen {
        Listen {
            name: "web".into(),
            address: address.map(str::to_owned),
            file: file.map(str::to_owned),
            key: key.map(str::to_owned),
        }
    }

    #[test]
    fn an_address_stands_in_the_unit_or_in_a_rendered_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.toml");
        atalaya_sys::durable::write(
            &file,
            b"port = 5\nbad = \"everywhere\"\n[listen]\nhttps = \"[::]:443\"\n",
            0o600,
            None,
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let of = |key: &str| place(&entry(None, Some(file), Some(key)));
        assert_eq!(of("listen.https").unwrap().address.to_string(), "[::]:443");
        assert_eq!(
            place(&entry(Some("127.0.0.1:80"), None, None))
                .unwrap()
                .address
                .to_string(),
            "127.0.0.1:80"
        );
        assert_eq!(
            of("bad").unwrap_err(),
            format!("bad in {file} is \"everywhere\", not an IP address and a port")
        );
        for key in ["port", "none", "listen", "listen.http", "port.deep"] {
            assert_eq!(
                of(key).unwrap_err(),
                format!("there is no text {key} in {file}")
            );
        }
        assert!(
            place(&entry(None, Some("/nowhere"), Some("x")))
                .unwrap_err()
                .contains("/nowhere")
        );
    }

    #[test]
    fn an_ipv6_socket_takes_ipv4_too_and_a_taken_address_is_told() {
        let socket = open("[::]:0".parse().unwrap()).unwrap();
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("::1", port)).unwrap();
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let refused = open(address).unwrap_err();
        assert!(
            refused.contains(&format!("127.0.0.1:{port}: Address already in use")),
            "{refused}"
        );
    }
}
