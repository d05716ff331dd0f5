//! One table of a config, such as `[model]` or `[[experiment.attack]]`: a method and its parameters, where lists are axes.

use std::collections::BTreeMap;
use std::ops::Range;

use theriac_core::{Kind, MethodInfo, Param, ParamError, Value, Values, param::resolve, record::MethodRecord};

use super::fault::{Fault, Rule};
use super::node::{Entries, Node};
use crate::bench::Bench;

/// More combinations than this in one table are a slip of the pen.
const MOST_CHOICES: usize = 10_000;

/// The record name of the training recipe, which is in no registry.
pub(super) const RECIPE: &str = "sgd-loop";

/// A value and its place.
type Placed = (Value, Range<usize>);

/// A table, perhaps merged from a shared one and an experiment's own.
#[derive(Clone)]
pub(super) struct Table<'a> {
    /// The keys that lead to it.
    pub path: String,
    /// Where faults of the whole table are shown.
    pub span: Range<usize>,
    /// The keys.
    pub entries: BTreeMap<&'a str, &'a (Range<usize>, Node)>,
}

impl<'a> Table<'a> {
    /// The table at `path`.
    pub fn new(path: String, span: Range<usize>, entries: &'a Entries) -> Self {
        Self { path, span, entries: entries.iter().map(|(key, entry)| (key.as_str(), entry)).collect() }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.get(key).map(|(_, node)| node)
    }
}

/// One combination of the axes of a table, resolved.
#[derive(Clone)]
pub(super) struct Choice {
    /// The method.
    pub record: MethodRecord,
    /// Its registry entry; `None` for the training recipe.
    pub info: Option<&'static MethodInfo>,
    /// The keys that lead to its table.
    path: String,
    /// The place of its name.
    place: Range<usize>,
    /// The places of the values.
    places: BTreeMap<&'static str, Range<usize>>,
}

impl Choice {
    /// A fault that its parameters have.
    pub fn fault(&self, error: &ParamError) -> Fault {
        self.fault_at(&error.key, Rule::Refused(error.message.clone()))
    }

    /// A fault at the parameter `key`, shown at the method's name where the parameter has its default.
    pub fn fault_at(&self, key: &str, rule: Rule) -> Fault {
        let span = self.places.get(key).unwrap_or(&self.place).clone();
        Fault { span, path: format!("{}.{key}", self.path), rule }
    }

    /// A fault of the whole choice.
    pub fn fault_whole(&self, rule: Rule) -> Fault {
        Fault { span: self.place.clone(), path: self.path.clone(), rule }
    }
}

/// All combinations of the axes of `table`. `kind` is `None` for the training recipe; `extra` keys are read by somebody else.
pub(super) fn choices(
    bench: &dyn Bench,
    kind: Option<Kind>,
    table: &Table,
    extra: &[&str],
    faults: &mut Vec<Fault>,
) -> Vec<Choice> {
    let Some(kind) = kind else {
        return combine(RECIPE, &table.span, None, bench.train_params(), table, extra, faults);
    };
    let what = if kind == Kind::Dataset { "data set".to_owned() } else { kind.to_string() };
    let mut fault =
        |span: &Range<usize>, path: &str, rule| faults.push(Fault { span: span.clone(), path: path.to_owned(), rule });
    let Some(node) = table.get("name") else {
        fault(&table.span, &table.path, Rule::Missing("name".to_owned()));
        return Vec::new();
    };
    let path = format!("{}.name", table.path);
    if node.items().is_empty() {
        fault(&node.span, &path, Rule::EmptyList);
    }
    let methods = bench.methods(kind);
    let mut found: Vec<(&MethodInfo, &Range<usize>)> = Vec::new();
    for item in node.items() {
        match item.text().map(|name| (name, methods.iter().find(|info| info.name == name))) {
            None => fault(&item.span, &path, Rule::expected(format!("the name of a {what}"), item.found())),
            Some((name, None)) => {
                let known = methods.iter().map(|info| info.name);
                fault(&item.span, &path, Rule::unknown_name(&what, name, known));
            }
            Some((_, Some(info))) => found.push((info, &item.span)),
        }
    }
    let extra: Vec<&str> = ["name"].iter().chain(extra).copied().collect();
    let one = |(info, place): (&'static MethodInfo, &Range<usize>)| {
        combine(info.name, place, Some(info), info.params, table, &extra, faults)
    };
    found.into_iter().flat_map(one).collect()
}

