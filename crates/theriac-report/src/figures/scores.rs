//! Score histograms: how far a defense's scores hold clean and poisoned samples apart.

use theriac_core::record::{MethodRecord, ScoreHistogram};

use super::{Figure, Methods, columns, name};
use crate::group::{Group, is_reference};
use crate::plot::{Axis, Chart, Curve, Dash, Marker, Paint, Panel, PlotError, Style};
use crate::setting::{Choice, Setting};

/// One figure for each choice of an attack, at its strongest, a panel for each defense that scores.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let choices = setting.attack_names().into_iter().flat_map(|attack| setting.choices(attack, methods));
    choices.filter_map(|choice| figure(setting, &choice).transpose()).collect()
}

fn figure<'a>(setting: &Setting<'a>, choice: &Choice<'a>) -> Result<Option<Figure>, PlotError> {
    let Some(variant) = setting.strongest(choice) else { return Ok(None) };
    let defenses: Vec<&MethodRecord> = setting.defenses().into_iter().filter(|one| !is_reference(one)).collect();
    let panel = |defense: &&MethodRecord| {
        let group = setting.find(variant, defense)?;
        panel(group, setting.defense_label(defense))
    };
    let panels: Vec<Panel> = defenses.iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let title = format!("{}: scores", setting.attack_label(variant));
    let caption = "How the scores of clean and of poisoned samples (for a guard: of triggered inputs) lie at the first seed, each \
                   scaled to its highest bin. Higher scores are more suspicious; the outer bins hold what lies beyond."
        .to_owned();
    let columns = columns(panels.len()).max(2);
    let sheet = Chart { panels, columns, square: false }.sheet();
    Figure::draw(&sheet, name(setting, "scores", &choice.label), title, caption).map(Some)
}

/// The histogram of the first seed that has one. Scores of several seeds have no common scale.
pub fn panel(group: &Group, title: String) -> Option<Panel> {
    let scores = group.ok().find_map(|cell| cell.scores.as_ref())?;
    let style = |paint, dash| Style { paint, dash, marker: Marker::Bare, width: 2.0 };
    Some(Panel {
        title,
        x: Axis::numbers("score", scores.low, scores.high),
        y: Axis::whole_percent("of the highest bin (%)"),
        curves: vec![
            Curve::plain("clean", style(Paint::Blue, Dash::Solid), &outline(scores, &scores.clean)),
            Curve::plain("poisoned", style(Paint::Vermillion, Dash::Long), &outline(scores, &scores.poisoned)),
        ],
    })
}

/// The steps of a histogram, from the ground to the ground.
fn outline(scores: &ScoreHistogram, counts: &[u64]) -> Vec<(f64, f64)> {
    let highest = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let edge = |bin: usize| scores.low + (scores.high - scores.low) * bin as f64 / counts.len().max(1) as f64;
    let mut points = vec![(edge(0), 0.0)];
    for (bin, count) in counts.iter().enumerate() {
        let height = *count as f64 / highest;
        points.extend([(edge(bin), height), (edge(bin + 1), height)]);
    }
    points.push((edge(counts.len()), 0.0));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_steps_from_the_ground_to_the_ground() {
        let scores = ScoreHistogram { low: 0.0, high: 2.0, clean: vec![1, 4], poisoned: vec![0, 0] };
        let steps = [(0.0, 0.0), (0.0, 0.25), (1.0, 0.25), (1.0, 1.0), (2.0, 1.0), (2.0, 0.0)];
        assert_eq!(outline(&scores, &scores.clean), steps);
        assert!(outline(&scores, &scores.poisoned).iter().all(|(_, height)| *height == 0.0));
    }
}
