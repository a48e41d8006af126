//! CRC-32 as GPT uses it (UEFI 2.10, 5.3.2: the polynomial of ISO 3309, reflected).

/// The checksum of `bytes`. Bit by bit: at most 17 KiB per table are summed, a table would cost more than it saves.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let carry = if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            (sum >> 1) ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_standard_check_value() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
