//! Confusion matrices: which classes an attack on labels or on the amount of data makes the model mix up.

use theriac_core::{Capability, Family, Goal};

use super::{Figure, Methods, name};
use crate::group::{CLEAN_MODEL, Group};
use crate::plot::{Grid, GridCell, Grids, PlotError, Ramp};
use crate::setting::{Choice, Setting};

/// One figure for each choice of an attack that works without a trigger, at its strongest variant.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let mut figures = Vec::new();
    for attack in setting.attack_names().into_iter().filter(|attack| shows(methods, attack)) {
        for choice in setting.choices(attack, methods) {
            figures.extend(figure(setting, &choice)?);
        }
    }
    Ok(figures)
}

fn shows(methods: Methods, attack: &str) -> bool {
    let Some(info) = methods.attack(attack) else { return false };
    let by_family = matches!(info.family, Some(Family::Mislabeling | Family::Injection | Family::Manipulation));
    let by_threat = info.threat.is_some_and(|threat| {
        threat.goal != Goal::Backdoor
            && threat
                .capabilities
                .iter()
                .any(|able| matches!(able, Capability::Labels | Capability::Remove | Capability::Recipe))
    });
    by_family || by_threat
}

fn figure<'a>(setting: &Setting<'a>, choice: &Choice<'a>) -> Result<Option<Figure>, PlotError> {
    let Some(variant) = setting.strongest(choice) else { return Ok(None) };
    let control = setting.groups.iter().find(|group| group.attack() == variant && group.defense().name == CLEAN_MODEL);
    let clean = setting.clean().or(control).and_then(|group| grid(group, "Clean model".to_owned()));
    let label = setting.attack_label(variant);
    let attacked = setting.undefended(variant).and_then(|group| grid(group, format!("Attacked: {label}")));
    let Some(attacked) = attacked else { return Ok(None) };
    let classes = attacked.rows.len();
    let cell = match classes {
        0..=4 => 52.0,
        5..=10 => 32.0,
        11..=20 => 26.0,
        _ => 13.0,
    };
    let grids: Vec<Grid> = clean.into_iter().chain([attacked]).collect();
    let sheet = Grids { grids, side_by_side: true, cell: (cell, cell) }.sheet();
    let caption =
        "Answers on the untouched test set in percent of each true class, mean over seeds. Each row sums to 100. \
                   Zeros are left out."
            .to_owned();
    Figure::draw(&sheet, name(setting, "confusion", &choice.label), format!("{}: confusion", choice.label), caption)
        .map(Some)
}

fn grid(group: &Group, title: String) -> Option<Grid> {
    let rates = mean_rates(group)?;
    let classes = &group.first().classes;
    let names: Vec<String> =
        (0..rates.len()).map(|i| classes.get(i).cloned().unwrap_or_else(|| i.to_string())).collect();
    let show_text = rates.len() <= 20;
    let cell = |rate: &f64| {
        let whole = format!("{:.0}", rate * 100.0);
        let text = if show_text && whole != "0" { whole } else { String::new() };
        GridCell::Value { shade: *rate, text, note: String::new() }
    };
    Some(Grid {
        title,
        row_title: "true class".to_owned(),
        column_title: "predicted class".to_owned(),
        columns: names.clone(),
        rows: names,
        cells: rates.iter().map(|row| row.iter().map(cell).collect()).collect(),
        ramp: Ramp::Blue,
    })
}

/// Each row as fractions of its true class, averaged over the seeds that have a matrix of the first one's size.
fn mean_rates(group: &Group) -> Option<Vec<Vec<f64>>> {
    let size = group.ok().map(|cell| cell.confusion.len()).find(|size| *size > 0)?;
    let square = |matrix: &&Vec<Vec<u64>>| matrix.len() == size && matrix.iter().all(|row| row.len() == size);
    let matrices: Vec<&Vec<Vec<u64>>> = group.ok().map(|cell| &cell.confusion).filter(square).collect();
    let mut mean = vec![vec![0.0; size]; size];
    for matrix in &matrices {
        for (row, counts) in mean.iter_mut().zip(matrix.iter()) {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            for (cell, count) in row.iter_mut().zip(counts) {
                *cell += *count as f64 / total / matrices.len() as f64;
            }
        }
    }
    (!matrices.is_empty()).then_some(mean)
}
