//! Deep k-NN: Neehar Peri, Neal Gupta, W. Ronny Huang, Liam Fowl, Chen Zhu, Soheil Feizi, Tom Goldstein, John P.
//! Dickerson, "Deep k-NN Defense against Clean-label Data Poisoning Attacks", ECCV Workshops 2020,
//! <https://arxiv.org/abs/1909.13374>. The action `relabel` follows Andrea Paudice, Luis Munoz-Gonzalez, Emil C.
//! Lupu, "Label Sanitization against Label Flipping Poisoning Attacks", ECML PKDD Workshops 2018,
//! <https://arxiv.org/abs/1803.00992>.
//!
//! # Assumptions
//!
//! The defender has the training set and a model whose features place most samples among their own class. A poisoned
//! sample lies among samples of another class: that of the target (feature collision, convex polytope), or that of
//! its true label (label flips). Poison that forms a neighbourhood of its own, as a backdoor's trigger does, agrees
//! with its neighbours and passes. Where the features do not separate classes, or k comes near the size of the data,
//! clean samples are outvoted in great number: the verdict is as good as the features.
//!
//! # Rule
//!
//! ```text
//! S_k(i)   = the k nearest other samples of i, by Euclidean distance of penultimate-layer features of length 1
//! votes(c) = number of samples of S_k(i) with label c
//! suspicious if votes(label(i)) < max_c votes(c)
//! drop:    remove i
//! relabel: label(i) := argmax_c votes(c), the smallest such class
//! score(i) = 1 - votes(label(i)) / k
//! ```
//!
//! All votes are counted before any sample is removed or relabelled, so their order does not matter.
//!
//! # Where this differs from the paper
//!
//! - The default k is 50. What matters is that k exceeds twice the number of poisoned samples that can gather in one
//!   place, so that they are outvoted, and stays below the size of the smallest class. Raise it with the poison.
//! - Features are scaled to length 1 before distances are taken; the paper takes them as they are.
//! - A sample is no neighbour of its own. The authors' search finds the sample itself first, so that it votes for its
//!   own label.
//! - A label that ties for the most votes is kept: it is a mode of the votes, and the defense touches no sample that
//!   its neighbours do not outvote.
//! - The weighting of rare classes by replication is left out.
//! - Paudice et al. relabel if at least a share eta of the neighbours agree, and work on the inputs; here the
//!   plurality decides, on features.
//!
//! # Verified against
//!
//! `scripts/verify/vetting.py`, 308 synthetic samples with planted poison: NearestNeighbors of scikit-learn 1.9.1
//! (brute force, double precision) gives the same score for every sample and the same 14 suspicious ones, which are
//! the 14 planted flips, with the same new labels.

use theriac_core::{Facts, Hook, Label, MethodInfo, Paper, ParamError, Range, Values, config};

use crate::neighbours::{map_neighbours, unit_rows};
use crate::vetting::{check_features, drop_or_relabel};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Deep k-NN.
    pub struct DeepKnn {
        /// Number of neighbours that vote.
        k: usize = 50, Range::Whole(1, 1_000_000), "samples";
        /// What happens to a sample that its neighbours outvote.
        action: String = "drop", Range::Choice(&["drop", "relabel"]), "";
    }
}

impl DeepKnn {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        if self.k < facts.train {
            return Ok(self);
        }
        let message =
            format!("there are {} training samples, so a sample has fewer than {} others", facts.train, self.k);
        Err(vec![ParamError::new("k", message)])
    }
}

/// What the neighbours of one sample say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Vote {
    /// The share of the neighbours with the sample's own label; 1 without neighbours.
    agreement: f64,
    /// The label with the most votes, where it has more than the sample's own.
    outvoted_by: Option<Label>,
}

impl Vote {
    fn new(own: Label, neighbours: impl ExactSizeIterator<Item = Label>, classes: usize) -> Self {
        let count = neighbours.len();
        let mut votes = vec![0usize; classes];
        neighbours.for_each(|label| votes[usize::from(label)] += 1);
        let most = votes.iter().copied().max().unwrap_or(0);
        let mine = votes[usize::from(own)];
        let winner = votes.iter().position(|&votes| votes == most).map(|class| class as Label);
        Self {
            agreement: if count == 0 { 1.0 } else { mine as f64 / count as f64 },
            outvoted_by: winner.filter(|_| mine < most),
        }
    }
}

