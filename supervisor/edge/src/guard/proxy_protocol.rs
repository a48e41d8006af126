//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): what a load balancer says about a connection before TLS begins.
//! Reads not one byte more than the header. Decides nothing about who may say it.

use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const SIGNATURE_1: &[u8] = b"PROXY ";
/// Both versions' shortest headers are longer than what tells them apart.
const FIRST: usize = 12;
/// The longest of version 1, with its line end.
const LONGEST_1: usize = 107;
/// Version 2: signature, version, family, length.
const FIXED_2: usize = 16;
/// Version 2 allows 64 KiB; what balancers send fits many times into this.
const LONGEST_2: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("failed to read the PROXY protocol header")]
    Read(#[from] std::io::Error),
    #[error("the connection does not begin with a valid PROXY protocol header")]
    Malformed,
    #[error("the connection ended before it began")]
    Nothing,
}

/// What to do after so many bytes of a header.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read exactly so many more.
    Exactly(usize),
    /// Read up to the end of the line, at most so many more.
    Line(usize),
    /// That was it. None: the balancer speaks for itself (a health check), or of no address.
    Done(Option<IpAddr>),
    Malformed,
}

/// Judges what was read so far.
pub fn assess(read: &[u8]) -> Step {
    if read.len() < FIRST {
        Step::Exactly(FIRST - read.len())
    } else if read.starts_with(v2::PROTOCOL_PREFIX) {
        assess_2(read)
    } else if read.starts_with(SIGNATURE_1) {
        assess_1(read)
    } else {
        Step::Malformed
    }
}

fn assess_1(read: &[u8]) -> Step {
    if !read.ends_with(b"\n") {
        return match LONGEST_1.checked_sub(read.len()) {
            None | Some(0) => Step::Malformed,
            Some(left) => Step::Line(left),
        };
    }
    match v1::Header::try_from(read) {
        // The parser ends at the first line end; there must be nothing behind it.
        Ok(header) if header.header.len() == read.len() => match header.addresses {
            v1::Addresses::Tcp4(addresses) => Step::Done(Some(addresses.source_address.into())),
            v1::Addresses::Tcp6(addresses) => {
                Step::Done(Some(IpAddr::from(addresses.source_address).to_canonical()))
            }
            v1::Addresses::Unknown => Step::Done(None),
        },
        _ => Step::Malformed,
    }
}

fn assess_2(read: &[u8]) -> Step {
    if read.len() < FIXED_2 {
        return Step::Exactly(FIXED_2 - read.len());
    }
    let length = FIXED_2 + usize::from(u16::from_be_bytes([read[14], read[15]]));
    if length > LONGEST_2 || read.len() > length {
        return Step::Malformed;
    }
    if read.len() < length {
        return Step::Exactly(length - read.len());
    }
    let Ok(header) = v2::Header::try_from(read) else {
        return Step::Malformed;
    };
    match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, ..) => Step::Done(None),
        (v2::Command::Proxy, v2::Protocol::Datagram, _) => Step::Malformed,
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(addresses)) => {
            Step::Done(Some(addresses.source_address.into()))
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(addresses)) => {
            Step::Done(Some(IpAddr::from(addresses.source_address).to_canonical()))
        }
        (v2::Command::Proxy, ..) => Step::Done(None),
    }
}

/// Reads the header off a connection. The caller limits the time.
pub async fn read(stream: &mut TcpStream) -> Result<Option<IpAddr>, HeaderError> {
    let mut header = Vec::with_capacity(LONGEST_1);
    loop {
        let more = match assess(&header) {
            Step::Done(client) => return Ok(client),
            Step::Malformed => return Err(HeaderError::Malformed),
            Step::Exactly(more) => more,
            // Looked at first: what stands behind the line end belongs to TLS.
            Step::Line(most) => {
                let mut waiting = [0; LONGEST_1];
                let waiting = &mut waiting[..most];
                let count = stream.peek(waiting).await?;
                let end = waiting[..count].iter().position(|byte| *byte == b'\n');
                // None are waiting only when the connection has ended; then the read says so.
                end.map_or(count.max(1), |end| end + 1)
            }
        };
        let begin = header.len();
        header.resize(begin + more, 0);
        if let Err(error) = stream.read_exact(&mut header[begin..]).await {
            let ended = error.kind() == std::io::ErrorKind::UnexpectedEof;
            return Err(if ended && begin == 0 {
                HeaderError::Nothing
            } else {
                error.into()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(header: &[u8]) -> Step {
        assess(header)
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        header.extend(addresses);
        header
    }

    const IPV4: [u8; 12] = [198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 187];

    #[test]
    fn both_versions_name_the_client() {
        let client = |text: &str| Step::Done(Some(text.parse().unwrap()));
        for (header, step) in [
            (
                &b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n"[..],
                client("198.51.100.7"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 fd00::1 4711 443\r\n",
                client("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n", Step::Done(None)),
            (b"PROXY UNKNOWN whatever stands here\r\n", Step::Done(None)),
        ] {
            assert_eq!(said(header), step, "{}", String::from_utf8_lossy(header));
        }
        let mut ipv6 = [0; 36];
        ipv6[..16].copy_from_slice(
            &"2001:db8::7"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        assert_eq!(said(&version_2(0x21, 0x11, &IPV4)), client("198.51.100.7"));
        assert_eq!(said(&version_2(0x21, 0x21, &ipv6)), client("2001:db8::7"));
        let with_more = [&IPV4[..], &[4, 0, 1, 0]].concat();
        assert_eq!(
            said(&version_2(0x21, 0x11, &with_more)),
            client("198.51.100.7")
        );
        assert_eq!(said(&version_2(0x20, 0x00, &[])), Step::Done(None));
        assert_eq!(said(&version_2(0x20, 0x11, &IPV4)), Step::Done(None));
        assert_eq!(said(&version_2(0x21, 0x00, &[])), Step::Done(None));
        assert_eq!(said(&version_2(0x21, 0x31, &[0; 216])), Step::Done(None));
    }

    #[test]
    fn anything_else_is_malformed() {
        for header in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\n",
            b"PROXY TCP4 2001:db8::7 fd00::1 4711 443\r\n",
            b"PROXY TCP4 198.51.100.07 10.0.0.1 4711 443\r\n",
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443 5\r\n",
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n\r\n",
            b"PROXY TCP9 198.51.100.7 10.0.0.1 4711 443\r\n",
            &[b"PROXY UNKNOWN "[..].to_vec(), vec![b'x'; 100]].concat(),
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0],
            &version_2(0x11, 0x11, &IPV4),
            &version_2(0x22, 0x11, &IPV4),
            &version_2(0x21, 0x12, &IPV4),
            &version_2(0x21, 0x51, &IPV4),
            &version_2(0x21, 0x11, &IPV4[..11]),
            &version_2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(
                said(header),
                Step::Malformed,
                "{}",
                String::from_utf8_lossy(header)
            );
        }
    }

    #[test]
    fn no_prefix_of_a_header_is_enough_or_too_much() {
        for header in [
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(),
            version_2(0x21, 0x11, &IPV4),
        ] {
            for cut in 0..header.len() {
                match said(&header[..cut]) {
                    Step::Exactly(more) => assert!(cut + more <= header.len(), "cut at {cut}"),
                    Step::Line(_) => {}
                    other => panic!("cut at {cut}: {other:?}"),
                }
            }
        }
    }
}
