//! Training a victim, a surrogate, or a defended model.

use theriac_attacks::AttackContext;
use theriac_core::record::EpochRecord;
use theriac_data::Loaded;
use theriac_lab::{Files, Halt, Job};
use theriac_train::{Recipe, Start, TrainConfig, TrainingSet};

use super::Workbench;
use super::inputs::{RECORDED, attack, attack_seeds, defense, faults, files_of, halt, json, seeds, text, training_set};

impl Workbench {
    pub(super) fn train(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let data = training_set(job, &prepared)?;
        let seeds = seeds(job.step);
        let model = job.step.model.as_ref().ok_or("a training step names its model")?;
        let values = job.step.train.as_ref().ok_or("a training step names its recipe")?;
        let mut recipe = Recipe::from(TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?);
        let attack = attack(job, &prepared)?.map(|(record, attack)| (attack_seeds(job.step, &record), attack));
        // The attacker's code sees the batches first, what the defender does comes on top.
        if let Some((seeds, attack)) = &attack {
            attack.train(&mut recipe, seeds);
        }
        if let Some((_, defense)) = defense(job.step, &prepared)? {
            defense.train(&mut recipe).map_err(text)?;
        }
        let probe = attack.as_ref().and_then(|(seeds, attack)| attack.probe(&prepared.data.test, seeds));
        let mut network = self.fresh(model, &prepared, &seeds)?;
        if let Some((_, attack)) = &attack {
            network = attack.build(network);
        }
        if let Some(published) = self.published(job, &prepared)? {
            recipe.head_only = recipe.config.start == Start::Published;
            network.module = match recipe.head_only {
                true => published.module.with_head_of(network.module),
                false => published.module,
            };
        }
        let set = TrainingSet { train: &data, test: &prepared.data.test, probe: probe.as_ref() };
        let trained = theriac_train::train(network, set, &recipe, &seeds, job.session).map_err(|error| halt(&error))?;
        let curve: Vec<EpochRecord> = trained
            .curve
            .iter()
            .map(|epoch| EpochRecord {
                epoch: epoch.epoch,
                train_loss: epoch.train_loss,
                train_accuracy: epoch.train_accuracy,
                test_accuracy: epoch.test_accuracy,
                attack_success: epoch.attack_success,
                validation_accuracy: epoch.validation_accuracy,
            })
            .collect();
        let mut files = vec![("curve.json".to_owned(), json(&curve))];
        let mut network = trained.network;
        if let Some((seeds, attack)) = &attack {
            let Loaded { train, test, .. } = &prepared.data;
            let context = AttackContext { train, test, seeds, surrogate: None, recipe: &recipe.config };
            if let Some(exchanged) = attack.tamper(&network, &context).map_err(text)? {
                files.push((RECORDED.to_owned(), network.encode()));
                network = exchanged;
            }
        }
        files.extend(files_of(&network));
        Ok(files)
    }
}
