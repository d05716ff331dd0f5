//! Detection curves: how much poison a defense finds at what false alarms.

use theriac_core::Hook;
use theriac_core::record::{MethodRecord, RocPoint};

use super::{Figure, Methods, Topic, band_words, columns, topics};
use crate::group::{Group, is_reference};
use crate::plot::{Axis, Chart, Curve, Dash, Marker, Paint, Panel, PlotError, Point, Style};
use crate::setting::Setting;
use crate::spread::Spread;

const STEPS: usize = 100;

/// One figure an attack for the filters of training data, and one for the guards of inputs.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let guards = |defense: &MethodRecord| {
        let hooks = methods.defense(&defense.name).map(|info| info.hooks_of(&defense.params)).unwrap_or_default();
        hooks.contains(&Hook::Guard) && !hooks.contains(&Hook::Vet)
    };
    let mut figures = Vec::new();
    for topic in topics(setting) {
        let what = "training samples";
        figures.extend(figure(setting, &topic, "roc", what, |defense| !guards(defense))?);
        figures.extend(figure(setting, &topic, "roc-guard", "inputs", guards)?);
    }
    Ok(figures)
}

fn figure(
    setting: &Setting,
    topic: &Topic,
    kind: &str,
    what: &str,
    wanted: impl Fn(&MethodRecord) -> bool,
) -> Result<Option<Figure>, PlotError> {
    let defenses: Vec<_> = setting.defenses().into_iter().filter(|d| !is_reference(d) && wanted(d)).collect();
    let mut panels = Vec::new();
    let mut seeds = Vec::new();
    for variant in &topic.attacks {
        let mut curves = Vec::new();
        for (index, defense) in defenses.iter().enumerate() {
            let Some(group) = setting.find(variant, defense) else { continue };
            let Some(curve) = curve(group, setting.defense_label(defense), Style::series(index)) else { continue };
            seeds.push(curve.runs.len());
            curves.push(curve);
        }
        if curves.is_empty() {
            continue;
        }
        let corner = Style { paint: Paint::Ink, dash: Dash::Solid, marker: Marker::Plus, width: 0.0 };
        curves.push(Curve::plain("perfect detection", corner, &[(0.0, 1.0)]));
        curves.push(Curve::plain("chance", Style::reference(Dash::Short), &[(0.0, 0.0), (1.0, 1.0)]));
        panels.push(Panel {
            title: topic.panel(setting, variant),
            x: Axis::whole_percent("false positive rate (%)"),
            y: Axis::whole_percent("true positive rate (%)"),
            curves,
        });
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let attack = &topic.title;
    let title = format!("{attack}: detection among {what}");
    let caption = format!(
        "Detection curves among {what} under {attack}. Thick: mean of the true positive rate over seeds at equal false \
         positive rates; thin: each seed; marks: where the defense itself draws the line (mean). The diagonal is \
         chance, the cross in the corner perfect detection. {}",
        band_words(&seeds)
    );
    let columns = columns(panels.len()).max(2);
    let sheet = Chart { panels, columns, square: true }.sheet();
    Figure::draw(&sheet, topic.name(setting, kind), title, caption).map(Some)
}

fn curve(group: &Group, name: String, style: Style) -> Option<Curve> {
    let runs: Vec<&[RocPoint]> = group.ok().map(|cell| cell.roc.as_slice()).filter(|roc| !roc.is_empty()).collect();
    if runs.is_empty() {
        return None;
    }
    // Denser near 0, where a useful filter rises.
    let grid = (0..=STEPS).map(|step| (step as f64 / STEPS as f64).powi(2));
    let points: Vec<Point> = grid
        .filter_map(|fpr| {
            let heights: Vec<f64> = runs.iter().map(|run| tpr_at(run, fpr)).collect();
            let spread = Spread::of(&heights)?;
            let band = spread.interval.map(|(low, high)| (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)));
            Some(Point { x: fpr, y: spread.mean, band })
        })
        .collect();
    let thin = runs.iter().map(|run| with_ends(run)).collect();
    let marks = match (group.spread("fpr"), group.spread("tpr")) {
        (Some(fpr), Some(tpr)) => vec![(fpr.mean, tpr.mean)],
        _ => Vec::new(),
    };
    Some(Curve { name, style, points, runs: thin, marks: Some(marks) })
}

fn with_ends(run: &[RocPoint]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = run.iter().map(|point| (point.fpr, point.tpr)).collect();
    points.push((0.0, 0.0));
    points.push((1.0, 1.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points
}

/// The curve's height at `fpr`, between its points along straight lines. On a vertical part the top counts.
fn tpr_at(run: &[RocPoint], fpr: f64) -> f64 {
    let points = with_ends(run);
    let after = points.partition_point(|point| point.0 <= fpr);
    let (x0, y0) = points[after.saturating_sub(1)];
    match points.get(after) {
        Some(&(x1, y1)) if x1 > x0 => y0 + (y1 - y0) * (fpr - x0) / (x1 - x0),
        _ => y0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_read_at_any_false_positive_rate() {
        let run = [(0.0, 0.4), (0.5, 0.8)].map(|(fpr, tpr)| RocPoint { fpr, tpr });
        let read = |fpr| (tpr_at(&run, fpr) * 1000.0).round() / 1000.0;
        assert_eq!([read(0.0), read(0.25), read(0.75), read(1.0)], [0.4, 0.6, 0.9, 1.0]);
    }
}
