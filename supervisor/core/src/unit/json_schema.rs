//! docs/unit.schema.json is what the types say, and docs/units.md names every key. Bless a change with
//! `ATALAYA_BLESS=1 cargo test --release -p atalaya-core`.

use std::path::Path;

use serde_json::Value;

use super::Unit;

fn doc(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn schema() -> Value {
    let schema = schemars::schema_for!(Unit);
    serde_json::to_value(schema).unwrap()
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    let path = doc("unit.schema.json");
    if std::env::var_os("ATALAYA_BLESS").is_some() {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, now.as_bytes()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == now,
        "docs/unit.schema.json is not that of the types: run ATALAYA_BLESS=1 cargo test --release -p atalaya-core"
    );
}

/// The bounds of every number are those that `check` keeps: a step beyond is refused, in the table and key it is of.
#[test]
fn the_ranges_of_the_schema_are_those_of_the_checks() {
    let schema = schema();
    let tables = schema["$defs"].as_object().unwrap();
    let tables = tables.iter().map(|(name, table)| (name.as_str(), table));
    let mut numbers = 0;
    for (name, table) in tables.chain([("", &schema)]) {
        for (key, field) in table["properties"].as_object().into_iter().flatten() {
            let (Some(min), Some(max)) = (field["minimum"].as_i64(), field["maximum"].as_i64())
            else {
                assert!(
                    !field["type"].to_string().contains("integer"),
                    "{name}.{key} has no range: {field}"
                );
                continue;
            };
            numbers += 1;
            for value in [min - 1, max + 1] {
                let (kind, companion) = match name {
                    "Liveness" => ("service", "kind = \"watchdog\""),
                    "Reload" => ("service", "signal = \"HUP\""),
                    "Handover" => ("service", "signal = \"USR2\""),
                    "Timer" if key != "every_s" => ("oneshot", "every_s = 60"),
                    "Timer" => ("oneshot", ""),
                    _ => ("service", ""),
                };
                let others = match name {
                    "Handover" => "[ready]\nkind = \"notify\"\n",
                    _ => "",
                };
                let header = match name {
                    "" => String::new(),
                    name => format!("[{}]", name.to_lowercase()),
                };
                let text = format!(
                    "description = \"x\"\ntype = \"{kind}\"\nexec = [\"/x\"]\n{header}\n{companion}\n{key} = {value}\n{others}"
                );
                let error = super::parse_unit("x", "x.toml", &text).unwrap_err();
                assert_eq!(error.line, 6, "{name}.{key} = {value}: {error}");
            }
        }
    }
    assert!(numbers >= 20, "{numbers}");
}

/// Every name of a key in the schema, with the words that may be its value.
fn keys(value: &Value, into: &mut Vec<String>) {
    if let Some(fields) = value.get("properties").and_then(Value::as_object) {
        into.extend(fields.keys().cloned());
    }
    for word in value
        .get("enum")
        .into_iter()
        .chain(value.get("const"))
        .flat_map(|words| words.as_array().cloned().unwrap_or(vec![words.clone()]))
    {
        into.extend(word.as_str().map(str::to_owned));
    }
    let below: Vec<&Value> = match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(values) => values.iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for value in below {
        keys(value, into);
    }
}

#[test]
fn every_key_and_word_of_a_unit_file_is_documented() {
    let page = std::fs::read_to_string(doc("units.md")).unwrap();
    let mut names = Vec::new();
    keys(&schema(), &mut names);
    assert!(names.len() > 80, "{names:?}");
    let words: std::collections::BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))))
        .collect();
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !words.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/units.md says nothing of {missing:?}"
    );
}
