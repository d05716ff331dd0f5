//! Accuracy and attack success against a number that an experiment sweeps: a parameter of the attack, usually the poison rate, or one of
//! the data set, such as the number of its sources.

use theriac_core::param::{Param, Range, Value};
use theriac_core::record::MethodRecord;

use super::{Figure, Methods, band_words, name};
use crate::group::{Group, NONE, distinct, is_reference, label, unique, varying};
use crate::plot::{Axis, Chart, Curve, Dash, Panel, PlotError, Point, Style};
use crate::setting::{Choice, Setting};
use crate::spread::Spread;
use crate::words::{Success, value_words};

/// One line: cells that differ in nothing but the swept number.
struct Line<'a> {
    name: String,
    groups: Vec<(f64, &'a Group<'a>)>,
}

/// One figure before it is drawn.
struct Sweep<'a> {
    name: String,
    title: String,
    /// What is measured: `models attacked by badnets`.
    models: String,
    /// The swept number in words.
    label: String,
    values: Vec<f64>,
    lines: Vec<Line<'a>>,
    /// Whether all lines have the same model that was never poisoned, on the same inputs.
    level: bool,
    /// What else is to be said.
    note: &'static str,
}

/// One figure an attack that sweeps a number.
pub fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let sweeps = setting.attack_names().into_iter().filter_map(|attack| of_attack(setting, methods, attack));
    sweeps.filter_map(|sweep| sweep.draw().transpose()).collect()
}

/// One figure for each choice of an attack, and one without an attack, where the data sets of `settings` differ in a number.
pub fn across(settings: &[&Setting], methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let datasets: Vec<&MethodRecord> = settings.iter().map(|setting| &setting.groups[0].first().dataset).collect();
    let mut sweeps = Vec::new();
    for param in varying(&datasets).iter().filter(|param| numbers(&datasets, param).is_some()) {
        let runs = runs(settings, param);
        let several = runs.len() > 1;
        for (place, run) in runs.iter().filter(|(_, run)| run.len() > 1) {
            let place = if several { format!(" ({place})") } else { String::new() };
            let first = run[0].1;
            let choices = [NONE].into_iter().chain(first.attack_names());
            let choices = choices.flat_map(|attack| first.choices(attack, methods));
            sweeps.extend(choices.map(|choice| of_data(run, &choice, param, methods, &place)));
        }
    }
    sweeps.into_iter().filter_map(|sweep| sweep.draw().transpose()).collect()
}

/// The values of a parameter, if there are several and all are numbers.
fn numbers(methods: &[&MethodRecord], param: &str) -> Option<Vec<f64>> {
    let numbers: Option<Vec<f64>> = distinct(methods, param).iter().map(Value::as_f64).collect();
    numbers.filter(|numbers| numbers.len() > 1)
}

/// The numeric parameter with several values, `rate` first. The number of a class is only a name, so nothing moves along it.
fn swept(variants: &[&MethodRecord], params: &[Param]) -> Option<(String, Vec<f64>)> {
    let mut names = varying(variants);
    names.retain(|name| !params.iter().any(|param| param.name == name && param.range == Range::Class));
    names.sort_by_key(|name| name != "rate");
    names.into_iter().find_map(|name| numbers(variants, &name).map(|numbers| (name, numbers)))
}