impl Defense for DeepKnn {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        check_features(context)?;
        let data = context.data;
        let (labels, classes) = (data.labels(), data.classes().len());
        let votes = map_neighbours(&unit_rows(context.features), self.k, |index, neighbours| {
            Vote::new(labels[index], neighbours.iter().map(|other| labels[other.index]), classes)
        });

        let scores = votes.iter().map(|vote| 1.0 - vote.agreement).collect();
        let outvoted = votes.iter().enumerate().filter_map(|(index, vote)| Some((index, vote.outvoted_by?)));
        Ok(drop_or_relabel(ENTRY.info.name, context, scores, &self.action, outvoted))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "deep-knn",
        &[Hook::Vet],
        "Drops or relabels the samples whose nearest neighbours in feature space bear another label.",
        &[
            Paper {
                cite: "Peri et al. 2020",
                title: "Deep k-NN Defense against Clean-label Data Poisoning Attacks",
                link: "https://arxiv.org/abs/1909.13374",
            },
            Paper {
                cite: "Paudice et al. 2018",
                title: "Label Sanitization against Label Flipping Poisoning Attacks",
                link: "https://arxiv.org/abs/1803.00992",
            },
        ],
        DeepKnn::PARAMS,
    )
    .at_version(3)
    .verified(&[theriac_core::Verified {
        against: "scikit-learn 1.9.1 NearestNeighbors, brute force, 308 samples (scripts/verify/vetting.py)",
        agreement: "the same score for every sample, the same 14 suspicious ones and new labels",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(DeepKnn::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Golden};

    #[test]
    fn flipped_labels_are_found_and_clean_data_spared() {
        let case = Case::flipped(1, 300, 40);
        case.is_found_by(&DeepKnn::default(), 0.99);
        let clean = Case::clean(2, 200);
        assert!(clean.waste(&clean.is_deterministic(&DeepKnn::default())) < 0.01);
    }

    #[test]
    fn relabelling_restores_the_labels() {
        let case = Case::flipped(1, 300, 40);
        let verdict = DeepKnn { action: "relabel".to_owned(), ..DeepKnn::default() }.vet(&case.context()).unwrap();
        let restored = verdict.changes.apply(&case.data).unwrap();
        assert!(case.recall(&verdict) > 0.99 && case.waste(&verdict) < 0.01);
        let right = (900..940).filter(|&index| usize::from(restored.label(index)) == 1 + index % 2).count();
        assert_eq!((restored.len(), right), (940, 40));
    }

    #[test]
    fn a_neighbourhood_of_poison_protects_itself() {
        let case = Case::backdoor(1, 300, 100);
        assert!(case.recall(&DeepKnn::default().vet(&case.context()).unwrap()) < 0.05);
    }

    #[test]
    fn a_tie_keeps_the_label() {
        let vote = |own, labels: &[Label]| Vote::new(own, labels.iter().copied(), 3);
        assert_eq!(vote(1, &[0, 1, 1, 0]), Vote { agreement: 0.5, outvoted_by: None });
        assert_eq!(vote(2, &[0, 1, 1, 0]), Vote { agreement: 0.0, outvoted_by: Some(0) });
        assert_eq!(vote(2, &[]), Vote { agreement: 1.0, outvoted_by: None });
    }

    #[test]
    fn degenerate_data_are_harmless() {
        Case::degenerate_data_give_numbers(&DeepKnn::default());
    }

    #[test]
    fn more_neighbours_than_samples_are_refused() {
        let errors = check(&Values::new(), &Case::clean(1, 10).facts()).err().unwrap();
        assert_eq!(
            errors[0].to_string(),
            "failed to accept `k`: there are 30 training samples, so a sample has fewer than 50 others"
        );
    }

    #[test]
    fn shares_and_removals_agree_with_scikit_learn() {
        let golden = Golden::load();
        let table = Golden::table(include_str!("../tests/golden/deep_knn.csv"));
        let verdict = DeepKnn::default().vet(&golden.context()).unwrap();
        for (index, score) in verdict.scores.iter().enumerate() {
            assert!((score - table[index][0]).abs() < 1e-12, "sample {index}");
        }
        let removed: Vec<usize> = (0..table.len()).filter(|&index| table[index][1] >= 0.0).collect();
        assert_eq!(golden.removed(&verdict), removed);
        let relabel = DeepKnn { action: "relabel".to_owned(), ..DeepKnn::default() }.vet(&golden.context()).unwrap();
        let labels = relabel.changes.apply(&golden.data).unwrap();
        assert!(removed.iter().all(|&index| f64::from(labels.label(index)) == table[index][1]));
    }
}
