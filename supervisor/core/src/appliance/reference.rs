//! What is told about the keys: the documentation's tables, the JSON Schema, and the commented example. Made from the keys
//! themselves, so nothing is told that is not so.

use serde_json::{Map, Value, json};

use super::Seed;
use super::key::{Form, Key, MOST_ENTRIES, Secrecy};
use super::keys;
use crate::words;

/// The page with the tables of keys as they are now. They stand between `<!-- keys: PREFIX, PREFIX -->` and
/// `<!-- end -->`, each key in the table with the longest prefix of it.
#[must_use]
pub fn page(page: &str) -> String {
    const BEGIN: &str = "<!-- keys: ";
    const END: &str = "<!-- end -->";
    let marked: Vec<&str> = page
        .split(BEGIN)
        .skip(1)
        .filter_map(|part| part.split_once(" -->").map(|(prefixes, _)| prefixes))
        .flat_map(|prefixes| prefixes.split(", "))
        .collect();
    let mut parts = page.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some((prefixes, rest)) = part.split_once(" -->") else {
            continue;
        };
        let rest = rest.split_once(END).map_or("", |(_, rest)| rest);
        let rows = table(&prefixes.split(", ").collect::<Vec<_>>(), &marked);
        out.push_str(&format!("{BEGIN}{prefixes} -->\n\n{rows}\n{END}{rest}"));
    }
    out
}

fn table(prefixes: &[&str], marked: &[&str]) -> String {
    let default = Seed::default();
    let mut out = "| key | value | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys::all() {
        let nearest = marked
            .iter()
            .filter(|prefix| keys::below(prefix, key.path).is_some())
            .max_by_key(|prefix| prefix.len());
        let Some(prefix) = nearest.filter(|nearest| prefixes.contains(nearest)) else {
            continue;
        };
        let name = match (prefixes, keys::below(prefix, key.path)) {
            ([_], Some(name)) => name,
            _ => key.path,
        };
        out.push_str(&format!(
            "| `{name}` | {} | {} | {} |\n",
            value(key),
            default_of(key, &default),
            key.meaning
        ));
    }
    out
}

fn value(key: &Key) -> String {
    let form = match key.form() {
        Form::Flag => "`true`, `false`".to_owned(),
        Form::Number { least, most, unit } => {
            format!("{} to {} {unit}", grouped(least), grouped(most))
                .trim_end()
                .to_owned()
        }
        Form::Word(words) => alternatives(words),
        Form::Words(words) => format!("list of {}, each once", alternatives(words)),
        Form::Text(allowed) | Form::List(allowed) => allowed.to_owned(),
    };
    match key.secrecy {
        Secrecy::Public => form,
        Secrecy::Kept => format!("{form}; **secret**"),
        Secrecy::Once => format!("{form}; **secret**, in a seed only, never kept"),
    }
}

fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    words.join(", ")
}

fn default_of(key: &Key, default: &Seed) -> String {
    match (key.absent, key.value(default)) {
        (Some(words), _) => words.to_owned(),
        (None, None) => "none".to_owned(),
        (None, Some(value)) => match value.parse() {
            Ok(number) => grouped(number),
            Err(_) => format!("`{value}`"),
        },
    }
}

/// With a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// JSON Schema (2020-12) of a seed, for editors that check while one types.
#[must_use]
pub fn schema() -> Value {
    let mut root = object();
    for key in keys::all() {
        let parts = key.table().split('.').filter(|part| !part.is_empty());
        let table = parts.fold(&mut root, |table, part| {
            let below = &mut table["properties"][part];
            if below.is_null() {
                *below = object();
            }
            below
        });
        table["properties"][key.name()] = property(key);
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("appliance.toml");
    root
}

fn object() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

fn property(key: &Key) -> Value {
    let mut out = Map::new();
    let form = key.form();
    match form {
        Form::Flag => drop(out.insert("type".to_owned(), json!("boolean"))),
        Form::Number { least, most, .. } => {
            out.insert("type".to_owned(), json!("integer"));
            out.insert("minimum".to_owned(), json!(least));
            out.insert("maximum".to_owned(), json!(most));
        }
        Form::Word(words) => drop(out.insert("enum".to_owned(), json!(words))),
        Form::Words(words) => out = list_of(json!({ "enum": words })),
        Form::Text(_) => drop(out.insert("type".to_owned(), json!("string"))),
        Form::List(_) => out = list_of(json!({ "type": "string" })),
    }
    let description = match form {
        Form::Text(allowed) | Form::List(allowed) => format!("{}\n\n{allowed}", key.meaning),
        Form::Flag | Form::Number { .. } | Form::Word(_) | Form::Words(_) => key.meaning.to_owned(),
    };
    out.insert("description".to_owned(), json!(description));
    if key.secrecy != Secrecy::Public {
        out.insert("writeOnly".to_owned(), json!(true));
    }
    Value::Object(out)
}

fn list_of(items: Value) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("array"));
    out.insert("items".to_owned(), items);
    out.insert("uniqueItems".to_owned(), json!(true));
    out.insert("maxItems".to_owned(), json!(MOST_ENTRIES));
    out
}

/// A seed in which everything is a comment: each key with what it is for, what is allowed, and its default or an example.
#[must_use]
pub fn example() -> String {
    let default = Seed::default();
    let mut out = "# What this machine is. A key that is absent has its default, so an empty file is a valid one.\n".to_owned();
    let mut table = "";
    for key in keys::all() {
        if key.table() != table {
            table = key.table();
            out.push_str(&format!("\n# [{table}]\n"));
        }
        out.push('\n');
        let secret = match key.secrecy {
            Secrecy::Public => "",
            Secrecy::Kept => "A secret. ",
            Secrecy::Once => "A secret, in a seed only, never kept. ",
        };
        let meaning = words::capital(key.meaning);
        let allowed = key.form().allowed();
        out.push_str(&format!("# {meaning}.\n# {secret}Allowed: {allowed}.\n"));
        let value = key.value(&default).or_else(|| key.form().example());
        if let Some(value) = value {
            out.push_str(&format!("# {} = {value}\n", key.name()));
        }
    }
    out
}
