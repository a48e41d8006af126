//! Which files of Debian's packages go into the image: reads image/root.rules and answers for a path. Pure; it copies nothing.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Rules {
    keep: BTreeMap<String, Vec<String>>,
    drop: Vec<Vec<String>>,
}

impl Rules {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut rules = Self::default();
        rules.read(file, text)?;
        Ok(rules)
    }

    /// Takes what another file's rules take too, and leaves out what either leaves out.
    pub fn extend(&mut self, more: Self) {
        for (folder, names) in more.keep {
            self.keep.entry(folder).or_default().extend(names);
        }
        self.drop.extend(more.drop);
    }

    fn read(&mut self, file: &str, text: &str) -> Result<()> {
        let rules = self;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let syntax = |problem: &str| Error::Syntax {
                file: file.to_owned(),
                line: number + 1,
                problem: problem.to_owned(),
            };
            if line.is_empty() || line.starts_with('#') {
            } else if let Some(rest) = line.strip_prefix("keep ") {
                let (folder, names) = rest
                    .split_once(':')
                    .filter(|(folder, _)| folder.starts_with('/'))
                    .ok_or_else(|| syntax("expected `keep /DIRECTORY: NAME ...`"))?;
                let folder = folder.trim_end_matches('/').to_owned();
                let names = names.split_whitespace().map(str::to_owned).collect();
                if rules.keep.insert(folder, names).is_some() {
                    return Err(syntax("this directory has a `keep` line already"));
                }
            } else if let Some(rest) = line.strip_prefix("drop ") {
                for pattern in rest.split_whitespace() {
                    if !pattern.starts_with('/') {
                        return Err(syntax("a pattern begins with /"));
                    }
                    rules
                        .drop
                        .push(pattern.split('/').map(str::to_owned).collect());
                }
            } else {
                return Err(syntax("expected `keep` or `drop`"));
            }
        }
        Ok(())
    }

    /// Whether `path` (absolute inside the image) is taken, given that its parent is.
    pub fn takes(&self, path: &str) -> bool {
        let Some((folder, name)) = path.rsplit_once('/') else {
            return false;
        };
        if let Some(names) = self.keep.get(folder)
            && !names.iter().any(|pattern| matches(pattern, name))
        {
            return false;
        }
        let parts: Vec<&str> = path.split('/').collect();
        !self.drop.iter().any(|pattern| {
            pattern.len() == parts.len() && pattern.iter().zip(&parts).all(|(p, n)| matches(p, n))
        })
    }
}

/// Shell-like match of one path component; only `*` is special.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len())
                .filter_map(|at| name.get(at..))
                .any(|tail| matches(rest, tail))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_restricts_one_directory_and_drop_cuts_paths() {
        let rules = Rules::parse(
            "r",
            "# c\nkeep /usr/bin: a lib*.so\ndrop /usr/lib/*/perl*\n",
        )
        .unwrap();
        assert!(rules.takes("/usr/bin/a"));
        assert!(rules.takes("/usr/bin/libx.so"));
        assert!(!rules.takes("/usr/bin/bash"));
        assert!(rules.takes("/usr/sbin/anything"));
        assert!(!rules.takes("/usr/lib/x86/perl5"));
        assert!(rules.takes("/usr/lib/x86/libc.so.6"));
    }

    #[test]
    fn more_rules_take_more_of_a_restricted_directory() {
        let mut rules = Rules::parse("r", "keep /usr/bin: a\ndrop /usr/lib/x").unwrap();
        let more = Rules::parse("m", "keep /usr/bin: b\nkeep /opt: c\ndrop /usr/lib/y").unwrap();
        rules.extend(more);
        for path in ["/usr/bin/a", "/usr/bin/b", "/opt/c", "/usr/lib/z"] {
            assert!(rules.takes(path), "{path}");
        }
        for path in ["/usr/bin/c", "/opt/d", "/usr/lib/x", "/usr/lib/y"] {
            assert!(!rules.takes(path), "{path}");
        }
    }

    #[test]
    fn the_top_directory_can_be_restricted() {
        let rules = Rules::parse("r", "keep /: usr etc").unwrap();
        assert!(rules.takes("/usr"));
        assert!(!rules.takes("/vmlinuz"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = Rules::parse("root.rules", "keep /a: b\nkep /x: y").unwrap_err();
        assert_eq!(
            error.to_string(),
            "root.rules, line 2: expected `keep` or `drop`"
        );
    }

    #[test]
    fn stars_match_any_run_of_characters() {
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*b", "a-c"));
    }
}
