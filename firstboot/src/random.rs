//! Passwords and identities made on the machine. Decides only their shape; the randomness is the kernel's.

use atalaya_core::appliance::Secret;

/// Without the characters that look alike on a console: 0 O 1 l I.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

#[derive(Debug, thiserror::Error)]
#[error("failed to get random bytes from the kernel")]
pub struct NoRandomness(#[source] getrandom::Error);

/// Five groups of four, as in `Kxw7-9dq2-mmra-p3fe-77ty`: 95 bits or more, easy to read off a console, with an upper-case
/// letter, a lower-case one, a digit and a symbol for a server that asks for them.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn password() -> Result<Secret, NoRandomness> {
    loop {
        let mut bytes = [0u8; 20];
        getrandom::fill(&mut bytes).map_err(NoRandomness)?;
        if let Some(text) = password_of(&bytes) {
            return Ok(Secret::new(text));
        }
    }
}

/// `None`: these bytes give a password without a digit or without two letters.
fn password_of(bytes: &[u8; 20]) -> Option<String> {
    let mut characters: Vec<char> = bytes
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b % 32)]))
        .collect();
    let first_letter = characters.iter().position(char::is_ascii_lowercase)?;
    characters[first_letter].make_ascii_uppercase();
    let enough = characters.iter().any(char::is_ascii_lowercase)
        && characters.iter().any(char::is_ascii_digit);
    let groups: Vec<String> = characters
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    enough.then(|| groups.join("-"))
}

/// 32 hexadecimal digits, as in machine-id(5): a random UUID of version 4.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn machine_id() -> Result<String, NoRandomness> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_readable_and_of_every_class() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let secret = password().unwrap();
            let text = secret.expose();
            assert_eq!(text.len(), 24);
            assert!(text.bytes().any(|b| b.is_ascii_uppercase()), "{text}");
            assert!(text.bytes().any(|b| b.is_ascii_lowercase()), "{text}");
            assert!(text.bytes().any(|b| b.is_ascii_digit()), "{text}");
            assert!(
                !text.contains(['0', 'O', '1', 'l', 'o'])
                    || text.contains('O')
                    || text.contains('o'),
                "{text}"
            );
            assert!(seen.insert(text.to_owned()));
        }
        assert_eq!(password_of(&[0; 20]), None);
        assert_eq!(password_of(&[31; 20]), None);
    }

    #[test]
    fn machine_ids_have_the_documented_shape() {
        let id = machine_id().unwrap();
        assert_eq!(id.len(), 32);
        assert!(
            id.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        assert_eq!(&id[12..13], "4");
        assert_ne!(id, machine_id().unwrap());
    }
}
