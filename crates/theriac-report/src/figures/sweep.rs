//! Accuracy and attack success against the parameter that an experiment sweeps, usually the poison rate.

use theriac_core::param::{Param, Range, Value};
use theriac_core::record::MethodRecord;

use super::{Figure, Methods, band_words, name};
use crate::group::{NONE, distinct, is_reference, varying};
use crate::plot::{Axis, Chart, Curve, Dash, Panel, PlotError, Point, Style};
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::{Success, value_words};

/// One figure an attack that sweeps a numeric parameter.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let mut figures = Vec::new();
    for attack in setting.attack_names() {
        figures.extend(figure(setting, methods, attack)?);
    }
    Ok(figures)
}

/// The numeric parameter with several values, `rate` first. The number of a class is only a name, so nothing moves along it.
fn swept(variants: &[&MethodRecord], params: &[Param]) -> Option<(String, Vec<f64>)> {
    let mut names = varying(variants);
    names.retain(|name| !params.iter().any(|param| param.name == name && param.range == Range::Class));
    names.sort_by_key(|name| name != "rate");
    names.into_iter().find_map(|name| {
        let values = distinct(variants, &name);
        let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
        let numbers = numbers.filter(|numbers| numbers.len() > 1)?;
        Some((name, numbers))
    })
}

/// One line: the variants of an attack that differ in nothing but the swept parameter, under one defense.
struct Line<'a> {
    name: String,
    style: Style,
    groups: Vec<(f64, &'a crate::group::Group<'a>)>,
}

fn figure(setting: &Setting, methods: Methods, attack: &str) -> Result<Option<Figure>, PlotError> {
    let variants = setting.variants(attack);
    let params = methods.attack(attack).map(|info| info.params).unwrap_or_default();
    let Some((param, values)) = swept(&variants, params) else { return Ok(None) };
    let (lines, families) = lines(setting, &variants, &param);
    // The level depends on the attack's inputs, not on the defense: one level for one family, and none for several.
    let level = lines.first().filter(|_| families == 1);
    let success = lines.iter().flat_map(|line| &line.groups).find_map(|(_, group)| group.success());
    let label = axis_label(methods, attack, &param);
    let axis = Axis::swept(&label, &values);

    let mut panels = vec![Panel {
        title: "Clean accuracy".to_owned(),
        x: axis.clone(),
        y: Axis::whole_percent(""),
        curves: curves(&lines, "clean_accuracy", level, "clean_model_accuracy"),
    }];
    let seen = |panel: &Panel| panel.curves.iter().flat_map(extent).collect::<Vec<f64>>();
    panels[0].y = Axis::percent("clean accuracy (%)", seen(&panels[0]));
    if let Some(success) = success {
        let (title, unit) = match success {
            Success::Asr => ("Attack success rate", "attack success rate (%)"),
            Success::Targeted => ("Targeted success", "targeted success (%)"),
            Success::Recall => ("Recall of the attacked class", "class recall (%)"),
        };
        panels.push(Panel {
            title: title.to_owned(),
            x: axis,
            y: Axis::whole_percent(unit),
            curves: curves(&lines, success.metric(), level, "clean_model_success"),
        });
    }
    if panels.iter().all(|panel| panel.curves.is_empty()) {
        return Ok(None);
    }
    let seeds: Vec<usize> = lines.iter().flat_map(|line| &line.groups).map(|(_, group)| group.ok().count()).collect();
    let dashed = match (level, success) {
        (None, _) => "",
        (Some(_), None) => " Dashed grey: the model that was never poisoned, at the same seeds.",
        (Some(_), Some(_)) => {
            " Dashed grey: the model that was never poisoned, at the same seeds and on the same inputs."
        }
    };
    let title = format!("{attack}: effect of {param}");
    let caption = format!(
        "Clean accuracy{} of models attacked by {attack} against {label}.{dashed} {} The axis of clean accuracy need not \
         begin at 0.",
        if success.is_some() { " and success" } else { "" },
        band_words(&seeds)
    );
    let columns = panels.len();
    let sheet = Chart { panels, columns, square: false }.sheet();
    Figure::draw(&sheet, name(setting, "sweep", attack), title, caption).map(Some)
}

fn axis_label(methods: Methods, attack: &str, param: &str) -> String {
    let info = methods.attack(attack).and_then(|info| info.params.iter().find(|known| known.name == param));
    match (param, info.map(|info| info.unit).unwrap_or_default()) {
        ("rate", _) => "poison rate (fraction of the training set)".to_owned(),
        (name, "") => name.to_owned(),
        (name, unit) => format!("{name} ({unit})"),
    }
}

/// The lines, and how many families of variants there are: those of a family differ in nothing but the swept parameter.
fn lines<'a>(setting: &'a Setting<'a>, variants: &[&MethodRecord], param: &str) -> (Vec<Line<'a>>, usize) {
    // Variants that differ in further parameters get lines of their own.
    let others: Vec<String> = varying(variants).into_iter().filter(|name| name != param).collect();
    let mut families: Vec<(String, Vec<&MethodRecord>)> = Vec::new();
    for variant in variants {
        let words = others.iter().filter_map(|name| Some(format!("{name} {}", value_words(variant.params.get(name)?))));
        let words = words.collect::<Vec<_>>().join(", ");
        match families.iter_mut().find(|(known, _)| *known == words) {
            Some((_, members)) => members.push(variant),
            None => families.push((words, vec![variant])),
        }
    }
    let mut lines = Vec::new();
    for defense in setting.defenses().into_iter().filter(|defense| defense.name == NONE || !is_reference(defense)) {
        for (words, members) in &families {
            let at =
                |variant: &&MethodRecord| Some((variant.params.get(param)?.as_f64()?, setting.find(variant, defense)?));
            let groups: Vec<_> = members.iter().filter_map(at).collect();
            let name = match defense.name.as_str() {
                NONE => "undefended".to_owned(),
                _ => setting.defense_label(defense),
            };
            let name = if words.is_empty() { name } else { format!("{name}, {words}") };
            if !groups.is_empty() {
                lines.push(Line { name, style: Style::series(lines.len()), groups });
            }
        }
    }
    (lines, families.len())
}

fn curves(lines: &[Line], metric: &str, clean: Option<&Line>, level: &str) -> Vec<Curve> {
    let along = |line: &Line, metric: &str| -> Vec<Point> {
        let spreads = line.groups.iter().filter_map(|(x, group)| Some((*x, group.spread(metric)?)));
        spreads.map(|(x, spread)| point(x, &spread)).collect()
    };
    let mut curves = Vec::new();
    for line in lines {
        let points = along(line, metric);
        if !points.is_empty() {
            curves.push(Curve::new(&line.name, line.style, points));
        }
    }
    if let Some(points) = clean.map(|line| along(line, level)).filter(|points| !points.is_empty()) {
        curves.push(Curve::new("clean model", Style::reference(Dash::Long), points));
    }
    curves
}

fn extent(curve: &Curve) -> Vec<f64> {
    curve.points.iter().flat_map(|point| point.band.map_or([point.y; 2], |(low, high)| [low, high])).map(clip).collect()
}

fn clip(value: f64) -> f64 {
    value.clamp(0.0, 1.0)
}

fn point(x: f64, spread: &Spread) -> Point {
    Point { x, y: spread.mean, band: spread.interval.map(|(low, high)| (clip(low), clip(high))) }
}
