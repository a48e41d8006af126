//! TCP ports of the host, on 127.0.0.1 only.

use std::net::{Ipv4Addr, TcpListener};

use crate::VmError;

/// A port that nobody listens on now. Somebody else may take it before QEMU does; QEMU then ends with a message.
pub fn free_port() -> Result<u16, VmError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(VmError::io("find a free port on", "127.0.0.1"))
}

/// Whether a server could listen on this port of 127.0.0.1.
#[must_use]
pub fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!port_is_free(port));
        drop(listener);
        assert!(port_is_free(port));
    }

    #[test]
    fn a_free_port_can_be_bound() {
        assert!(port_is_free(free_port().unwrap()));
    }
}
