//! One experiment: its question, threat models, tables, figures and gallery.

use theriac_core::record::{CellRecord, InspectRecord};

use super::{Section, gallery, table, threat, unmeasured};
use crate::control::{Advantage, Verdict, advantages};
use crate::figures::{Figure, Figures, Methods};
use crate::findings::against_random;
use crate::group::{Group, matches};
use crate::input::Results;
use crate::plot::escape;
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::{METRICS, in_percent, percent, points, seeds_words};

/// Columns of the table of results, beside clean accuracy and success.
const MORE: [&str; 16] = [
    "robust_accuracy",
    "der",
    "tpr",
    "fpr",
    "auroc",
    "average_precision",
    "backdoor_found",
    "target_named",
    "weights_changed",
    "disagreement",
    "detected",
    "detection_delay",
    "false_alarm_rate",
    "damage_until_alarm",
    "test_loss",
    RADIUS,
];

/// A number of what the defense certifies against, which its own entry names.
const RADIUS: &str = "median_certified_radius";

/// Writes the section.
pub fn section(
    out: &mut String,
    section: &Section,
    results: &Results,
    settings: &[Setting],
    figures: &Figures,
    methods: Methods,
) {
    let anchor = &section.anchor;
    let name = escape(&section.name);
    out.push_str(&format!("<section aria-labelledby=\"{anchor}\">\n<h2 id=\"{anchor}\">{name}</h2>\n"));
    if !section.question.is_empty() {
        out.push_str(&format!("<p class=\"question\">{}</p>\n", escape(&section.question)));
    }
    let own: Vec<&Setting> = section.settings.iter().map(|index| &settings[*index]).collect();
    if own.is_empty() {
        out.push_str("<p>No cell of this experiment was run.</p>\n");
    }
    threat::attacks(out, &own, methods);
    let across = figures.across.get(section.name.as_str()).map_or(&[][..], Vec::as_slice);
    if !across.is_empty() {
        out.push_str("<h3>Settings compared</h3>\n");
        across.iter().for_each(|drawn| figure(out, drawn));
    }
    for (index, setting) in section.settings.iter().zip(&own) {
        out.push_str(&format!("<h3>Results: {}</h3>\n", escape(&setting.label)));
        table_of_results(out, setting, methods);
        poison_by_class(out, setting);
        inspections(out, setting);
        against_random_filter(out, setting);
        for drawn in &figures.of_settings[*index] {
            figure(out, drawn);
        }
    }
    gallery::of_experiment(out, section, &results.gallery, &own);
    out.push_str("</section>\n");
}

fn figure(out: &mut String, figure: &Figure) {
    let (name, title, caption) = (&figure.name, escape(&figure.title), escape(&figure.caption));
    // The drawing's own size is what it should have on a wide page; on a narrow one it scrolls rather than shrinks
    // away.
    out.push_str(&format!(
        "<figure id=\"figure-{name}\">\n<h4>{title}</h4>\n<div class=\"scroll plot\" role=\"region\" \
         aria-label=\"{title}\" \
         tabindex=\"0\">\n{}</div>\n<figcaption>{caption} <span class=\"file\">figures/{name}.svg</span></figcaption>\n\
         </figure>\n",
        figure.svg
    ));
}

