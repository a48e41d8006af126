//! Words and JSON as the real `mmctl` prints them. Pure.

use serde_json::{Value, json};

pub fn lines(list: &Value, line: impl Fn(&Value) -> String) -> String {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|item| line(item) + "\n")
        .collect()
}

pub fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}

/// The words as the type that the setting has now.
pub fn typed(now: &Value, words: &[String]) -> Option<Value> {
    let first = words.first()?;
    match now {
        Value::Bool(_) => first.parse::<bool>().ok().map(Value::from),
        Value::Number(_) => first.parse::<i64>().ok().map(Value::from),
        Value::Array(_) => Some(json!(words)),
        Value::Object(_) => serde_json::from_str(first).ok(),
        Value::String(_) | Value::Null => Some(Value::from(first.as_str())),
    }
}

/// JSON with two spaces a level; keeps the order of fields, which reading it into a map would lose.
pub fn indented(raw: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let mut chars = raw.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    continue;
                }
                depth += 1;
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth -= 1;
                    new_line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                quoted = true;
                out.push(c);
            }
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    #[test]
    fn json_is_indented_in_its_own_order() {
        let raw = r#"{"z":1,"a":{"q":"x: \"{,}\" \\"},"e":[],"l":[1,2]}"#;
        let wanted = "{\n  \"z\": 1,\n  \"a\": {\n    \"q\": \"x: \\\"{,}\\\" \\\\\"\n  },\n  \"e\": [],\n  \
                      \"l\": [\n    1,\n    2\n  ]\n}\n";
        assert_eq!(super::indented(raw), wanted);
    }
}
