//! Confident learning: Curtis G. Northcutt, Lu Jiang, Isaac L. Chuang, "Confident Learning: Estimating Uncertainty in
//! Dataset Labels", Journal of Artificial Intelligence Research 70, 2021, <https://arxiv.org/abs/1911.00068>.
//!
//! # Assumptions
//!
//! The defender has the training set, and may train `folds` networks on parts of it. Labels are wrong at a rate that
//! depends on the classes only (label flips do so), and a network that has not seen a sample ranks its true class high.
//! Poison that most of a fold agrees on passes: a network that was trained on other samples with the same trigger
//! expects the attacker's label. Clean-label poison has no wrong label to find.
//!
//! # Rule
//!
//! With given labels y and probabilities p(i, j) of networks that were not trained on sample i:
//!
//! ```text
//! t(j)    = mean of p(i, j) over the samples i with y(i) = j
//! guess(i) = the j with p(i, j) >= t(j); if there are several, the one with the largest p(i, j)
//! C(a, b) = number of samples with y = a and guess = b; at least 1 where a = b
//! Q(a, b) = C(a, b) / sum_c C(a, c) * number of samples with y = a
//! ```
//!
//! A sample counts as mislabelled
//!
//! ```text
//! prune-by-noise-rate     if it is among the Q(a, b) samples of its class a with the largest p(i, b) - p(i, a), for any b
//! prune-by-class          if it is among the sum_b Q(a, b) samples of its class a with the smallest p(i, a), b not a
//! both                    if both rules say so
//! confident-learning      if guess(i) is another class than y(i)
//! predicted-neq-given     if argmax_j p(i, j) is another class than y(i)
//! low-normalized-margin   if it is among the m samples with the smallest p(i, y) - max_{j not y} p(i, j)
//! low-self-confidence     if it is among the m samples with the smallest p(i, y)
//! ```
//!
//! with m the number that `confident-learning` finds. The mislabelled are dropped, or relabelled to argmax_j p(i, j).
//!
//! # Scores
//!
//! One minus the quality of a label, which is the self-confidence p(i, y), or the normalised margin
//! (p(i, y) - max_{j not y} p(i, j) + 1) / 2, or ln(1 + r) / r with r the entropy of p(i, .) in units of ln(classes) by
//! p(i, y), where entropy counts more the less the label is believed.
//!
//! # Where this differs from the paper
//!
//! - These are conventions of the authors' library, cleanlab, so that both find the same: probabilities that lie less than
//!   1e-6 below a threshold reach it; among several confident classes the guess is the most likely class of all, confident
//!   or not; no rule but the last two takes a sample whose label comes within 1e-6 of the largest probability; a class of
//!   one sample is left alone; the last two rules, and the number that they take, are the library's.
//! - Q is rounded to whole samples so that each class keeps its number, by largest remainders, computed in whole numbers;
//!   the later class on ties. Ties among samples go to the earlier one. cleanlab leaves both to an unstable sort.
//! - Where a network is sure of the given label, r is 0 and the quality 1; where it thinks the label impossible, r is
//!   infinite and the quality 0. These are the limits of the formula. cleanlab gives 0 to labels that are beyond doubt.
//! - Networks of the victim's architecture are trained by its recipe, each on all folds but one, and every fold has its
//!   share of every class. With `folds = 0` the victim's own probabilities are taken. Those have seen the labels that they
//!   judge, and the paper advises against it.
//!
//! # Verified against
//!
//! `scripts/verify/confident_learning.py`, seven settings of 90 to 240 samples and 4 classes (classes without samples, with
//! one and with three; every sample three times; probabilities of 0 and 1; a class that nobody believes in): cleanlab 2.9.0
//! gives the same calibrated joint, but for two of 28 rows whose remainders tie, the same mislabelled samples by each of
//! the seven rules, and the same scores to 1e-6.

use theriac_core::{Dataset, Facts, Hook, Label, Matrix, MethodInfo, Paper, ParamError, Range, Values, config};