fn of_attack<'a>(setting: &'a Setting<'a>, methods: Methods, attack: &str) -> Option<Sweep<'a>> {
    let variants = setting.variants(attack);
    let params = methods.attack(attack).map(|info| info.params).unwrap_or_default();
    let (param, values) = swept(&variants, params)?;
    // Variants that differ in further parameters get lines of their own.
    let others: Vec<String> = varying(&variants).into_iter().filter(|name| *name != param).collect();
    let mut kinds: Vec<(String, Vec<&MethodRecord>)> = Vec::new();
    for variant in variants {
        let words = others.iter().filter_map(|name| Some(format!("{name} {}", value_words(variant.params.get(name)?))));
        let words = words.collect::<Vec<_>>().join(", ");
        match kinds.iter_mut().find(|(known, _)| *known == words) {
            Some((_, members)) => members.push(variant),
            None => kinds.push((words, vec![variant])),
        }
    }
    let mut lines = Vec::new();
    for defense in drawn(setting) {
        for (words, members) in &kinds {
            let at = |variant: &&MethodRecord| {
                Some((variant.params.get(&param)?.as_f64()?, setting.find(variant, defense)?))
            };
            let groups = members.iter().filter_map(at).collect();
            lines.push(Line { name: joined(defense_words(setting, defense, "undefended"), words), groups });
        }
    }
    Some(Sweep {
        name: name(setting, "sweep", attack),
        title: format!("{attack}: effect of {param}"),
        models: format!("models attacked by {attack}"),
        label: axis_label(params, &param),
        values,
        lines,
        // The level depends on the attack's inputs, not on the defense.
        level: kinds.len() == 1,
        note: "",
    })
}

/// Settings that differ in nothing but a number of their data sets, by it, and what others differ in besides.
type Run<'a> = Vec<(f64, &'a Setting<'a>)>;

fn runs<'a>(settings: &[&'a Setting<'a>], param: &str) -> Vec<(String, Run<'a>)> {
    let rest = |setting: &Setting| {
        let cell = setting.groups[0].first();
        let mut dataset = cell.dataset.clone();
        dataset.params.remove(param);
        [dataset, cell.model.clone(), cell.train.clone()]
    };
    let all: Vec<[MethodRecord; 3]> = settings.iter().map(|setting| rest(setting)).collect();
    let place = |parts: &[MethodRecord; 3]| {
        let part = |(index, part): (usize, &MethodRecord)| {
            let peers: Vec<&MethodRecord> = all.iter().map(|parts| &parts[index]).collect();
            label(part, &peers, &[])
        };
        parts.iter().enumerate().map(part).collect::<Vec<_>>().join("; ")
    };
    let of = |parts: &[MethodRecord; 3]| {
        let own = settings.iter().zip(&all).filter(|(_, own)| *own == parts);
        let at = |(setting, _): (&&'a Setting<'a>, _)| {
            Some((setting.groups[0].first().dataset.params.get(param)?.as_f64()?, *setting))
        };
        let mut run: Run = own.filter_map(at).collect();
        run.sort_by(|a, b| a.0.total_cmp(&b.0));
        (place(parts), run)
    };
    unique(all.iter()).into_iter().map(of).collect()
}

fn of_data<'a>(
    run: &[(f64, &'a Setting<'a>)],
    choice: &Choice,
    param: &str,
    methods: Methods,
    place: &str,
) -> Sweep<'a> {
    let first = run[0].1;
    let (number, undefended, note) = match param {
        "sources" => (
            "number of sources".to_owned(),
            "undefended, sources pooled",
            " Undefended models are trained on all sources together.",
        ),
        other => {
            let dataset = &first.groups[0].first().dataset.name;
            let params = methods.dataset(dataset).map(|info| info.params).unwrap_or_default();
            (axis_label(params, other), "undefended", "")
        }
    };
    let mut lines = Vec::new();
    for defense in drawn(first) {
        for variant in &choice.variants {
            let groups = run.iter().filter_map(|(x, setting)| Some((*x, setting.find(variant, defense)?))).collect();
            let words = if choice.variants.len() > 1 { first.variant_label(variant) } else { String::new() };
            lines.push(Line { name: joined(defense_words(first, defense, undefended), &words), groups });
        }
    }
    let none = choice.label == NONE;
    let attack = match &choice.variants[..] {
        _ if none => "no attack".to_owned(),
        [one] => first.attack_label(one),
        _ => choice.label.clone(),
    };
    Sweep {
        name: name(first, &format!("over-{param}"), &choice.label),
        title: format!("{attack}: effect of the {number}{place}"),
        models: if none { "models that nobody attacked".to_owned() } else { format!("models attacked by {attack}") },
        label: number,
        values: run.iter().map(|(x, _)| *x).collect(),
        lines,
        level: !none && choice.variants.len() == 1,
        note,
    }
}

