//! Certified accuracy: which part of the test set is answered rightly and provably stays so, by the amount of poison.

use theriac_core::record::{CertifiedPoint, MethodRecord};
use theriac_core::{Capability, Unit};

use super::{Figure, Methods, band_words, columns, name};
use crate::group::{Group, NONE, certified_at, unique};
use crate::plot::{Axis, Chart, Curve, Marker, Panel, PlotError, Point, Style};
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::edits_words;

/// Points of a curve, at most.
const STEPS: usize = 250;

/// One figure for each unit that defenses certify in: a panel without an attack, and one for each choice of an attack at its
/// strongest.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let certifying = setting.groups.iter().filter(|group| group.last_certified().is_some());
    let units = unique(certifying.map(|group| methods.unit(group.defense())));
    units.into_iter().filter_map(|unit| figure(setting, methods, unit).transpose()).collect()
}

fn figure(setting: &Setting, methods: Methods, unit: Option<Unit>) -> Result<Option<Figure>, PlotError> {
    let own = setting.groups.iter().filter(|group| methods.unit(group.defense()) == unit);
    let Some(last) = own.filter_map(Group::last_certified).max() else { return Ok(None) };
    let certifies = |attack: &MethodRecord, defense: &MethodRecord| {
        setting.find(attack, defense).is_some_and(|group| group.last_certified().is_some())
    };
    let all = setting.attacks();
    let mut defenses = setting.defenses();
    defenses.retain(|defense| methods.unit(defense) == unit && all.iter().any(|attack| certifies(attack, defense)));
    let certified = |attack: &&MethodRecord| defenses.iter().any(|defense| certifies(attack, defense));
    let names = [NONE].into_iter().chain(setting.attack_names());
    let choices = names.flat_map(|name| setting.choices(name, methods));
    let attacks: Vec<_> = choices.filter_map(|choice| choice.variants.into_iter().rfind(certified)).collect();
    let mut panels = Vec::new();
    let mut seeds = Vec::new();
    for attack in attacks {
        let mut curves = Vec::new();
        for (index, defense) in defenses.iter().enumerate() {
            let Some(group) = setting.find(attack, defense) else { continue };
            let style = Style { marker: Marker::Bare, ..Style::series(index) };
            let Some(curve) = curve(group, setting.defense_label(defense), style, last) else { continue };
            seeds.push(curve.runs.len());
            curves.push(curve);
        }
        if attack.name == NONE {
            curves.extend(measured(setting, methods, &defenses, (unit, last)));
        }
        if !curves.is_empty() {
            panels.push(Panel {
                title: if attack.name == NONE { "no attack".to_owned() } else { setting.attack_label(attack) },
                x: Axis::counts(edits_words(unit), last),
                y: Axis::whole_percent("certified accuracy (%)"),
                curves,
            });
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let (whatever, place) = match unit {
        Some(Unit::Sources) => (
            "whatever hostile sources deliver in place of their part of the training set at hand, by the number of such sources",
            "the number of sources that the attacker controls",
        ),
        Some(Unit::Samples) | None => (
            "whatever an attacker inserts into the training set at hand or deletes from it, by the number of such samples",
            "the number of insertions and deletions that the attack amounts to (a changed image counts as two, a changed label as \
             one; of a hostile source, every change as two)",
        ),
    };
    let caption = format!(
        "Fraction of the untouched test set that is answered rightly, and provably so {whatever}. Thin: each seed. Marks, \
         where there are any: clean accuracy that was measured under an attack, at {place}; no mark at a budget can lie \
         below the curve of the same defense without an attack. {}",
        band_words(&seeds)
    );
    let title = format!("Certified accuracy against {}", edits_words(unit));
    let columns = columns(panels.len());
    let sheet = Chart { panels, columns, square: false }.sheet();
    Figure::draw(&sheet, name(setting, "certified", edits_words(unit)), title, caption).map(Some)
}

fn curve(group: &Group, name: String, style: Style, last: usize) -> Option<Curve> {
    let budgets: Vec<usize> = (0..=last).step_by(last.div_ceil(STEPS).max(1)).collect();
    let points: Vec<Point> =
        budgets.iter().filter_map(|&budget| Some(point(budget as f64, &group.certified(budget)?))).collect();
    let certified = group.ok().map(|cell| cell.certified.as_slice()).filter(|curve| !curve.is_empty());
    let run = |curve: &[CertifiedPoint]| budgets.iter().map(|&at| (at as f64, certified_at(curve, at))).collect();
    let runs = certified.map(run).collect();
    (!points.is_empty()).then(|| Curve { name, style, points, runs, marks: Some(Vec::new()) })
}

fn point(x: f64, spread: &Spread) -> Point {
    let band = spread.interval.map(|(low, high)| (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)));
    Point { x, y: spread.mean, band }
}

/// Clean accuracy under each attack that amounts to at most `last` of the `unit`.
fn measured(
    setting: &Setting,
    methods: Methods,
    defenses: &[&MethodRecord],
    (unit, last): (Option<Unit>, usize),
) -> Vec<Curve> {
    let attacks: Vec<&str> = setting.attack_names();
    let mut curves = Vec::new();
    for (index, defense) in defenses.iter().enumerate() {
        for (kind, attack) in attacks.iter().enumerate() {
            let at = |variant: &MethodRecord| {
                let group = setting.find(variant, defense)?;
                let budget = amount(group, methods, unit?)?;
                let spread = group.spread("clean_accuracy").filter(|_| budget <= last as f64)?;
                Some((budget, spread.mean))
            };
            let points: Vec<(f64, f64)> = setting.variants(attack).into_iter().filter_map(at).collect();
            let style = Style { marker: Style::series(kind).marker, width: 0.0, ..Style::series(index) };
            if !points.is_empty() {
                curves.push(Curve::plain(format!("measured under {attack}"), style, &points));
            }
        }
    }
    curves
}

/// How many of the `unit` an attack amounts to, on the average over seeds. Who controls a whole source controls one.
fn amount(group: &Group, methods: Methods, unit: Unit) -> Option<f64> {
    let able = methods.attack(&group.attack().name)?.threat?.capabilities;
    let source = able.contains(&Capability::Source);
    if unit == Unit::Sources {
        return source.then_some(1.0);
    }
    let each = if source || able.contains(&Capability::Inputs) { 2.0 } else { 1.0 };
    let touched: Vec<f64> = group.ok().map(|cell| cell.poisoned_by_class.iter().sum::<usize>() as f64).collect();
    Spread::of(&touched).map(|spread| each * spread.mean).filter(|&amount| amount > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::settings;
    use crate::toy::{cell, method};
    use serde_json::json;
    use theriac_core::record::CellRecord;
    use theriac_core::{Family, Goal, Knowledge, MethodInfo, Stage, ThreatModel};

    fn curve_of(points: &[(usize, f64)]) -> Vec<CertifiedPoint> {
        points.iter().map(|&(budget, accuracy)| CertifiedPoint { budget, accuracy }).collect()
    }

    const FLIP_THREAT: ThreatModel = ThreatModel {
        knowledge: Knowledge::Nothing,
        capabilities: &[Capability::Labels],
        goal: Goal::Untargeted,
        stage: Stage::Label,
    };

    static FLIP: MethodInfo = MethodInfo::attack("label-flip", Family::Mislabeling, FLIP_THREAT, "", &[], &[]);

    fn cells(attack: &MethodRecord, touched: usize) -> Vec<CellRecord> {
        let defense = method("dpa", json!({"partitions": 20}));
        let at = |seed: u64| CellRecord {
            certified: curve_of(&[(0, 0.9), (6, 0.7 + 0.01 * seed as f64)]),
            poisoned_by_class: vec![touched, 0],
            ..cell(attack, &defense, seed, &[("clean_accuracy", 0.85)])
        };
        (1..=3).map(at).collect()
    }

    #[test]
    fn one_panel_without_an_attack_and_one_for_each_attack_with_what_was_measured_within_reach() {
        let none = method("none", json!({}));
        let [weak, strong] = [0.1, 0.4].map(|rate| method("label-flip", json!({ "rate": rate })));
        let all = [cells(&none, 0), cells(&weak, 4), cells(&strong, 9)].concat();
        let settings = settings(&all);
        let dpa = MethodInfo::defense("dpa", &[], "", &[], &[]).certifying(Unit::Samples);
        let methods = [&FLIP, &dpa];
        let [figure] = &figures(&settings[0], Methods(&methods)).unwrap()[..] else { panic!("one unit, one figure") };
        assert_eq!(
            (figure.name.as_str(), figure.title.as_str()),
            ("e-certified-inserted-or-deleted-samples", "Certified accuracy against inserted or deleted samples",)
        );
        assert!(figure.svg.contains("no attack") && figure.svg.contains("label-flip, rate 0.4"));
        assert!(!figure.svg.contains("label-flip, rate 0.1") && figure.svg.contains("measured under label-flip"));
        assert!(figure.caption.ends_with("Means over n = 3 seeds; bands are 95 % Student intervals."));
        let defense = &all[0].defense;
        let marks = measured(&settings[0], Methods(&methods), &[defense], (Some(Unit::Samples), 6));
        // Nine flips are beyond the end of the curve.
        assert_eq!(marks[0].points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>(), [(4.0, 0.85)]);
    }

    #[test]
    fn certificates_that_count_sources_have_a_figure_of_their_own_that_says_so() {
        static SOURCE: MethodInfo = MethodInfo::attack(
            "hostile",
            Family::SupplyChain,
            ThreatModel { capabilities: &[Capability::Source], ..FLIP_THREAT },
            "",
            &[],
            &[],
        );
        let votes = MethodInfo::defense("votes", &[], "", &[], &[]).certifying(Unit::Sources);
        let dpa = MethodInfo::defense("dpa", &[], "", &[], &[]).certifying(Unit::Samples);
        let (none, hostile) = (method("none", json!({})), method("hostile", json!({"rate": 0.5})));
        let of_votes = |mut cell: CellRecord| {
            cell.defense.name = "votes".to_owned();
            cell.certified = curve_of(&[(0, 0.9), (2, 0.6)]);
            cell
        };
        let all = [cells(&none, 0), cells(&hostile, 2)].concat();
        let all: Vec<CellRecord> = all.iter().cloned().chain(all.iter().cloned().map(of_votes)).collect();
        let (settings, methods) = (settings(&all), [&SOURCE, &votes, &dpa]);
        let figures = figures(&settings[0], Methods(&methods)).unwrap();
        let [samples, sources] = &figures[..] else { panic!("two units, two figures") };
        assert!(samples.svg.contains("inserted or deleted samples") && !samples.svg.contains("hostile sources"));
        assert!(sources.svg.contains("hostile sources") && !sources.svg.contains("inserted or deleted"));
        // The attacker has one source, whatever the number of its samples; every one of these may be another image.
        let marks = |defense: &CellRecord, unit| {
            measured(&settings[0], Methods(&methods), &[&defense.defense], (Some(unit), 6))[0].points[0].x
        };
        assert_eq!((marks(&all[0], Unit::Samples), marks(&all[6], Unit::Sources)), (4.0, 1.0));
    }

    #[test]
    fn without_certificates_there_is_no_figure() {
        let none = method("none", json!({}));
        let all = [cell(&none, &none, 1, &[("clean_accuracy", 0.9)])];
        assert_eq!(figures(&settings(&all)[0], Methods(&[])).unwrap(), []);
    }
}
