//! From the tree of a config to a [`Config`]: the study, its experiments, and the rules between their parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use theriac_core::record::{MethodRecord, is_control_filter};
use theriac_core::{Facts, Hook, Kind, MethodInfo};

use super::fault::{Fault, Rule};
use super::method::{Choice, Table, choices};
use super::node::{Data, Entries, Node, parse};
use super::{Config, Defense, Experiment};
use crate::bench::{Bench, DatasetCard};
use crate::plan::filter_labels;

/// The tables that experiments share and may override.
const SHARED: [(&str, Option<Kind>); 3] =
    [("data", Some(Kind::Dataset)), ("model", Some(Kind::Model)), ("train", None)];
const STUDY_KEYS: [&str; 7] = ["name", "question", "seeds", "data", "model", "train", "experiment"];
const EXPERIMENT_KEYS: [&str; 10] =
    ["name", "question", "seeds", "controls", "data", "model", "train", "attack", "defense", "compare"];
/// At least three seeds make an interval.
const DEFAULT_SEEDS: u64 = 3;
const MOST_SEEDS: u64 = 10_000;
const MOST_CELLS: usize = 1_000_000;

/// Checks the config in `text`.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn check(text: &str, bench: &dyn Bench) -> Result<Config, Vec<Fault>> {
    let root = parse(text).map_err(|errors| {
        let fault = |(span, message)| Fault { span, path: String::new(), rule: Rule::Syntax(message) };
        errors.into_iter().map(fault).collect::<Vec<_>>()
    })?;
    let mut checker = Checker { bench, faults: Vec::new(), cards: BTreeMap::new() };
    let empty = Entries::new();
    let study = Table::new(String::new(), 0..0, root.table().unwrap_or(&empty));
    let config = checker.study(&study);
    if checker.faults.is_empty() { Ok(config) } else { Err(checker.faults) }
}

pub(super) struct Checker<'a> {
    bench: &'a dyn Bench,
    faults: Vec<Fault>,
    /// Each data set is asked for once; `None` if it cannot be loaded.
    cards: BTreeMap<String, Option<DatasetCard>>,
}

