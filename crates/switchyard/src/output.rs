//! What commands print: data on standard output, plain where nobody looks, a little colour on a
//! terminal.

use std::io::IsTerminal;

use clap::ValueEnum;

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// What colour means here; nothing is coloured for looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Plain,
    /// Not what a reader came for.
    Faint,
    Good,
    Waits,
    Broken,
    /// The one thing on the line.
    Strong,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Faint => "2",
            Ink::Good => "32",
            Ink::Waits => "33",
            Ink::Broken => "31",
            Ink::Strong => "1",
        }
    }
}

/// Whether standard output is a terminal that wants colour (`NO_COLOR` says it does not).
pub fn coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal()
}

/// `text`, inked when `coloured`.
pub fn ink(text: &str, ink: Ink, coloured: bool) -> String {
    if !coloured || ink == Ink::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("\x1b[{}m{text}\x1b[0m", ink.code())
}

/// Prints a value as indented JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Rows under a heading, columns padded with blanks; the last column is not.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<(String, Ink)>>,
}

impl Table {
    pub fn new(heading: &[&str]) -> Table {
        let heading = heading.iter().map(|text| (text.to_uppercase(), Ink::Faint)).collect();
        Table { rows: vec![heading] }
    }

    pub fn row(&mut self, cells: Vec<(String, Ink)>) {
        self.rows.push(cells);
    }

    /// The whole text, each line with its line feed.
    pub fn show(&self, coloured: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|n| {
                self.rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.0.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (n, (cell, colour)) in row.iter().enumerate() {
                line.push_str(&ink(cell, *colour, coloured));
                if n + 1 < row.len() {
                    let missing = widths[n] - cell.chars().count();
                    line.push_str(&" ".repeat(missing + 2));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    pub fn print(&self) {
        print!("{}", self.show(coloured()));
    }
}

/// Text from elsewhere, made safe for a terminal: control characters are shown, not obeyed.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_and_aligned() {
        let mut table = Table::new(&["name", "pid"]);
        table.row(vec![("router".into(), Ink::Plain), ("7".into(), Ink::Good)]);
        assert_eq!(table.show(false), "NAME    PID\nrouter  7\n");
        assert_eq!(table.show(true), "\x1b[2mNAME\x1b[0m    \x1b[2mPID\x1b[0m\nrouter  \x1b[32m7\x1b[0m\n");
    }

    #[test]
    fn terminal_codes_from_elsewhere_are_not_obeyed() {
        assert_eq!(safe("a\x1b[31mb\nc"), "a\u{fffd}[31mb\nc");
    }
}
