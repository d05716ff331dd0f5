//! Training a victim, a surrogate, or a defended model.

use std::sync::Arc;

use theriac_attacks::{Attack, AttackContext};
use theriac_core::record::EpochRecord;
use theriac_core::{Dataset, Probe, Seeds, Session};
use theriac_data::Loaded;
use theriac_lab::{Files, Halt, Job};
use theriac_nn::Network;
use theriac_train::{EpochReport, Recipe, Rounds, Start, TrainConfig, TrainingSet, in_turn};

use super::inputs::{RECORDED, attack, attack_seeds, defense, faults, files_of, halt, json, seeds, text, training_set};
use super::{Prepared, Workbench};

/// What stands around all trainings of one step.
struct Training<'a> {
    bench: &'a Workbench,
    job: &'a Job<'a>,
    prepared: Arc<Prepared>,
    config: TrainConfig,
    attack: Option<(Seeds, Box<dyn Attack>)>,
    probe: Option<Probe>,
}

/// A finished training.
struct Done {
    network: Network,
    /// What it was before somebody exchanged its weights.
    recorded: Option<Network>,
    curve: Vec<EpochReport>,
}

/// The file with the weights of a round, counted from 1.
pub(super) fn weights_of_round(round: usize) -> String {
    format!("round-{round:04}.safetensors")
}

impl Workbench {
    pub(super) fn train(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let data = training_set(job, &prepared)?;
        let seeds = seeds(job.step);
        let values = job.step.train.as_ref().ok_or("a training step names its recipe")?;
        let config = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        // An attacker's own network and one that others publish are trained once.
        let config = if job.step.role.is_empty() { config } else { config.once() };
        let attack = attack(job, &prepared)?.map(|(record, attack)| (attack_seeds(job.step, &record), attack));
        let probe = attack.as_ref().and_then(|(seeds, attack)| attack.probe(&prepared.data.test, seeds));
        let training = Training { bench: self, job, prepared, config, attack, probe };
        let (done, rounds) = match training.config.rounds {
            1 => (training.once(&data, &seeds, job.session, true)?, Vec::new()),
            _ => training.in_rounds(&data, &seeds)?,
        };
        let curve: Vec<EpochRecord> = done.curve.iter().map(record).collect();
        let mut files = vec![("curve.json".to_owned(), json(&curve))];
        files.extend(files_of(&done.network));
        files.extend(done.recorded.map(|recorded| (RECORDED.to_owned(), recorded.encode())));
        files.extend(rounds.into_iter().enumerate().map(|(at, weights)| (weights_of_round(at + 1), weights)));
        Ok(files)
    }
}

impl Training<'_> {
    /// One training. Where the attacker is not there yet, nothing is done to code and weights.
    fn once(&self, data: &Dataset, seeds: &Seeds, session: &dyn Session, attacked: bool) -> Result<Done, Halt> {
        let (bench, job, prepared) = (self.bench, self.job, &*self.prepared);
        let attack = self.attack.as_ref().filter(|_| attacked);
        let mut recipe = Recipe::from(self.config.clone());
        // The attacker's code sees the batches first, what the defender does comes on top.
        if let Some((seeds, attack)) = attack {
            attack.train(&mut recipe, seeds);
        }
        if let Some((_, defense)) = defense(job.step, prepared)? {
            defense.train(&mut recipe).map_err(text)?;
        }
        let model = job.step.model.as_ref().ok_or("a training step names its model")?;
        let mut network = bench.fresh(model, prepared, seeds)?;
        if let Some(published) = bench.published(job, prepared, attacked)? {
            recipe.head_only = recipe.config.start == Start::Published;
            network.module = match recipe.head_only {
                true => published.module.with_head_of(network.module),
                false => published.module,
            };
        }
        // Whose weights it begins with, the victim's own code builds the network.
        if let Some((_, attack)) = attack {
            network = attack.build(network);
        }
        let Loaded { train, test, .. } = &prepared.data;
        let set = TrainingSet { train: data, test, probe: self.probe.as_ref() };
        let trained = theriac_train::train(network, set, &recipe, seeds, session).map_err(|error| halt(&error))?;
        let mut done = Done { network: trained.network, recorded: None, curve: trained.curve };
        if let Some((seeds, attack)) = attack {
            let context = AttackContext { train, test, seeds, surrogate: None, recipe: &recipe.config };
            if let Some(exchanged) = attack.tamper(&done.network, &context).map_err(text)? {
                done.recorded = Some(std::mem::replace(&mut done.network, exchanged));
            }
        }
        Ok(done)
    }

    /// A training a round: what the last one leaves, with the last entry of each one's curve, and the weights of all of them.
    fn in_rounds(&self, data: &Dataset, seeds: &Seeds) -> Result<(Done, Vec<Vec<u8>>), Halt> {
        let rounds = Rounds::new(&self.config, &Seeds::new(self.job.step.seed));
        let mut last = None;
        let start: Vec<(EpochReport, Vec<u8>)> = Vec::new();
        let train = |at: usize, session: &dyn Session| {
            let (round, attacked) = (at + 1, at + 1 >= self.config.onset);
            let data = rounds.trained_on(data, round);
            self.once(&data, &seeds.child(&format!("round/{round}")), session, attacked)
        };
        let take = |kept: &mut Vec<(EpochReport, Vec<u8>)>, at: usize, done: Done| {
            let report = done.curve.last().map(|report| EpochReport { epoch: at + 1, ..*report });
            kept.extend(report.map(|report| (report, done.network.encode())));
            last = Some(done);
        };
        let kept = in_turn(self.job.session, seeds, rounds.count(), start, train, take)?;
        let (curve, weights) = kept.into_iter().unzip();
        let last = last.ok_or("a training of rounds was resumed after its end")?;
        Ok((Done { curve, ..last }, weights))
    }
}

fn record(report: &EpochReport) -> EpochRecord {
    EpochRecord {
        epoch: report.epoch,
        train_loss: report.train_loss,
        train_accuracy: report.train_accuracy,
        test_accuracy: report.test_accuracy,
        attack_success: report.attack_success,
        validation_accuracy: report.validation_accuracy,
    }
}
