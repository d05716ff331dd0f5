//! Results on the terminal: the study, the table, and the comparisons in words.

use theriac_core::MethodInfo;

use crate::compare::{Comparison, comparisons};
use crate::input::Results;
use crate::table::table;

/// Renders what `results` say: what was asked, the [`table`] of all cells, and a sentence for each comparison.
/// `methods` are the registries' entries.
pub fn show(results: &Results, methods: &[&MethodInfo]) -> String {
    let manifest = &results.manifest;
    let mut text = [manifest.name.clone()].into_iter().chain(results.part_words()).collect::<Vec<_>>().join(", ");
    if !manifest.question.is_empty() {
        text.push_str(&format!(": {}", manifest.question));
    }
    text.push_str("\n\n");
    text.push_str(&table(&results.cells, methods));
    let compared = comparisons(&results.cells, &manifest.compares);
    if !compared.is_empty() {
        text.push_str("\ncomparisons, paired by seed; p by Holm's correction for all tests of the experiment\n");
    }
    let mut last = None;
    for row in &compared {
        let place = place(row);
        if last.as_ref() != Some(&place) {
            text.push_str(&format!("{place}\n"));
            last = Some(place);
        }
        text.push_str(&format!("  {}\n", row.sentence()));
    }
    text
}

fn place(row: &Comparison) -> String {
    if row.place.is_empty() { row.experiment.clone() } else { format!("{}: {}", row.experiment, row.place) }
}
