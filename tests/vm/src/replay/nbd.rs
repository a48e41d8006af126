//! The network block device protocol, as far as QEMU speaks it with a server of fixed size (doc/proto.md of the NBD
//! project): the handshake, then requests with simple replies.

use std::io::{self, Read, Write};

const GREETING: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Fixed newstyle, no padding behind an export's description.
const HANDSHAKE_FLAGS: u16 = 3;
/// Flags are given; flush, trim and the writing of zeros are understood.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 5 | 1 << 6;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const DESCRIBED: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;
/// No option that is understood is longer.
const OPTION_LIMIT: u32 = 64 << 10;
/// QEMU asks for at most this in one request.
const REQUEST_LIMIT: u32 = 64 << 20;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// What is served.
pub(super) trait Export {
    fn size(&self) -> u64;
    fn read(&self, from: u64, buffer: &mut [u8]) -> io::Result<()>;
    fn write(&self, from: u64, bytes: &[u8]) -> io::Result<()>;
    fn zero(&self, from: u64, length: u64) -> io::Result<()>;
}

/// Talks to one client until it goes.
pub(super) fn serve(stream: &mut (impl Read + Write), export: &impl Export) -> io::Result<()> {
    stream.write_all(GREETING)?;
    stream.write_all(OPTION)?;
    stream.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
    stream.flush()?;
    take::<4>(stream)?;
    if negotiate(stream, export.size())? {
        transmit(stream, export)?;
    }
    Ok(())
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether the client goes on to requests.
fn negotiate(stream: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    loop {
        if &take::<8>(stream)? != OPTION {
            return Err(unexpected("no option"));
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > OPTION_LIMIT {
            return Err(unexpected("an option is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            EXPORT_NAME => {
                stream.write_all(&size.to_be_bytes())?;
                stream.write_all(&EXPORT_FLAGS.to_be_bytes())?;
                return Ok(true);
            }
            INFO | GO => {
                let mut about = vec![0, 0];
                about.extend(size.to_be_bytes());
                about.extend(EXPORT_FLAGS.to_be_bytes());
                reply_option(stream, option, DESCRIBED, &about)?;
                reply_option(stream, option, ACKNOWLEDGED, &[])?;
                if option == GO {
                    return Ok(true);
                }
            }
            ABORT => {
                reply_option(stream, option, ACKNOWLEDGED, &[])?;
                return Ok(false);
            }
            _ => reply_option(stream, option, UNSUPPORTED, &[])?,
        }
    }
}

fn reply_option(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    reply.extend(data);
    stream.write_all(&reply)
}

fn transmit(stream: &mut (impl Read + Write), export: &impl Export) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        if u32::from_be_bytes(take(stream)?) != REQUEST {
            return Err(unexpected("no request"));
        }
        take::<2>(stream)?;
        let kind = u16::from_be_bytes(take(stream)?);
        let cookie: [u8; 8] = take(stream)?;
        let from = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        let inside = from
            .checked_add(length.into())
            .is_some_and(|end| end <= export.size());
        buffer.clear();
        if matches!(kind, 0 | 1) {
            if length > REQUEST_LIMIT {
                return Err(unexpected("a request is too long"));
            }
            buffer.resize(length as usize, 0);
        }
        if kind == 1 {
            stream.read_exact(&mut buffer)?;
        }
        let result = match kind {
            2 => return Ok(()),
            _ if !inside => Err(EINVAL),
            0 => export.read(from, &mut buffer).map_err(|_| EIO),
            1 => export.write(from, &buffer).map_err(|_| EIO),
            // It is a machine's that is thrown away: nothing need reach this host's disk.
            3 => Ok(()),
            4 | 6 => export.zero(from, length.into()).map_err(|_| EIO),
            _ => Err(EINVAL),
        };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend(result.err().unwrap_or(0).to_be_bytes());
        reply.extend(cookie);
        stream.write_all(&reply)?;
        if kind == 0 && result.is_ok() {
            stream.write_all(&buffer)?;
        }
        stream.flush()?;
    }
}
