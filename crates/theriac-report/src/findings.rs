//! The findings in plain sentences, each with its numbers, interval and n.

use theriac_core::Unit;
use theriac_core::record::MethodRecord;

use crate::control::{Advantage, Verdict, advantages};
use crate::figures::Methods;
use crate::group::{Group, is_reference};
use crate::setting::{Choice, Setting};
use crate::spread::Spread;
use crate::words::{Success, percent, percent_words, plain, points_words, seeds_words, size_words};

/// The findings about one attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the attack does to an undefended model.
    pub attack: String,
    /// What each defense does about it.
    pub defenses: Vec<String>,
}

/// The findings of one setting, each about one choice of an attack, at its strongest.
pub fn findings(setting: &Setting, methods: Methods) -> Vec<Finding> {
    let compared = advantages(setting);
    let choices = setting.attack_names().into_iter().flat_map(|name| setting.choices(name, methods));
    let found = choices.filter_map(|choice| {
        let victim = setting.undefended(setting.strongest(&choice)?)?;
        let attack = attack_sentence(setting, victim, &choice)?;
        let defenses = setting.defenses().into_iter().filter(|defense| !is_reference(defense));
        let sentences = defenses.filter_map(|defense| defense_sentence(setting, victim, defense, &compared, methods));
        Some(Finding { attack, defenses: sentences.collect() })
    });
    found.collect()
}

/// `badnets, rate 0.05 (on ...)`.
fn subject(setting: &Setting, attack: &MethodRecord) -> String {
    let label = setting.attack_label(attack);
    match label.split_once(", ") {
        Some((name, params)) => format!("{name} at {params}"),
        None => label,
    }
}

fn attack_sentence(setting: &Setting, victim: &Group, choice: &Choice) -> Option<String> {
    let n = victim.ok().count();
    let subject = subject(setting, victim.attack());
    if n == 0 {
        return Some(format!("{subject}: the undefended victim {}.", victim.unmeasured_words()?));
    }
    let cost = victim.difference("clean_model_accuracy", victim, "clean_accuracy");
    let mut text = match (victim.success(), victim.success_spread()) {
        (Some(success), Some(spread)) => {
            let verb = if success == Success::Recall { "leaves" } else { "reaches" };
            let mut text = format!(
                "{subject} {verb} {} of {} ({})",
                success.with_article(),
                percent_words(&spread),
                seeds_words(n)
            );
            text.push_str(&cost.map(|cost| format!(" and {}", cost_words(&cost))).unwrap_or_default());
            if let Some(clean) = victim.spread("clean_model_success") {
                text.push_str(&format!("; the clean model shows {} on the same inputs", percent_words(&clean)));
            }
            text
        }
        _ => {
            let accuracy = victim.spread("clean_accuracy")?;
            let cost = cost.map(|cost| format!(": it {}", cost_words(&cost))).unwrap_or_default();
            format!("{subject} leaves a clean accuracy of {} ({}){cost}", percent_words(&accuracy), seeds_words(n))
        }
    };
    text.push('.');
    text.push_str(&also(victim));
    text.push_str(&weakest_sentence(setting, victim, &choice.variants).unwrap_or_default());
    Some(text)
}

/// What the numbers before leave out.
fn also(group: &Group) -> String {
    group.unmeasured_words().map(|words| format!(" It {words}.")).unwrap_or_default()
}

fn cost_words(cost: &Spread) -> String {
    let clear = cost.interval.is_none_or(|(low, high)| low > 0.0 || high < 0.0);
    match (clear, cost.mean >= 0.0) {
        (true, true) => format!("costs {} of clean accuracy", size_words(cost)),
        (true, false) => format!("changes clean accuracy by {}", points_words(&negated(cost))),
        (false, _) => {
            format!("does not measurably change clean accuracy ({})", points_words(&negated(cost)))
        }
    }
}

fn negated(spread: &Spread) -> Spread {
    let interval = spread.interval.map(|(low, high)| (-high, -low));
    Spread { mean: -spread.mean, interval, min: -spread.max, max: -spread.min, ..*spread }
}

/// The weakest variant that already succeeds, where an attack was swept.
fn weakest_sentence(setting: &Setting, victim: &Group, variants: &[&MethodRecord]) -> Option<String> {
    const ENOUGH: f64 = 0.9;
    let success = victim.success().filter(|success| *success != Success::Recall)?;
    if variants.len() < 2 {
        return None;
    }
    let reached = variants.iter().find_map(|&variant| {
        let spread = setting.undefended(variant)?.spread(success.metric())?;
        (spread.mean >= ENOUGH).then_some((variant, spread))
    });
    let enough = format!("{:.0} %", ENOUGH * 100.0);
    match reached {
        // Told already.
        Some((variant, _)) if variant == victim.attack() => None,
        Some((variant, spread)) => {
            let place = setting.variant_label(variant);
            Some(format!(" A mean of at least {enough} is first reached at {place}: {}.", percent_words(&spread)))
        }
        None => Some(format!(" No variant reaches a mean of {enough}.")),
    }
}

