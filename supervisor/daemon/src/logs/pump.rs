//! From a unit's pipe to lines. Reads until nobody holds the other end.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// A longer line is cut into pieces of this size, in bytes.
const LINE_LIMIT: usize = 1 << 20;

/// Hands every line that comes out of `pipe` (non-blocking) to `each`.
pub async fn pump(pipe: OwnedFd, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            if pending.is_empty() {
                hand(head, &mut each);
            } else {
                pending.extend_from_slice(head);
                hand(&pending, &mut each);
                pending.clear();
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        pending.extend_from_slice(rest);
        if pending.len() >= LINE_LIMIT {
            hand(&pending, &mut each);
            pending.clear();
        }
        // Others want their turn too: a unit that never stops talking must not keep the supervisor from its work.
        tokio::task::yield_now().await;
    }
    if !pending.is_empty() {
        hand(&pending, &mut each);
    }
    Ok(())
}

fn hand(bytes: &[u8], each: &mut impl FnMut(&str)) {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    each(&String::from_utf8_lossy(bytes));
}
