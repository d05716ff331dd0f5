//! Timelines of networks that are trained anew in rounds: what the attacker gains, and when a monitor notices it.

use theriac_core::param::Value;
use theriac_core::record::{MethodRecord, MonitorRecord};

use super::{Figure, band_words, curves, name};
use crate::group::{Group, NONE, unique};
use crate::plot::{Axis, Chart, Curve, Dash, Marker, Paint, Panel, PlotError, Style};
use crate::setting::Setting;

/// Statistics beyond so many limits stand at the edge: one wild round must not press all others flat.
const BEYOND: f64 = 4.0;

/// The rounds of a setting's recipe; `None` where a network is trained once.
pub fn rounds(setting: &Setting) -> Option<usize> {
    let rounds = setting.groups.first()?.first().train.params.get("rounds").and_then(Value::as_u64)?;
    (rounds > 1).then_some(rounds as usize)
}

/// One figure for each variant of each attack, and one without an attack, where networks are trained in rounds.
pub fn figures(setting: &Setting) -> Result<Vec<Figure>, PlotError> {
    let Some(rounds) = rounds(setting) else { return Ok(Vec::new()) };
    setting.attacks().into_iter().filter_map(|attack| figure(setting, attack, rounds).transpose()).collect()
}

fn figure(setting: &Setting, attack: &MethodRecord, rounds: usize) -> Result<Option<Figure>, PlotError> {
    let mut seeds = Vec::new();
    let victim = setting.undefended(attack);
    let in_use =
        victim.and_then(|group| curves::panel(setting, group, "Without a monitor".to_owned(), "round", &mut seeds));
    let watched = setting.defenses().into_iter().filter_map(|defense| {
        let group = setting.find(attack, defense)?;
        monitor(group, setting.defense_label(defense), Axis::turns("round", rounds))
    });
    let watched: Vec<Panel> = watched.collect();
    let seen = !watched.is_empty();
    let mut panels: Vec<Panel> = in_use.into_iter().chain(watched).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    for panel in &mut panels {
        let (low, high) = panel.y.range();
        let line = onset(setting, attack).map(|onset| [low, high].map(|y| (onset as f64 - 0.5, y)));
        let style = Style { paint: Paint::Ink, ..Style::reference(Dash::Long) };
        panel.curves.extend(line.map(|line| Curve::plain("the attacker comes in", style, &line)));
    }
    let label = if attack.name == NONE { "no attack".to_owned() } else { setting.attack_label(attack) };
    let below = if seen {
        " Each monitor: the largest of all its statistics in each round, a thin line a seed, in standard deviations of what is usual. \
         The rounds that it was set up by have none; what lies beyond the upper edge stands at it. Above the limit there is an alarm: \
         a true one where an attacker is there, a false one where none is."
    } else {
        ""
    };
    let caption =
        format!("What the network of each round does, {}.{below} {}", under(attack, &label), band_words(&seeds));
    let sheet = Chart { panels, columns: 1, square: false }.sheet();
    let title = format!("{label}: timeline");
    Figure::draw(&sheet, name(setting, "timeline", &setting.attack_label(attack)), title, caption).map(Some)
}

fn under(attack: &MethodRecord, label: &str) -> String {
    if attack.name == NONE { "where nobody attacks".to_owned() } else { format!("under {label}") }
}

const STATISTIC: &str = "largest statistic";

/// The first round that the attacker reaches.
fn onset(setting: &Setting, attack: &MethodRecord) -> Option<usize> {
    let onset = setting.groups.first()?.first().train.params.get("onset").and_then(Value::as_u64)?;
    (attack.name != NONE).then_some(onset as usize)
}

/// What a monitor saw at each seed.
fn monitor(group: &Group, title: String, x: Axis) -> Option<Panel> {
    let seen: Vec<&MonitorRecord> = group.ok().filter_map(|cell| cell.monitor.as_ref()).collect();
    let limits = unique(seen.iter().map(|record| record.limit));
    let highest = limits.iter().copied().fold(0.0, f64::max);
    let statistics = seen.iter().flat_map(|record| &record.rounds).map(|round| round.statistic);
    let top = statistics.fold(1.2 * highest, f64::max).min(BEYOND * highest);
    if top <= 0.0 {
        return None;
    }
    let runs =
        seen.iter().map(|record| record.rounds.iter().map(|round| (round.round as f64, round.statistic)).collect());
    let bare = |paint| Style { paint, dash: Dash::Solid, marker: Marker::Bare, width: 1.0 };
    let mut curves = vec![Curve {
        name: "statistic, each seed".to_owned(),
        style: bare(Paint::Blue),
        points: Vec::new(),
        runs: runs.collect(),
        marks: Some(Vec::new()),
    }];
    let (first, last) = x.range();
    curves
        .extend(limits.iter().map(|&y| Curve::plain("limit", Style::reference(Dash::Short), &[(first, y), (last, y)])));
    for (name, paint, marker, there) in [
        ("true alarm", Paint::Vermillion, Marker::Diamond, true),
        ("false alarm", Paint::Orange, Marker::Square, false),
    ] {
        let marks: Vec<(f64, f64)> = seen.iter().flat_map(|record| alarms(record, there)).collect();
        if !marks.is_empty() {
            let style = Style { paint, dash: Dash::Solid, marker, width: 0.0 };
            curves.insert(
                0,
                Curve { name: name.to_owned(), style, points: Vec::new(), runs: Vec::new(), marks: Some(marks) },
            );
        }
    }
    Some(Panel { title, x, y: Axis::numbers(STATISTIC, 0.0, top), curves })
}

