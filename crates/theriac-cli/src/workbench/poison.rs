//! Poisoning: runs the attack, holds it to its budget, and keeps a few samples to look at.

use theriac_attacks::AttackContext;
use theriac_core::record::{GalleryTile, PoisonRecord};
use theriac_core::threat::touched_by_class;
use theriac_core::{ChangeSet, Dataset, Edit, SampleId, Seeds, Surrogate};
use theriac_data::Loaded;
use theriac_lab::{Files, Job};
use theriac_train::{Rounds, TrainConfig};

use super::inputs::{CHANGES, WEIGHTS, attack, attack_seeds, faults, json, text};
use super::{Prepared, Workbench};

/// Samples that the gallery shows.
const TILES: usize = 6;

impl Workbench {
    pub(super) fn poison(&self, job: &Job) -> Result<Files, String> {
        let prepared = self.data_of(job)?;
        let (record, attack) = attack(job, &prepared)?.ok_or("a poisoning step names its attack")?;
        let info = theriac_attacks::find(&record.name).map(|entry| entry.info).ok_or("the attack has an entry")?;
        let threat = theriac_attacks::threat_of(&record).ok_or("an attack declares its threat model")?;
        let Loaded { train, test, .. } = &prepared.data;
        let seeds = attack_seeds(job.step, &record);
        let surrogate = match (info.surrogate, &job.step.model) {
            (Surrogate::Trained, _) => Some(self.required(job, "surrogate", &prepared)?),
            (Surrogate::Untrained, Some(model)) => Some(self.fresh(model, &prepared, &seeds)?),
            _ => None,
        };
        let values = job.step.train.as_ref().map(|recipe| &recipe.params);
        let recipe = values.map(|values| TrainConfig::check(values, &prepared.facts)).transpose().map_err(faults)?;
        let recipe = recipe.unwrap_or_default();
        let context = AttackContext { train, test, seeds: &seeds, surrogate: surrogate.as_ref(), recipe: &recipe };
        let mut changes = attack.poison(&context).map_err(text)?;
        attack.budget(train).enforce(&threat, train, &changes).map_err(text)?;
        // An attacker who comes in later reaches what arrives from then on.
        let rounds = Rounds::new(&recipe, &Seeds::new(job.step.seed));
        changes.edits.retain(|edit| recipe.onset == 1 || rounds.of(edit.id()) >= recipe.onset);
        let poisoned = changes.apply(train).map_err(text)?;
        let report = PoisonRecord {
            by_class: touched_by_class(train, &changes),
            rate: changes.touched().len() as f64 / train.len() as f64,
            changes: changes.digest().to_string(),
            data: poisoned.digest().to_string(),
            gallery: gallery(&prepared, &poisoned, &changes),
        };
        let mut files = vec![(CHANGES.to_owned(), changes.encode()), ("poison.json".to_owned(), json(&report))];
        let network = attack.publish(&context).map_err(text)?;
        files.extend(network.map(|network| (WEIGHTS.to_owned(), network.encode())));
        Ok(files)
    }
}

/// The first few touched samples that differ in class, then others.
fn gallery(prepared: &Prepared, poisoned: &Dataset, changes: &ChangeSet) -> Vec<GalleryTile> {
    let clean = &prepared.data.train;
    let (before, after) = (clean.positions(), poisoned.positions());
    let touched: Vec<SampleId> = changes.touched().into_iter().collect();
    let class = |id: &SampleId| match (before.get(id), after.get(id)) {
        (Some(&at), _) => clean.label(at),
        (None, Some(&at)) => poisoned.label(at),
        (None, None) => 0,
    };
    let mut seen = Vec::new();
    let mut chosen: Vec<SampleId> = touched
        .iter()
        .filter(|id| {
            let new = !seen.contains(&class(id));
            seen.push(class(id));
            new
        })
        .copied()
        .take(TILES)
        .collect();
    let others: Vec<SampleId> = touched.into_iter().filter(|id| !chosen.contains(id)).take(TILES).collect();
    chosen.extend(others);
    chosen.truncate(TILES);
    let shape = clean.shape();
    let name = |label: u16| clean.classes()[usize::from(label)].clone();
    let tile = |id: SampleId| {
        let (was, is) = (before.get(&id).copied(), after.get(&id).copied());
        let removed = changes.edits.iter().any(|edit| matches!(edit, Edit::Remove { id: removed } if *removed == id));
        let caption = match (was, is) {
            (Some(was), Some(is)) if clean.label(was) != poisoned.label(is) => {
                format!("{} -> {}", name(clean.label(was)), name(poisoned.label(is)))
            }
            (Some(was), None) if removed => format!("{} removed", name(clean.label(was))),
            (None, Some(is)) => format!("added as {}", name(poisoned.label(is))),
            (Some(was), _) => name(clean.label(was)),
            (None, None) => String::new(),
        };
        GalleryTile {
            shape: [shape.channels, shape.height, shape.width],
            caption,
            clean: was.map(|at| clean.image(at).to_vec()),
            poisoned: is.map(|at| poisoned.image(at).to_vec()),
        }
    };
    chosen.into_iter().map(tile).collect()
}