fn combine(
    name: &str,
    place: &Range<usize>,
    info: Option<&'static MethodInfo>,
    params: &'static [Param],
    table: &Table,
    extra: &[&str],
    faults: &mut Vec<Fault>,
) -> Vec<Choice> {
    let mut axes: Vec<(&'static str, Vec<Placed>)> = Vec::new();
    for (key, (span, node)) in &table.entries {
        if extra.contains(key) {
            continue;
        }
        let path = format!("{}.{key}", table.path);
        match params.iter().find(|param| param.name == *key) {
            Some(param) => axes.push((param.name, values(param, node, &path, faults))),
            None => {
                let rule = Rule::unknown_key(key, params.iter().map(|param| param.name).chain(extra.iter().copied()));
                faults.push(Fault { span: span.clone(), path, rule });
            }
        }
    }
    // An axis without a good value has been reported; the others are still worth checking.
    axes.retain(|(_, values)| !values.is_empty());
    let count = axes.iter().map(|(_, values)| values.len() as u128).try_fold(1, u128::checked_mul).unwrap_or(u128::MAX);
    if count > MOST_CHOICES as u128 {
        let rule = Rule::TooMany(count, MOST_CHOICES);
        faults.push(Fault { span: place.clone(), path: table.path.clone(), rule });
        return Vec::new();
    }
    // In the order of declaration, so that the first parameter varies slowest however the config orders its keys.
    axes.sort_by_key(|(key, _)| params.iter().position(|param| param.name == *key));
    let mut combinations: Vec<Vec<&Placed>> = vec![Vec::new()];
    for (_, values) in &axes {
        let extend = |head: Vec<_>| values.iter().map(move |value| head.iter().copied().chain([value]).collect());
        combinations = combinations.into_iter().flat_map(extend).collect();
    }
    let mut chosen = Vec::new();
    for combination in combinations {
        let pairs = || axes.iter().map(|(key, _)| *key).zip(combination.iter());
        let given: Values = pairs().map(|(key, (value, _))| (key.to_owned(), value.clone())).collect();
        let places = pairs().map(|(key, (_, span))| (key, span.clone())).collect();
        let record = |params| MethodRecord { name: name.to_owned(), params };
        let choice =
            |params| Choice { record: record(params), info, path: table.path.clone(), place: place.clone(), places };
        match resolve(params, &given) {
            Ok(params) => chosen.push(choice(params)),
            Err(errors) => {
                let choice = choice(given);
                faults.extend(errors.iter().map(|error| choice.fault(error)));
            }
        }
    }
    chosen
}

/// The values of one parameter: one, or the items of an axis.
fn values(param: &Param, node: &Node, path: &str, faults: &mut Vec<Fault>) -> Vec<Placed> {
    let axis = node.depth() > param.range.depth();
    let items = if axis { node.items() } else { std::slice::from_ref(node) };
    if items.is_empty() {
        faults.push(Fault { span: node.span.clone(), path: path.to_owned(), rule: Rule::EmptyList });
    }
    let mut good: Vec<Placed> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let value = match item.json() {
            Ok(value) => param.range.normalise(&value).map_err(Rule::Refused),
            Err(found) => Err(Rule::expected(param.range, found)),
        };
        let repeated = |value: &Value| good.iter().any(|(other, _)| other == value);
        let rule = match value {
            Ok(value) if repeated(&value) => Rule::Repeated(value.to_string()),
            Ok(value) => {
                good.push((value, item.span.clone()));
                continue;
            }
            Err(rule) => rule,
        };
        let path = if axis { format!("{path}[{index}]") } else { path.to_owned() };
        faults.push(Fault { span: item.span.clone(), path, rule });
    }
    good
}