use crate::cross_validation::cross_validated;
use crate::vetting::drop_or_relabel;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

/// Two probabilities that are nearer than this are equal.
const TOLERANCE: f64 = 1e-6;

config! {
    /// Confident learning.
    pub struct ConfidentLearning {
        /// Parts of the cross-validation: each is judged by a network that was trained on the others. 0 takes the victim's
        /// own probabilities, of the samples it was trained on.
        folds: usize = 5, Range::Whole(0, 1000), "folds";
        /// Which samples count as mislabelled.
        rule: String = "prune-by-noise-rate", Range::Choice(&[
            "prune-by-noise-rate", "prune-by-class", "both", "confident-learning", "predicted-neq-given",
            "low-normalized-margin", "low-self-confidence",
        ]), "";
        /// What the scores are made of; the rules do not depend on it.
        score: String = "self-confidence", Range::Choice(&[
            "self-confidence", "normalized-margin", "confidence-weighted-entropy",
        ]), "";
        /// What happens to a mislabelled sample.
        action: String = "drop", Range::Choice(&["drop", "relabel"]), "";
    }
}

impl ConfidentLearning {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        let message = match self.folds {
            1 => "a single fold leaves nothing to train on; 0 takes the victim's own probabilities".to_owned(),
            folds if folds > facts.train => format!("there are only {} training samples", facts.train),
            _ => return Ok(self),
        };
        Err(vec![ParamError::new("folds", message)])
    }

    /// Which of the labels count as wrong, given one row of probabilities for each.
    pub fn mislabelled(&self, labels: &[Label], probabilities: &Matrix) -> Vec<bool> {
        let beliefs = Beliefs { labels, probabilities };
        let flags = match self.rule.as_str() {
            "prune-by-noise-rate" => beliefs.by_noise_rate(&beliefs.calibrated_joint()),
            "prune-by-class" => beliefs.by_class(&beliefs.calibrated_joint()),
            "both" => {
                let joint = beliefs.calibrated_joint();
                and(beliefs.by_class(&joint), &beliefs.by_noise_rate(&joint))
            }
            "confident-learning" => beliefs.guessed_otherwise(),
            "predicted-neq-given" => vec![true; labels.len()],
            "low-normalized-margin" => return beliefs.lowest(Beliefs::margin),
            _ => return beliefs.lowest(Beliefs::own),
        };
        and(flags, &beliefs.predicted_otherwise())
    }

    /// How doubtful each label is, from 0 to 1.
    pub fn doubts(&self, labels: &[Label], probabilities: &Matrix) -> Vec<f64> {
        let beliefs = Beliefs { labels, probabilities };
        let quality = |index| match self.score.as_str() {
            "self-confidence" => beliefs.own(index),
            "normalized-margin" => (beliefs.margin(index) + 1.0) / 2.0,
            _ => beliefs.weighted_entropy(index),
        };
        (0..labels.len()).map(|index| 1.0 - quality(index)).collect()
    }
}

/// Given labels, and what is believed of them.
struct Beliefs<'a> {
    labels: &'a [Label],
    probabilities: &'a Matrix,
}

