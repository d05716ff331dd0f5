//! Training curves: clean accuracy and attack success after each epoch.

use theriac_core::record::EpochRecord;

use super::{Figure, Topic, band_words, columns, timeline, topics};
use crate::group::{Group, NONE};
use crate::plot::{Axis, Chart, Curve, Dash, Panel, PlotError, Point, Style};
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::Success;

/// A panel for each variant of each attack, of the undefended victim. Where there is one entry a round, the timeline shows it.
pub fn figures(setting: &Setting) -> Result<Vec<Figure>, PlotError> {
    let mut figures = Vec::new();
    if timeline::rounds(setting).is_some() {
        return Ok(figures);
    }
    for topic in topics(setting) {
        figures.extend(figure(setting, &topic)?);
    }
    if figures.is_empty() {
        let attacks = setting.variants(NONE);
        figures.extend(figure(setting, &Topic { title: "no attack".to_owned(), slug: "", attacks })?);
    }
    Ok(figures)
}

fn figure(setting: &Setting, topic: &Topic) -> Result<Option<Figure>, PlotError> {
    let mut panels = Vec::new();
    let mut seeds = Vec::new();
    for variant in &topic.attacks {
        let Some(group) = setting.undefended(variant) else { continue };
        panels.extend(panel(setting, group, topic.panel(setting, variant), "epoch", &mut seeds));
    }
    // A single point, as where no curve was kept, is no curve.
    if panels.iter().all(|panel| panel.curves.iter().all(|curve| curve.points.len() < 2)) {
        return Ok(None);
    }
    let attack = &topic.title;
    let title = format!("{attack}: training curves");
    let caption = format!(
        "What the undefended model does after each epoch of training under {attack}. {} Dashed: the model \
         trained on the \
         data before the attack.",
        band_words(&seeds)
    );
    let columns = columns(panels.len()).max(2);
    let sheet = Chart { panels, columns, square: false }.sheet();
    Figure::draw(&sheet, topic.name(setting, "training"), title, caption).map(Some)
}

/// What one victim does after each epoch or round. Puts the number of seeds of each curve among `seeds`.
pub fn panel(setting: &Setting, group: &Group, title: String, turn: &str, seeds: &mut Vec<usize>) -> Option<Panel> {
    let accuracy = curve(group, "clean accuracy", Style::series(0), |epoch| Some(epoch.test_accuracy))?;
    let last = accuracy.points.last().map_or(1.0, |point| point.x);
    let mut curves = vec![accuracy];
    let kind = group.success();
    curves.extend(curve(group, "accuracy on kept training data", Style::series(4), |epoch| epoch.validation_accuracy));
    let place = Success::ALL.iter().position(|success| Some(*success) == kind).unwrap_or_default();
    let success = kind.map_or("attack success", Success::name);
    curves.extend(curve(group, success, Style::series(1 + place), |epoch| epoch.attack_success));
    if let Some(clean) = setting.clean().filter(|clean| clean.attack() != group.attack()) {
        let style = Style::reference(Dash::Long);
        curves.extend(curve(clean, "clean accuracy, clean model", style, |epoch| Some(epoch.test_accuracy)));
    }
    for curve in &mut curves {
        seeds.push(curve.runs.len());
        curve.runs.clear();
    }
    Some(Panel { title, x: Axis::turns(turn, last as usize), y: Axis::whole_percent("fraction of inputs (%)"), curves })
}

fn curve(group: &Group, name: &str, style: Style, value: impl Fn(&EpochRecord) -> Option<f64>) -> Option<Curve> {
    let runs: Vec<Vec<(f64, f64)>> = group
        .ok()
        .map(|cell| cell.curve.iter().filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?))).collect())
        .filter(|run: &Vec<_>| !run.is_empty())
        .collect();
    let last = runs.iter().filter_map(|run| run.last()).map(|point| point.0).fold(0.0, f64::max) as usize;
    let points: Vec<Point> = (1..=last)
        .filter_map(|epoch| {
            let at = |run: &Vec<(f64, f64)>| run.iter().find(|point| point.0 == epoch as f64).map(|point| point.1);
            let spread = Spread::of(&runs.iter().filter_map(at).collect::<Vec<_>>())?;
            let band = spread.interval.map(|(low, high)| (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)));
            Some(Point { x: epoch as f64, y: spread.mean, band })
        })
        .collect();
    // Marks at each of fifty epochs would be a caterpillar.
    let every = points.len().div_ceil(12).max(1);
    let marks = points.iter().rev().step_by(every).map(|point| (point.x, point.y)).collect();
    (!points.is_empty()).then(|| Curve { name: name.to_owned(), style, points, runs, marks: Some(marks) })
}
