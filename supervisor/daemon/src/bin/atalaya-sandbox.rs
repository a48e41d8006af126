//! Builds the sandbox of one run around itself and becomes the unit's program. See `atalayad::sandbox`.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use atalaya_sys::fds::take_inherited;
use atalayad::sandbox::{EXIT_FAILED, Report, enter, spec_fd};

fn main() -> ExitCode {
    // How many sockets lie before the spec.
    let sockets = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let fd = spec_fd(sockets.unwrap_or(0));
    let (Ok(spec), Ok(report)) = (take_inherited(fd), take_inherited(fd + 1)) else {
        return ExitCode::FAILURE;
    };
    let failure = enter(spec, &report);
    let report_text = Report {
        stage: failure.stage,
        error: failure.message,
    };
    if let Ok(bytes) = serde_json::to_vec(&report_text) {
        // If nobody listens, the exit status has to do.
        drop(File::from(report).write_all(&bytes));
    }
    ExitCode::from(u8::try_from(EXIT_FAILED).unwrap_or(1))
}
