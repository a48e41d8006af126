//! The pages of this program's own code that are mapped: the kernel maps many around each one that is used.

use crate::error::check;
use crate::{Context, Result};

/// Takes this program's code out of its memory map; what is used again comes back from the file, a page fault each. So
/// what only the start needed no longer counts as memory of this process. Worth it only where the file is in memory.
pub fn release() -> Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps").context("read", "/proc/self/maps")?;
    let program = std::fs::read_link("/proc/self/exe").context("read", "/proc/self/exe")?;
    let program = program.to_string_lossy();
    for (start, end) in maps.lines().filter_map(|line| code_of(line, &program)) {
        // SAFETY: the range is a mapping of this process as the kernel just listed it. It is private, backed by a file and
        // not writable, so nothing in it differs from the file, and every page is read from there again when it is touched.
        let result =
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        check(result.into()).context("release", "the program's code")?;
    }
    Ok(())
}

/// The addresses of a line of /proc/self/maps, if it maps code of `program`.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()? == "r-xp";
    if !executable || !line.ends_with(program) {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?)).filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_nobody_can_have_written_is_released() {
        let line = |mode: &str| format!("1000-3000 {mode} 00000000 00:01 1024  /memfd:x (deleted)");
        let code = |mode: &str| code_of(&line(mode), "/memfd:x (deleted)");
        assert_eq!(code("r-xp"), Some((0x1000, 0x3000)));
        for mode in ["rw-p", "r--p", "rwxp", "r-xs"] {
            assert_eq!(code(mode), None, "{mode}");
        }
        assert_eq!(code_of(&line("r-xp"), "/memfd:y (deleted)"), None);
        assert_eq!(code_of("", "x"), None);
    }

    #[test]
    fn a_program_runs_on_after_it() {
        for _ in 0..3 {
            release().unwrap();
        }
    }
}