/// The alarms where an attacker is there, or those where none is.
fn alarms(record: &MonitorRecord, there: bool) -> Vec<(f64, f64)> {
    let raised: Vec<usize> = record.alarms().collect();
    let attacked = |round: usize| record.onset.is_some_and(|onset| round >= onset);
    let rounds = record.rounds.iter().filter(|seen| raised.contains(&seen.round) && attacked(seen.round) == there);
    rounds.map(|seen| (seen.round as f64, seen.statistic)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use theriac_core::record::{CellRecord, EpochRecord, MonitoredRound};

    use super::*;
    use crate::setting::settings;
    use crate::toy::{cell, method};

    /// Ten rounds, watched from the fifth on; the limit is 3.
    fn in_rounds(attack: &str, statistics: [f64; 6], seed: u64) -> Vec<CellRecord> {
        let onset = (attack != "none").then_some(8);
        let attack = method(attack, json!({}));
        let made = |defense: &str| {
            let mut made = cell(&attack, &method(defense, json!({})), seed, &[("clean_accuracy", 0.9)]);
            made.train.params.extend([("rounds".to_owned(), json!(10)), ("onset".to_owned(), json!(8))]);
            let of = |epoch| EpochRecord {
                epoch,
                train_loss: 0.1,
                train_accuracy: 1.0,
                test_accuracy: 0.9,
                attack_success: onset.map(|onset| f64::from(u8::from(epoch >= onset))),
                validation_accuracy: None,
            };
            made.curve = (1..=10).map(of).collect();
            made
        };
        let seen =
            (5..).zip(statistics).map(|(round, statistic)| MonitoredRound { round, statistic, worst: String::new() });
        let monitor = MonitorRecord { onset, limit: 3.0, rounds: seen.collect(), ..MonitorRecord::default() };
        vec![made("none"), CellRecord { monitor: Some(monitor), ..made("chart") }]
    }

    #[test]
    fn true_and_false_alarms_stand_apart_and_wild_rounds_at_the_edge() {
        let all = [
            in_rounds("none", [1.0, 4.0, 1.0, 1.0, 1.0, 5.0], 1),
            in_rounds("flip", [1.0, 4.0, 1.0, 1.0, 50.0, 5.0], 1),
            in_rounds("flip", [1.0, 1.0, 1.0, 9.0, 1.0, 1.0], 2),
        ]
        .concat();
        let settings = settings(&all);
        let record = |index: usize| all[index].monitor.as_ref().unwrap();
        assert_eq!((alarms(record(1), true), alarms(record(1), false)), (vec![], vec![(6.0, 4.0), (10.0, 5.0)]));
        assert_eq!(
            (alarms(record(3), true), alarms(record(3), false)),
            (vec![(9.0, 50.0), (10.0, 5.0)], vec![(6.0, 4.0)])
        );
        let flip =
            settings[0].groups.iter().find(|group| group.attack().name == "flip" && group.defense().name == "chart");
        let panel = monitor(flip.unwrap(), "chart".to_owned(), Axis::turns("round", 10)).unwrap();
        assert_eq!(panel.y.range().1, 12.0, "four times the limit");
        let names: Vec<&str> = panel.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["false alarm", "true alarm", "statistic, each seed", "limit"]);
        assert_eq!(panel.curves[1].marks.as_ref().map(Vec::len), Some(3));
        assert_eq!(panel.curves[2].runs.len(), 2);
    }

    #[test]
    fn each_attack_has_a_timeline_in_place_of_training_curves() {
        let all = [in_rounds("none", [1.0; 6], 1), in_rounds("flip", [1.0; 6], 1)].concat();
        let settings = settings(&all);
        let drawn = figures(&settings[0]).unwrap();
        let names: Vec<&str> = drawn.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["e-timeline-none", "e-timeline-flip"]);
        assert!(drawn[1].svg.contains("the attacker comes in") && !drawn[0].svg.contains("the attacker comes in"));
        assert!(
            drawn[1].svg.contains("\nchart\n")
                && drawn[1].caption.starts_with("What the network of each round does, under flip.")
        );
        assert_eq!(curves::figures(&settings[0]).unwrap(), []);
        let once = [cell(&method("none", json!({})), &method("none", json!({})), 1, &[])];
        assert_eq!(figures(&crate::setting::settings(&once)[0]).unwrap(), []);
    }
}
