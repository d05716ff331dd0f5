//! How it was measured.

use std::collections::BTreeSet;

use super::table;
use crate::input::Results;
use crate::plot::escape;
use crate::setting::Setting;
use crate::words::METRICS;

/// Writes the section.
pub fn section(out: &mut String, results: &Results, settings: &[Setting]) {
    out.push_str("<section aria-labelledby=\"measured\">\n<h2 id=\"measured\">How it was measured</h2>\n");
    out.push_str(
        "<ul>\n<li>Every number is the mean over seeds. An interval is Student's 95 % interval of that mean; n \
         is the number of \
         seeds. With n = 1 there is no interval.</li>\n\
         <li>Intervals of fractions are clipped to 0 and 100 % on this page and in the figures; \
         <code>summary.csv</code> holds \
         them unclipped.</li>\n\
         <li>Differences (costs, gains, a filter against the random filter) are taken seed by seed and then \
         averaged.</li>\n\
         <li>A poison rate is a fraction of the whole training set, not of one class.</li>\n\
         <li>The clean model is trained with the same recipe and seed on the data before the attack. What it \
         shows on the \
         attack's inputs is the false success.</li>\n",
    );
    if settings
        .iter()
        .any(|setting| setting.groups.iter().any(|group| crate::group::matches(group.defense()).is_some()))
    {
        out.push_str(
            "<li>The random filter and the perfect filter remove exactly as many samples as the filter that \
             they are named \
             after: the first at random, the second poison first.</li>\n",
        );
    }
    out.push_str("</ul>\n");
    let used: BTreeSet<&String> = results.cells.iter().flat_map(|cell| cell.metrics.keys()).collect();
    let known = METRICS.iter().filter(|words| used.iter().any(|name| *name == words.metric));
    let mut rows: Vec<Vec<String>> = known
        .map(|words| vec![escape(words.title), format!("<code>{}</code>", words.metric), escape(words.definition)])
        .collect();
    let others = used.iter().filter(|name| !METRICS.iter().any(|words| words.metric == name.as_str()));
    rows.extend(others.map(|name| vec![escape(name), format!("<code>{}</code>", escape(name)), "-".to_owned()]));
    if !rows.is_empty() {
        table::plain(out, "Metrics", &["Metric", "In the results", "Definition"], rows);
    }
    out.push_str("</section>\n");
}
