//! The highest migration that a release brings, found without a database: an update tells by it whether it would change an
//! external one.

use crate::error::{IoContext, Result};
use std::fs;
use std::path::Path;

/// Where the official program's migrations are embedded.
const FOLDER: &[u8] = b"postgres/";
const END: &[u8] = b".up.sql";

/// What the stand-in's own file says.
pub fn said(file: &Path) -> Option<u64> {
    let text = fs::read(file).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text)
        .ok()?
        .get("schema")?
        .as_u64()
}

/// The server can only be asked with a database behind it, but it holds its migrations as embedded files, by names such as
/// `postgres/000158_add_index.up.sql` (its server/channels/db/migrations; Go's embed keeps names as they are).
pub fn embedded(program: &Path) -> Result<Option<u64>> {
    Ok(highest(&fs::read(program).during("read", program)?))
}

fn highest(program: &[u8]) -> Option<u64> {
    program
        .windows(FOLDER.len())
        .enumerate()
        .filter(|(_, window)| *window == FOLDER)
        .filter_map(|(at, _)| number(program.get(at + FOLDER.len()..)?))
        .max()
}

/// The number of the migration whose file name `text` begins with.
fn number(text: &[u8]) -> Option<u64> {
    let (digits, rest) = text.split_at_checked(6)?;
    let word = rest
        .iter()
        .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'_')
        .count();
    let sound = rest.first() == Some(&b'_') && rest.get(word..)?.starts_with(END);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    sound.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_embedded_migration_counts() {
        let program = b"\0x postgres/000002_b.down.sqlpostgres/000158_add_index_2.up.sql\xffmysql/000900_x.up.sql\
            postgres/000009_a.up.sqlpostgres/12345_y.up.sqlpostgres/000999_Y.up.sql postgres/000777";
        assert_eq!(highest(program), Some(158));
        assert_eq!(highest(b"postgres/000158_a.up.sq"), None);
        assert_eq!(highest(b""), None);
    }

    #[test]
    fn the_stand_in_says_it_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("STANDIN");
        fs::File::create(&file).unwrap();
        assert_eq!(said(&file), None);
        serde_json::to_writer(
            fs::File::create(&file).unwrap(),
            &serde_json::json!({"schema": 10}),
        )
        .unwrap();
        assert_eq!(said(&file), Some(10));
    }
}
