//! Identifiers and time, in the forms that API v4 shows: 26 characters of a base-32 alphabet, milliseconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Random bytes from the kernel. Aborts the request by an empty answer only if the kernel has no randomness, which
/// Linux does not report once it is up.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    while getrandom::fill(&mut bytes).is_err() {
        std::thread::yield_now();
    }
    bytes
}

/// A new identifier: 128 random bits as 26 characters.
pub fn new_id() -> String {
    let mut bits = u128::from_be_bytes(random::<16>());
    let mut id = String::with_capacity(26);
    for _ in 0..26 {
        id.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    id
}

/// Does this look like an identifier? (26 lower-case letters and digits.)
pub fn is_id(text: &str) -> bool {
    text.len() == 26
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A calendar date and time of day in UTC, from milliseconds since 1970.
pub struct Utc {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub millis: i64,
    pub weekday: usize,
}

impl Utc {
    pub fn from_ms(ms: i64) -> Self {
        let days = ms.div_euclid(86_400_000);
        let rest = ms.rem_euclid(86_400_000);
        // Civil date from a day count: Howard Hinnant, "chrono-compatible low-level date algorithms".
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month,
            day: doy - (153 * mp + 2) / 5 + 1,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
            second: rest / 1_000 % 60,
            millis: rest % 1_000,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
        }
    }

    /// As in a log line: `2026-11-22 11:38:25.296 Z`.
    pub fn log_stamp(&self) -> String {
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.millis
        )
    }

    /// As in an HTTP header: `Sun, 22 Nov 2026 11:41:36 GMT`.
    pub fn http_date(&self) -> String {
        const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let month = usize::try_from(self.month - 1).unwrap_or(0);
        format!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            DAYS[self.weekday],
            self.day,
            MONTHS[month],
            self.year,
            self.hour,
            self.minute,
            self.second
        )
    }

    /// The folder of a day's uploads: `20261122`.
    pub fn day_folder(&self) -> String {
        format!("{:04}{:02}{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_recorded_ones() {
        let id = new_id();
        assert!(is_id(&id), "{id}");
        assert_ne!(id, new_id());
        assert!(is_id("hww5s7j1p7nw9fb147gikoynpo"));
        assert!(!is_id("short") && !is_id("Hww5s7j1p7nw9fb147gikoynpo"));
    }

    #[test]
    fn dates_agree_with_the_recordings() {
        let utc = Utc::from_ms(1_795_347_696_893);
        assert_eq!(utc.log_stamp(), "2026-11-22 11:41:36.893 Z");
        assert_eq!(utc.http_date(), "Sun, 22 Nov 2026 11:41:36 GMT");
        assert_eq!(utc.day_folder(), "20261122");
    }
}