impl Beliefs<'_> {
    fn p(&self, index: usize, class: usize) -> f64 {
        f64::from(self.probabilities.row(index)[class])
    }

    /// The probability of the given label.
    fn own(&self, index: usize) -> f64 {
        self.p(index, usize::from(self.labels[index]))
    }

    /// By how much the given label is ahead of the others.
    fn margin(&self, index: usize) -> f64 {
        let (row, own) = (self.probabilities.row(index), usize::from(self.labels[index]));
        let largest = row[..own].iter().chain(&row[own + 1..]).copied().fold(0.0, f32::max);
        f64::from(row[own]) - f64::from(largest)
    }

    /// The quality of a label by the entropy of what is believed; see the head of this file.
    fn weighted_entropy(&self, index: usize) -> f64 {
        let row = self.probabilities.row(index);
        let nats = |&p: &f32| if p > 0.0 { -f64::from(p) * f64::from(p).ln() } else { 0.0 };
        let entropy = row.iter().map(nats).sum::<f64>() / (row.len().max(2) as f64).ln();
        let own = self.own(index);
        let ratio = entropy / own;
        if own == 0.0 {
            0.0
        } else if ratio > 0.0 {
            ratio.ln_1p() / ratio
        } else {
            1.0
        }
    }

    /// The samples of each class.
    fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.probabilities.columns()];
        self.labels.iter().enumerate().for_each(|(index, &label)| members[usize::from(label)].push(index));
        members
    }

    /// t(j) of each class, less the tolerance; no probability reaches that of a class without samples.
    fn thresholds(&self) -> Vec<f64> {
        let (mut sums, mut counts) = (vec![0.0; self.probabilities.columns()], vec![0.0; self.probabilities.columns()]);
        for (index, &label) in self.labels.iter().enumerate() {
            sums[usize::from(label)] += self.own(index);
            counts[usize::from(label)] += 1.0;
        }
        // A class that nobody believes in must not be within reach of every sample.
        let threshold = |(sum, count): (f64, f64)| (sum / count).max(2.0 * TOLERANCE) - TOLERANCE;
        let of_class = |class: (f64, f64)| if class.1 > 0.0 { threshold(class) } else { f64::INFINITY };
        sums.into_iter().zip(counts).map(of_class).collect()
    }

    /// The guess of each sample, where there is one.
    fn guesses(&self) -> Vec<Option<usize>> {
        let thresholds = self.thresholds();
        let guess = |row: &[f32]| {
            let mut confident = (0..row.len()).filter(|&class| f64::from(row[class]) >= thresholds[class]);
            let only = confident.next()?;
            Some(if confident.next().is_some() { argmax(row) } else { only })
        };
        self.probabilities.iter().map(guess).collect()
    }

    /// Whether the guess is another class than the label.
    fn guessed_otherwise(&self) -> Vec<bool> {
        let differs = |(guess, &label): (Option<usize>, &Label)| guess.is_some_and(|guess| guess != usize::from(label));
        self.guesses().into_iter().zip(self.labels).map(differs).collect()
    }

    /// Whether another class is more likely than the label.
    fn predicted_otherwise(&self) -> Vec<bool> {
        let differs = |(index, &label): (usize, &Label)| {
            let (row, own) = (self.probabilities.row(index), usize::from(label));
            let bar = f64::from(row[own]) + TOLERANCE;
            (0..row.len()).any(|class| f64::from(row[class]) > bar || class < own && f64::from(row[class]) == bar)
        };
        self.labels.iter().enumerate().map(differs).collect()
    }

    /// Q: how many samples of each given class (the rows) are of each true class (the columns).
    fn calibrated_joint(&self) -> Vec<Vec<usize>> {
        let (classes, members) = (self.probabilities.columns(), self.members());
        let mut joint = vec![vec![0; classes]; classes];
        for (guess, &label) in self.guesses().into_iter().zip(self.labels) {
            guess.into_iter().for_each(|guess| joint[usize::from(label)][guess] += 1);
        }
        for (class, row) in joint.iter_mut().enumerate() {
            row[class] = row[class].max(1);
            *row = apportion(row, members[class].len());
        }
        joint
    }

    /// As many of the samples of least quality as are guessed to be mislabelled.
    fn lowest(&self, quality: impl Fn(&Self, usize) -> f64) -> Vec<bool> {
        let found = and(self.guessed_otherwise(), &self.predicted_otherwise());
        let count = found.iter().filter(|&&found| found).count();
        let mut flags = vec![false; found.len()];
        let ranked = (0..found.len()).map(|index| (quality(self, index), index)).collect();
        smallest(ranked, count).for_each(|index| flags[index] = true);
        flags
    }

    fn by_class(&self, joint: &[Vec<usize>]) -> Vec<bool> {
        let mut flags = vec![false; self.labels.len()];
        for (class, members) in self.members().iter().enumerate().filter(|(_, members)| members.len() > 1) {
            let wrong = members.len() - joint[class][class].max(1);
            let ranked = members.iter().map(|&index| (self.p(index, class), index)).collect();
            smallest(ranked, wrong).for_each(|index| flags[index] = true);
        }
        flags
    }

    fn by_noise_rate(&self, joint: &[Vec<usize>]) -> Vec<bool> {
        let mut flags = vec![false; self.labels.len()];
        for (given, members) in self.members().iter().enumerate().filter(|(_, members)| members.len() > 1) {
            for (class, &count) in joint[given].iter().enumerate().filter(|&(class, _)| class != given) {
                let lead = |&index: &usize| (self.p(index, given) - self.p(index, class), index);
                smallest(members.iter().map(lead).collect(), count).for_each(|index| flags[index] = true);
            }
        }
        flags
    }
}

