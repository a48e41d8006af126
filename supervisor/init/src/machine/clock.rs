//! The clock never starts below the image's build time: certificates would seem not yet valid.

use atalaya_core::rfc3339;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

const RELEASE: &str = "/usr/lib/atalaya/release.json";

/// Sets a clock that runs before the build to the build time. Returns a line to tell, if it did or could not.
pub fn not_before_build() -> Option<String> {
    let text = std::fs::read_to_string(RELEASE).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let built = value.get("built")?.as_str()?;
    let floor = rfc3339::seconds(built)?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).ok()?;
    if now.tv_sec() >= floor {
        return None;
    }
    Some(
        match clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(floor, 0)) {
            Ok(()) => format!("it was before this version's build; set to {built}"),
            Err(errno) => {
                format!("it is before this version's build, and could not be set: {errno}")
            }
        },
    )
}
