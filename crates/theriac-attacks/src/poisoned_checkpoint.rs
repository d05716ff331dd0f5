//! A published network carries a backdoor, and the victim goes on training it.
//!
//! - Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain", 2017,
//!   <https://arxiv.org/abs/1708.06733>, section 5.3: a backdoored traffic-sign network is downloaded and retrained.
//! - Kurita, Michel and Neubig, "Weight Poisoning Attacks on Pre-trained Models", ACL 2020, <https://arxiv.org/abs/2004.06660>.
//!
//! # Threat model
//! Whoever publishes a network, or stands between its author and the victim, trains it on poison of its own. The victim's data are
//! clean, and so is its code. Backdoor: images with the trigger are to be classified as `target` after the victim's own training.
//!
//! # Update rule
//! ```text
//! w0  = the weights of the published network
//! w1  = w0 after `epochs` of the victim's recipe on a training set that the attack `trigger` poisoned at `rate`
//! the victim begins with w1 where it would begin with w0:
//!     start = "published"     its features are kept, a new last layer is trained on clean data
//!     start = "fine-tuned"    all of its layers are trained on clean data
//! ```
//!
//! # Where this differs from the paper
//! - Gu et al. retrain for another task (Swedish instead of American signs), where the trigger can only lower the accuracy. Here the
//!   victim's classes are the attacker's, as with a network that is published for a common task, so that the attack has a target.
//! - The attacker trains on samples of the victim's distribution: on the same data set, whose samples both have.
//! - Kurita et al. add a term that keeps fine-tuning from undoing the backdoor; here there is none.
//!
//! # Verified against
//! The trigger's own record. The tests below: the published network carries the backdoor and keeps its accuracy, the victim's data are
//! untouched; the effect after fine-tuning is in `experiments/poisoned-checkpoint`.
//!
//! # When it fails
//! A victim that trains from scratch never loads it. Long fine-tuning at a high rate forgets what clean data do not renew.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};
use theriac_nn::Network;
use theriac_train::{Recipe, Start, TrainConfig, TrainingSet};

use crate::{Attack, AttackContext, AttackEntry, AttackError};

/// The attacks that a network can be trained on; they need no model.
const TRIGGERS: &[&str] = &["badnets", "blended", "low-frequency", "sig"];

config! {
    /// What the published network was trained on.
    pub struct PoisonedCheckpointConfig {
        /// The attack that poisons the attacker's training set, with its defaults.
        trigger: String = "badnets", Range::Choice(TRIGGERS), "";
        /// How many samples of it carry the trigger. `sig` poisons samples of its target class alone, and cannot reach more than there are.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// Passes of the attacker over its training set; those of the victim's recipe if none are given.
        epochs: Option<usize> = None::<u64>, Range::Whole(1, 100_000), "epochs";
    }
}

/// The checked config.
struct PoisonedCheckpoint {
    trigger: Box<dyn Attack>,
    epochs: Option<usize>,
}

impl Attack for PoisonedCheckpoint {
    /// No sample of the victim's is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        match context.recipe.start {
            Start::Scratch => Err(AttackError::Infeasible(
                "the victim trains from scratch and loads nothing; `start` of `[train]` says with what it begins"
                    .to_owned(),
            )),
            _ => Ok(ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage)),
        }
    }

    fn publish(&self, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let published = context.surrogate.ok_or(AttackError::NoSurrogate)?;
        let seeds = context.seeds.child("publish");
        let poisoned = self.trigger.poison(context)?.apply(context.train);
        let poisoned = poisoned.map_err(|error| AttackError::Infeasible(error.to_string()))?;
        let epochs = self.epochs.unwrap_or(context.recipe.epochs);
        let recipe = Recipe::from(TrainConfig { epochs, ..context.recipe.unmeasured() });
        let set = TrainingSet { train: &poisoned, test: &poisoned, probe: None };
        let trained = theriac_train::train(published.clone(), set, &recipe, &seeds, &());
        let failed = |error| AttackError::Infeasible(format!("the attacker could not train its network: {error}"));
        trained.map(|trained| Some(trained.network)).map_err(failed)
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.trigger.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Weights],
    goal: Goal::Backdoor,
    stage: Stage::Distribute,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    let PoisonedCheckpointConfig { trigger, rate, epochs } = PoisonedCheckpointConfig::from_values(values)?;
    let entry = crate::find(&trigger).expect("triggers are in the registry");
    let trigger = (entry.check)(&Values::from([("rate".to_owned(), rate.into())]), facts)?;
    Ok(Box::new(PoisonedCheckpoint { trigger, epochs }))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "poisoned-checkpoint",
        Family::SupplyChain,
        THREAT,
        "Publishes a network with a backdoor, from which the victim goes on training on clean data.",
        &[
            Paper {
                cite: "Gu et al. 2017",
                title: "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
                link: "https://arxiv.org/abs/1708.06733",
            },
            Paper {
                cite: "Kurita et al. 2020",
                title: "Weight Poisoning Attacks on Pre-trained Models",
                link: "https://arxiv.org/abs/2004.06660",
            },
        ],
        PoisonedCheckpointConfig::PARAMS,
    )
    .with_surrogate()
    .verified(&[Verified {
        against: "the triggers that are trained on, each with its own record; a victim that loads the network unchanged",
        agreement: "the trigger works in the published network, and no sample of the victim is touched",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, easy, facts, surrogate, values};
    use theriac_core::metrics::accuracy;

    fn published(start: Start, seed: u64) -> Result<(Network, Dataset), AttackError> {
        let (train, test) = (easy("easy-train", 60), easy("easy-test", 20));
        let given = values([("rate", 0.3.into()), ("epochs", 12.into())]);
        let attack = (ENTRY.check)(&given, &Facts { train: train.len(), ..facts() }).unwrap();
        let (clean, seeds) = (surrogate(&train), Seeds::new(seed));
        let recipe = TrainConfig { start, batch: 20, ..TrainConfig::default() };
        let before = train.digest();
        let context =
            AttackContext { train: &train, test: &test, seeds: &seeds, surrogate: Some(&clean), recipe: &recipe };
        let changes = attack.poison(&context)?;
        attack.budget(&train).enforce(&THREAT, &train, &changes).unwrap();
        assert!(changes.edits.is_empty() && train.digest() == before);
        let network = attack.publish(&context)?.unwrap();
        assert_ne!(network.encode(), clean.encode(), "the clean network is left as it is");
        Ok((network, test))
    }

    #[test]
    fn the_published_network_has_the_backdoor_and_its_accuracy() {
        let (network, test) = published(Start::FineTuned, 1).unwrap();
        let attack = testing::attack(&ENTRY, []);
        let probe = attack.probe(&test, &testing::seeds()).unwrap();
        let success = probe.success(&network.predict(&probe.inputs)).unwrap();
        let right = accuracy(&network.predict(&test), &test.labels()).unwrap();
        assert!(success > 0.9 && right > 0.9, "{success} {right}");
        assert_eq!(network.encode(), published(Start::Published, 1).unwrap().0.encode());
        assert_ne!(network.encode(), published(Start::Published, 2).unwrap().0.encode());
    }

    #[test]
    fn a_victim_that_loads_nothing_is_out_of_reach() {
        let error = published(Start::Scratch, 1).err().unwrap().to_string();
        assert!(error.contains("the victim trains from scratch and loads nothing"), "{error}");
    }
}