fn defense_sentence(
    setting: &Setting,
    victim: &Group,
    defense: &MethodRecord,
    compared: &[Advantage],
    methods: Methods,
) -> Option<String> {
    let group = setting.find(victim.attack(), defense)?;
    let n = group.ok().count();
    if n == 0 {
        return Some(format!("{} {}.", setting.defense_label(defense), group.unmeasured_words()?));
    }
    let mut parts = Vec::new();
    // Over the seeds that both have: a defense that failed at the worst seed must not be praised for it.
    let both = |success: Success| Some((success, group.both(success.metric(), victim, success.metric())?));
    if let Some((success, (after, before))) = group.success().and_then(both) {
        let (before, after) = (percent(before.mean), percent_words(&after));
        parts.push(format!("brings the {} from {before} % to {after}", success.name()));
    }
    if let Some(change) = group.difference("clean_accuracy", victim, "clean_accuracy") {
        parts.push(format!("changes clean accuracy by {}", points_words(&change)));
    }
    if let Some(found) = group.spread("tpr") {
        let alarms = group.spread("fpr").map(|fpr| format!(" at {} false alarms", percent_words(&fpr)));
        // Only a filter of training data has a removal budget; a guard looks at inputs.
        let what = if group.spread("flagged").is_some() { "poison" } else { "triggered inputs" };
        parts.push(format!("finds {} of the {what}{}", percent_words(&found), alarms.unwrap_or_default()));
    }
    parts.extend(monitor_words(group));
    parts.extend(certificate_words(group, methods.unit(defense)));
    if parts.is_empty() {
        return None;
    }
    let mut text = format!("{} {} ({}).", setting.defense_label(defense), crate::words::list(&parts), seeds_words(n));
    text.push_str(&also(group));
    let own = compared.iter().find(|advantage| advantage.attack == victim.attack() && advantage.defense == defense);
    if let Some(sentence) = own.and_then(against_random) {
        text.push(' ');
        text.push_str(&sentence);
    }
    Some(text)
}

/// `raises an alarm in 10 of 10 runs, 0.4 rounds after the attack began on average`, or that it never does.
pub fn monitor_words(group: &Group) -> Option<String> {
    let noticed: Vec<f64> = group.ok().filter_map(|cell| cell.metrics.get("detected").copied()).collect();
    let (count, all) = (noticed.iter().filter(|noticed| **noticed > 0.0).count(), noticed.len());
    if all == 0 {
        return None;
    }
    let false_alarms = group.spread("false_alarm_rate");
    let false_alarms = false_alarms.map(|rate| format!(" (false alarms: {} of the rounds)", percent_words(&rate)));
    let false_alarms = false_alarms.unwrap_or_default();
    Some(match group.spread("detection_delay") {
        Some(delay) => {
            let rounds = plain((delay.mean * 10.0).round() / 10.0);
            let rounds = if rounds == "1" { "1 round".to_owned() } else { format!("{rounds} rounds") };
            format!(
                "raises an alarm in {count} of {all} runs, {rounds} after the attack began on average{false_alarms}"
            )
        }
        None => format!("NEVER raises an alarm about it (in none of {all} runs){false_alarms}"),
    })
}

/// `certifies 92.0 % of the test set against one hostile source (half of it against 2)`.
fn certificate_words(group: &Group, unit: Option<Unit>) -> Option<String> {
    group.last_certified()?;
    let one = group.certified(1)?;
    let half = group.spread("median_certified_radius").filter(|radius| radius.mean >= 1.0);
    let half = half.map(|radius| format!(" (half of it against {})", plain((radius.mean * 10.0).round() / 10.0)));
    let against = unit.map_or("edit", Unit::one);
    Some(format!("certifies {} of the test set against one {against}{}", percent_words(&one), half.unwrap_or_default()))
}

