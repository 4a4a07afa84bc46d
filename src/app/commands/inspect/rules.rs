//! `inspect --rules`: the table of all rules by which messages are judged.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    bridge::rules::rules,
    formats::{
        metadata::{
            Level,
            validate::{Consequence, Rule},
        },
        xdr::ErrorCode,
    },
};

/// One row. The names are a contract with scripts.
#[derive(Serialize)]
struct Row<'a> {
    rule: &'a str,
    levels: Vec<&'a str>,
    object: &'a str,
    code: Option<&'a str>,
    severity: &'a str,
    asks: &'a str,
}

impl Row<'static> {
    fn of(rule: &'static Rule) -> Self {
        Self {
            rule: rule.id,
            levels: rule.levels.iter().copied().map(Level::as_str).collect(),
            object: rule.object.as_str(),
            code: rule.consequence.code().map(ErrorCode::as_str),
            severity: rule.consequence.severity(),
            asks: rule.asks,
        }
    }
}

/// Writes the table: as one JSON document, or as aligned text, one line for each rule.
pub(super) fn write(is_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if is_json {
        let rows: Vec<Row<'_>> = rules().map(Row::of).collect();
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        return out.write_all(b"\n");
    }
    let heading = ["RULE", "LEVELS", "OBJECT", "SEVERITY", "CODE", "ASKS FOR"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(heading).chain(rules().map(cells)).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(String::len).max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    for [rule, levels, object, severity, code, asks] in &lines {
        for (cell, width) in [rule, levels, object, severity, code]
            .into_iter()
            .zip(widths)
        {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{asks}")?;
    }
    Ok(())
}

fn cells(rule: &'static Rule) -> [String; 6] {
    let row = Row::of(rule);
    let levels = match rule.levels.len() {
        3 => "all".to_owned(),
        _ => row.levels.join(","),
    };
    let code = match &rule.consequence {
        Consequence::NotRead => "(no XDS answer)",
        Consequence::Told => "(log only)",
        _ => row.code.unwrap_or_default(),
    };
    [
        row.rule.to_owned(),
        levels,
        row.object.to_owned(),
        row.severity.to_owned(),
        code.to_owned(),
        row.asks.to_owned(),
    ]
}