fn table_of_results(out: &mut String, setting: &Setting, methods: Methods) {
    let has = |metric: &str| setting.groups.iter().any(|group| group.spread(metric).is_some());
    let more: Vec<_> = METRICS.iter().filter(|known| MORE.contains(&known.metric) && has(known.metric)).collect();
    let success = setting.groups.iter().any(|group| group.success().is_some());
    let mut head = vec!["Attack and defense", "n", "CA (%)"];
    if success {
        head.push("Success (%)");
    }
    let titles: Vec<String> = more
        .iter()
        .map(|known| {
            let title = known.title.rsplit_once('(').map_or(known.title, |(_, short)| short.trim_end_matches(')'));
            let title = if known.metric == "test_loss" { "Loss" } else { title };
            if in_percent(known.metric) { format!("{title} (%)") } else { title.to_owned() }
        })
        .collect();
    head.extend(titles.iter().map(String::as_str));
    table::open(out, "Results by attack and defense", &head);
    let defenses = setting.defenses();
    for attack in setting.attacks() {
        let groups: Vec<&Group> = defenses.iter().filter_map(|defense| setting.find(attack, defense)).collect();
        let label = escape(&setting.attack_label(attack));
        let span = head.len();
        out.push_str(&format!(
            "<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{span}\"><span>{label}</span></th></tr>\n"
        ));
        for group in groups {
            let (class, label) = match matches(group.defense()) {
                Some(_) => ("matched", format!("vs {}", group.defense().name)),
                None => ("own", setting.defense_label(group.defense())),
            };
            out.push_str(&format!("<tr><th scope=\"row\" class=\"{class}\">{}</th>", escape(&label)));
            let gone: String = unmeasured::links(group.cells()).into_iter().map(|link| format!(" {link}")).collect();
            out.push_str(&format!("<td>{}{gone}</td>", group.ok().count()));
            number(out, "clean_accuracy", group.spread("clean_accuracy"), "");
            if success {
                let kind = group.success();
                let spread = kind.and_then(|kind| group.spread(kind.metric()));
                number(out, "asr", spread, kind.map(|kind| kind.short()).unwrap_or_default());
            }
            for known in &more {
                let unit = methods.unit(group.defense()).filter(|_| known.metric == RADIUS);
                let unit = unit.map(|unit| unit.to_string()).unwrap_or_default();
                number(out, known.metric, group.spread(known.metric), &unit);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n");
    }
    table::close(out);
}

fn number(out: &mut String, metric: &str, spread: Option<Spread>, kind: &str) {
    let Some(spread) = spread else {
        out.push_str("<td class=\"none\">-</td>");
        return;
    };
    let counts = [RADIUS, "detection_delay", "damage_until_alarm"].contains(&metric);
    let write = |value: f64| match in_percent(metric) {
        true => percent(value),
        false if counts => format!("{value:.1}"),
        false => format!("{value:.3}"),
    };
    let clip = |value: f64| if counts || metric == "test_loss" { value } else { value.clamp(0.0, 1.0) };
    let interval = spread.interval.map(|(low, high)| format!("[{}, {}]", write(clip(low)), write(clip(high))));
    let kind = if kind.is_empty() { String::new() } else { format!(" <span class=\"kind\">{kind}</span>") };
    out.push_str(&format!(
        "<td>{}{kind} <span class=\"interval\">{}</span></td>",
        write(spread.mean),
        interval.unwrap_or_default()
    ));
}

/// The poison rate over the whole training set, and how many samples of each class that is.
fn poison_by_class(out: &mut String, setting: &Setting) {
    let mut rows = Vec::new();
    let mut classes: &[String] = &[];
    for attack in setting.attacks() {
        let groups = setting.groups.iter().filter(|group| group.attack() == attack);
        let cells: Vec<&CellRecord> = groups.flat_map(Group::ok).collect();
        let Some(first) = cells.iter().find(|cell| cell.poisoned_by_class.iter().any(|count| *count > 0)) else {
            continue;
        };
        classes = &first.classes;
        let mut row = vec![escape(&setting.attack_label(attack))];
        let rate = cells.iter().filter_map(|cell| cell.metrics.get("poisoned")).next();
        row.push(rate.map_or("-".to_owned(), |rate| format!("{:.2}", rate * 100.0)));
        row.extend((0..first.poisoned_by_class.len()).map(|class| {
            let counts = cells.iter().filter_map(|cell| cell.poisoned_by_class.get(class));
            match (counts.clone().min(), counts.max()) {
                (Some(low), Some(high)) if low < high => format!("{low} to {high}"),
                (Some(low), _) => low.to_string(),
                _ => "-".to_owned(),
            }
        }));
        rows.push(row);
    }
    if rows.is_empty() {
        return;
    }
    out.push_str("<details>\n<summary>How many samples were touched, by class</summary>\n");
    out.push_str(
        "<p>Touched samples in percent of the whole training set, and their number in each class as it was before the \
         attack. A range is over seeds.</p>\n",
    );
    let mut head = vec!["Attack", "Whole set (%)"];
    head.extend(classes.iter().map(String::as_str));
    table::plain(out, "Touched samples by class", &head, rows);
    out.push_str("</details>\n");
}

/// What defenses that inspect models say of each class.
fn inspections(out: &mut String, setting: &Setting) {
    let (attacks, defenses) = (setting.attacks(), setting.defenses());
    let groups = attacks.iter().flat_map(|attack| defenses.iter().filter_map(|defense| setting.find(attack, defense)));
    let mut rows = Vec::new();
    let mut classes: &[String] = &[];
    for group in groups {
        let found: Vec<(&CellRecord, &InspectRecord)> =
            group.ok().filter_map(|cell| Some((cell, cell.inspection.as_ref()?))).collect();
        let Some((first, _)) = found.iter().max_by_key(|(_, record)| record.statistics.len()) else { continue };
        classes = if first.classes.len() > classes.len() { &first.classes } else { classes };
        let attack = setting.attack_label(group.attack());
        let defense = setting.defense_label(group.defense());
        let named = format!("{} <span class=\"on\">on {}</span>", escape(&defense), escape(&attack));
        let mut row = vec![named, found.len().to_string()];
        row.extend((0..first.classes.len()).map(|class| {
            let values: Vec<f64> =
                found.iter().filter_map(|(_, record)| record.statistics.get(class).copied()).collect();
            let flagged = found.iter().filter(|(_, record)| record.flagged.contains(&(class as u16))).count();
            let mean = Spread::of(&values).map_or("-".to_owned(), |spread| format!("{:.2}", spread.mean));
            if flagged == 0 { mean } else { format!("<strong>{mean}</strong> <span class=\"kind\">{flagged}</span>") }
        }));
        rows.push(row);
    }
    if rows.is_empty() {
        return;
    }
    out.push_str("<h4>Inspected models</h4>\n");
    out.push_str(
        "<p>What the inspecting defense finds in each class, mean over seeds; higher is more suspicious. In bold: classes \
         that it holds for a backdoor's target, and at how many seeds.</p>\n",
    );
    let mut head = vec!["Defense", "n"];
    head.extend(classes.iter().map(String::as_str));
    table::plain(out, "Statistics of inspected models by class", &head, rows);
}

fn against_random_filter(out: &mut String, setting: &Setting) {
    let advantages = advantages(setting);
    if advantages.is_empty() {
        return;
    }
    out.push_str("<h4>Filters against the random filter</h4>\n");
    let verdicts: Vec<Verdict> = advantages.iter().filter_map(|c| c.found.as_ref().map(Verdict::of)).collect();
    let losers = losers(setting, &advantages);
    if !losers.is_empty() {
        out.push_str(&format!("<ul class=\"warnings\">{}</ul>\n", losers.concat()));
    } else if verdicts.iter().all(|verdict| *verdict == Verdict::Beats) && !verdicts.is_empty() {
        let all = verdicts.len() == advantages.len();
        let scope = if all { "on every attack" } else { "wherever that could be measured" };
        out.push_str(&format!("<p>At finding poison, every filter beats the random filter {scope}.</p>\n"));
    } else if verdicts.contains(&Verdict::Unknown) {
        out.push_str("<p>With a single seed nobody can tell whether a filter beats the random filter.</p>\n");
    }
    let rows = advantages.iter().map(|advantage| {
        let plain = |spread: Option<Spread>| spread.map_or("-".to_owned(), |spread| percent(spread.mean));
        let difference = |spread: Option<&Spread>| {
            let Some(spread) = spread else { return "-".to_owned() };
            let interval = spread.interval.map(|(low, high)| format!("[{}, {}]", points(low), points(high)));
            let verdict = match Verdict::of(spread) {
                Verdict::DoesNotBeat => format!("<strong>{}</strong>", Verdict::DoesNotBeat.words()),
                other => other.words().to_owned(),
            };
            let interval = interval.unwrap_or_default();
            format!(
                "{} <span class=\"interval\">{interval}</span> <span class=\"verdict\">{verdict}</span>",
                points(spread.mean)
            )
        };
        vec![
            format!(
                "{} <span class=\"on\">on {}</span>",
                escape(&setting.defense_label(advantage.defense)),
                escape(&setting.attack_label(advantage.attack))
            ),
            plain(advantage.budget),
            plain(advantage.own),
            plain(advantage.random),
            plain(advantage.perfect),
            difference(advantage.found.as_ref()),
            difference(advantage.success.as_ref().map(|(_, spread)| spread)),
            difference(advantage.accuracy.as_ref()),
        ]
    });
    let head = [
        "Filter",
        "Removed (%)",
        "TPR (%)",
        "Random TPR (%)",
        "Perfect TPR (%)",
        "TPR gained (points)",
        "Success prevented (points)",
        "CA gained (points)",
    ];
    table::plain(out, "Each filter minus its random filter, paired by seed; positive is better", &head, rows.collect());
}

/// One sentence for each filter that finds no more poison than chance.
fn losers(setting: &Setting, advantages: &[Advantage]) -> Vec<String> {
    let lost = advantages.iter().filter(|c| c.found.as_ref().map(Verdict::of) == Some(Verdict::DoesNotBeat));
    lost.filter_map(|advantage| {
        let who = setting.defense_label(advantage.defense);
        let attack = setting.attack_label(advantage.attack);
        let sentence = against_random(advantage)?.replacen("It does", &format!("On {attack}, {who} does"), 1);
        let n = advantage.found.map_or(0, |found| found.n);
        Some(format!("<li>{} ({})</li>", super::emphasise(&escape(&sentence)), seeds_words(n)))
    })
    .collect()
}
