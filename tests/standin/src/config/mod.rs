//! The configuration in force: defaults, then what is stored, then `MM_<SECTION>_<KEY>` from the environment.
//!
//! Decides types and precedence; reads and writes no database itself (`storage`). As in the real server, a value that
//! cannot be parsed is ignored, lists are split at spaces, maps are replaced whole, and what the environment gives is
//! never stored.

mod defaults;
pub mod storage;

pub use defaults::defaults;

use serde_json::{Map, Value};

/// What `config show` hides from everybody but the local socket.
const SECRET_KEYS: &[(&str, &str)] = &[
    ("SqlSettings", "AtRestEncryptKey"),
    ("SqlSettings", "DataSource"),
    ("FileSettings", "PublicLinkSalt"),
    ("FileSettings", "AmazonS3SecretAccessKey"),
    ("EmailSettings", "SMTPPassword"),
];

/// Asterisks in place of a secret; written back, they mean "unchanged".
const HIDDEN: &str = "********************************";

#[derive(Clone, Debug)]
pub struct Config {
    stored: Value,
    effective: Value,
}

impl Config {
    /// Puts the three layers together. `environment` are the process's variables.
    pub fn new(stored: Value, environment: &[(String, String)]) -> Self {
        let mut full = defaults();
        merge(&mut full, &stored);
        let mut effective = full.clone();
        apply_environment(&mut effective, environment);
        Self {
            stored: full,
            effective,
        }
    }

    pub fn stored(&self) -> &Value {
        &self.stored
    }

    pub fn effective(&self) -> &Value {
        &self.effective
    }

    pub fn text(&self, section: &str, key: &str) -> &str {
        self.effective[section][key].as_str().unwrap_or_default()
    }

    pub fn flag(&self, section: &str, key: &str) -> bool {
        self.effective[section][key].as_bool().unwrap_or_default()
    }

    pub fn number(&self, section: &str, key: &str) -> i64 {
        self.effective[section][key].as_i64().unwrap_or_default()
    }

    /// The effective configuration with secrets hidden.
    pub fn sanitized(&self) -> Value {
        let mut value = self.effective.clone();
        for (section, key) in SECRET_KEYS {
            if let Some(secret) = value.get_mut(section).and_then(|s| s.get_mut(key)) {
                *secret = HIDDEN.into();
            }
        }
        value
    }

    /// What would be stored after this change; hidden secrets and unknown sections are left as they are.
    pub fn changed(&self, change: &Value) -> Value {
        let mut change = change.clone();
        for (section, key) in SECRET_KEYS {
            let hidden = change[*section][*key] == HIDDEN;
            if let Some(map) = change
                .get_mut(section)
                .and_then(Value::as_object_mut)
                .filter(|_| hidden)
            {
                map.remove(*key);
            }
        }
        let mut value = self.stored.clone();
        merge(&mut value, &change);
        value
    }

    /// A short digest that clients compare, so that they reload after a change.
    pub fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        Sha256::digest(self.effective.to_string())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}

/// Lays `over` on `base`: sections key by key, values whole. Nulls do not overwrite.
fn merge(base: &mut Value, over: &Value) {
    let (Some(base), Some(over)) = (base.as_object_mut(), over.as_object()) else {
        return;
    };
    for (name, section) in over {
        let (Some(keys), Some(target)) = (
            section.as_object(),
            base.entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()))
                .as_object_mut(),
        ) else {
            continue;
        };
        for (key, value) in keys.iter().filter(|(_, v)| !v.is_null()) {
            target.insert(key.clone(), value.clone());
        }
    }
}

fn apply_environment(config: &mut Value, environment: &[(String, String)]) {
    for (name, text) in environment {
        let Some((section, key)) = name
            .strip_prefix("MM_")
            .and_then(|rest| rest.split_once('_'))
        else {
            continue;
        };
        let Some(slot) = config
            .as_object_mut()
            .and_then(|c| c.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(section)))
            .and_then(|(_, s)| s.as_object_mut())
            .and_then(|s| s.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(key)))
            .map(|(_, v)| v)
        else {
            continue;
        };
        if let Some(value) = parse_as(slot, text) {
            *slot = value;
        }
    }
}

/// Reads the text as the type that the key has now.
fn parse_as(like: &Value, text: &str) -> Option<Value> {
    match like {
        Value::Bool(_) => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        Value::Number(_) => text.parse::<i64>().ok().map(Value::from),
        Value::Array(_) => Some(text.split(' ').map(Value::from).collect()),
        Value::Object(_) => serde_json::from_str(text).ok().filter(Value::is_object),
        Value::String(_) | Value::Null => Some(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn the_environment_wins_and_is_never_stored() {
        let config = Config::new(
            json!({"ServiceSettings": {"SiteURL": "https://stored", "ReadTimeout": 5}}),
            &environment(&[
                ("MM_SERVICESETTINGS_SITEURL", "https://chosen"),
                ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true"),
                ("MM_FILESETTINGS_MAXFILESIZE", "not a number"),
                ("MM_PRIVACYSETTINGS_NOSUCHKEY", "x"),
                ("MM_CONFIG", "postgres:///"),
            ]),
        );
        assert_eq!(config.text("ServiceSettings", "SiteURL"), "https://chosen");
        assert_eq!(
            config.stored()["ServiceSettings"]["SiteURL"],
            "https://stored"
        );
        assert!(config.flag("ServiceSettings", "EnableLocalMode"));
        assert_eq!(config.number("FileSettings", "MaxFileSize"), 104_857_600);
    }

    #[test]
    fn lists_are_split_at_spaces() {
        let config = Config::new(
            json!({}),
            &environment(&[(
                "MM_SERVICESETTINGS_TRUSTEDPROXYIPHEADER",
                "X-Real-IP X-Forwarded-For",
            )]),
        );
        assert_eq!(
            config.effective()["ServiceSettings"]["TrustedProxyIPHeader"],
            json!(["X-Real-IP", "X-Forwarded-For"])
        );
    }

    #[test]
    fn hidden_secrets_survive_being_written_back() {
        let stored = json!({"SqlSettings": {"AtRestEncryptKey": "secret"}});
        let config = Config::new(stored, &[]);
        let shown = config.sanitized();
        assert!(!shown.to_string().contains("\"secret\""));
        assert_eq!(
            config.changed(&shown)["SqlSettings"]["AtRestEncryptKey"],
            "secret"
        );
    }
}
