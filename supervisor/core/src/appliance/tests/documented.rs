//! What is told about the keys: made from them, complete, and true.

use std::path::Path;

use super::super::*;
use crate::appliance::key::Form;

const PAGES: [&str; 3] = [
    include_str!("../../../../../docs/configuration.md"),
    include_str!("../../../../../docs/seed.md"),
    include_str!("../../../../../README.md"),
];

/// Compares a file of docs/ with what it would be made to; `ATALAYA_BLESS=1` takes it over.
#[allow(clippy::disallowed_methods, reason = "only whoever blesses writes")]
fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("ATALAYA_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{name} is not what the code says: ATALAYA_BLESS=1 cargo test --release -p atalaya-core"
    );
}

#[test]
fn every_example_is_accepted() {
    let mut examples = 0;
    for page in PAGES {
        for example in page.split("```toml\n").skip(1) {
            let text = example.split("```").next().unwrap();
            if let Err(invalid) = parse_seed(text.as_bytes()) {
                panic!("{invalid}\n{text}");
            }
            examples += 1;
        }
    }
    assert!(examples >= 6);
}

#[test]
fn the_page_s_tables_are_made_from_the_keys_and_hold_each_once() {
    let made = reference::page(PAGES[0]);
    compare("configuration.md", &made);
    let rows = made.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, keys::all().count());
    assert!(!made.contains("|  |"), "a cell is empty");
}

#[test]
fn the_schema_is_made_from_the_keys() {
    let schema = serde_json::to_string_pretty(&reference::schema()).unwrap();
    compare("appliance.schema.json", &format!("{schema}\n"));
}

#[test]
fn the_commented_example_is_made_from_the_keys_and_changes_nothing() {
    let example = reference::example();
    compare("appliance.example.toml", &example);
    assert_eq!(parse_seed(example.as_bytes()).unwrap(), Seed::default());
}

#[test]
fn every_key_takes_its_own_example_and_nothing_of_another_kind() {
    let mut examples = 0;
    for key in keys::all() {
        let told = |text: &str| match parse_seed(text.as_bytes()) {
            Ok(_) => None,
            Err(Invalid(problems)) => {
                let of_key = |problem: &Problem| problem.key == key.path;
                problems.iter().find(|p| of_key(p)).map(ToString::to_string)
            }
        };
        if let Some(example) = key.form().example() {
            let wrong = told(&format!("{} = {example}\n", key.path));
            // Alone it may be half of something; by itself it is right.
            let allowed = key.form().allowed();
            assert!(
                wrong
                    .as_ref()
                    .is_none_or(|wrong| !wrong.ends_with(&allowed)),
                "{wrong:?}"
            );
            examples += 1;
        }
        let other = match key.form() {
            Form::Flag => "\"true\"",
            Form::Number { .. } => "true",
            Form::Word(_) | Form::Words(_) | Form::Text(_) | Form::List(_) => "7",
        };
        let wrong = told(&format!("{} = {other}\n", key.path)).unwrap();
        assert!(wrong.ends_with(&key.form().allowed()), "{wrong}");
    }
    assert!(examples > 20, "{examples}");
}

/// Of which the other tests take every value: none may be missing in it.
#[test]
fn the_whole_file_holds_every_key() {
    let seed = parse_seed(include_bytes!("whole.toml")).unwrap();
    let default = Seed::default();
    for key in keys::all() {
        assert_ne!(key.value(&seed), key.value(&default), "{}", key.path);
    }
}
