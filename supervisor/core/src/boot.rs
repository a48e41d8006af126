//! What the start of the machine took: for each unit when it began and when it was ready, and the slowest chain, the one
//! that has to become faster for the whole to be. Reads numbers, decides nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The first start of one unit since the machine began. Milliseconds since power-on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub unit: String,
    /// When it was launched.
    pub started_ms: u64,
    /// When others could rely on it; none if that has not come yet.
    pub ready_ms: Option<u64>,
}

/// One row of the slowest chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub unit: String,
    pub started_ms: u64,
    pub ready_ms: u64,
    /// From its launch to its readiness.
    pub took_ms: u64,
    /// From the moment at which the step before it was ready (for the first: power-on) to its launch.
    pub waited_ms: u64,
}

/// The chain that ends with `last`, or with the unit that was ready last. `needs` gives the units for which a unit waits;
/// of those the one that was ready last is the step before it.
pub fn slowest_chain(
    spans: &[Span],
    last: Option<&str>,
    needs: impl Fn(&str) -> Vec<String>,
) -> Vec<Step> {
    let ready: BTreeMap<&str, (u64, u64)> = spans
        .iter()
        .filter_map(|span| Some((span.unit.as_str(), (span.started_ms, span.ready_ms?))))
        .collect();
    let end = last
        .filter(|name| ready.contains_key(name))
        .or_else(|| latest(&ready, ready.keys().copied()));
    let mut chain = Vec::new();
    let mut current = end.map(str::to_owned);
    while let Some(name) = current.take() {
        let Some(&(started_ms, ready_ms)) = ready.get(name.as_str()) else {
            break;
        };
        let below = needs(&name);
        // What was ready only later did not hold it up.
        let before = latest(
            &ready,
            below.iter().map(String::as_str).filter(|below| {
                ready
                    .get(below)
                    .is_some_and(|&(_, ready_ms)| ready_ms <= started_ms)
            }),
        )
        .map(str::to_owned);
        let free_ms = before
            .as_deref()
            .and_then(|before| ready.get(before))
            .map_or(0, |&(_, ready_ms)| ready_ms);
        chain.push(Step {
            unit: name,
            started_ms,
            ready_ms,
            took_ms: ready_ms.saturating_sub(started_ms),
            waited_ms: started_ms.saturating_sub(free_ms),
        });
        if chain.len() > ready.len() {
            break;
        }
        current = before;
    }
    chain.reverse();
    chain
}

fn latest<'a>(
    ready: &BTreeMap<&str, (u64, u64)>,
    names: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .filter_map(|name| Some((ready.get(name)?.1, name)))
        .max()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(unit: &str, started_ms: u64, ready_ms: Option<u64>) -> Span {
        Span {
            unit: unit.to_owned(),
            started_ms,
            ready_ms,
        }
    }

    fn needs(name: &str) -> Vec<String> {
        let below: &[&str] = match name {
            "mattermost" => &["postgres", "network"],
            "postgres" => &["initdb"],
            "edge" => &["network"],
            _ => &[],
        };
        below.iter().map(|&name| name.to_owned()).collect()
    }

    fn spans() -> Vec<Span> {
        vec![
            span("initdb", 1000, Some(8000)),
            span("network", 1000, Some(3000)),
            span("edge", 3000, Some(3200)),
            span("postgres", 8000, Some(8600)),
            span("mattermost", 8700, Some(11_000)),
            span("never", 1000, None),
        ]
    }

    #[test]
    fn the_chain_goes_through_what_was_ready_last() {
        let chain = slowest_chain(&spans(), None, needs);
        let names: Vec<&str> = chain.iter().map(|step| step.unit.as_str()).collect();
        assert_eq!(names, ["initdb", "postgres", "mattermost"]);
        assert_eq!(
            chain[2],
            Step {
                unit: "mattermost".into(),
                started_ms: 8700,
                ready_ms: 11_000,
                took_ms: 2300,
                waited_ms: 100,
            }
        );
        assert_eq!(chain[0].waited_ms, 1000);
    }

    #[test]
    fn a_chain_may_be_asked_for_by_its_end() {
        let chain = slowest_chain(&spans(), Some("edge"), needs);
        let names: Vec<&str> = chain.iter().map(|step| step.unit.as_str()).collect();
        assert_eq!(names, ["network", "edge"]);
        // What never became ready has no chain of its own; the slowest is told instead.
        let chain = slowest_chain(&spans(), Some("never"), needs);
        assert_eq!(
            chain.last().map(|step| step.unit.as_str()),
            Some("mattermost")
        );
    }

    #[test]
    fn what_became_ready_only_later_held_nobody_up() {
        let spans = [span("a", 100, Some(900)), span("b", 200, Some(300))];
        let chain = slowest_chain(&spans, Some("b"), |name| {
            if name == "b" {
                vec!["a".to_owned()]
            } else {
                Vec::new()
            }
        });
        assert_eq!(chain.len(), 1);
        assert_eq!(chain[0].waited_ms, 200);
    }

    #[test]
    fn nothing_started_is_no_chain_and_a_circle_ends() {
        assert_eq!(slowest_chain(&[], None, needs), []);
        let spans = [span("a", 0, Some(0)), span("b", 0, Some(0))];
        let chain = slowest_chain(&spans, None, |name| {
            vec![if name == "a" { "b" } else { "a" }.to_owned()]
        });
        assert!(chain.len() <= 3, "{chain:?}");
    }
}
