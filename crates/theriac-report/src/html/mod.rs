//! `report.html`: one file that needs no network, no script and no fonts.

mod comparisons;
mod experiment;
mod gallery;
mod measured;
mod reproduce;
pub(crate) mod table;
mod threat;
mod unmeasured;

use std::collections::BTreeSet;

use crate::compare::Comparison;
use crate::figures::{Figures, Methods};
use crate::findings::findings;
use crate::group::slug;
use crate::input::Results;
use crate::plot::{DARK_MODE, escape};
use crate::setting::Setting;

pub(crate) const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(
    results: &Results,
    settings: &[Setting],
    compared: &[Comparison],
    figures: &Figures,
    methods: Methods,
) -> String {
    let manifest = &results.manifest;
    let title = escape(&manifest.name);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src \
         'unsafe-inline'\">\n\
         <title>{title} - Theriac report</title>\n<style>\n{STYLE}\n@media screen and (prefers-color-scheme:dark){{\n\
         {DARK_MODE}}}\n</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the findings</a>\n"
    );
    out.push_str(&format!("<header>\n<p class=\"kicker\">Theriac report</p>\n<h1>{title}</h1>\n"));
    if !manifest.question.is_empty() {
        out.push_str(&format!("<p class=\"question\">{}</p>\n", escape(&manifest.question)));
    }
    out.push_str(&scope(results, settings));
    out.push_str("</header>\n");
    let sections = sections(results, settings);
    out.push_str(&contents(&sections, !compared.is_empty()));
    out.push_str("<main id=\"main\">\n");
    out.push_str(&key_findings(settings, methods));
    comparisons::section(&mut out, compared);
    for section in &sections {
        experiment::section(&mut out, section, results, settings, figures, methods);
    }
    unmeasured::sections(&mut out, results);
    measured::section(&mut out, results, settings);
    reproduce::section(&mut out, manifest);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// One experiment in the page.
struct Section {
    name: String,
    question: String,
    anchor: String,
    /// Indices into the settings.
    settings: Vec<usize>,
}

/// The manifest's experiments in order, then those that only the cells know.
fn sections(results: &Results, settings: &[Setting]) -> Vec<Section> {
    let mut named = results.manifest.experiments.clone();
    for setting in settings {
        if !named.iter().any(|(name, _)| name == setting.experiment) {
            named.push((setting.experiment.to_owned(), String::new()));
        }
    }
    let mut taken = BTreeSet::new();
    let section = |(name, question): (String, String)| {
        // Two names may become one slug, and a number behind it may be the slug of a third.
        let mut anchor = format!("experiment-{}", slug(&name));
        while !taken.insert(anchor.clone()) {
            anchor.push('_');
        }
        let own = settings.iter().enumerate().filter(|(_, setting)| setting.experiment == name);
        Section { settings: own.map(|(index, _)| index).collect(), name, question, anchor }
    };
    named.into_iter().map(section).collect()
}

fn scope(results: &Results, settings: &[Setting]) -> String {
    let mut seeds: Vec<u64> = results.cells.iter().map(|cell| cell.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut parts = vec![
        count(results.manifest.experiments.len().max(settings.len().min(1)), "experiment", "experiments"),
        count(results.cells.len(), "cell", "cells"),
        count(seeds.len(), "seed", "seeds"),
    ];
    parts.extend(results.part_words());
    parts.extend(unmeasured::links(results.cells.iter()));
    format!(
        "<p class=\"scope\">{}. Numbers are means over seeds with 95 % Student intervals in brackets; differences are \
         paired by seed.</p>\n",
        parts.join(", ")
    )
}

fn contents(sections: &[Section], compared: bool) -> String {
    let entry = |anchor: &str, name: &str| format!("<li><a href=\"#{anchor}\">{}</a></li>", escape(name));
    let mut entries = vec![entry("findings", "Findings")];
    entries.extend(compared.then(|| entry("comparisons", "Comparisons")));
    entries.extend(sections.iter().map(|section| entry(&section.anchor, &section.name)));
    entries.push(entry("measured", "How it was measured"));
    entries.push(entry("reproduce", "How to reproduce it"));
    format!("<nav aria-label=\"Contents\"><ul>{}</ul></nav>\n", entries.concat())
}

fn key_findings(settings: &[Setting], methods: Methods) -> String {
    let mut out = String::from("<section aria-labelledby=\"findings\">\n<h2 id=\"findings\">Key findings</h2>\n");
    let mut any = false;
    for setting in settings {
        let findings = findings(setting, methods);
        if findings.is_empty() {
            continue;
        }
        any = true;
        if settings.len() > 1 {
            out.push_str(&format!(
                "<h3>{} <small>{}</small></h3>\n",
                escape(setting.experiment),
                escape(&setting.label)
            ));
        }
        out.push_str("<ul class=\"findings\">\n");
        for finding in findings {
            out.push_str(&format!("<li><p>{}</p>", emphasise(&escape(&finding.attack))));
            if !finding.defenses.is_empty() {
                let items = finding.defenses.iter().map(|text| format!("<li>{}</li>", emphasise(&escape(text))));
                out.push_str(&format!("\n<ul>{}</ul>", items.collect::<String>()));
            }
            out.push_str("</li>\n");
        }
        out.push_str("</ul>\n");
    }
    if !any {
        out.push_str("<p>No attack was measured.</p>\n");
    }
    out.push_str("</section>\n");
    out
}

/// Sets the warnings of a generated sentence, which is escaped already, in bold, and keeps its numbers from breaking.
fn emphasise(text: &str) -> String {
    let text = text.replace("does NOT beat", "<strong>does not beat</strong>");
    let text = text.replace(" %", "&nbsp;%").replace("n = ", "n&nbsp;=&nbsp;");
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        inside = (inside || c == '[') && c != ']';
        match c {
            ' ' if inside => out.push_str("&nbsp;"),
            c => out.push(c),
        }
    }
    out
}