impl Checker<'_> {
    pub(super) fn fault(&mut self, span: &Range<usize>, path: impl Into<String>, rule: Rule) {
        self.faults.push(Fault { span: span.clone(), path: path.into(), rule });
    }

    fn study(&mut self, study: &Table) -> Config {
        self.known_keys(study, &STUDY_KEYS);
        let name = self.text(study, "name", None);
        if let Some(node) = study.get("name").filter(|_| !is_folder_name(&name)) {
            let rule =
                Rule::expected("a name of letters, digits, `-`, `_` and `.` that can name a folder", node.found());
            self.fault(&node.span, "name", rule);
        }
        let question = self.text(study, "question", Some(""));
        for (key, kind) in SHARED {
            // A shared table without a name is completed by the experiments and checked with them.
            for table in self.tables(study.get(key), key) {
                if kind.is_none() || table.get("name").is_some() {
                    choices(self.bench, kind, &table, &[], &mut self.faults);
                }
            }
        }
        let mut experiments: Vec<Experiment> = Vec::new();
        let tables = self.tables(study.get("experiment"), "experiment");
        if study.get("experiment").is_none() {
            self.fault(&(0..0), "", Rule::NoExperiments);
        }
        for table in &tables {
            let experiment = self.experiment(study, table);
            if let (true, Some(node)) =
                (experiments.iter().any(|other| other.name == experiment.name), table.get("name"))
            {
                self.fault(
                    &node.span,
                    format!("{}.name", table.path),
                    Rule::Repeated(format!("the experiment \"{}\"", experiment.name)),
                );
            }
            experiments.push(experiment);
        }
        let cells = |experiment: &Experiment| {
            let sizes = [&experiment.models, &experiment.trains].map(Vec::len);
            let methods = (experiment.attacks.len() + 1) * (experiment.defenses.len() + 1) * experiment.seeds.len();
            sizes.iter().product::<usize>().saturating_mul(experiment.datasets.len()).saturating_mul(methods)
        };
        let cells = experiments.iter().map(cells).fold(0, usize::saturating_add);
        if cells > MOST_CELLS {
            self.fault(&(0..0), "", Rule::TooMany(cells as u128, MOST_CELLS));
        }
        Config { name, question, experiments }
    }

    fn experiment(&mut self, study: &Table, table: &Table) -> Experiment {
        self.known_keys(table, &EXPERIMENT_KEYS);
        let name = self.text(table, "name", None);
        let question = self.text(table, "question", Some(""));
        let seeds = match (table.get("seeds"), study.get("seeds")) {
            (Some(node), _) => self.seeds(node, &format!("{}.seeds", table.path)),
            (None, Some(node)) => self.seeds(node, "seeds"),
            (None, None) => (1..=DEFAULT_SEEDS).collect(),
        };
        let controls = match table.get("controls").map(|node| (node, node.json())) {
            None => true,
            Some((_, Ok(value))) if value.is_boolean() => value == true,
            Some((node, _)) => {
                self.fault(
                    &node.span,
                    format!("{}.controls", table.path),
                    Rule::expected("true or false", node.found()),
                );
                true
            }
        };
        let [data, model, train] = SHARED.map(|(key, kind)| self.setting(study, table, key, kind));
        let attacks = self.methods(table, "attack", Kind::Attack, &[]);
        let attacks: Vec<Choice> = attacks.into_iter().map(|(choice, _)| choice).collect();
        let defenses = self.methods(table, "defense", Kind::Defense, &["against"]);
        let cards: Vec<(Choice, DatasetCard)> =
            data.iter().filter_map(|choice| Some((choice.clone(), self.card(choice)?))).collect();
        for (dataset, card) in &cards {
            let others = model.iter().chain(&attacks).chain(defenses.iter().map(|(choice, _)| choice));
            for choice in others.chain([dataset]) {
                let errors = choice.info.map(|info| self.bench.check(info.kind, &choice.record, &card.facts));
                self.faults.extend(errors.iter().flatten().map(|error| choice.fault(error)));
            }
            for choice in &train {
                let errors = self.bench.check_train(&choice.record, &card.facts);
                self.faults.extend(errors.iter().map(|error| choice.fault(error)));
            }
            self.monitors(&defenses, &train, &card.facts);
        }
        let attacks = self.once(attacks);
        let known: Vec<&str> = attacks.iter().map(|attack| attack.name.as_str()).collect();
        let against: Vec<_> = defenses.iter().map(|(_, table)| self.against(table, &known)).collect();
        self.matches(&defenses);
        let methods = self.once(defenses.into_iter().map(|(choice, _)| choice).collect());
        let defenses = methods.into_iter().zip(against).map(|(method, against)| Defense { method, against }).collect();
        let (data, cards): (Vec<Choice>, Vec<DatasetCard>) = cards.into_iter().unzip();
        let datasets = self.once(data).into_iter().zip(cards).collect();
        let (models, trains) = (self.once(model), self.once(train));
        let mut experiment = Experiment {
            name,
            question,
            seeds,
            controls,
            datasets,
            models,
            trains,
            attacks,
            defenses,
            compares: Vec::new(),
        };
        for table in self.tables(table.get("compare"), &join(&table.path, "compare")) {
            let compare = self.compare(&table, |kind| match kind {
                Kind::Attack => experiment.attacks.iter().collect(),
                Kind::Defense => experiment.defenses.iter().map(|defense| &defense.method).collect(),
                _ => experiment.models.iter().collect(),
            });
            experiment.compares.extend(compare);
        }
        experiment
    }

    pub(super) fn known_keys(&mut self, table: &Table, known: &[&str]) {
        for (key, (span, _)) in table.entries.iter().filter(|(key, _)| !known.contains(key)) {
            self.fault(span, join(&table.path, key), Rule::unknown_key(key, known.iter().copied()));
        }
    }

    fn text(&mut self, table: &Table, key: &str, default: Option<&str>) -> String {
        let found = table.get(key);
        match (found.map(|node| (node, node.text())), default) {
            (Some((_, Some(text))), _) if default.is_some() || !text.is_empty() => return text.to_owned(),
            (Some((node, _)), _) => {
                self.fault(&node.span, join(&table.path, key), Rule::expected("text", node.found()))
            }
            (None, Some(default)) => return default.to_owned(),
            (None, None) => self.fault(&table.span, &*table.path, Rule::Missing(key.to_owned())),
        }
        String::new()
    }

    /// One table, or each table of a list.
    fn tables<'t>(&mut self, node: Option<&'t Node>, path: &str) -> Vec<Table<'t>> {
        let Some(node) = node else { return Vec::new() };
        let list = matches!(node.data, Data::List(_));
        let mut tables = Vec::new();
        if node.items().is_empty() {
            self.fault(&node.span, path, Rule::EmptyList);
        }
        for (index, item) in node.items().iter().enumerate() {
            let Some(entries) = item.table() else {
                self.fault(&item.span, path, Rule::expected("a table", item.found()));
                continue;
            };
            let name = entries.get("name").and_then(|(_, name)| name.text());
            let path = match name {
                _ if !list => path.to_owned(),
                Some(name) => format!("{path}[{name}]"),
                None => format!("{path}[{index}]"),
            };
            tables.push(Table::new(path, item.span.clone(), entries));
        }
        tables
    }

    /// The data sets, networks or recipes of an experiment: its own, the study's, or the study's with changes.
    fn setting(&mut self, study: &Table, own: &Table, key: &str, kind: Option<Kind>) -> Vec<Choice> {
        let path = join(&own.path, key);
        let shared = study.get(key).map(|node| self.tables(Some(node), key)).unwrap_or_default();
        let tables = match (own.get(key).map(|node| self.tables(Some(node), &path)), shared.as_slice()) {
            (None, _) => shared,
            (Some(tables), [shared]) => tables.into_iter().map(|table| merge(shared, table)).collect(),
            (Some(tables), _) => tables,
        };
        if tables.is_empty() && study.get(key).is_none() && own.get(key).is_none() {
            match kind {
                Some(_) => self.fault(&own.span, &*own.path, Rule::Missing(key.to_owned())),
                None => {
                    let all_defaults = Table { path, span: own.span.clone(), entries: BTreeMap::new() };
                    return choices(self.bench, kind, &all_defaults, &[], &mut self.faults);
                }
            }
        }
        tables.iter().flat_map(|table| choices(self.bench, kind, table, &[], &mut self.faults)).collect()
    }

    /// The attacks or defenses of an experiment, without `none`, each with its table.
    fn methods<'t>(&mut self, own: &Table<'t>, key: &str, kind: Kind, extra: &[&str]) -> Vec<(Choice, Table<'t>)> {
        let tables = self.tables(own.get(key), &join(&own.path, key));
        let mut all = Vec::new();
        for table in tables {
            let chosen = choices(self.bench, Some(kind), &table, extra, &mut self.faults);
            let real = chosen.into_iter().filter(|choice| choice.record.name != "none");
            all.extend(real.map(|choice| (choice, table.clone())));
        }
        all
    }

    fn card(&mut self, choice: &Choice) -> Option<DatasetCard> {
        let key = serde_json::to_string(&choice.record).ok()?;
        if let Some(card) = self.cards.get(&key) {
            return card.clone();
        }
        let card = match self.bench.dataset(&choice.record) {
            Ok(card) => Some(card),
            Err(message) => {
                // A data set that is read from a path fails there most often.
                let at_path = choice.record.params.contains_key("path").then_some("path");
                let refused = Rule::Refused(message);
                self.faults.push(match at_path {
                    Some(key) => choice.fault_at(key, refused),
                    None => choice.fault_whole(refused),
                });
                None
            }
        };
        self.cards.insert(key, card.clone());
        card
    }

    /// The records, each of which must stand there once: equal cells would be counted twice.
    fn once(&mut self, choices: Vec<Choice>) -> Vec<MethodRecord> {
        let mut records: Vec<MethodRecord> = Vec::new();
        for choice in choices {
            if records.contains(&choice.record) {
                let what = format!("\"{}\" with the same parameters", choice.record.name);
                self.faults.push(choice.fault_whole(Rule::Repeated(what)));
            }
            records.push(choice.record);
        }
        records
    }

    fn seeds(&mut self, node: &Node, path: &str) -> Vec<u64> {
        let whole = |node: &Node| node.json().ok().and_then(|value| value.as_u64());
        if !matches!(node.data, Data::List(_)) {
            return match whole(node).filter(|count| (1..=MOST_SEEDS).contains(count)) {
                Some(count) => (1..=count).collect(),
                None => {
                    let expected = format!("a number of seeds from 1 to {MOST_SEEDS}, or a list of seeds");
                    self.fault(&node.span, path, Rule::expected(expected, node.found()));
                    vec![1]
                }
            };
        }
        if node.items().is_empty() {
            self.fault(&node.span, path, Rule::EmptyList);
        }
        let (mut seeds, mut seen) = (Vec::new(), BTreeSet::new());
        for item in node.items() {
            match whole(item) {
                None => self.fault(&item.span, path, Rule::expected("a whole number, at least 0", item.found())),
                Some(seed) if !seen.insert(seed) => {
                    self.fault(&item.span, path, Rule::Repeated(format!("the seed {seed}")))
                }
                Some(seed) => seeds.push(seed),
            }
        }
        seeds
    }

    fn against(&mut self, table: &Table, attacks: &[&str]) -> Option<Vec<String>> {
        let node = table.get("against")?;
        let path = join(&table.path, "against");
        if node.items().is_empty() {
            self.fault(&node.span, &*path, Rule::EmptyList);
        }
        let mut names = Vec::new();
        for item in node.items() {
            match item.text() {
                Some(name) if name == "none" || attacks.contains(&name) => names.push(name.to_owned()),
                Some(name) => {
                    let mut known: Vec<&str> = attacks.to_vec();
                    known.dedup();
                    self.fault(&item.span, &*path, Rule::unknown_name("attack in this experiment", name, known));
                }
                None => self.fault(&item.span, &*path, Rule::expected("the name of an attack", item.found())),
            }
        }
        Some(names)
    }

    /// What watches retrainings needs some.
    fn monitors(&mut self, defenses: &[(Choice, Table)], trains: &[Choice], facts: &Facts) {
        let watches = |info: &MethodInfo| info.hooks.contains(&Hook::Monitor);
        for (monitor, _) in defenses.iter().filter(|(choice, _)| choice.info.is_some_and(watches)) {
            let lacking = trains.iter().find_map(|train| {
                let needed = self.bench.rounds_needed(&monitor.record, &train.record, facts);
                let rounds = self.bench.rounds(&train.record);
                (rounds < needed).then_some((rounds, needed))
            });
            if let Some((rounds, needed)) = lacking {
                let message = format!(
                    "{} watches a network that is trained again and again, and needs {needed} rounds, not {rounds}; say in \
                     [train] in how many `rounds`, and on how many of them (`window`) each network is trained",
                    monitor.record.name
                );
                self.faults.push(monitor.fault_whole(Rule::Refused(message)));
            }
        }
    }

    /// A control that is written out must match a filter that is there.
    fn matches(&mut self, defenses: &[(Choice, Table)]) {
        let is_filter = |choice: &&Choice| {
            let vets = |info: &MethodInfo| info.hooks_of(&choice.record.params).contains(&Hook::Vet);
            choice.info.is_some_and(|info| vets(info) && !is_control_filter(info.name))
        };
        let filters: Vec<&MethodRecord> =
            defenses.iter().map(|(choice, _)| choice).filter(is_filter).map(|choice| &choice.record).collect();
        let labels = filter_labels(&filters);
        for (choice, _) in defenses.iter().filter(|(choice, _)| is_control_filter(&choice.record.name)) {
            let name = choice.record.params.get("matches").and_then(|value| value.as_str()).unwrap_or_default();
            if !name.is_empty() && !labels.iter().any(|label| label == name) {
                let rule = Rule::unknown_name("filter in this experiment", name, labels.iter().map(String::as_str));
                self.faults.push(choice.fault_at("matches", rule));
            }
        }
    }
}

/// A table that names no other method than the shared one changes it; any other stands for itself.
fn merge<'t>(shared: &Table<'t>, own: Table<'t>) -> Table<'t> {
    let name = |table: &Table| table.get("name").map(|node| node.json());
    if own.get("name").is_some() && name(&own) != name(shared) {
        return own;
    }
    let mut entries = shared.entries.clone();
    entries.extend(own.entries);
    Table { entries, ..own }
}

pub(super) fn join(path: &str, key: impl fmt::Display) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

/// Whether `name` can name a folder on every system. Windows drops a dot at the end and takes some names for devices, whatever follows
/// their first dot.
fn is_folder_name(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = |kind| stem.strip_prefix(kind).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']));
    let device = ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt");
    !name.is_empty() && name.chars().all(plain) && !name.starts_with('.') && !name.ends_with('.') && !device
}
