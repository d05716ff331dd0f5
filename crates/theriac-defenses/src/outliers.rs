//! Outliers: samples that lie apart from those they should resemble, or too near to one that they should not.
//!
//! Five scores of the literature on anomalies, in the space of pixels or of features:
//!
//! - `knn`: Sridhar Ramaswamy, Rajeev Rastogi, Kyuseok Shim, "Efficient Algorithms for Mining Outliers from Large Data
//!   Sets", SIGMOD 2000, <https://doi.org/10.1145/342009.335437>
//! - `lof`: Markus M. Breunig, Hans-Peter Kriegel, Raymond T. Ng, Joerg Sander, "LOF: Identifying Density-Based Local
//!   Outliers", SIGMOD 2000, <https://doi.org/10.1145/342009.335388>
//! - `centroid`: Jacob Steinhardt, Pang Wei Koh, Percy Liang, "Certified Defenses for Data Poisoning Attacks", NeurIPS
//!   2017, <https://arxiv.org/abs/1706.03691>, its sphere defense
//! - `mahalanobis`: Kimin Lee, Kibok Lee, Honglak Lee, Jinwoo Shin, "A Simple Unified Framework for Detecting
//!   Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, <https://arxiv.org/abs/1807.03888>
//! - `duplicates`: Bjoern Barz, Joachim Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", Journal
//!   of Imaging 2020, <https://arxiv.org/abs/1902.00423>
//!
//! Andrea Paudice, Luis Munoz-Gonzalez, Andras Gyorgy, Emil C. Lupu, "Detection of Adversarial Training Examples in
//! Poisoning Attacks through Anomaly Detection", 2018, <https://arxiv.org/abs/1802.03041>, vet data for poison by such
//! distances, class by class.
//!
//! # Assumptions
//!
//! The defender has the training set, and for `space = "features"` a model trained on it; nothing is known of the
//! attack. Poison lies apart from clean samples of its label (wrong labels, images of no class, large perturbations),
//! or is a copy of another sample. Poison that is dense, as a backdoor with one trigger in feature space, is no outlier to `knn` and
//! `lof` once a neighbourhood of k samples is poison; small perturbations are none to any score in pixel space.
//!
//! # Rule
//!
//! ```text
//! d = Euclidean distance; N(i) = the k nearest others of i, among the samples with its label or among all (`within`)
//! knn:          s(i) = largest d(i, j) of j in N(i)
//! lof:          s(i) = mean of r(j) over j in N(i), divided by r(i)
//!               1 / r(i) = mean of max(d(i, j), knn score of j) over j in N(i)
//! centroid:     s(i) = d(x_i, mean of the samples with its label)
//! mahalanobis:  s(i) = sqrt(e^T C^-1 e), e = x_i - mean of the samples with its label, C = covariance of all e
//! remove, of each class (of all data), the round(share * n) samples with the largest s
//!
//! duplicates:   j is a twin of i if j is in N(i), among all, and d(i, j) <= near * median of the distances to the nearest other
//! remove i if it has a twin with another label, or an earlier twin with its own
//! ```
//!
//! # Scores
//!
//! The score is the rank of s, the share of the class (of all data) with a smaller one, ties counting half: values of
//! two classes cannot be compared, and a threshold on ranks is the rule for another `share`. For `duplicates` it is
//! m / (m + d), with d the distance to the nearest other and m the median of these distances.
//!
//! # Where this differs from the papers
//!
//! - The papers set thresholds on s, on clean data that a defender of this threat model does not have, or rank all
//!   data. Here a share is removed: clean classes lose as much as poisoned ones.
//! - The paper of `mahalanobis` inverts the covariance as it is. Features that are constant make that impossible, so it
//!   is shrunk towards a multiple of the identity by the formula of Ledoit and Wolf (2004).
//! - `lof` adds 1e-10 to the mean before it is inverted, as scikit-learn does, so that k copies of one sample have a density.
//! - Barz and Denzler let people judge the pairs that features suggest. Here the distance decides, and of two copies with
//!   different labels both go, since nobody tells which of them is right. Of a group with more than k copies some may stay.
//! - Fewer than k others in a class are all neighbours.
//!
//! # Cost
//!
//! `knn`, `lof` and `duplicates` compare each sample with each other one. `mahalanobis` in pixel space keeps all images in double
//! precision and inverts a matrix with one row a pixel value: some minutes for 3 x 32 x 32.
//!
//! # Verified against
//!
//! `scripts/verify/outliers.py`, 308 samples with planted poison: `knn` and `lof`, within classes and among all, agree with
//! NearestNeighbors and LocalOutlierFactor of scikit-learn 1.9.1 to a relative 1e-9, so do `mahalanobis` with its LedoitWolf and
//! `centroid` with numpy 2.1.3. With 24 copies added, the scores of `duplicates` agree to 1e-9, and the same 10 samples go.

