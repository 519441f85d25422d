//! Entries as a table: one line each, as wide as the terminal, or as wide as it needs to be where there is none.

use std::fmt::Write as _;

use serde_json::Value;

use super::render::{Paint, duration, field, shortened};

/// One column.
#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    /// Characters it has where there is room.
    width: usize,
    /// Characters with which it is still worth having.
    least: usize,
    /// Which columns have to go for it on a narrow terminal: those of higher rank.
    rank: u8,
    cell: fn(&Value) -> String,
}

const fn column(
    name: &'static str,
    [least, width]: [usize; 2],
    rank: u8,
    cell: fn(&Value) -> String,
) -> Column {
    Column { name, width, least, rank, cell }
}

/// From left to right. After them comes the request id, which is never cut: it is what `docket explain` takes.
const COLUMNS: [Column; 9] = [
    column("OCCURRED AT", [24, 24], 2, |entry| field(entry, "occurred_at")),
    column("EVENT TYPE", [12, 17], 6, |entry| field(entry, "event_type")),
    column("DECISION", [8, 16], 1, |entry| either(entry, "decision", "outcome")),
    column("STATUS", [8, 8], 8, |entry| field(entry, "evaluation_status")),
    column("SERVER", [6, 12], 5, |entry| field(entry, "server")),
    column("TOOL", [12, 22], 0, |entry| either(entry, "/resource/id", "/metadata/path")),
    column("SUBJECT", [8, 16], 4, |entry| either(entry, "/subject/id", "/metadata/principal")),
    column("RULE", [10, 18], 3, |entry| field(entry, "/diagnostics/0/rule")),
    column("DURATION", [9, 9], 7, |entry| {
        entry.get("duration_us").and_then(Value::as_u64).map(duration).unwrap_or_default()
    }),
];

/// The last column.
const REQUEST_ID: &str = "REQUEST ID";

/// Characters of a request id that docket made.
const REQUEST_ID_WIDTH: usize = 26;

/// What an entry of another kind has in the place of what decisions have.
fn either(entry: &Value, first: &str, second: &str) -> String {
    let text = field(entry, first);
    if text.is_empty() { field(entry, second) } else { text }
}

/// The columns that are shown, and how wide each is.
pub struct Table {
    columns: Vec<Column>,
    /// Whether what is longer than its column is cut.
    cuts: bool,
}

impl Table {
    /// For a terminal of this width; for whatever else reads it, where there is none.
    pub fn new(width: Option<usize>) -> Self {
        let Some(width) = width else { return Self { columns: COLUMNS.to_vec(), cuts: false } };
        let mut by_rank = COLUMNS.to_vec();
        by_rank.sort_by_key(|column| column.rank);
        let mut left = width.saturating_sub(REQUEST_ID_WIDTH);
        let mut columns = Vec::new();
        for column in by_rank {
            // There is a space after each.
            let Some(rest) = left.checked_sub(column.least + 1) else { break };
            left = rest;
            columns.push(column);
        }
        for column in &mut columns {
            let more = left.min(column.width - column.least);
            left -= more;
            column.width = column.least + more;
        }
        let place = |column: &Column| COLUMNS.iter().position(|known| known.name == column.name);
        columns.sort_by_key(place);
        Self { columns, cuts: true }
    }

    /// The first line.
    pub fn head(&self) -> String {
        let mut line = String::new();
        for Column { name, width, .. } in &self.columns {
            let _ = write!(line, "{name:width$} ");
        }
        line + REQUEST_ID
    }

    /// One entry as one line.
    pub fn row(&self, entry: &Value, paint: &Paint) -> String {
        let mut line = String::new();
        for Column { name, width, cell, .. } in &self.columns {
            let cell = shown(&cell(entry));
            let cell = if self.cuts { shortened(&cell, *width) } else { cell };
            let padded = format!("{cell:width$}");
            line.push_str(&if *name == "DECISION" { paint.decision(&padded) } else { padded });
            line.push(' ');
        }
        line + &shown(&field(entry, "request_id"))
    }
}

/// A cell is never empty, so that columns can be told apart by a program too, and has no line breaks.
fn shown(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell.replace('\n', " ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_gives_up_the_least_important_first() {
        for (width, columns) in [(20, 0), (60, 2), (80, 3), (100, 6), (120, 7), (140, 9), (200, 9)] {
            let table = Table::new(Some(width));
            assert_eq!(table.columns.len(), columns, "{width}");
            let used: usize = table.columns.iter().map(|column| column.width + 1).sum();
            assert!(columns == 0 || used + REQUEST_ID_WIDTH <= width, "{width}: {used}");
        }
        assert_eq!(
            Table::new(Some(80)).head(),
            "OCCURRED AT              DECISION TOOL                REQUEST ID"
        );
        let long = json!({"resource": {"id": "a_name_that_is_longer_than_any_column"}, "request_id": "r"});
        let row = |width| Table::new(width).row(&long, &Paint::stdout());
        assert!(row(Some(80)).contains("a_name_that_is_lon… r"), "{}", row(Some(80)));
        assert!(row(None).contains("a_name_that_is_longer_than_any_column "), "{}", row(None));
    }
}
