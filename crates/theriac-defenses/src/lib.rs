//! The defenses. One defense, one file; [`DEFENSES`] is the registry.

mod cross_validation;
mod jpeg;
mod linear_algebra;
mod neighbours;
mod repairing;
#[cfg(test)]
mod testing;
mod trigger_reversal;
mod two_means;
mod vetting;
mod voting;

use theriac_core::record::{InspectRecord, MonitorRecord};
use theriac_core::{
    ChangeSet, Dataset, Facts, Label, Matrix, MethodInfo, ParamError, SampleId, Seeds, Session, ThreatModel, Trail,
    Values,
};
use theriac_nn::Network;
use theriac_train::{Recipe, TrainConfig, TrainError};

theriac_core::registry! {
    /// All defenses, in the order in which they are listed. A line is a file of its own and an entry here.
    pub static DEFENSES: DefenseEntry;
    pub mod none;
    pub mod clean_model;
    pub mod random_filter;
    pub mod perfect_filter;
    pub mod spectral_signatures;
    pub mod activation_clustering;
    pub mod confident_learning;
    pub mod deep_knn;
    pub mod outliers;
    pub mod adversarial_training;
    pub mod augmentation;
    pub mod jpeg_gray;
    pub mod fine_tuning;
    pub mod fine_pruning;
    pub mod anp;
    pub mod nad;
    pub mod abl;
    pub mod neural_cleanse;
    pub mod strip;
    pub mod dpa;
    pub mod source_weighting;
    pub mod source_diversity;
    pub mod model_diff;
    pub mod drift_monitor;
    pub mod ledger_audit;
    pub mod access_policy;
    pub mod canary;
}

/// One line of the registry.
pub struct DefenseEntry {
    /// Name, paper, hooks, parameters.
    pub info: MethodInfo,
    /// Turns a config into a defense that can run, or names everything that is wrong with it.
    pub check: fn(&Values, &Facts) -> Checked,
}

/// A defense that can run, or everything that is wrong with its config.
pub type Checked = Result<Box<dyn Defense>, Vec<ParamError>>;

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static DefenseEntry> {
    DEFENSES.iter().find(|entry| entry.info.name == name).copied()
}

/// What a defender sees of a training set: the data, and what the victim trained on it thinks of them.
pub struct VetContext<'a> {
    /// The training set, poisoned or not.
    pub data: &'a Dataset,
    /// The victim's penultimate-layer activations, one row a sample.
    pub features: &'a Matrix,
    /// The victim's class probabilities, one row a sample.
    pub probabilities: &'a Matrix,
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// Clean, correctly labelled samples; a defense takes as few of them as its config says.
    pub trusted: &'a Dataset,
    /// The victim itself. [`Network::reinitialised`] makes networks of its architecture, for defenses that train their own.
    pub victim: &'a Network,
    /// The recipe by which the victim was trained.
    pub recipe: &'a TrainConfig,
    /// Hears the fraction that is done, and keeps what a long defense needs to be resumed.
    pub session: &'a (dyn Session + Sync),
    /// What happened to the data, as those saw it who were there; `None` where nothing was kept of it.
    pub past: Option<Past<'a>>,
    /// For the controls only: the attacker's change set.
    pub truth: &'a ChangeSet,
    /// For the controls only: how many samples the defense they stand beside removed.
    pub matched: Option<usize>,
}

/// What happened to a training set before it was vetted. It is no business of those who look at data alone. It is for defenses that stood in the
/// pipeline when it happened, as a ledger or an access policy does; each uses of it what it saw from there.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The data before.
    pub before: &'a Dataset,
    /// What was done to them.
    pub changes: &'a ChangeSet,
    /// What its author took to do it; `None` where nobody did anything.
    pub threat: Option<ThreatModel>,
    /// What its author did about the ledger.
    pub trail: Trail,
    /// In which round a sample arrives, counted from 1.
    pub round_of: &'a (dyn Fn(SampleId) -> usize + Sync),
}

/// What a vetting defense answers.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// One number a sample, in the order of the data; higher is more suspicious.
    pub scores: Vec<f64>,
    /// What the defender does about it.
    pub changes: ChangeSet,
}

/// What arrived in one round, and the network that was trained then.
pub struct Round {
    /// New samples, labelled as they came.
    pub arrived: Dataset,
    /// The network that was trained on the latest rounds, this one included.
    pub network: Network,
}

/// What a defender sees of a network that is trained again and again.
pub struct MonitorContext<'a> {
    /// All rounds, in order.
    pub rounds: &'a [Round],
    /// On how many rounds each network was trained, fewer only at the beginning.
    pub window: usize,
    /// Clean, correctly labelled samples; a defense takes as few of them as its config says.
    pub trusted: &'a Dataset,
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// Hears the fraction that is done.
    pub session: &'a (dyn Session + Sync),
}

