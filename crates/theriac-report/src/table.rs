//! The table on the terminal: a block an attack, a row a defense.

use theriac_core::MethodInfo;
use theriac_core::record::CellRecord;

use crate::figures::Methods;
use crate::findings::monitor_words;
use crate::group::{Group, matches};
use crate::setting::{Setting, settings};
use crate::spread::Spread;
use crate::words::{edits_words, percent};

const NAME: usize = 40;
const NUMBER: usize = 13;
/// Parts of a certified curve.
const PLACES: usize = 5;

/// Renders all cells as text of at most 110 columns: percentages as `mean +- half the 95 % interval`.
/// `methods` are the registries' entries, which tell what certificates count.
pub fn table(cells: &[CellRecord], methods: &[&MethodInfo]) -> String {
    let mut lines = Vec::new();
    for setting in settings(cells) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        block(&setting, Methods(methods), &mut lines);
    }
    if lines.is_empty() {
        lines.push("no cells".to_owned());
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn block(setting: &Setting, methods: Methods, lines: &mut Vec<String>) {
    lines.push(format!("{}: {}", setting.experiment, setting.label));
    lines.push("percent, mean +- half-width of the 95 % Student interval over n seeds".to_owned());
    let head = ["CA", "success", "", "TPR", "FPR"];
    lines.push(row("attack / defense", "n", head.map(str::to_owned)));
    let width = NAME + 4 + 4 * (NUMBER + 1) + 9;
    lines.push("-".repeat(width));
    for attack in setting.attacks() {
        lines.push(fit(&setting.attack_label(attack), width));
        for defense in setting.defenses() {
            if let Some(group) = setting.find(attack, defense) {
                group_rows(setting, group, methods, lines);
            }
        }
    }
}

fn group_rows(setting: &Setting, group: &Group, methods: Methods, lines: &mut Vec<String>) {
    let indent = if matches(group.defense()).is_some() { "    " } else { "  " };
    let name = match matches(group.defense()) {
        Some(_) => format!("{indent}vs {}", group.defense().name),
        None => format!("{indent}{}", setting.defense_label(group.defense())),
    };
    let measured = group.ok().count();
    if measured > 0 {
        let kind = group.success().map(|success| success.short()).unwrap_or_default();
        let number = |spread: Option<Spread>| spread.as_ref().map_or("-".to_owned(), interval);
        let cells = [
            number(group.spread("clean_accuracy")),
            number(group.success_spread()),
            kind.to_owned(),
            number(group.spread("tpr")),
            number(group.spread("fpr")),
        ];
        lines.push(row(&name, &measured.to_string(), cells));
        lines.extend(monitor_words(group).map(|words| format!("{indent}  {words}")));
        lines.extend(certified(group, methods).map(|words| format!("{indent}  {words}")));
    } else {
        lines.push(row(&name, "0", Default::default()));
    }
    for (cell, status, reason) in group.unmeasured() {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.push(format!("{indent}  {}", fit(&format!("seed {} {status}: {reason}", cell.seed), 100)));
    }
}

/// What is certified, at a few places along the curve.
fn certified(group: &Group, methods: Methods) -> Option<String> {
    let last = group.last_certified()?;
    let mut budgets: Vec<usize> = (1..=PLACES).map(|place| last * place / PLACES).collect();
    budgets.dedup();
    let at = |budget: usize| Some(format!("{} at {budget}", percent(group.certified(budget)?.mean)));
    let words: Vec<String> = budgets.into_iter().filter_map(at).collect();
    let against = edits_words(methods.unit(group.defense()));
    Some(format!("certified against {against}: {}", words.join(", ")))
}

/// `99.8 +- 0.2`; a single seed has no interval.
fn interval(spread: &Spread) -> String {
    match spread.half_width() {
        Some(half) => format!("{:>5} +- {:>4}", percent(spread.mean), percent(half)),
        None => format!("{:>5}        ", percent(spread.mean)),
    }
}

fn row(name: &str, n: &str, cells: [String; 5]) -> String {
    let [accuracy, success, kind, found, alarms] = cells;
    let name = fit(name, NAME);
    format!("{name:<NAME$} {n:>3} {accuracy:>NUMBER$} {success:>NUMBER$} {kind:<8} {found:>NUMBER$} {alarms:>NUMBER$}")
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width - 3).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{cell, method};
    use serde_json::json;
    use theriac_core::Unit;
    use theriac_core::record::CertifiedPoint;

    #[test]
    fn what_a_monitor_noticed_is_told_below_its_row() {
        let (source, monitor) = (method("source", json!({"rate": 0.1})), method("monitor", json!({})));
        let cells =
            [cell(&source, &monitor, 1, &[("clean_accuracy", 0.9), ("detected", 1.0), ("detection_delay", 2.0)])];
        let text = table(&cells, &[]);
        assert!(
            text.contains("    raises an alarm in 1 of 1 runs, 2 rounds after the attack began on average"),
            "{text}"
        );
    }

    #[test]
    fn a_certified_curve_is_told_below_its_row() {
        let (none, dpa) = (method("none", json!({})), method("dpa", json!({})));
        let curve = [(0, 0.956), (40, 0.8), (125, 0.02)];
        let certified = curve.map(|(budget, accuracy)| CertifiedPoint { budget, accuracy }).to_vec();
        let cells = [CellRecord { certified, ..cell(&none, &dpa, 1, &[("clean_accuracy", 0.956)]) }];
        let line = |methods: &[&MethodInfo]| {
            let text = table(&cells, methods);
            text.lines().find(|line| line.contains("certified")).unwrap().to_owned()
        };
        const DPA: MethodInfo = MethodInfo::defense("dpa", &[], "", &[], &[]);
        let samples = line(&[&DPA.certifying(Unit::Samples)]);
        let numbers = "80.0 at 25, 2.0 at 50, 2.0 at 75, 2.0 at 100, 2.0 at 125";
        assert_eq!(samples, format!("    certified against inserted or deleted samples: {numbers}"));
        assert!(samples.len() <= 110);
        assert_eq!(
            line(&[&DPA.certifying(Unit::Sources)]),
            format!("    certified against hostile sources: {numbers}")
        );
        assert_eq!(line(&[]), format!("    certified against edits: {numbers}"), "the registry does not know it");
    }
}
