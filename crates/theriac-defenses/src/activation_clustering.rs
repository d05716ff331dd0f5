//! Activation clustering: Bryant Chen, Wilka Carvalho, Nathalie Baracaldo, Heiko Ludwig, Benjamin Edwards, Taesung
//! Lee, Ian Molloy, Biplav Srivastava, "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering",
//! SafeAI 2019, <https://arxiv.org/abs/1811.03728>.
//!
//! # Assumptions
//!
//! The defender has the poisoned training set and a model trained on it, no clean data, and no knowledge of the
//! trigger. Poisoned and clean samples of the target class reach the same label for different reasons, so their
//! activations form two clusters, and the poison is the smaller one. When half of a class is poisoned, as under an
//! all-to-one attack on 10 % of ten balanced classes, no cluster is small, and the defense finds nothing.
//!
//! # Rule
//!
//! For each class:
//!
//! ```text
//! A      = penultimate-layer activations of the class
//! Z      = A on its first 10 principal directions
//! S, L   = two-means(Z), S the smaller cluster; share = |S| / |class|
//! rule size:        poisoned if share < 0.35
//! rule silhouette:  poisoned if share < 0.35 and mean silhouette of Z > 0.1
//! rule distance:    poisoned if in A the median of S is nearer to the median of some other class than to that of
//!                   its own class, and the median of L is not
//! remove S if the class is poisoned
//! ```
//!
//! # Scores
//!
//! ```text
//! score(i) = (1 - share) * max(silhouette, 0) * d(z_i, centre of L) / (d(z_i, centre of S) + d(z_i, centre of L))
//! ```
//!
//! How small and how separate the small cluster of the class is, times how far the sample belongs to it: 1 in its
//! centre, 0 in the centre of the large one. The score is the same under all rules; they differ in where they cut,
//! class by class.
//!
//! # Where this differs from the paper
//!
//! - The paper reduces the activations by independent component analysis. This uses principal components, as the
//!   Adversarial Robustness Toolbox (ART) by the same group does by default: they are unique and need no iterations
//!   that may fail to converge.
//! - The paper names three ways to judge clusters: exclusionary reclassification, relative size and silhouette. The
//!   first one trains a further model for each class and is left out. The thresholds 0.35 and 0.1 and the rule
//!   `distance` are ART's. The default, `silhouette`, is the strictest: clean classes too fall into clusters of
//!   uneven size.
//! - ART measures `distance` between activations that were reduced class by class, in coordinates that differ between
//!   classes. Here the distances are those of the unreduced activations. ART may also remove the larger cluster, or
//!   both; here only the smaller one ever goes.
//! - The paper then relabels what it found and trains on; this removes it.
//!
//! # Verified against
//!
//! `scripts/verify/vetting.py`, 308 synthetic samples with planted poison: PCA, KMeans and silhouette_score of
//! scikit-learn 1.9.1 give the same clusters in all three classes (adjusted Rand index 1) and the same silhouettes
//! (difference below 1e-9). The samples removed by each of the three rules are those of ART 1.20.1, given unreduced
//! activations for `distance`. On reduced ones, as ART runs it, that rule removes a whole class, 24 poisoned and 90
//! clean samples, and half of a class without poison.

use nalgebra::DMatrix;
use rayon::prelude::*;
use theriac_core::{Facts, Hook, Matrix, MethodInfo, Paper, Range, Values, config};

use crate::linear_algebra::principal_coordinates;
use crate::two_means::{Clusters, distances, silhouette, two_means};
use crate::vetting::{check_features, removal};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Activation clustering.
    pub struct ActivationClustering {
        /// How a class is judged poisoned.
        rule: String = "silhouette", Range::Choice(&["silhouette", "size", "distance"]), "";
        /// Principal directions that the activations are reduced to.
        dimensions: usize = 10, Range::Whole(1, 10_000), "";
        /// Rules `size` and `silhouette`: the smaller cluster is suspicious below this share.
        size: f64 = 0.35, Range::Number(0.0, 0.5), "of the class";
        /// Rule `silhouette`: the clusters are separate above this mean silhouette.
        silhouette: f64 = 0.1, Range::Number(-1.0, 1.0), "";
        /// Runs of two-means, of which the best one counts.
        restarts: usize = 10, Range::Whole(1, 10_000), "";
    }
}