/// What a defender has in hand to repair a model.
pub struct RepairContext<'a> {
    /// The suspect model.
    pub model: &'a Network,
    /// What was recorded of it, if something else stands in its place now.
    pub recorded: Option<&'a Network>,
    /// Clean, correctly labelled samples; a defense takes as few of them as its config says.
    pub trusted: &'a Dataset,
    /// What the same defense removed from the training set when it vetted that; empty if it did not.
    pub removed: &'a Dataset,
    /// What the same defense found when it inspected the model, if it did.
    pub inspection: Option<&'a InspectRecord>,
    /// The recipe by which the suspect was trained.
    pub recipe: &'a TrainConfig,
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// Hears the fraction that is done, and keeps what a training needs to be resumed.
    pub session: &'a (dyn Session + Sync),
}

/// What a defender has in hand to inspect a model.
pub struct InspectContext<'a> {
    /// The suspect model.
    pub model: &'a Network,
    /// What was recorded, and what stands in its place: of the model itself, or of the network that its training began with. `None` if
    /// nobody exchanged either.
    pub recorded: Option<(&'a Network, &'a Network)>,
    /// Clean, correctly labelled samples; a defense takes as few of them as its config says.
    pub trusted: &'a Dataset,
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// Hears the fraction that is done.
    pub session: &'a (dyn Session + Sync),
}

/// What a defender has in hand to answer with a certificate.
pub struct CertifyContext<'a> {
    /// The training set, poisoned or not.
    pub data: &'a Dataset,
    /// A network of the architecture in question; its weights are not used, see [`Network::reinitialised`].
    pub network: &'a Network,
    /// The recipe in question.
    pub recipe: &'a TrainConfig,
    /// What is to be answered.
    pub inputs: &'a [&'a Dataset],
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
    /// Hears the fraction that is done, and keeps what a long defense needs to be resumed.
    pub session: &'a (dyn Session + Sync),
}

/// A certified answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The answer.
    pub class: Label,
    /// The largest number of edits that an attacker may make to the training set without changing the answer. What counts as one is the
    /// defense's to say: a sample that is inserted or deleted (replacing one counts as two), or a whole source.
    pub radius: usize,
}

/// What a defender has in hand to guard a deployed model.
pub struct GuardContext<'a> {
    /// The suspect model.
    pub model: &'a Network,
    /// Clean samples.
    pub trusted: &'a Dataset,
    /// The defense's own streams of random numbers.
    pub seeds: &'a Seeds,
}

/// A guard at its post: it scores inputs, and refuses those whose score is above its threshold.
pub trait Guard {
    /// One number an input; higher is more suspicious.
    fn scores(&self, inputs: &Dataset) -> Vec<f64>;

    /// The largest score that passes.
    fn threshold(&self) -> f64;
}

/// Why a defense could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DefenseError {
    /// The data or the model do not have what the defense needs.
    #[error("failed to defend: {0}")]
    Infeasible(String),
    /// The defense is asked for a hook that its entry does not declare.
    #[error("failed to defend: this defense does not {0}")]
    NoSuchHook(&'static str),
    /// A training that is part of the defense failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// A checked defense. It implements the hooks that its entry declares.
pub trait Defense: Send + Sync {
    /// Which training samples are suspicious?
    ///
    /// # Errors
    /// When the data do not have what the defense needs.
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("vet data"))
    }

    /// How to train so that poison matters less? Changes the recipe.
    ///
    /// # Errors
    /// When the defense does not change training.
    fn train(&self, recipe: &mut Recipe) -> Result<(), DefenseError> {
        let _ = recipe;
        Err(DefenseError::NoSuchHook("change training"))
    }

    /// Does something change from one retraining to the next? Metrics and `onset` are not the defense's to tell.
    ///
    /// # Errors
    /// When there are too few rounds, or too few trusted samples.
    fn monitor(&self, context: &MonitorContext) -> Result<MonitorRecord, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("watch retrainings"))
    }

    /// How many rounds [`Defense::monitor`] needs, where each network is trained on `window` of them.
    fn rounds_needed(&self, window: usize) -> usize {
        let _ = window;
        0
    }

    /// Is this model backdoored, for which class, by what trigger? Of the metrics, `target_named` is not the defense's to tell.
    ///
    /// # Errors
    /// When the trusted samples do not suffice.
    fn inspect(&self, context: &InspectContext) -> Result<InspectRecord, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("inspect models"))
    }

    /// How to remove the poison from the model?
    ///
    /// # Errors
    /// When the trusted samples do not suffice.
    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("repair models"))
    }

    /// Which inputs are triggered? Answers with a guard that is set up for one model.
    ///
    /// # Errors
    /// When the trusted samples do not suffice.
    fn guard<'a>(&'a self, context: &'a GuardContext<'a>) -> Result<Box<dyn Guard + 'a>, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("guard inputs"))
    }

    /// For which inputs is the answer provably unchanged? One certificate an input, data set by data set.
    ///
    /// # Errors
    /// When the data do not suffice, or when a training fails.
    fn certify(&self, context: &CertifyContext) -> Result<Vec<Vec<Certificate>>, DefenseError> {
        let _ = context;
        Err(DefenseError::NoSuchHook("certify answers"))
    }
}
