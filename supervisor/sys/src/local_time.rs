//! Local time, by the C library's rules for the machine's zone. For showing and reading times; nothing is decided by them.

use std::ffi::CStr;
use std::mem::zeroed;

/// A time as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub year: i32,
    /// 1 to 12.
    pub month: i32,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    /// East of Greenwich.
    pub offset_seconds: i64,
    /// Such as `CET`.
    pub zone: String,
}

/// The local time of so many seconds since 1970; `None` beyond the years that the C library knows.
pub fn local_of(epoch_seconds: i64) -> Option<Local> {
    // SAFETY: tm is plain data for which zeroes are valid; localtime_r writes only into it, and its tm_zone points to a string
    // that the C library keeps, which is copied before anything else is called.
    unsafe {
        let mut parts: libc::tm = zeroed();
        if libc::localtime_r(&raw const epoch_seconds, &raw mut parts).is_null() {
            return None;
        }
        let zone = if parts.tm_zone.is_null() {
            String::new()
        } else {
            CStr::from_ptr(parts.tm_zone).to_string_lossy().into_owned()
        };
        Some(Local {
            year: parts.tm_year + 1900,
            month: parts.tm_mon + 1,
            day: parts.tm_mday,
            hour: parts.tm_hour,
            minute: parts.tm_min,
            second: parts.tm_sec,
            offset_seconds: parts.tm_gmtoff,
            zone,
        })
    }
}

/// Seconds since 1970 of a local time (offset and zone are not looked at); a time that a clock change leaves out is moved.
pub fn epoch_of(local: &Local) -> Option<i64> {
    // SAFETY: as above; mktime reads and normalises the structure that it is given.
    let seconds = unsafe {
        let mut parts: libc::tm = zeroed();
        parts.tm_year = local.year - 1900;
        parts.tm_mon = local.month - 1;
        parts.tm_mday = local.day;
        parts.tm_hour = local.hour;
        parts.tm_min = local.minute;
        parts.tm_sec = local.second;
        parts.tm_isdst = -1;
        libc::mktime(&raw mut parts)
    };
    (seconds >= 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_goes_there_and_back() {
        for seconds in [86_400 * 2, 951_782_400, 1_795_362_074, 4_107_542_400] {
            let local = local_of(seconds).unwrap();
            assert_eq!(epoch_of(&local), Some(seconds), "{local:?}");
            assert!(!local.zone.is_empty());
        }
    }
}