/// The two clusters of one class.
struct Split {
    members: Vec<usize>,
    in_smaller: Vec<bool>,
    /// The size of the smaller cluster, as a share of the class.
    share: f64,
    silhouette: f64,
    /// For each member, how far it belongs to the smaller cluster.
    belonging: Vec<f64>,
}

impl Split {
    /// The activations of one class, reduced and clustered; `None` if it cannot be split.
    fn new(members: Vec<usize>, points: &DMatrix<f64>, clusters: &Clusters) -> Option<Self> {
        let sizes = clusters.sizes();
        if sizes.contains(&0) {
            return None;
        }
        // Of two equal clusters, the first member's is the larger one: an arbitrary but fixed choice.
        let smaller = match sizes[0].cmp(&sizes[1]) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Equal => 1 - clusters.assignment[0],
        };
        let belonging = distances(points, &clusters.centres).map(|squared| {
            let (small, large) = (squared[smaller].sqrt(), squared[1 - smaller].sqrt());
            large / (small + large)
        });
        Some(Self {
            share: sizes[smaller] as f64 / members.len() as f64,
            silhouette: silhouette(points, clusters),
            belonging: belonging.collect(),
            in_smaller: clusters.assignment.iter().map(|&cluster| cluster == smaller).collect(),
            members,
        })
    }

    fn cluster(&self, smaller: bool) -> Vec<usize> {
        let members = self.members.iter().zip(&self.in_smaller);
        members.filter(|&(_, &in_smaller)| in_smaller == smaller).map(|(&index, _)| index).collect()
    }

    fn score(&self, at: usize) -> f64 {
        (1.0 - self.share) * self.silhouette.max(0.0) * self.belonging[at]
    }
}

impl ActivationClustering {
    fn split(&self, context: &VetContext, class: usize) -> Result<Option<Split>, DefenseError> {
        let members = context.data.of_class(class as u16);
        if members.len() < 2 {
            return Ok(None);
        }
        let points = principal_coordinates(context.features, &members, self.dimensions)?; // [dimensions, members]
        let mut stream = context.seeds.stream(&format!("activation-clustering/class-{class}"));
        let clusters = two_means(&points, self.restarts, &mut stream);
        Ok(Split::new(members, &points, &clusters))
    }

    /// Whether the smaller cluster of `class` is poison.
    fn is_poisoned(&self, split: &Split, class: usize, features: &Matrix, medians: &[Option<Vec<f64>>]) -> bool {
        match self.rule.as_str() {
            "size" => split.share < self.size,
            "silhouette" => split.share < self.size && split.silhouette > self.silhouette,
            _ => {
                let (smaller, larger) =
                    (median(features, &split.cluster(true)), median(features, &split.cluster(false)));
                let nearer = |cluster: &Option<Vec<f64>>, other: &Option<Vec<f64>>| {
                    squared_distance(cluster, other) < squared_distance(cluster, &medians[class])
                };
                let others = medians.iter().enumerate().filter(|&(other, median)| other != class && median.is_some());
                others.into_iter().any(|(_, other)| nearer(&smaller, other) && !nearer(&larger, other))
            }
        }
    }
}

/// The median of each column over `members`; `None` without members.
fn median(features: &Matrix, members: &[usize]) -> Option<Vec<f64>> {
    let middle = |column: usize| {
        let mut values: Vec<f64> = members.iter().map(|&index| f64::from(features.row(index)[column])).collect();
        values.sort_by(f64::total_cmp);
        f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
    };
    (!members.is_empty()).then(|| (0..features.columns()).map(middle).collect())
}

fn squared_distance(a: &Option<Vec<f64>>, b: &Option<Vec<f64>>) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b) * (a - b)).sum()
}

impl Defense for ActivationClustering {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        check_features(context)?;
        let classes = context.data.classes().len();
        let splits: Result<Vec<_>, _> = (0..classes).into_par_iter().map(|class| self.split(context, class)).collect();
        let medians: Vec<_> = match self.rule.as_str() {
            "distance" => {
                (0..classes).map(|class| median(context.features, &context.data.of_class(class as u16))).collect()
            }
            _ => Vec::new(),
        };

