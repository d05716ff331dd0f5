//! Attacks against defenses: clean accuracy and success in one grid each.

use theriac_core::record::MethodRecord;

use super::{Figure, name};
use crate::group::Group;
use crate::plot::{Grid, GridCell, Grids, PlotError, Ramp};
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::{Success, percent};

/// One figure, when there is more than one cell to compare.
pub fn figure(setting: &Setting) -> Result<Option<Figure>, PlotError> {
    let (attacks, defenses) = (setting.attacks(), setting.defenses());
    if attacks.len() * defenses.len() < 2 {
        return Ok(None);
    }
    let columns: Vec<String> = defenses.iter().map(|defense| setting.defense_label(defense)).collect();
    let grid = |title: &str, ramp: Ramp, show: &dyn Fn(&Group) -> GridCell, rows: Vec<&MethodRecord>| Grid {
        title: title.to_owned(),
        row_title: "attack".to_owned(),
        column_title: "defense".to_owned(),
        rows: rows.iter().map(|attack| setting.attack_label(attack)).collect(),
        columns: columns.clone(),
        cells: rows
            .iter()
            .map(|attack| {
                let cell = |defense| setting.find(attack, defense).map_or(GridCell::Blank("not run"), show);
                defenses.iter().map(|defense| cell(defense)).collect()
            })
            .collect(),
        ramp,
    };
    let with_success: Vec<_> = attacks
        .iter()
        .copied()
        .filter(|attack| setting.groups.iter().any(|group| group.attack() == *attack && group.success().is_some()))
        .collect();
    let shades = range(setting);
    let mut grids = vec![grid("Clean accuracy (%)", Ramp::Blue, &|group| accuracy(group, shades), attacks.clone())];
    if !with_success.is_empty() {
        let mut success = grid("Attack success (%)", Ramp::Vermillion, &success, with_success.clone());
        for (row, attack) in success.rows.iter_mut().zip(with_success) {
            let kind = setting.groups.iter().filter(|group| group.attack() == attack).find_map(Group::success);
            if let Some(kind) = kind {
                *row = format!("{row} ({})", kind.short());
            }
        }
        grids.push(success);
    }
    let cell = (if columns.len() > 7 { 78.0 } else { 86.0 }, 38.0);
    let sheet = Grids { grids, side_by_side: false, cell }.sheet();
    let caption = format!(
        "Mean over seeds with half the width of its 95 % interval below. Blue: clean accuracy, from {} % \
         (light) to {} % \
         (dark). Red: success of the attacker, from none (light) to full (dark); for a recall, full success is \
         a recall of 0. \
         \"not run\": the combination is not part of the experiment; \"failed\": it could not be computed; \
         \"n/a\": the \
         attack has no such measure.",
        percent(shades.0),
        percent(shades.1)
    );
    Figure::draw(&sheet, name(setting, "grid", "all"), "Attacks against defenses".to_owned(), caption).map(Some)
}

fn accuracy(group: &Group, (low, high): (f64, f64)) -> GridCell {
    value(group, group.spread("clean_accuracy"), |mean| (mean - low) / (high - low))
}

/// The least and the greatest mean accuracy, at least five points apart: a tenth of a point must not look like a loss.
fn range(setting: &Setting) -> (f64, f64) {
    let means = setting.groups.iter().filter_map(|group| group.spread("clean_accuracy")).map(|spread| spread.mean);
    let (low, high) = means.fold((1.0, 0.0), |(low, high): (f64, f64), mean| (low.min(mean), high.max(mean)));
    if low > high { (0.0, 1.0) } else { (low.min(high - 0.05).max(0.0), high.max(0.05)) }
}

fn success(group: &Group) -> GridCell {
    let recall = group.success() == Some(Success::Recall);
    value(group, group.success_spread(), |mean| if recall { 1.0 - mean } else { mean })
}

fn value(group: &Group, spread: Option<Spread>, shade: impl Fn(f64) -> f64) -> GridCell {
    match spread {
        Some(spread) => GridCell::Value {
            shade: shade(spread.mean),
            text: percent(spread.mean),
            note: spread.half_width().map(|half| format!("+- {}", percent(half))).unwrap_or_default(),
        },
        None if group.ok().next().is_none() => GridCell::Blank("failed"),
        None => GridCell::Blank("n/a"),
    }
}
