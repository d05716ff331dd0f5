//! How cells are composed from steps.
//!
//! The undefended victim knows nothing of the defenses, so that one victim serves them all. A defense with several hooks passes through
//! them in the order of the pipeline: vet, train, monitor, inspect, repair, guard. One that certifies answers by itself.

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::record::{MethodRecord, PERFECT_FILTER, RANDOM_FILTER, is_control_filter};
use theriac_core::{Digest, Hook, Kind, MethodInfo, Surrogate, Value, param::resolve};

use super::label::{brief, filter_labels};
use super::{Cell, Plan, PlannedStep};
use crate::bench::{Bench, DatasetCard, Step, StepKind};
use crate::config::{Config, Defense, Experiment};

/// Plans `config`.
pub(super) fn compose(config: &Config, bench: &dyn Bench) -> Plan {
    let mut composer = Composer::new(bench);
    for (index, experiment) in config.experiments.iter().enumerate() {
        composer.experiment(index, experiment);
    }
    let Composer { steps, cells, .. } = composer;
    let unshared = cells.iter().map(|cell| ancestors(&steps, cell)).sum();
    Plan { name: config.name.clone(), cells, steps, unshared }
}

/// How many steps a cell needs.
fn ancestors(steps: &[PlannedStep], cell: &Cell) -> usize {
    let (mut seen, mut open) = (BTreeSet::new(), cell.sources().collect::<Vec<_>>());
    while let Some(index) = open.pop() {
        if seen.insert(index) {
            open.extend(&steps[index].inputs);
        }
    }
    seen.len()
}

/// What the cells of one (data set, network, recipe, seed) have in common.
struct Setting<'a> {
    dataset: &'a MethodRecord,
    card: &'a DatasetCard,
    model: &'a MethodRecord,
    train: &'a MethodRecord,
    seed: u64,
    /// `cnn width=4 on mnist-10k`
    label: String,
}

/// One attack in one setting, with the steps that all its defenses share.
struct Attacked<'a> {
    setting: &'a Setting<'a>,
    attack: &'a MethodRecord,
    /// `, badnets rate=0.05`; empty for `none`.
    label: String,
    poison: Option<usize>,
    /// The published network that trainings begin with, if there is one.
    start: Option<usize>,
    clean_model: usize,
    victim: usize,
    clean: usize,
    undefended: usize,
}

struct Composer<'a> {
    bench: &'a dyn Bench,
    device: String,
    infos: BTreeMap<(Kind, &'static str), &'static MethodInfo>,
    steps: Vec<PlannedStep>,
    cells: Vec<Cell>,
    index: BTreeMap<Digest, usize>,
}

/// What a step is made of beside its setting.
struct Recipe<'a> {
    kind: StepKind,
    model: bool,
    train: bool,
    attack: Option<&'a MethodRecord>,
    defense: Option<&'a MethodRecord>,
    role: &'a str,
}

impl Recipe<'_> {
    fn new(kind: StepKind) -> Self {
        let train = !matches!(kind, StepKind::Poison | StepKind::Features | StepKind::Inspect | StepKind::Evaluate);
        Self { kind, model: kind != StepKind::Poison, train, attack: None, defense: None, role: "" }
    }
}

impl<'a> Composer<'a> {
    fn new(bench: &'a dyn Bench) -> Self {
        let kinds = [Kind::Dataset, Kind::Model, Kind::Attack, Kind::Defense];
        let infos = kinds.into_iter().flat_map(|kind| bench.methods(kind));
        let infos = infos.map(|info| ((info.kind, info.name), info)).collect();
        let (steps, cells, index) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { bench, device: bench.device(), infos, steps, cells, index }
    }

