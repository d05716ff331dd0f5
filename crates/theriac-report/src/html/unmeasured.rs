//! The cells without numbers: those that diverged, which is a result, and those that failed, which is not.

use theriac_core::record::{CellRecord, MethodRecord};

use super::table;
use crate::input::Results;
use crate::plot::escape;
use crate::words::{status, value_words};

/// The anchors of the sections, which are the words for what happened, with their titles and what they say.
const SECTIONS: [(&str, &str, &str); 2] = [
    (
        "diverged",
        "Cells that diverged",
        "A training that they stand on ran away, as the reason tells. That is a result: running again gives it again. They \
         have no part in any mean above, so a mean beside them speaks of the other seeds only.",
    ),
    (
        "failed",
        "Cells that failed",
        "They could not be computed; running the study again tries them again. They have no part in any number above; n counts \
         the seeds that were measured.",
    ),
];

/// Links to the sections with the number of `cells` in each, empty where there is none.
pub fn links<'a>(cells: impl Iterator<Item = &'a CellRecord> + Clone) -> Vec<String> {
    let link = |(anchor, ..): &(&str, &str, &str)| {
        let count = cells.clone().filter(|cell| status(&cell.outcome) == *anchor).count();
        (count > 0).then(|| format!("<a href=\"#{anchor}\">{count} {anchor}</a>"))
    };
    SECTIONS.iter().filter_map(link).collect()
}

/// Writes the sections that have cells.
pub fn sections(out: &mut String, results: &Results) {
    for (anchor, title, words) in SECTIONS {
        let own: Vec<&CellRecord> = results.cells.iter().filter(|cell| status(&cell.outcome) == anchor).collect();
        if own.is_empty() {
            continue;
        }
        out.push_str(&format!(
            "<section aria-labelledby=\"{anchor}\">\n<h2 id=\"{anchor}\">{title}</h2>\n<p>{words}</p>\n"
        ));
        let rows = own.into_iter().map(|cell| {
            let reason = cell.outcome.reason().unwrap_or_default().to_owned();
            [cell.experiment.clone(), name(&cell.attack), name(&cell.defense), cell.seed.to_string(), reason]
                .map(|text| escape(&text))
        });
        let head = ["Experiment", "Attack", "Defense", "Seed", "Reason"];
        table::plain(out, title, &head, rows.map(Vec::from).collect());
        out.push_str("</section>\n");
    }
}

fn name(method: &MethodRecord) -> String {
    let params = method.params.iter().map(|(name, value)| format!("{name} {}", value_words(value)));
    let params = params.collect::<Vec<_>>().join(", ");
    if params.is_empty() { method.name.clone() } else { format!("{} ({params})", method.name) }
}