use std::borrow::Cow;

use nalgebra::DMatrix;
use theriac_core::{
    Dataset, Facts, Hook, Label, Matrix, MethodInfo, Paper, ParamError, Range, Values, Verified, config,
};

use crate::linear_algebra::{deviations, shrunk_precision};
use crate::neighbours::{Neighbour, map_neighbours};
use crate::vetting::{check_features, most_suspicious, rank_shares, removal};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

/// Added to mean distances before they are inverted, in the units of the space.
const TINY: f64 = 1e-10;

config! {
    /// Outliers.
    pub struct Outliers {
        /// How suspicion is measured.
        score: String = "knn", Range::Choice(&["knn", "lof", "centroid", "mahalanobis", "duplicates"]), "";
        /// What is compared: penultimate-layer features of the victim, or pixel values from 0 to 1.
        space: String = "features", Range::Choice(&["features", "pixels"]), "";
        /// `knn` and `lof`: among whom a sample has to fit in, those with its label or all.
        within: String = "class", Range::Choice(&["class", "data"]), "";
        /// `knn`, `lof` and `duplicates`: number of neighbours.
        k: usize = 20, Range::Whole(1, 1_000_000), "samples";
        /// All but `duplicates`: how many samples are removed.
        share: f64 = 0.1, Range::Above(0.0, 0.9), "of each class, or of all data";
        /// `duplicates`: two samples are twins up to this distance.
        near: f64 = 0.2, Range::Number(0.0, 1.0), "of the median distance to the nearest sample";
    }
}

impl Outliers {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        if matches!(self.score.as_str(), "centroid" | "mahalanobis") || self.k < facts.train {
            return Ok(self);
        }
        let message =
            format!("there are {} training samples, so a sample has fewer than {} others", facts.train, self.k);
        Err(vec![ParamError::new("k", message)])
    }

    /// One point a sample.
    fn points<'a>(&self, context: &VetContext<'a>) -> Result<Cow<'a, Matrix>, DefenseError> {
        if self.space == "features" {
            check_features(context)?;
            return Ok(Cow::Borrowed(context.features));
        }
        let data = context.data;
        let pixels = (0..data.len()).flat_map(|index| data.image(index)).map(|&pixel| f32::from(pixel) / 255.0);
        Ok(Cow::Owned(Matrix::new(data.shape().len(), pixels.collect())))
    }

    /// The samples that are compared with each other.
    fn groups(&self, data: &Dataset) -> Vec<Vec<usize>> {
        if self.within == "data" && matches!(self.score.as_str(), "knn" | "lof") {
            return vec![(0..data.len()).collect()];
        }
        (0..data.classes().len()).map(|class| data.of_class(class as Label)).collect()
    }

    /// The s of the rule, group by group.
    fn distances(&self, points: &Matrix, groups: &[Vec<usize>]) -> Result<Vec<Vec<f64>>, DefenseError> {
        let each =
            |score: &dyn Fn(&Matrix) -> Vec<f64>| groups.iter().map(|members| score(&points.select(members))).collect();
        Ok(match self.score.as_str() {
            "knn" => {
                each(&|points| map_neighbours(points, self.k, |_, near| near.last().map_or(0.0, |far| far.distance)))
            }
            "lof" => each(&|points| local_outlier_factors(points, self.k)),
            "centroid" => each(&|points| deviations(points).column_iter().map(|deviation| deviation.norm()).collect()),
            _ => mahalanobis(points, groups)?,
        })
    }
}

/// How much denser the surroundings of the neighbours of each point are than its own; 1 without neighbours.
fn local_outlier_factors(points: &Matrix, k: usize) -> Vec<f64> {
    let near = map_neighbours(points, k, |_, neighbours| neighbours.to_vec());
    let reach: Vec<f64> = near.iter().map(|near| near.last().map_or(0.0, |far| far.distance)).collect();
    let density = |near: &Vec<Neighbour>| {
        let sum: f64 = near.iter().map(|other| other.distance.max(reach[other.index])).sum();
        1.0 / (sum / near.len() as f64 + TINY)
    };
    let densities: Vec<f64> = near.iter().map(density).collect();
    let factor = |(near, own): (&Vec<Neighbour>, &f64)| match near.len() {
        0 => 1.0,
        count => near.iter().map(|other| densities[other.index]).sum::<f64>() / count as f64 / own,
    };
    near.iter().zip(&densities).map(factor).collect()
}