    fn info(&self, kind: Kind, method: &MethodRecord) -> Option<&'static MethodInfo> {
        self.infos.get(&(kind, method.name.as_str())).copied()
    }

    fn hooks(&self, defense: &MethodRecord) -> Vec<Hook> {
        self.info(Kind::Defense, defense).map_or_else(Vec::new, |info| info.hooks_of(&defense.params))
    }

    fn brief(&self, kind: Kind, method: &MethodRecord) -> String {
        brief(method, self.info(kind, method).map_or(&[], |info| info.params))
    }

    fn experiment(&mut self, index: usize, experiment: &Experiment) {
        let none = MethodRecord { name: "none".to_owned(), params: BTreeMap::new() };
        let defenses = self.with_controls(experiment);
        for (dataset_index, (dataset, card)) in experiment.datasets.iter().enumerate() {
            for (model, train) in pairs(&experiment.models, &experiment.trains) {
                let names = (self.brief(Kind::Model, model), self.brief(Kind::Dataset, dataset));
                let label = format!("{} on {}", names.0, names.1);
                let label = label + &brief(train, self.bench.train_params())[train.name.len()..];
                let setting = |&seed| Setting { dataset, card, model, train, seed, label: label.clone() };
                let settings: Vec<Setting> = experiment.seeds.iter().map(setting).collect();
                for attack in std::iter::once(&none).chain(&experiment.attacks) {
                    let first = self.cells.len();
                    self.cells_of_attack(&settings, attack, &defenses, &none);
                    for cell in &mut self.cells[first..] {
                        (cell.experiment, cell.dataset) = (index, dataset_index);
                    }
                }
            }
        }
    }

    fn cells_of_attack(
        &mut self,
        settings: &[Setting],
        attack: &MethodRecord,
        defenses: &[(Defense, Option<MethodRecord>)],
        none: &MethodRecord,
    ) {
        let attacked: Vec<Attacked> = settings.iter().map(|setting| self.attacked(setting, attack)).collect();
        let undefended = |attacked: &Attacked| cell(attacked, none, attacked.undefended);
        self.cells.extend(attacked.iter().map(undefended));
        for (defense, filter) in defenses {
            if self.meets(defense, attack) {
                for attacked in &attacked {
                    let cell = self.defended(attacked, &defense.method, filter.as_ref());
                    self.cells.push(cell);
                }
            }
        }
    }

    /// The defenses of an experiment, each filter followed by its controls; beside each control the filter that it matches.
    fn with_controls(&self, experiment: &Experiment) -> Vec<(Defense, Option<MethodRecord>)> {
        let declared = &experiment.defenses;
        let is_filter =
            |method: &MethodRecord| self.hooks(method).contains(&Hook::Vet) && !is_control_filter(&method.name);
        let filters: Vec<&MethodRecord> =
            declared.iter().map(|defense| &defense.method).filter(|method| is_filter(method)).collect();
        let labels = filter_labels(&filters);
        let filter_called = |label: &str| labels.iter().position(|other| other == label).map(|at| filters[at].clone());
        let mut all = Vec::new();
        for defense in declared {
            let matches = defense.method.params.get("matches").and_then(Value::as_str);
            let matched = matches.filter(|_| is_control_filter(&defense.method.name)).and_then(filter_called);
            all.push((defense.clone(), matched));
            let Some(at) = filters.iter().position(|filter| **filter == defense.method) else { continue };
            for name in [RANDOM_FILTER, PERFECT_FILTER].into_iter().filter(|_| experiment.controls) {
                let given = [("matches".to_owned(), labels[at].as_str().into())].into();
                let Some(info) = self.infos.get(&(Kind::Defense, name)) else { continue };
                let Ok(params) = resolve(info.params, &given) else { continue };
                let method = MethodRecord { name: name.to_owned(), params };
                if declared.iter().any(|other| other.method == method) {
                    continue;
                }
                // Controls stand beside their filter wherever that meets an attack, and are told nothing by a clean model.
                let attacks = experiment.attacks.iter().map(|attack| attack.name.clone());
                let against = Some(attacks.filter(|attack| defense.meets(attack)).collect());
                all.push((Defense { method, against }, Some(defense.method.clone())));
            }
        }
        all
    }

    fn meets(&self, defense: &Defense, attack: &MethodRecord) -> bool {
        let needs_poison =
            defense.method.name == PERFECT_FILTER || self.hooks(&defense.method).contains(&Hook::Control);
        defense.meets(&attack.name) && !(attack.name == "none" && needs_poison)
    }

    fn attacked<'s>(&mut self, setting: &'s Setting<'s>, attack: &'s MethodRecord) -> Attacked<'s> {
        let train = || Recipe::new(StepKind::Train);
        let start = self.bench.starts_published(setting.train).then(|| self.surrogate(setting));
        let begin = start.map(|start| ("start", start));
        let clean_inputs: Vec<_> = begin.into_iter().collect();
        let clean_model = self.step(setting, train(), format!("train {}", setting.label), &clean_inputs);
        let (mut label, mut poison, mut victim) = (String::new(), None, clean_model);
        if attack.name != "none" {
            let name = self.brief(Kind::Attack, attack);
            let mut recipe = Recipe { attack: Some(attack), ..Recipe::new(StepKind::Poison) };
            let mut inputs = Vec::new();
            let mut text = format!("poison {} with {name}", self.brief(Kind::Dataset, setting.dataset));
            let surrogate = self.info(Kind::Attack, attack).map_or(Surrogate::None, |info| info.surrogate);
            recipe.train = self.bench.rounds(setting.train) > 1;
            if surrogate != Surrogate::None {
                (recipe.model, recipe.train) = (true, true);
                text = format!("poison {name} for {}", setting.label);
            }
            if surrogate == Surrogate::Trained {
                inputs.push(("surrogate", self.surrogate(setting)));
            }
            let made = self.step(setting, recipe, text, &inputs);
            label = format!(", {name}");
            let inputs: Vec<_> = with(Some(made), &clean_inputs);
            victim = self.step(setting, train(), format!("train {}{label}", setting.label), &inputs);
            poison = Some(made);
        }
        let mut attacked =
            Attacked { setting, attack, label, poison, start, clean_model, victim, clean: 0, undefended: 0 };
        attacked.clean = self.evaluate(&attacked, clean_model, None, "clean model");
        attacked.undefended = self.evaluate(&attacked, victim, None, "undefended");
        attacked
    }

    /// A network that was trained from scratch on clean data, and is not the clean model.
    fn surrogate(&mut self, setting: &Setting) -> usize {
        let recipe = Recipe { role: "surrogate", ..Recipe::new(StepKind::Train) };
        self.step(setting, recipe, format!("train surrogate {}", setting.label), &[])
    }

    fn evaluate(&mut self, attacked: &Attacked, model: usize, guard: Option<&MethodRecord>, what: &str) -> usize {
        let recipe = Recipe { attack: Some(attacked.attack), defense: guard, ..Recipe::new(StepKind::Evaluate) };
        let label = format!("evaluate {}{}, {what}", attacked.setting.label, attacked.label);
        self.step(attacked.setting, recipe, label, &with(attacked.poison, &[("model", model)]))
    }

    fn vet(&mut self, attacked: &Attacked, defense: &MethodRecord, filter: Option<&MethodRecord>) -> usize {
        let (features, place) =
            (Recipe::new(StepKind::Features), format!("{}{}", attacked.setting.label, attacked.label));
        let model = with(attacked.poison, &[("model", attacked.victim)]);
        let features = self.step(attacked.setting, features, format!("features {place}"), &model);
        let mut inputs = with(attacked.poison, &[("victim", attacked.victim), ("features", features)]);
        if let Some(filter) = filter {
            inputs.push(("matches", self.vet(attacked, filter, None)));
        }
        let recipe = Recipe { defense: Some(defense), ..Recipe::new(StepKind::Vet) };
        let name = self.brief(Kind::Defense, defense);
        self.step(attacked.setting, recipe, format!("vet {place} by {name}"), &inputs)
    }

    fn defended(&mut self, attacked: &Attacked, defense: &MethodRecord, filter: Option<&MethodRecord>) -> Cell {
        let (setting, hooks) = (attacked.setting, self.hooks(defense));
        let name = self.brief(Kind::Defense, defense);
        let label = |verb: &str| format!("{verb} {}{}, {name}", setting.label, attacked.label);
        if hooks.contains(&Hook::Control) {
            return Cell { trained: Some(attacked.clean_model), ..cell(attacked, defense, attacked.clean) };
        }
        if hooks.contains(&Hook::Certify) {
            let recipe =
                Recipe { attack: Some(attacked.attack), defense: Some(defense), ..Recipe::new(StepKind::Certify) };
            let certify = self.step(setting, recipe, label("certify"), &with(attacked.poison, &[]));
            return Cell { trained: None, ..cell(attacked, defense, certify) };
        }
        let vet = hooks.contains(&Hook::Vet).then(|| self.vet(attacked, defense, filter));
        let mut trained = attacked.victim;
        if vet.is_some() || hooks.contains(&Hook::Train) {
            let at_training = hooks.contains(&Hook::Train).then_some(defense);
            let recipe = Recipe { defense: at_training, ..Recipe::new(StepKind::Train) };
            let mut inputs = with(attacked.poison, &[]);
            inputs.extend(attacked.start.map(|start| ("start", start)));
            inputs.extend(vet.map(|vet| ("vet", vet)));
            trained = self.step(setting, recipe, label("train"), &inputs);
        }
        let mut inputs = with(attacked.poison, &[("model", trained)]);
        let mut model = trained;
        let monitor = hooks.contains(&Hook::Monitor).then(|| {
            let recipe = Recipe { defense: Some(defense), ..Recipe::new(StepKind::Monitor) };
            self.step(setting, recipe, label("monitor"), &inputs)
        });
        if let Some(monitor) = monitor {
            (model, inputs) = (monitor, with(attacked.poison, &[("model", monitor)]));
        }
        let inspect = hooks.contains(&Hook::Inspect).then(|| {
            let recipe =
                Recipe { attack: Some(attacked.attack), defense: Some(defense), ..Recipe::new(StepKind::Inspect) };
            let begun: Vec<_> = inputs.iter().copied().chain(attacked.start.map(|start| ("start", start))).collect();
            self.step(setting, recipe, label("inspect"), &begun)
        });
        if hooks.contains(&Hook::Repair) {
            let recipe = Recipe { defense: Some(defense), ..Recipe::new(StepKind::Repair) };
            inputs.extend(vet.map(|vet| ("vet", vet)));
            inputs.extend(inspect.map(|inspect| ("inspect", inspect)));
            model = self.step(setting, recipe, label("repair"), &inputs);
        }
        let guard = hooks.contains(&Hook::Guard).then_some(defense);
        let evaluate = self.evaluate(attacked, model, guard, &name);
        Cell { vet, monitor, inspect, trained: Some(trained), ..cell(attacked, defense, evaluate) }
    }

    /// The position of a step, which is new only if there is no equal one yet.
    fn step(&mut self, setting: &Setting, recipe: Recipe, label: String, inputs: &[(&str, usize)]) -> usize {
        let methods = [
            (Kind::Dataset, Some(setting.dataset)),
            (Kind::Model, recipe.model.then_some(setting.model)),
            (Kind::Attack, recipe.attack),
            (Kind::Defense, recipe.defense),
        ];
        let infos = methods.into_iter().filter_map(|(kind, method)| self.info(kind, method?));
        let mut versions: Vec<String> =
            infos.map(|info| format!("{}/{}/{}", info.kind, info.name, info.version)).collect();
        versions.push(format!("step/{}/{}", recipe.kind, self.bench.version(recipe.kind)));
        let step = Step {
            kind: recipe.kind,
            dataset: setting.dataset.clone(),
            data: setting.card.digest,
            model: recipe.model.then(|| setting.model.clone()),
            train: recipe.train.then(|| setting.train.clone()),
            attack: recipe.attack.cloned(),
            defense: recipe.defense.cloned(),
            versions,
            seed: setting.seed,
            role: recipe.role.to_owned(),
            device: self.device.clone(),
            inputs: inputs.iter().map(|(name, at)| ((*name).to_owned(), self.steps[*at].address)).collect(),
        };
        let address = step.address();
        *self.index.entry(address).or_insert_with(|| {
            let estimate = self.bench.estimate(&step, &setting.card.facts);
            let seconds = estimate.seconds;
            let label = format!("{label}, seed {}", setting.seed);
            let inputs = inputs.iter().map(|(_, at)| *at).collect();
            self.steps.push(PlannedStep { address, label, step, inputs, estimate, seconds });
            self.steps.len() - 1
        })
    }
}

fn pairs<'a, A, B>(left: &'a [A], right: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    left.iter().flat_map(move |one| right.iter().map(move |other| (one, other)))
}

fn with<'a>(poison: Option<usize>, others: &[(&'a str, usize)]) -> Vec<(&'a str, usize)> {
    poison.map(|poison| ("poison", poison)).into_iter().chain(others.iter().copied()).collect()
}

/// The cell whose numbers `evaluate` gives, of the victim as it is.
fn cell(attacked: &Attacked, defense: &MethodRecord, evaluate: usize) -> Cell {
    Cell {
        experiment: 0,
        dataset: 0,
        model: attacked.setting.model.clone(),
        train: attacked.setting.train.clone(),
        attack: attacked.attack.clone(),
        defense: defense.clone(),
        seed: attacked.setting.seed,
        poison: attacked.poison,
        vet: None,
        monitor: None,
        inspect: None,
        trained: Some(attacked.victim),
        evaluate,
        clean: attacked.clean,
        undefended: attacked.undefended,
    }
}
