//! Which unit waits for which. Refuses a set of units in which one is missing or double or waits for itself, naming
//! them, and gives the order of the start; the order of the end is its reverse.

use std::collections::{BTreeMap, BTreeSet};

use crate::unit::Unit;

/// A set of units that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("there are two units named {0}")]
    Double(String),
    #[error("unit {unit} names {missing}, and there is no such unit")]
    Missing { unit: String, missing: String },
    #[error("units wait for each other: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    #[error("unit {unit} requires {timed}, which runs by a timer: allowed is `after`")]
    Timed { unit: String, timed: String },
}

impl GraphError {
    /// Whose file is wrong, and which name in its `requires` or `after`, if it is there that it is wrong.
    pub fn place(&self) -> (&str, Option<&str>) {
        match self {
            Self::Double(unit) => (unit, None),
            Self::Missing { unit, missing } => (unit, Some(missing)),
            Self::Cycle(path) => (
                path.first().map_or("", String::as_str),
                path.get(1).map(String::as_str),
            ),
            Self::Timed { unit, timed } => (unit, Some(timed)),
        }
    }
}

/// The edges, by name. Every name in it is a unit's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// What comes first comes first; units without a bond are in the order of their names.
    order: Vec<String>,
    requires: BTreeMap<String, Vec<String>>,
    after: BTreeMap<String, Vec<String>>,
    dependants: BTreeMap<String, BTreeSet<String>>,
    followers: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// # Errors
    /// A name that is double or missing, or a cycle over `requires` and `after`.
    pub fn plan<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Result<Self, GraphError> {
        let mut by_name = BTreeMap::new();
        for unit in units {
            if by_name.insert(unit.name.as_str(), unit).is_some() {
                return Err(GraphError::Double(unit.name.clone()));
            }
        }
        let mut graph = Self::default();
        for unit in by_name.values() {
            for name in unit.requires.iter().chain(&unit.after) {
                if !by_name.contains_key(name.as_str()) {
                    return Err(GraphError::Missing {
                        unit: unit.name.clone(),
                        missing: name.clone(),
                    });
                }
                graph
                    .followers
                    .entry(name.clone())
                    .or_default()
                    .insert(unit.name.clone());
            }
            for (edges, names) in [
                (&mut graph.requires, &unit.requires),
                (&mut graph.after, &unit.after),
            ] {
                edges.insert(unit.name.clone(), names.clone());
            }
            for name in &unit.requires {
                if by_name
                    .get(name.as_str())
                    .is_some_and(|unit| unit.timer.is_some())
                {
                    return Err(GraphError::Timed {
                        unit: unit.name.clone(),
                        timed: name.clone(),
                    });
                }
                graph
                    .dependants
                    .entry(name.clone())
                    .or_default()
                    .insert(unit.name.clone());
            }
        }
        let mut path = Vec::new();
        for name in by_name.keys() {
            visit(name, &by_name, &mut path, &mut graph.order)?;
        }
        Ok(graph)
    }

    /// Every unit after those it waits for.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// What `name` requires.
    pub fn requires(&self, name: &str) -> &[String] {
        self.requires.get(name).map_or(&[], Vec::as_slice)
    }

    /// What `name` only comes after.
    pub fn after(&self, name: &str) -> &[String] {
        self.after.get(name).map_or(&[], Vec::as_slice)
    }

    /// The units that require `name`.
    pub fn dependants(&self, name: &str) -> impl Iterator<Item = &str> {
        self.dependants
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The units that require `name` or come after it.
    pub fn followers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.followers
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }
}

/// Depth first; `path` is what is being visited, from the first to the deepest.
fn visit<'a>(
    name: &'a str,
    units: &BTreeMap<&'a str, &'a Unit>,
    path: &mut Vec<&'a str>,
    order: &mut Vec<String>,
) -> Result<(), GraphError> {
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    if let Some(start) = path.iter().position(|visited| *visited == name) {
        let mut cycle: Vec<String> = path
            .iter()
            .skip(start)
            .map(|&name| name.to_owned())
            .collect();
        cycle.push(name.to_owned());
        return Err(GraphError::Cycle(cycle));
    }
    path.push(name);
    if let Some(unit) = units.get(name) {
        for next in unit.requires.iter().chain(&unit.after) {
            visit(next, units, path, order)?;
        }
    }
    path.pop();
    order.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::parse_unit;

    fn unit(name: &str, requires: &[&str], after: &[&str]) -> Unit {
        let text = format!(
            "description = \"x\"\ntype = \"service\"\nexec = [\"/x\"]\nrequires = {requires:?}\nafter = {after:?}\n"
        );
        parse_unit(name, "x.toml", &text).unwrap()
    }

    #[test]
    fn what_is_waited_for_comes_first() {
        let units = [
            unit("a", &["c"], &[]),
            unit("b", &[], &["a"]),
            unit("c", &[], &[]),
        ];
        let graph = Graph::plan(&units).unwrap();
        assert_eq!(graph.order(), ["c", "a", "b"]);
        assert_eq!(graph.dependants("c").collect::<Vec<_>>(), ["a"]);
        assert_eq!(graph.dependants("a").count(), 0);
        assert_eq!(graph.followers("a").collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_cycle_is_refused_with_its_names() {
        let units = [
            unit("a", &["b"], &[]),
            unit("b", &[], &["c"]),
            unit("c", &["a"], &[]),
            unit("d", &[], &[]),
        ];
        let error = Graph::plan(&units).unwrap_err();
        assert_eq!(
            error.to_string(),
            "units wait for each other: a -> b -> c -> a"
        );
        let error = Graph::plan(&[unit("a", &["a"], &[])]).unwrap_err();
        assert_eq!(error.to_string(), "units wait for each other: a -> a");
    }

    #[test]
    fn what_runs_by_a_timer_cannot_be_required() {
        let mut timed = unit("t", &[], &[]);
        timed.kind = crate::unit::Kind::Oneshot;
        timed.timer = Some(crate::unit::Timer {
            first_s: 0,
            every_s: 60,
            spread_s: 0,
        });
        let error = Graph::plan(&[timed.clone(), unit("a", &["t"], &[])]).unwrap_err();
        assert_eq!(error.place(), ("a", Some("t")));
        Graph::plan(&[timed, unit("a", &[], &["t"])]).unwrap();
    }

    #[test]
    fn missing_and_double_units_are_refused() {
        let error = Graph::plan(&[unit("a", &["b"], &[])]).unwrap_err();
        assert_eq!(
            error,
            GraphError::Missing {
                unit: "a".into(),
                missing: "b".into()
            }
        );
        let error = Graph::plan(&[unit("a", &[], &[]), unit("a", &[], &[])]).unwrap_err();
        assert_eq!(error, GraphError::Double("a".into()));
    }
}