/// The defenses that have lines.
fn drawn<'a>(setting: &Setting<'a>) -> impl Iterator<Item = &'a MethodRecord> {
    setting.defenses().into_iter().filter(|defense| defense.name == NONE || !is_reference(defense))
}

fn defense_words(setting: &Setting, defense: &MethodRecord, undefended: &str) -> String {
    if defense.name == NONE { undefended.to_owned() } else { setting.defense_label(defense) }
}

fn joined(name: String, words: &str) -> String {
    if words.is_empty() { name } else { format!("{name}, {words}") }
}

fn axis_label(params: &[Param], param: &str) -> String {
    let unit = params.iter().find(|known| known.name == param).map(|known| known.unit).unwrap_or_default();
    match (param, unit) {
        ("rate", "" | "of the training set") => "poison rate (fraction of the training set)".to_owned(),
        (name, "") => name.to_owned(),
        (name, unit) => format!("{name} ({unit})"),
    }
}

impl Sweep<'_> {
    /// Nothing where no line has two points.
    fn draw(mut self) -> Result<Option<Figure>, PlotError> {
        self.lines.retain(|line| !line.groups.is_empty());
        if self.lines.iter().all(|line| line.groups.len() < 2) {
            return Ok(None);
        }
        let groups = || self.lines.iter().flat_map(|line| &line.groups).map(|(_, group)| *group);
        let axis = Axis::swept(&self.label, &self.values);
        let curves = self.curves("clean_accuracy", "clean_model_accuracy");
        let seen: Vec<f64> = curves.iter().flat_map(extent).collect();
        let y = Axis::percent("clean accuracy (%)", seen);
        let mut panels = vec![Panel { title: "Clean accuracy".to_owned(), x: axis.clone(), y, curves }];
        let measures = unique(groups().filter_map(Group::success));
        for success in &measures {
            let (title, unit) = match success {
                Success::Asr => ("Attack success rate", "attack success rate (%)"),
                Success::Targeted => ("Targeted success", "targeted success (%)"),
                Success::Recall => ("Recall of the attacked class", "class recall (%)"),
            };
            panels.push(Panel {
                title: title.to_owned(),
                x: axis.clone(),
                y: Axis::whole_percent(unit),
                curves: self.curves(success.metric(), "clean_model_success"),
            });
        }
        if panels.iter().all(|panel| panel.curves.is_empty()) {
            return Ok(None);
        }
        let seeds: Vec<usize> = groups().map(|group| group.ok().count()).collect();
        let dashed = match (self.level, measures.is_empty()) {
            (false, _) => "",
            (true, true) => " Dashed grey: the model that was never poisoned, at the same seeds.",
            (true, false) => {
                " Dashed grey: the model that was never poisoned, at the same seeds and on the same inputs."
            }
        };
        let caption = format!(
            "Clean accuracy{} of {} against the {}.{}{dashed} {} The axis of clean accuracy need not begin at 0.",
            if measures.is_empty() { "" } else { " and success" },
            self.models,
            self.label,
            self.note,
            band_words(&seeds)
        );
        let columns = panels.len();
        let sheet = Chart { panels, columns, square: false }.sheet();
        Figure::draw(&sheet, self.name, self.title, caption).map(Some)
    }

    fn curves(&self, metric: &str, level: &str) -> Vec<Curve> {
        let along = |line: &Line, metric: &str| -> Vec<Point> {
            let spreads = line.groups.iter().filter_map(|(x, group)| Some((*x, group.spread(metric)?)));
            spreads.map(|(x, spread)| point(x, &spread)).collect()
        };
        let styled = self.lines.iter().enumerate().map(|(index, line)| (Style::series(index), line));
        let mut curves: Vec<Curve> =
            styled.map(|(style, line)| Curve::new(&line.name, style, along(line, metric))).collect();
        let clean = self.lines.first().filter(|_| self.level).map(|line| along(line, level));
        curves.extend(clean.map(|points| Curve::new("clean model", Style::reference(Dash::Long), points)));
        curves.retain(|curve| !curve.points.is_empty());
        curves
    }
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

#[cfg(test)]
mod tests;
