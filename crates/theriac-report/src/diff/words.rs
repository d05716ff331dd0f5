//! A difference for people: short where little differs, the largest first where much does.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

use super::{Cell, Change, Diff, SeedsChange};
use crate::words::{in_percent, list, metric_title, p_words, status};

/// The most entries of one kind that are shown.
const MOST: usize = 10;

impl Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.is_identical() {
            return writeln!(f, "The results are identical: {}.", count(self.equal, "cell"));
        }
        writeln!(f, "A: {}, B: {}", self.names[0], self.names[1])?;
        self.cells(f)?;
        section(f, "How they came about", &self.study, change)?;
        section(f, "Only in A", &by_place(&self.only_a), Clone::clone)?;
        section(f, "Only in B", &by_place(&self.only_b), Clone::clone)?;
        section(f, "Other outcome", &self.outcomes, |change| {
            let reason = change.b.reason().or(change.a.reason()).unwrap_or_default();
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            let Cell { place, seed } = &change.cell;
            format!("{}, seed {seed}: {} -> {} ({reason})", place.label, status(&change.a), status(&change.b))
        })?;
        section(f, "Measured on one side only", &self.one_sided(), Clone::clone)?;
        self.over_seeds(f)
    }
}

impl Diff {
    fn cells(&self, f: &mut Formatter<'_>) -> Result {
        let mut changed: Vec<(&str, u64)> =
            self.metrics.iter().map(|change| (change.cell.place.label.as_str(), change.cell.seed)).collect();
        changed.dedup();
        let kinds = [
            (changed.len(), "with other metrics"),
            (self.outcomes.len(), "with another outcome"),
            (self.only_a.len(), "only in A"),
            (self.only_b.len(), "only in B"),
        ];
        let parts = kinds.iter().filter(|(number, _)| *number > 0).map(|(number, words)| format!("{number} {words}"));
        let parts: Vec<String> = std::iter::once(format!("{} equal", count(self.equal, "cell"))).chain(parts).collect();
        writeln!(f, "{}.", list(&parts))?;
        match self.equal_but_for_details {
            0 => Ok(()),
            some => writeln!(f, "{some} of the equal ones differ in details: addresses, curves or counts."),
        }
    }

    /// Metrics that only one side has, with the number of cells.
    fn one_sided(&self) -> Vec<String> {
        let mut found: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for change in &self.metrics {
            let side = match (change.a, change.b) {
                (Some(_), None) => "A",
                (None, Some(_)) => "B",
                _ => continue,
            };
            *found.entry((change.metric.as_str(), side)).or_default() += 1;
        }
        found
            .into_iter()
            .map(|((metric, side), number)| format!("{metric}: in {side}, {}", count(number, "cell")))
            .collect()
    }

    /// The largest differences over seeds, those of equal cells together.
    fn over_seeds(&self, f: &mut Formatter<'_>) -> Result {
        if self.over_seeds.is_empty() {
            return Ok(());
        }
        let size = |change: &SeedsChange| (change.b - change.a).abs();
        let mut groups: Vec<Vec<&SeedsChange>> = Vec::new();
        for change in &self.over_seeds {
            match groups.iter_mut().find(|group| group[0].place == change.place) {
                Some(group) => group.push(change),
                None => groups.push(vec![change]),
            }
        }
        for group in &mut groups {
            group.sort_by(|a, b| size(b).total_cmp(&size(a)));
        }
        groups.sort_by(|a, b| size(b[0]).total_cmp(&size(a[0])));
        let tests = self.over_seeds.iter().filter(|change| change.test.is_some()).count();
        writeln!(
            f,
            "\nMetrics, B minus A, the largest first (95 % interval; p by Holm's correction for {}):",
            count(tests, "test")
        )?;
        let mut left = MOST;
        for group in groups {
            let shown = group.len().min(left);
            if shown == 0 {
                break;
            }
            writeln!(f, "  {}", group[0].place.label)?;
            for change in &group[..shown] {
                writeln!(f, "    {}", metric(change))?;
            }
            left -= shown;
        }
        more(f, self.over_seeds.len())
    }
}

fn section<T>(f: &mut Formatter<'_>, title: &str, items: &[T], words: impl Fn(&T) -> String) -> Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    for item in items.iter().take(MOST) {
        writeln!(f, "  {}", words(item))?;
    }
    more(f, items.len())
}

/// Says how many of `all` are not shown.
fn more(f: &mut Formatter<'_>, all: usize) -> Result {
    match all.saturating_sub(MOST) {
        0 => Ok(()),
        left => writeln!(f, "  and {left} more"),
    }
}

/// Cells that differ by the seed only in one line.
fn by_place(cells: &[Cell]) -> Vec<String> {
    let mut places: Vec<(&Cell, Vec<String>)> = Vec::new();
    for cell in cells {
        match places.iter_mut().find(|(first, _)| first.place == cell.place) {
            Some((_, seeds)) => seeds.push(cell.seed.to_string()),
            None => places.push((cell, vec![cell.seed.to_string()])),
        }
    }
    let words = |(cell, seeds): (&Cell, Vec<String>)| {
        let seed = if seeds.len() == 1 { "seed" } else { "seeds" };
        format!("{}, {seed} {}", cell.place.label, list(&seeds))
    };
    places.into_iter().map(words).collect()
}

fn change(change: &Change) -> String {
    let short = |value: &Option<String>| match value {
        None => "absent".to_owned(),
        Some(text) if text.chars().count() > 40 => format!("{}...", text.chars().take(12).collect::<String>()),
        Some(text) => text.clone(),
    };
    format!("{}: {} -> {}", change.what, short(&change.a), short(&change.b))
}

fn metric(change: &SeedsChange) -> String {
    let (scale, unit) = if in_percent(&change.metric) { (100.0, " points") } else { (1.0, "") };
    let number = |value: f64| signed(value * scale);
    let title = metric_title(&change.metric);
    let mean = change.test.map_or(change.b - change.a, |test| test.difference.mean);
    let bounds = change.test.and_then(|test| test.difference.low.zip(test.difference.high));
    let bounds = bounds.map(|(low, high)| format!(" [{}, {}]", number(low), number(high))).unwrap_or_default();
    let p = change.p_holm.map(|p| format!(", {}", p_words(p))).unwrap_or_default();
    format!("{title}: {}{unit}{bounds} ({}{p})", number(mean), count(change.n, "seed"))
}

/// With its sign and two digits, or its order of magnitude where that would be zero.
fn signed(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.005 { format!("{value:+.0e}") } else { format!("{value:+.2}") }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
