//! PEM (RFC 7468) by its looks: which blocks a text has. What is inside them is for whoever can read certificates.

use std::fmt;

use super::super::Secret;

pub(in crate::appliance) const CERTIFICATES: &str = "\"\"\"-----BEGIN CERTIFICATE----- ... -----END CERTIFICATE-----\"\"\", the server's first, then those that signed it";
pub(in crate::appliance) const AUTHORITY: &str =
    "\"\"\"-----BEGIN CERTIFICATE----- ... -----END CERTIFICATE-----\"\"\", one or several";
pub(in crate::appliance) const KEY: &str =
    "one PEM block \"PRIVATE KEY\", \"EC PRIVATE KEY\" or \"RSA PRIVATE KEY\", not encrypted";

/// One or several certificates in PEM: blocks only, without the text that programs write between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem(String);

impl Pem {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse_certificates(text: &str) -> Result<Self, &'static str> {
        let blocks = blocks(text)?;
        if blocks.iter().any(|block| block.label.contains("KEY")) {
            return Err("holds a private key, which has a key of its own in this file");
        }
        if blocks.iter().any(|block| block.label != "CERTIFICATE") {
            return Err("holds a PEM block that is no certificate");
        }
        Ok(Self(blocks.iter().map(Block::text).collect()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A private key.
pub(in crate::appliance) fn parse_key(text: &str) -> Result<Secret, &'static str> {
    let blocks = blocks(text)?;
    let mut keys = blocks
        .iter()
        // openssl ecparam writes the curve before the key.
        .filter(|block| block.label != "EC PARAMETERS");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err("holds more than one PEM block");
    };
    match key.label {
        "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" if !key.encrypted => {
            Ok(Secret::new(key.text()))
        }
        "ENCRYPTED PRIVATE KEY" | "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
            Err("is encrypted, and nobody is there at a start to say its password")
        }
        "CERTIFICATE" => Err("is a certificate"),
        _ => Err("is no private key"),
    }
}

struct Block<'t> {
    label: &'t str,
    lines: Vec<&'t str>,
    /// In the old way, by a header line.
    encrypted: bool,
}

impl Block<'_> {
    fn text(&self) -> String {
        let label = self.label;
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            self.lines.join("\n")
        )
    }
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, &'static str> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in text.lines().map(str::trim) {
        let border = |word: &str| line.strip_prefix(word)?.strip_suffix("-----");
        match (open.as_mut(), border("-----BEGIN "), border("-----END ")) {
            (None, Some(label), _) => {
                open = Some(Block {
                    label,
                    lines: Vec::new(),
                    encrypted: false,
                });
            }
            // Text between two blocks: openssl writes whose certificate follows.
            (None, None, None) => {}
            (Some(block), None, Some(label)) if block.label == label => {
                if block.lines.is_empty() {
                    return Err("holds an empty PEM block");
                }
                blocks.extend(open.take());
            }
            (Some(block), None, None) => {
                if line.contains(':') {
                    block.encrypted = true;
                } else if is_base64(line) {
                    block.lines.push(line);
                } else if !line.is_empty() {
                    return Err("holds a PEM block with a character that is not base64");
                }
            }
            (_, _, _) => return Err("holds a PEM block that does not end as it began"),
        }
    }
    match (open, blocks.is_empty()) {
        (Some(_), _) => Err("holds a PEM block that does not end"),
        (None, true) => Err("holds no PEM block"),
        (None, false) => Ok(blocks),
    }
}

fn is_base64(line: &str) -> bool {
    let body = line.trim_end_matches('=');
    !body.is_empty()
        && line.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}