/// Mahalanobis distances from the mean of each group, by one covariance for all.
fn mahalanobis(points: &Matrix, groups: &[Vec<usize>]) -> Result<Vec<Vec<f64>>, DefenseError> {
    let deviations: Vec<DMatrix<f64>> = groups.iter().map(|members| deviations(&points.select(members))).collect();
    let precision = shrunk_precision(&deviations)?;
    let distances = |deviations: &DMatrix<f64>| {
        let weighted = &precision * deviations; // [columns, members]
        let products = weighted.column_iter().zip(deviations.column_iter()).map(|(a, b)| a.dot(&b));
        products.map(|square| square.max(0.0).sqrt()).collect()
    };
    Ok(deviations.iter().map(distances).collect())
}

/// Scores, and the samples to remove: near-duplicates.
fn duplicates(points: &Matrix, labels: &[Label], k: usize, near: f64) -> (Vec<f64>, Vec<usize>) {
    let neighbours = map_neighbours(points, k, |_, neighbours| neighbours.to_vec());
    let nearest: Vec<f64> = neighbours.iter().map(|near| near.first().map_or(0.0, |other| other.distance)).collect();
    let mut sorted = nearest.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let score = |&distance: &f64| if distance > 0.0 { median / (median + distance) } else { 1.0 };
    let goes = |&index: &usize| {
        let mut twins = neighbours[index].iter().take_while(|other| other.distance <= near * median);
        twins.any(|twin| labels[twin.index] != labels[index] || twin.index < index)
    };
    (nearest.iter().map(score).collect(), (0..labels.len()).filter(goes).collect())
}

impl Defense for Outliers {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let points = self.points(context)?;
        if self.score == "duplicates" {
            let (scores, removed) = duplicates(&points, &context.data.labels(), self.k, self.near);
            return Ok(removal(ENTRY.info.name, context, scores, removed));
        }
        let groups = self.groups(context.data);
        let mut scores = vec![0.0; context.data.len()];
        let mut removed = Vec::new();
        for (members, distances) in groups.iter().zip(self.distances(&points, &groups)?) {
            members.iter().zip(rank_shares(&distances)).for_each(|(&index, share)| scores[index] = share);
            let count = (self.share * members.len() as f64).round() as usize;
            removed.extend(most_suspicious(members, &scores, count));
        }
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "outliers",
        &[Hook::Vet],
        "Removes the samples that lie far from those with their label, or nearly coincide with another one.",
        &[
            Paper {
                cite: "Ramaswamy et al. 2000",
                title: "Efficient Algorithms for Mining Outliers from Large Data Sets",
                link: "https://doi.org/10.1145/342009.335437",
            },
            Paper {
                cite: "Breunig et al. 2000",
                title: "LOF: Identifying Density-Based Local Outliers",
                link: "https://doi.org/10.1145/342009.335388",
            },
            Paper {
                cite: "Steinhardt et al. 2017",
                title: "Certified Defenses for Data Poisoning Attacks",
                link: "https://arxiv.org/abs/1706.03691",
            },
            Paper {
                cite: "Lee et al. 2018",
                title: "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
                link: "https://arxiv.org/abs/1807.03888",
            },
            Paper {
                cite: "Paudice et al. 2018",
                title: "Detection of Adversarial Training Examples in Poisoning Attacks through Anomaly Detection",
                link: "https://arxiv.org/abs/1802.03041",
            },
            Paper {
                cite: "Barz & Denzler 2020",
                title: "Do We Train on Test Data? Purging CIFAR of Near-Duplicates",
                link: "https://arxiv.org/abs/1902.00423",
            },
        ],
        Outliers::PARAMS,
    )
    .verified(&[Verified {
        against: "scikit-learn 1.9.1 NearestNeighbors, LocalOutlierFactor, LedoitWolf, and numpy 2.1.3, 308 samples (scripts/verify/outliers.py)",
        agreement: "six scores of all samples to a relative 1e-9; with 24 copies added, the same 10 samples condemned",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(Outliers::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests;
