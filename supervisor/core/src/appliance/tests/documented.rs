//! The documentation: what it shows is accepted, and no key is missing in it.

use super::super::*;

const PAGES: [&str; 3] = [
    include_str!("../../../../../docs/configuration.md"),
    include_str!("../../../../../docs/seed.md"),
    include_str!("../../../../../README.md"),
];

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
fn every_key_is_explained() {
    let whole: toml::Table = include_str!("whole.toml").parse().unwrap();
    let mut keys = Vec::new();
    leaves("", &whole, &mut keys);
    assert!(keys.len() > 40);
    for key in keys {
        // By its whole name, or in the table below its own heading.
        let shown = (0..key.len())
            .filter(|at| *at == 0 || key.as_bytes()[at - 1] == b'.')
            .any(|at| {
                let (table, name) = key.split_at(at);
                let table = table.trim_end_matches('.');
                let heading = PAGES[0].find(&format!("`[{table}]`")).unwrap_or(0);
                (table.is_empty() || heading > 0)
                    && PAGES[0][heading..].contains(&format!("\n| `{name}` |"))
            });
        assert!(shown, "{key}");
    }
}

fn leaves(path: &str, table: &toml::Table, out: &mut Vec<String>) {
    for (name, value) in table {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match value.as_table() {
            Some(table) => leaves(&path, table, out),
            None => out.push(path),
        }
    }
}
