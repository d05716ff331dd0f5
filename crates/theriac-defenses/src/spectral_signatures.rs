//! Spectral signatures: Brandon Tran, Jerry Li, Aleksander Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS
//! 2018, <https://arxiv.org/abs/1811.00636>.
//!
//! # Assumptions
//!
//! The defender has the poisoned training set and a model trained on it, and knows an upper bound epsilon of the
//! poisoned fraction of a class (`expected`), but neither the trigger nor the target. Each class is vetted by itself: the attack
//! is expected to mix two populations under one label, whose mean features differ by more than the spread of either.
//!
//! # Rule
//!
//! For each class y with n samples and penultimate-layer features R(x):
//!
//! ```text
//! M   = [R(x_i) - mean_j R(x_j)]          one row a sample
//! v   = top right singular vector of M
//! tau_i = ((R(x_i) - mean) . v)^2
//! remove the round(1.5 * epsilon * n) samples with the largest tau
//! ```
//!
//! # Scores
//!
//! tau has the scale of its class, so values of two classes cannot be compared. The score is the rank of tau within
//! the class: the share of the class with a smaller tau, ties counting half. A threshold on it is then exactly the
//! paper's rule for another epsilon, and the ROC curve over scores is the curve over epsilon. Dividing tau by its
//! class mean would not do: a strong signature inflates that mean, so poison that is half of its class would rank
//! below the tails of clean classes.
//!
//! # Where this differs from the paper
//!
//! - In the paper's Algorithm 1 epsilon bounds the *number* of poisoned samples, and every class loses 1.5 epsilon
//!   samples whatever its size. Here it is a fraction of each class, so that large and small classes lose the same
//!   share. It is no fraction of the training set: under an all-to-one attack that poisons 1 % of ten balanced
//!   classes, about 10 % of the target class is poisoned. A clean class loses as many samples as a poisoned one of its
//!   size.
//! - The paper poisons 5 % or 10 % of the target class; the default takes the larger.
//! - The authors' published program, and the Adversarial Robustness Toolbox after it, project the features themselves
//!   on v, without subtracting the mean. This follows the paper: without centring, the score also grows with the
//!   length of the features.
//! - v is an eigenvector of the covariance in double precision, which is the same vector.
//! - A class without any variance has no signature, and loses nothing.
//!
//! # Verified against
//!
//! `scripts/verify/vetting.py`, 308 synthetic samples with planted poison: tau agrees with the SVD of numpy 2.1.3 to
//! a relative difference of 6e-13, and the 47 removed samples are the same. With 200 samples of 100 features, where v is
//! found by Lanczos's iteration, tau agrees to 1e-9. ART 1.20.1, given centred features, agrees with numpy to 2e-13.

use rayon::prelude::*;
use theriac_core::{Facts, Hook, Matrix, MethodInfo, Paper, ParamError, Range, Values, config};

use crate::linear_algebra::principal_coordinates;
use crate::vetting::{check_features, most_suspicious, rank_shares, removal};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Spectral signatures.
    pub struct SpectralSignatures {
        /// Upper bound of the poisoned fraction of a class; the paper's epsilon by the size of the class.
        expected: f64 = 0.1, Range::Above(0.0, 1.0), "of each class";
        /// How many times as many samples are removed as are expected to be poisoned.
        multiplier: f64 = 1.5, Range::Above(0.0, 100.0), "";
    }
}

/// The checked config: the share of each class that is removed, below 1.
struct SpectralFilter {
    removed: f64,
}

impl SpectralSignatures {
    fn check(&self) -> Result<SpectralFilter, Vec<ParamError>> {
        let removed = self.multiplier * self.expected;
        if removed < 1.0 {
            return Ok(SpectralFilter { removed });
        }
        let message = format!("multiplier * expected is {removed}, which removes whole classes; it must be below 1");
        Err(vec![ParamError::new("expected", message)])
    }
}

/// The squared projections on the top singular vector, in the order of `members`.
fn outlier_scores(features: &Matrix, members: &[usize]) -> Result<Vec<f64>, DefenseError> {
    let projections = principal_coordinates(features, members, 1)?; // [1, members]
    Ok(projections.iter().map(|projection| projection * projection).collect())
}

