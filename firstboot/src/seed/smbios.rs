//! Finds the seed among the OEM strings (type 11) of an SMBIOS table. Pure: bytes in, bytes out.
//!
//! The table comes from whoever runs the virtual machine; nothing in it is trusted to be well formed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &[u8] = b"atalaya.appliance=";
const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;

/// The decoded value of the first `atalaya.appliance=BASE64`; `None` if there is no such string.
pub(super) fn find_seed(table: &[u8]) -> Option<Result<Vec<u8>, &'static str>> {
    let mut rest = table;
    loop {
        // DSP0134 6.1.2: type, length of the formatted part (with this header), handle; then strings, each ended by a
        // NUL, and one more NUL. Without strings: two NULs.
        let (&kind, &length) = (rest.first()?, rest.get(1)?);
        if length < 4 || kind == END_OF_TABLE {
            return None;
        }
        let strings = rest.get(usize::from(length)..)?;
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        if kind == OEM_STRINGS {
            let found = strings[..end]
                .split(|byte| *byte == 0)
                .find_map(|s| s.strip_prefix(PREFIX));
            if let Some(encoded) = found {
                return Some(
                    STANDARD
                        .decode(encoded.trim_ascii())
                        .map_err(|_| "the text after atalaya.appliance= is not Base64"),
                );
            }
        }
        rest = &strings[end + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A structure with a formatted part of `body` bytes.
    pub(crate) fn structure(kind: u8, body: &[u8], strings: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(body.len() + 4).unwrap(), 0, 0];
        bytes.extend(body);
        for string in strings {
            bytes.extend(*string);
            bytes.push(0);
        }
        bytes.push(0);
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn the_string_is_found_among_others() {
        let mut table = structure(0, &[1, 2, 0, 0, 5], &[b"Vendor", b"1.0"]);
        table.extend(structure(1, &[0; 23], &[]));
        table.extend(structure(
            11,
            &[2],
            &[b"other=1", b"atalaya.appliance=aG9zdG5hbWUgPSAiYSIK"],
        ));
        table.extend(structure(127, &[], &[]));
        assert_eq!(find_seed(&table).unwrap().unwrap(), b"hostname = \"a\"\n");
    }

    #[test]
    fn without_the_string_there_is_no_seed() {
        let mut table = structure(11, &[1], &[b"io.systemd.credential:x=y"]);
        table.extend(structure(
            4,
            &[],
            &[b"atalaya.appliance=aG9zdG5hbWUgPSAiYSIK"],
        ));
        assert_eq!(find_seed(&table), None);
        assert_eq!(find_seed(&[]), None);
    }

    #[test]
    fn what_is_not_base64_is_an_error_and_not_ignored() {
        assert!(
            find_seed(&structure(11, &[1], &[b"atalaya.appliance=%%"]))
                .unwrap()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic_or_loop(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(11), Just(4), any::<u8>()], 0..300)) {
            drop(find_seed(&bytes));
        }
    }
}
