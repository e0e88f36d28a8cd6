//! How it is told: a table for people, JSON for machines.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use crate::row::{Figure, Row, Target, rounded};

/// A row that is not measured.
pub(crate) fn listed(row: &Row) {
    let targets: Vec<_> = row.targets.iter().map(Target::to_string).collect();
    show(&format!("{:32} {}", row.name, targets.join("; ")));
}

/// All rows as a table.
pub(crate) fn table(measured: &[(Row, Vec<Figure>)]) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["row", "figures", "target", "found", "met"]);
    for (row, figures) in measured {
        let shown: Vec<_> = figures.iter().map(|figure| format!("{} {figure}", figure.name)).collect();
        let found = row.targets.iter().map(|target| target.found(figures));
        let met = row.targets.iter().zip(found.clone()).map(|(target, found)| match found {
            Some(found) if target.is_met(found) => "yes",
            Some(_) => "NO",
            None => "not measured",
        });
        table.add_row([
            row.name.to_owned(),
            shown.join("\n"),
            row.targets.iter().map(Target::to_string).collect::<Vec<_>>().join("\n"),
            found.clone().map(|found| found.map_or("–".to_owned(), rounded)).collect::<Vec<_>>().join("\n"),
            met.collect::<Vec<_>>().join("\n"),
        ]);
    }
    show(&table.to_string());
}

/// All rows as one JSON list.
pub(crate) fn json(measured: &[(Row, Vec<Figure>)]) {
    let rows: Vec<_> = measured
        .iter()
        .map(|(row, figures)| {
            let figures_json: Vec<_> = figures
                .iter()
                .map(|f| json!({"name": f.name, "unit": f.unit, "median": f.median(), "values": f.values}))
                .collect();
            let targets: Vec<_> = row
                .targets
                .iter()
                .map(|target| {
                    let found = target.found(figures);
                    json!({"target": target.to_string(), "found": found, "met": found.map(|f| target.is_met(f))})
                })
                .collect();
            json!({"row": row.name, "figures": figures_json, "targets": targets})
        })
        .collect();
    show(&serde_json::Value::from(rows).to_string());
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn show(text: &str) {
    println!("{text}");
}
