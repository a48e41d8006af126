//! What stage 1 takes from the kernel's command line: the first `roothash=`, and nothing else.
//!
//! The rest of the line can be appended to from outside the signed image (SMBIOS strings, even with Secure Boot on), but
//! the image's own part always comes first.

/// A SHA-256 root hash in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootHash(String);

impl RootHash {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn bytes(&self) -> Vec<u8> {
        let digits = self.0.as_bytes();
        digits
            .chunks_exact(2)
            .map(|pair| (digit(pair[0]) << 4) | digit(pair[1]))
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    #[error("no roothash= on the kernel command line")]
    Absent,
    #[error("the first roothash= on the kernel command line is not 64 hexadecimal digits")]
    Malformed,
}

/// The first `roothash=` of the line.
///
/// # Errors
/// A malformed first one is an error even if a later one is well-formed: the later one may be an intruder's.
pub fn parse_root_hash(line: &str) -> Result<RootHash, CmdlineError> {
    let value = line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("roothash="))
        .ok_or(CmdlineError::Absent)?;
    if value.len() != 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CmdlineError::Malformed);
    }
    Ok(RootHash(value.to_ascii_lowercase()))
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => 0, // RootHash holds nothing else
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_counts_and_a_later_one_never() {
        let (mine, other) = ("a".repeat(64), "b".repeat(64));
        let line = format!("console=ttyS0 roothash={mine} panic=10 roothash={other}\n");
        let hash = parse_root_hash(&line).unwrap();
        assert_eq!(hash.as_str(), mine);
        assert_eq!(hash.bytes(), vec![0xaa; 32]);
        let line = format!("roothash=oops roothash={other}");
        assert_eq!(parse_root_hash(&line), Err(CmdlineError::Malformed));
    }

    #[test]
    fn other_words_are_not_mistaken_for_it() {
        let line = format!("xroothash={} usrhash=1", "a".repeat(64));
        assert_eq!(parse_root_hash(&line), Err(CmdlineError::Absent));
        assert_eq!(
            parse_root_hash(&format!("roothash={}é", "a".repeat(62))),
            Err(CmdlineError::Malformed)
        );
    }
}
