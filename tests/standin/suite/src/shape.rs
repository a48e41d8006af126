//! The shape of a JSON value: names of fields and kinds of values. Decides whether an answer is like a recorded one.

use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Recorded as null or as an empty list's item: says nothing about the kind.
    Unknown,
    Bool,
    Number,
    Text,
    List(Box<Shape>),
    /// Field names; `false` where only some of several recorded objects had the field.
    Object(BTreeMap<String, (Shape, bool)>),
    /// An object whose names are identifiers.
    Map(Box<Shape>),
}

/// Fields that a real server leaves out when they are zero, false or empty.
const OPTIONAL: &[&str] = &["failed_attempts", "email_verified", "last_login", "post_id"];

fn is_id(name: &str) -> bool {
    name.len() == 26
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

impl Shape {
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Unknown,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::List(Box::new(Self::common(items.iter()))),
            Value::Object(fields) if !fields.is_empty() && fields.keys().all(|k| is_id(k)) => {
                Self::Map(Box::new(Self::common(fields.values())))
            }
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, v)| (name.clone(), (Self::of(v), true)))
                    .collect(),
            ),
        }
    }

    fn common<'a>(values: impl Iterator<Item = &'a Value>) -> Self {
        values
            .map(Self::of)
            .reduce(Self::merge)
            .unwrap_or(Self::Unknown)
    }

    /// What two values of the same kind have in common; a field that one of them lacks is optional.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, x) | (x, Self::Unknown) => x,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Map(a), Self::Map(b)) => Self::Map(Box::new(a.merge(*b))),
            (Self::Object(a), Self::Object(mut b)) => {
                let mut merged: BTreeMap<_, _> = a
                    .into_iter()
                    .map(|(name, (shape, always))| match b.remove(&name) {
                        Some((other, too)) => (name, (shape.merge(other), always && too)),
                        None => (name, (shape, false)),
                    })
                    .collect();
                merged.extend(
                    b.into_iter()
                        .map(|(name, (shape, _))| (name, (shape, false))),
                );
                Self::Object(merged)
            }
            (a, _) => a,
        }
    }

    /// What is different about `actual`, each with its place. Unknown fields count only when `strict`.
    pub fn differences(&self, actual: &Value, strict: bool) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(actual, strict, "", &mut found);
        found
    }

    fn compare(&self, actual: &Value, strict: bool, place: &str, found: &mut Vec<String>) {
        match (self, actual) {
            (Self::Unknown, _)
            | (Self::Bool, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::Text, Value::String(_)) => {}
            (Self::List(shape), Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    shape.compare(item, strict, &format!("{place}[{at}]"), found);
                }
            }
            (Self::Map(shape), Value::Object(fields)) => {
                for (name, value) in fields {
                    shape.compare(value, strict, &format!("{place}.{name}"), found);
                }
            }
            (Self::Object(wanted), Value::Object(fields)) => {
                for (name, (shape, always)) in wanted {
                    let here = format!("{place}.{name}");
                    match fields.get(name) {
                        Some(value) => shape.compare(value, strict, &here, found),
                        None if *always && !OPTIONAL.contains(&name.as_str()) => {
                            found.push(format!("{here} is missing"));
                        }
                        None => {}
                    }
                }
                let unknown = fields.keys().filter(|name| {
                    strict
                        && !wanted.contains_key(*name)
                        && !OPTIONAL.contains(&name.as_str())
                        && !is_id(name)
                });
                found.extend(unknown.map(|name| format!("{place}.{name} is not in the recording")));
            }
            (wanted, other) => found.push(format!(
                "{} is {}, not {}",
                if place.is_empty() { "the body" } else { place },
                Self::of(other).name(),
                wanted.name()
            )),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Object(_) | Self::Map(_) => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_fields_and_other_kinds_are_told_with_their_place() {
        let shape = Shape::of(&json!({"a": 1, "b": {"c": "x"}, "n": null, "l": [true]}));
        assert!(
            shape
                .differences(&json!({"a": 7, "b": {"c": ""}, "n": 4, "l": []}), true)
                .is_empty()
        );
        assert_eq!(
            shape.differences(&json!({"a": "1", "b": {}, "l": [1], "z": 0, "n": 0}), true),
            [
                ".a is a string, not a number",
                ".b.c is missing",
                ".l[0] is a number, not a boolean",
                ".z is not in the recording"
            ]
        );
        assert!(
            shape
                .differences(
                    &json!({"a": 1, "b": {"c": ""}, "n": 0, "l": [], "z": 0}),
                    false
                )
                .is_empty()
        );
    }

    #[test]
    fn a_field_that_one_of_several_lacks_is_optional() {
        let one = "8rb3s4ehetb5bynnpx4syzimxa";
        let two = "yu49sw1dkpru3rezzoayswoszr";
        let shape = Shape::of(&json!({one: {"id": "", "remote_id": ""}, two: {"id": ""}}));
        assert!(
            shape
                .differences(&json!({one: {"id": "x"}}), true)
                .is_empty()
        );
        assert_eq!(
            shape.differences(&json!({two: {"remote_id": ""}}), true),
            [format!(".{two}.id is missing")]
        );
    }
}