/// Whether a filter beats the random filter with its budget.
pub fn against_random(advantage: &Advantage) -> Option<String> {
    let found = advantage.found?;
    let budget = advantage.budget.map(|budget| format!(", which removes as many samples ({} %)", percent(budget.mean)));
    let words = match Verdict::of(&found) {
        Verdict::Beats => "It beats the random filter",
        Verdict::DoesNotBeat => "It does NOT beat the random filter",
        Verdict::Unknown => "With one seed nobody can tell whether it beats the random filter",
    };
    Some(format!("{words}{}: the difference in TPR is {}.", budget.unwrap_or_default(), points_words(&found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::settings;
    use crate::toy::{method, seeds};
    use serde_json::json;
    use theriac_core::record::CellRecord;
    use theriac_core::{Capability, Family, Goal, Knowledge, MethodInfo, Param, Range, Stage, ThreatModel};

    static SOURCE: MethodInfo = MethodInfo::attack(
        "source",
        Family::SupplyChain,
        ThreatModel {
            knowledge: Knowledge::Nothing,
            capabilities: &[Capability::Source],
            goal: Goal::Untargeted,
            stage: Stage::Collect,
        },
        "",
        &[],
        &[Param { name: "target", doc: &[], range: Range::Class, unit: "", optional: false, default: || json!(0) }],
    );

    fn told(cells: &[CellRecord]) -> Vec<String> {
        let settings = settings(cells);
        findings(&settings[0], Methods(&[&SOURCE])).into_iter().map(|finding| finding.attack).collect()
    }

    fn victims(params: serde_json::Value, metric: &str, value: f64) -> Vec<CellRecord> {
        seeds(&method("source", params), &method("none", json!({})), metric, &[value - 0.01, value, value + 0.01])
    }

    #[test]
    fn what_an_attack_chooses_is_a_finding_of_its_own_and_how_much_it_spends_is_not() {
        let cells = [
            victims(json!({"delivers": "pair-flip", "rate": 0.5}), "clean_accuracy", 0.94),
            victims(json!({"delivers": "pair-flip", "rate": 1.0}), "clean_accuracy", 0.81),
            victims(json!({"delivers": "badnets", "rate": 0.1}), "asr", 0.92),
            victims(json!({"delivers": "badnets", "rate": 0.5}), "asr", 0.98),
            victims(json!({"delivers": "badnets", "rate": 0.05}), "asr", 0.5),
        ];
        let told = told(&cells.concat());
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[0].starts_with("source at rate 0.5, delivers badnets reaches an attack success rate (ASR) of 98.0 %")
        );
        assert!(
            told[0].ends_with("is first reached at rate 0.1, delivers badnets: 92.0 % [89.5, 94.5]."),
            "{}",
            told[0]
        );
        assert!(told[1].starts_with("source at rate 1, delivers pair-flip leaves a clean accuracy of 81.0 %"));
    }

    #[test]
    fn another_measure_of_success_is_a_finding_of_its_own_and_so_is_another_class() {
        // Without a trigger of its own the strong variant has no success: what it costs is told apart.
        let cells = [
            victims(json!({"size": 1}), "clean_accuracy", 0.7),
            victims(json!({"size": 2}), "asr", 0.9),
            victims(json!({"size": 3}), "asr", 0.95),
        ];
        let found = told(&cells.concat());
        assert!(found.len() == 2 && found[1].starts_with("source at size 3 reaches"), "{found:#?}");
        let [one, two] = [3, 5].map(|class| victims(json!({"target": class, "rate": 0.1}), "asr", 0.9));
        assert_eq!(told(&[one, two].concat()).len(), 2);
    }

    #[test]
    fn a_monitor_tells_how_soon_it_noticed_or_that_it_never_did() {
        let source = method("source", json!({"rate": 0.1}));
        let watched = |metrics: &[(&str, f64)]| {
            let [none, monitor] = ["none", "monitor"].map(|name| method(name, json!({})));
            let victims = victims(json!({"rate": 0.1}), "asr", 0.9);
            let cells = (1..=3).map(|seed| crate::toy::cell(&source, &monitor, seed, metrics));
            let cells: Vec<CellRecord> =
                victims.into_iter().map(|cell| CellRecord { defense: none.clone(), ..cell }).chain(cells).collect();
            let settings = settings(&cells);
            findings(&settings[0], Methods(&[&SOURCE])).remove(0).defenses.concat()
        };
        let never = watched(&[("detected", 0.0), ("false_alarm_rate", 0.0)]);
        assert!(never.contains("NEVER raises an alarm about it (in none of 3 runs) (false alarms: 0.0 %"), "{never}");
        let soon = watched(&[("detected", 1.0), ("detection_delay", 2.0)]);
        assert!(soon.contains("raises an alarm in 3 of 3 runs, 2 rounds after the attack began on average"), "{soon}");
    }

    #[test]
    fn a_variant_without_numbers_stays_with_its_kind() {
        let mut cells = [victims(json!({"rate": 0.1}), "asr", 0.9), victims(json!({"rate": 0.2}), "asr", 0.9)].concat();
        for cell in &mut cells[3..] {
            cell.outcome = theriac_core::record::Outcome::Diverged("the loss is not a number".to_owned());
            cell.metrics.clear();
        }
        assert_eq!(told(&cells), ["source at rate 0.2: the undefended victim diverged at all seeds."]);
    }
}
