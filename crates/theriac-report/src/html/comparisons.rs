//! Which of the compared methods differ, and how many seeds it would take to tell the others apart.

use super::{emphasise, table};
use crate::compare::{Comparison, LEVEL, POWER};
use crate::group::unique;
use crate::plot::escape;
use crate::words::{difference_words, in_percent, metric_title, p_words, percent};

/// Writes the section, if anything is compared.
pub fn section(out: &mut String, comparisons: &[Comparison]) {
    if comparisons.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"comparisons\">\n<h2 id=\"comparisons\">Comparisons</h2>\n");
    out.push_str(&format!(
        "<p>Each with each, paired by seed, everything else being equal. A difference holds if its p value is at most {LEVEL}, \
         from a two-sided paired t test and after Holm's correction for all tests of the experiment. The number of seeds is \
         the one with which the test, taken alone, would find such a difference with a probability of {:.0}&nbsp;%; it \
         rests on a spread that is itself estimated from few seeds, so it is an order of magnitude.</p>\n",
        POWER * 100.0
    ));
    let experiments = unique(comparisons.iter().map(|row| &row.experiment));
    for experiment in &experiments {
        let own: Vec<&Comparison> = comparisons.iter().filter(|row| row.experiment == **experiment).collect();
        if experiments.len() > 1 {
            out.push_str(&format!("<h3>{}</h3>\n", escape(experiment)));
        }
        let (hold, rest): (Vec<&Comparison>, Vec<&Comparison>) = own.iter().copied().partition(|row| row.holds());
        let tests = own.iter().filter(|row| row.test.is_some()).count();
        out.push_str(&match (hold.len(), tests) {
            (_, 0) => "<p>Nothing could be tested: that takes two seeds at which both were measured.</p>\n".to_owned(),
            (0, 1) => "<p>The only difference that was tested does not hold.</p>\n".to_owned(),
            (0, _) => format!("<p>None of the {tests} differences that were tested holds.</p>\n"),
            (1, 1) => "<p>The only difference that was tested holds:</p>\n".to_owned(),
            (held, _) => format!("<p>{held} of {tests} differences hold:</p>\n"),
        });
        list(out, &hold);
        if !rest.is_empty() && !hold.is_empty() {
            out.push_str("<p>The others do not:</p>\n");
        }
        list(out, &rest);
        rows(out, experiment, &own);
    }
    out.push_str("</section>\n");
}

fn list(out: &mut String, rows: &[&Comparison]) {
    if rows.is_empty() {
        return;
    }
    let item = |row: &&Comparison| {
        let place =
            if row.place.is_empty() { String::new() } else { format!(" <small>{}</small>", escape(&row.place)) };
        format!("<li>{}{place}</li>\n", emphasise(&escape(&row.sentence())))
    };
    out.push_str(&format!("<ul class=\"compared\">\n{}</ul>\n", rows.iter().map(item).collect::<String>()));
}

fn rows(out: &mut String, experiment: &str, comparisons: &[&Comparison]) {
    let row = |row: &&Comparison| {
        let none = || "-".to_owned();
        let mean = |index: usize| {
            let write = |value: f64| if in_percent(&row.metric) { percent(value) } else { format!("{value:.4}") };
            row.means.map_or_else(none, |means| write(means[index]))
        };
        let difference = row.difference().map_or_else(none, |mean| {
            let bounds = row.test.and_then(|test| test.difference.low.zip(test.difference.high));
            emphasise(&escape(&difference_words(&row.metric, mean, bounds)))
        });
        let [first, second] = &row.names;
        vec![
            format!("{} - {} <span class=\"on\">{}</span>", escape(second), escape(first), escape(&row.place)),
            escape(metric_title(&row.metric)),
            row.n.to_string(),
            mean(1),
            mean(0),
            difference,
            row.test.map_or_else(none, |test| escape(&p_words(test.p))),
            row.p_holm.map_or_else(none, |p| escape(&p_words(p))),
            row.seeds_needed.map_or_else(none, |needed| needed.to_string()),
        ]
    };
    let head =
        ["Difference of", "Metric", "n", "First", "Second", "Difference", "p alone", "p corrected", "Seeds needed"];
    out.push_str("<details>\n<summary>All comparisons in numbers</summary>\n");
    let caption = format!("Comparisons of {experiment}: means and differences, fractions in percent");
    table::plain(out, &caption, &head, comparisons.iter().map(row).collect());
    out.push_str("</details>\n");
}
