//! The defenses. One defense, one file; [`DEFENSES`] is the registry.

use theriac_core::{ChangeSet, Dataset, EditError, Facts, Label, Matrix, MethodInfo, ParamError, Seeds, Values};

/// All defenses, in the order in which they are listed.
pub static DEFENSES: &[&DefenseEntry] = &[];

/// One line of the registry.
pub struct DefenseEntry {
    /// Name, paper, hooks, parameters.
    pub info: MethodInfo,
    /// Turns a config into a defense that can run, or names everything that is wrong with it.
    pub check: fn(&Values, &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>>,
}

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
    /// For the controls only: the attacker's change set.
    pub truth: &'a ChangeSet,
    /// For the controls only: how many samples the defense they stand beside removed.
    pub matched: Option<usize>,
}

/// What a vetting defense answers.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// One number a sample, in the order of the data; higher is more suspicious.
    pub scores: Vec<f64>,
    /// What the defender does about it.
    pub changes: ChangeSet,
}

/// Why a defense could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DefenseError {
    /// The data or the model do not have what the defense needs.
    #[error("failed to defend: {0}")]
    Infeasible(String),
    /// The change set does not fit.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// A checked defense. It implements the hooks that its entry declares.
pub trait Defense: Send + Sync {
    /// Which training samples are suspicious?
    ///
    /// # Errors
    /// When the data do not have what the defense needs.
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let _ = context;
        Err(DefenseError::Infeasible("this defense does not vet data".to_owned()))
    }
}
