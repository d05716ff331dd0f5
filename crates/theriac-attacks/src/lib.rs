//! The attacks. One attack, one file; [`ATTACKS`] is the registry.

mod backdoor;
mod common;
mod delivery;
mod dense;
mod one_image;
mod pattern;
mod planting;
#[cfg(test)]
mod testing;

use theriac_core::record::MethodRecord;
use theriac_core::{
    Budget, ChangeSet, Dataset, Facts, MethodInfo, ParamError, Probe, Seeds, ThreatModel, Trail, Value, Values,
};
use theriac_nn::Network;
use theriac_train::{Recipe, TrainConfig};

theriac_core::registry! {
    /// All attacks, in the order in which they are listed. A line is a file of its own and an entry here.
    pub static ATTACKS: AttackEntry;
    mod none;
    mod label_flip;
    mod targeted_label_flip;
    mod inject;
    mod remove;
    mod adversarial_poison;
    mod unlearnable;
    mod feature_collision;
    mod bullseye_polytope;
    mod witches_brew;
    mod lsp;
    mod badnets;
    mod blended;
    mod sig;
    mod wanet;
    mod label_consistent;
    mod low_frequency;
    mod adaptive_blend;
    mod random_noise;
    mod compromised_source;
    mod poisoned_checkpoint;
    mod tampered_recipe;
    mod batch_order;
    mod handcrafted;
    mod sra;
    mod architectural;
    mod tampered_storage;
    mod split_view;
    mod frontrunning;
    mod bit_flip;
}

/// One line of the registry.
pub struct AttackEntry {
    /// Name, paper, threat model, parameters.
    pub info: MethodInfo,
    /// Turns a config into an attack that can run, or names everything that is wrong with it.
    pub check: fn(&Values, &Facts) -> Checked,
}

/// An attack that can run, or everything that is wrong with its config.
pub type Checked = Result<Box<dyn Attack>, Vec<ParamError>>;

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static AttackEntry> {
    ATTACKS.iter().find(|entry| entry.info.name == name).copied()
}

/// What an attack assumes with these parameters: one that carries out another (`does`) takes what that one takes, in its own place.
pub fn threat_of(attack: &MethodRecord) -> Option<ThreatModel> {
    let own = find(&attack.name)?.info.threat?;
    let carried = attack.params.get("does").and_then(Value::as_str).and_then(delivery::entry);
    let carried = carried.and_then(|entry| entry.info.threat);
    Some(carried.map_or(own, |carried| ThreatModel { stage: own.stage, ..carried }))
}

/// What an attacker has in hand.
pub struct AttackContext<'a> {
    /// The clean training set.
    pub train: &'a Dataset,
    /// The clean test set, for attacks on certain inputs: the same from which [`Attack::probe`] takes them. None of it may enter the
    /// change set.
    pub test: &'a Dataset,
    /// The attack's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// A network of the victim's architecture, trained on clean data or not, as its entry asks for.
    pub surrogate: Option<&'a Network>,
    /// The victim's recipe. An attack may use it only if it has a surrogate.
    pub recipe: &'a TrainConfig,
}

/// Why an attack could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The data set does not have what the attack needs.
    #[error("failed to poison: {0}")]
    Infeasible(String),
    /// The entry asks for a surrogate, and none was given.
    #[error("failed to poison: the attack needs a surrogate model")]
    NoSurrogate,
}

/// A checked attack. It answers with a change set and never touches the data itself.
pub trait Attack: Send + Sync {
    /// What this run may spend on `train`.
    fn budget(&self, train: &Dataset) -> Budget;

    /// Makes the change set.
    ///
    /// # Errors
    /// When the data set does not have what the attack needs, such as enough samples of a class.
    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError>;

    /// The network that the victim begins with, for attackers who publish it: made from the clean one, which is the surrogate. `None` leaves
    /// that one in its place.
    ///
    /// # Errors
    /// When the attacker cannot train it.
    fn publish(&self, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let _ = context;
        Ok(None)
    }

    /// Changes the victim's training, for attackers who control its code. `seeds` are those of [`Attack::poison`].
    fn train(&self, recipe: &mut Recipe, seeds: &Seeds) {
        let _ = (recipe, seeds);
    }

    /// The network in place of a new one, for attackers who changed the code that builds networks.
    fn build(&self, network: Network) -> Network {
        network
    }

    /// The network in place of a trained one, for attackers who reach the stored weights. `None` leaves it as it is.
    ///
    /// # Errors
    /// When the attack cannot be carried out on this network.
    fn tamper(&self, network: &Network, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let _ = (network, context);
        Ok(None)
    }

    /// The inputs on which success is counted, made from the clean test set; `None` if the goal is plain loss of accuracy. `seeds` are
    /// those of [`Attack::poison`].
    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe>;

    /// What its author does about the ledger, having made `changes`.
    fn trail(&self, changes: &ChangeSet) -> Trail {
        Trail::usual(changes.stage)
    }

    /// The class whose recall the attack lowers, if there is one.
    fn victim_class(&self) -> Option<u16> {
        None
    }
}