impl Defense for SpectralFilter {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        check_features(context)?;
        let classes = 0..context.data.classes().len();
        let members: Vec<Vec<usize>> = classes.map(|class| context.data.of_class(class as u16)).collect();
        let tau: Result<Vec<Vec<f64>>, DefenseError> =
            members.par_iter().map(|members| outlier_scores(context.features, members)).collect();

        let mut scores = vec![0.0; context.data.len()];
        let mut removed = Vec::new();
        for (members, tau) in members.iter().zip(tau?) {
            for (&index, share) in members.iter().zip(rank_shares(&tau)) {
                scores[index] = share;
            }
            if tau.iter().any(|&tau| tau > 0.0) {
                let count = (self.removed * members.len() as f64).round() as usize;
                removed.extend(most_suspicious(members, &scores, count));
            }
        }
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "spectral-signatures",
        &[Hook::Vet],
        "Removes, in each class, the samples that stick out along the direction of largest variance of the features.",
        &[Paper {
            cite: "Tran et al. 2018",
            title: "Spectral Signatures in Backdoor Attacks",
            link: "https://arxiv.org/abs/1811.00636",
        }],
        SpectralSignatures::PARAMS,
    )
    .verified(&[
        theriac_core::Verified {
            against: "numpy 2.1.3 SVD, 308 samples with planted poison (scripts/verify/vetting.py)",
            agreement: "tau to a relative 6e-13, the same 47 samples removed",
        },
        theriac_core::Verified {
            against: "numpy 2.1.3 SVD, 200 samples of 100 features, by Lanczos's iteration (scripts/verify/vetting.py)",
            agreement: "tau to a relative 1e-9",
        },
        theriac_core::Verified { against: "ART 1.20.1 on centred features", agreement: "agrees with numpy to 2e-13" },
    ]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(SpectralSignatures::from_values(values)?.check()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Golden};

    fn filter() -> SpectralFilter {
        SpectralSignatures::default().check().unwrap()
    }

    #[test]
    fn a_planted_cluster_is_found() {
        Case::backdoor(1, 300, 30).is_found_by(&filter(), 0.95);
    }

    #[test]
    fn each_class_loses_the_same_share_and_no_more() {
        let case = Case::clean(2, 100);
        let verdict = case.is_deterministic(&filter());
        assert_eq!(verdict.changes.apply(&case.data).unwrap().class_counts(), [85, 85, 85]);
    }

    #[test]
    fn degenerate_data_are_harmless() {
        Case::degenerate_data_are_harmless(&filter());
        let same = Case::new(&[0; 40], Matrix::new(3, vec![0.1; 120]));
        assert!(filter().vet(&same.context()).unwrap().changes.edits.is_empty());
    }

    #[test]
    fn a_budget_of_whole_classes_is_refused() {
        let values = [("expected".to_owned(), 0.7.into())].into();
        let errors = check(&values, &Case::clean(1, 2).facts()).err().unwrap();
        assert_eq!(errors[0].key, "expected");
    }

    #[test]
    fn scores_and_removals_agree_with_numpy() {
        let golden = Golden::load();
        let table = Golden::table(include_str!("../tests/golden/spectral_signatures.csv"));
        let tau: Vec<f64> = table.iter().map(|row| row[0]).collect();
        let removed: Vec<usize> = (0..table.len()).filter(|&index| table[index][1] == 1.0).collect();
        for class in 0..3 {
            let members = golden.data.of_class(class);
            for (&index, ours) in members.iter().zip(outlier_scores(&golden.features, &members).unwrap()) {
                assert!((ours - tau[index]).abs() <= 1e-9 * tau[index].max(1e-3), "{index}: {ours} {}", tau[index]);
            }
        }
        assert_eq!(golden.removed(&filter().vet(&golden.context()).unwrap()), removed);
    }

    #[test]
    fn scores_of_many_features_agree_with_numpy() {
        let table = Golden::table(include_str!("../tests/golden/wide.csv"));
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as f32
        };
        let features = Matrix::new(100, (0..200 * 100).map(|at| byte() / (at % 100 + 1) as f32).collect());
        let members: Vec<usize> = (0..200).collect();
        assert_eq!(table.len(), 20);
        for (row, ours) in table.iter().zip(outlier_scores(&features, &members).unwrap()) {
            assert!((ours - row[0]).abs() <= 1e-9 * row[0].max(1e-3), "{ours} {}", row[0]);
        }
    }
}
