//! A Markdown table.

use std::fmt;

/// Rows of cells under a header.
pub struct Table {
    width: usize,
    lines: Vec<String>,
}

impl Table {
    /// A table with these columns; all but the first hold numbers.
    pub fn new<const N: usize>(header: [&str; N]) -> Table {
        let rule = (0..N).map(|column| if column == 0 { "---" } else { "---:" });
        let rule = rule.collect::<Vec<_>>().join("|");
        Table {
            width: N,
            lines: vec![line(&header), format!("|{rule}|")],
        }
    }

    /// Adds a row; cells that are missing stay empty.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        let mut cells = cells.to_vec();
        cells.resize(self.width, "");
        self.lines.push(line(&cells));
    }
}

fn line(cells: &[&str]) -> String {
    format!("| {} |", cells.join(" | "))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_wide_as_the_header() {
        let mut table = Table::new(["what", "s"]);
        table.row(["boot", "1.5"]);
        table.row(["none"]);
        assert_eq!(
            table.to_string(),
            "| what | s |\n|---|---:|\n| boot | 1.5 |\n| none |  |\n"
        );
    }
}