        let mut scores = vec![0.0; context.data.len()];
        let mut removed = Vec::new();
        for (class, split) in splits?.into_iter().enumerate() {
            let Some(split) = split else { continue };
            for (at, &index) in split.members.iter().enumerate() {
                scores[index] = split.score(at);
            }
            if self.is_poisoned(&split, class, context.features, &medians) {
                removed.extend(split.cluster(true));
            }
        }
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "activation-clustering",
        &[Hook::Vet],
        "Splits the activations of each class in two and removes the smaller cluster where it looks foreign.",
        &[Paper {
            cite: "Chen et al. 2018",
            title: "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering",
            link: "https://arxiv.org/abs/1811.03728",
        }],
        ActivationClustering::PARAMS,
    )
    .verified(&[
        theriac_core::Verified {
            against: "scikit-learn 1.9.1 PCA, KMeans, silhouette_score, 308 samples (scripts/verify/vetting.py)",
            agreement: "the same clusters in three classes, silhouettes to 1e-9",
        },
        theriac_core::Verified {
            against: "ART 1.20.1, its three rules",
            agreement: "the same samples removed; `distance` on unreduced activations",
        },
    ]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(ActivationClustering::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Golden};

    fn with_rule(rule: &str) -> ActivationClustering {
        ActivationClustering { rule: rule.to_owned(), ..ActivationClustering::default() }
    }

    #[test]
    fn a_planted_cluster_is_found() {
        Case::backdoor(1, 300, 60).is_found_by(&with_rule("silhouette"), 0.95);
        Case::backdoor(1, 300, 60).is_found_by(&with_rule("size"), 0.95);
        // Mislabelled samples form a cluster that is nearer to another class; the planted trigger's is not.
        let case = Case::planted(1, 300, &[(0, 1, 0.0); 60]);
        case.is_found_by(&with_rule("distance"), 0.95);
        let backdoor = Case::backdoor(1, 300, 60);
        assert!(backdoor.recall(&with_rule("distance").vet(&backdoor.context()).unwrap()) < 0.05);
    }

    #[test]
    fn clean_classes_are_spared() {
        let case = Case::clean(2, 200);
        for rule in ["silhouette", "size", "distance"] {
            let verdict = case.is_deterministic(&with_rule(rule));
            assert!(verdict.changes.edits.is_empty(), "{rule}: {}", verdict.changes.edits.len());
        }
    }

    #[test]
    fn a_class_that_is_half_poison_is_not_recognised() {
        let case = Case::backdoor(1, 300, 300);
        assert_eq!(case.recall(&with_rule("silhouette").vet(&case.context()).unwrap()), 0.0);
    }

    #[test]
    fn degenerate_data_are_harmless() {
        for rule in ["silhouette", "size", "distance"] {
            Case::degenerate_data_are_harmless(&with_rule(rule));
        }
    }

    #[test]
    fn unknown_rules_are_refused() {
        let values = [("rule".to_owned(), "sise".into())].into();
        let errors = check(&values, &Case::clean(1, 2).facts()).err().unwrap();
        assert!(errors[0].message.contains("did you mean \"size\"?"), "{}", errors[0]);
    }

    #[test]
    fn clusters_and_decisions_agree_with_scikit_learn() {
        let golden = Golden::load();
        let table = Golden::table(include_str!("../tests/golden/activation_clustering.csv"));
        for class in 0..3 {
            let split = with_rule("size").split(&golden.context(), class).unwrap().unwrap();
            for (&index, &in_smaller) in split.members.iter().zip(&split.in_smaller) {
                assert_eq!(f64::from(u8::from(in_smaller)), table[index][0], "sample {index}");
                assert!((split.silhouette - table[index][1]).abs() < 1e-9, "class {class}");
            }
        }
        for (rule, column) in [("size", 2), ("silhouette", 3), ("distance", 4)] {
            let removed: Vec<usize> = (0..table.len()).filter(|&index| table[index][column] == 1.0).collect();
            assert_eq!(golden.removed(&with_rule(rule).vet(&golden.context()).unwrap()), removed, "{rule}");
        }
    }
}
