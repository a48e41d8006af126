//! A panic in any task ends atalayad at once: half of a change must not be acted upon. init keeps the units and starts
//! the next one, which takes over from what was kept.

use std::io::Write;
use std::process::abort;

/// From now on.
pub fn end_at_once() {
    std::panic::set_hook(Box::new(|information| {
        let text = format!(
            "atalayad: {information}: it ends, and init starts it again; services run on\n"
        );
        // stderr may be gone; then nobody can be told.
        std::io::stderr().write_all(text.as_bytes()).ok();
        abort();
    }));
}
