//! Hexadecimal, lower case only: one text for one value.

pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| {
            char::from(if digit < 10 {
                b'0' + digit
            } else {
                b'a' - 10 + digit
            })
        })
        .collect()
}

/// Exactly `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_text_for_one_value() {
        assert_eq!(encode(&[0x00, 0x9f, 0xa0]), "009fa0");
        assert_eq!(decode("009fa0"), Some([0x00, 0x9f, 0xa0]));
        for wrong in ["009FA0", "009fa", "009fa00", "009f+0", "é9fa", ""] {
            assert_eq!(decode::<3>(wrong), None, "{wrong}");
        }
    }
}