/// `total` split in the proportion of `parts`, by largest remainders; the later one on ties.
fn apportion(parts: &[usize], total: usize) -> Vec<usize> {
    let sum: usize = parts.iter().sum();
    let mut shares: Vec<usize> = parts.iter().map(|part| part * total / sum).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((parts[at] * total % sum, at)));
    let rest = total - shares.iter().sum::<usize>();
    order.into_iter().take(rest).for_each(|at| shares[at] += 1);
    shares
}

/// The indices of the `count` smallest values, in no order; the smaller index on ties.
fn smallest(mut ranked: Vec<(f64, usize)>, count: usize) -> impl Iterator<Item = usize> {
    if count < ranked.len() {
        ranked.select_nth_unstable_by(count, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.truncate(count);
    }
    ranked.into_iter().map(|(_, index)| index)
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

fn and(mut left: Vec<bool>, right: &[bool]) -> Vec<bool> {
    left.iter_mut().zip(right).for_each(|(left, right)| *left &= right);
    left
}

/// Refuses probabilities that do not belong to the data, or that a diverged model left behind.
fn check_probabilities(data: &Dataset, probabilities: &Matrix) -> Result<(), DefenseError> {
    let (rows, samples) = (probabilities.rows(), data.len());
    let (columns, classes) = (probabilities.columns(), data.classes().len());
    if rows != samples || samples > 0 && columns != classes {
        let message =
            format!("there are {samples} samples of {classes} classes, but probabilities of {rows} and {columns}");
        return Err(DefenseError::Infeasible(message));
    }
    match probabilities.iter().position(|row| row.iter().any(|p| !p.is_finite())) {
        Some(index) => Err(DefenseError::Infeasible(format!(
            "the probabilities of sample {} are not finite; the model may have diverged",
            data.id(index).0
        ))),
        None => Ok(()),
    }
}

impl Defense for ConfidentLearning {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let (data, labels) = (context.data, context.data.labels());
        let probabilities = match self.folds {
            0 => context.probabilities.clone(),
            _ => cross_validated(context, self.folds)?,
        };
        check_probabilities(data, &probabilities)?;
        let flags = self.mislabelled(&labels, &probabilities);
        let likeliest = probabilities.argmax();
        let found = (0..data.len()).filter(|&index| flags[index]).map(|index| (index, likeliest[index]));
        let scores = self.doubts(&labels, &probabilities);
        Ok(drop_or_relabel(ENTRY.info.name, context, scores, &self.action, found))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "confident-learning",
        &[Hook::Vet],
        "Drops or relabels the samples whose label cross-validated networks hold for wrong.",
        &[Paper {
            cite: "Northcutt et al. 2021",
            title: "Confident Learning: Estimating Uncertainty in Dataset Labels",
            link: "https://arxiv.org/abs/1911.00068",
        }],
        ConfidentLearning::PARAMS,
    )
    .verified(&[theriac_core::Verified {
        against: "cleanlab 2.9.0, seven settings of 90 to 240 samples (scripts/verify/confident_learning.py)",
        agreement: "the same samples by all seven rules, the same joints but for ties of rounding, scores to 1e-6",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(ConfidentLearning::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests;
