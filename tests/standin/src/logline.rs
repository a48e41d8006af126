//! Console log: one JSON object a line on standard output, in the recorded shape. A reader that went away is no reason to fail.

use serde_json::Value;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

static LOWEST: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Lines below this level are dropped (`LogSettings.ConsoleLevel`; unknown words mean INFO).
pub fn lowest(level: &str) {
    let level = match level.to_ascii_uppercase().as_str() {
        "DEBUG" | "TRACE" => Level::Debug,
        "WARN" | "WARNING" => Level::Warn,
        "ERROR" | "PANIC" | "FATAL" | "CRITICAL" => Level::Error,
        _ => Level::Info,
    };
    LOWEST.store(level as u8, Ordering::Relaxed);
}

/// Writes one line with the given extra fields.
pub fn write(level: Level, message: &str, caller: &str, fields: &[(&str, Value)]) {
    if (level as u8) < LOWEST.load(Ordering::Relaxed) {
        return;
    }
    let now = crate::ids::Utc::from_ms(crate::ids::now_ms());
    let mut line = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"msg\":{},\"caller\":\"{caller}\"",
        now.log_stamp(),
        level.name(),
        Value::from(message)
    );
    for (name, value) in fields {
        line.push_str(&format!(",\"{name}\":{value}"));
    }
    line.push_str("}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}

pub fn info(message: &str, caller: &str, fields: &[(&str, Value)]) {
    write(Level::Info, message, caller, fields);
}

pub fn warn(message: &str, caller: &str, fields: &[(&str, Value)]) {
    write(Level::Warn, message, caller, fields);
}

pub fn error(message: &str, caller: &str, fields: &[(&str, Value)]) {
    write(Level::Error, message, caller, fields);
}
