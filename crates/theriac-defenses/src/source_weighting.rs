//! Weighs data sources by how far what they say is from what trusted samples say.
//!
//! Nikola Konstantinov, Christoph Lampert: "Robust Learning from Untrusted Sources", ICML 2019,
//! <https://proceedings.mlr.press/v97/konstantinov19a.html>.
//!
//! # Assumptions
//! The defender knows which sample came from which source, and has a few trusted samples. Which sources are hostile, how many
//! they are and what they did is unknown; all of them may be.
//!
//! # Rule
//! ```text
//! T      = `trusted` samples,  S_s = the m_s samples of source s,  err_A(h) = the share of A that h misreads
//! h_s    = a network trained on S_s alone
//! d_s    = max_{j not s} |err_(S_s)(h_j) - err_T(h_j)|                      `measure = "discrepancy"`
//! d_s    = max(0, err_T(trained on all) - err_T(trained on all but S_s))    `measure = "leave-one-out"`
//! alpha  = argmin over the simplex of  sum_s alpha_s d_s + lambda sqrt(sum_s alpha_s^2 / m_s)
//! keep min(1, alpha_s / m_s / max_j (alpha_j / m_j)) of the samples of s, drawn at random
//! ```
//! The minimum is `alpha_s` proportional to `m_s max(0, nu - d_s)`, where `nu` solves `sum_s m_s max(0, nu - d_s)^2 = lambda^2`.
//! A source whose discrepancy is beyond `nu` is dropped.
//!
//! # Where this differs from the paper
//! - The paper's discrepancy is a supremum over all hypotheses, which for two classes is found by learning from S_s with turned
//!   labels beside T. Here the maximum is over the networks of the other sources, so it holds for any number of classes and is a
//!   lower bound. A network is not asked about its own source, whose noise it may have learnt by heart.
//! - The paper weighs losses; here a weight is the part of the source's samples that is kept, so that the answer is a change set
//!   like that of any filter. The score of a sample is the discrepancy of its source.
//! - The paper chooses lambda by cross-validation; here it is a parameter. At lambda = 0 only the sources with the smallest
//!   discrepancy are kept, for large lambda all are.
//! - `leave-one-out` is not in the paper: it asks what a source does to the model, where `discrepancy` asks what it says.
//!
//! # Verified against
//! `scripts/verify/sources.py`: alpha of 40 random problems with 2 to 12 sources is what scipy's SLSQP finds for the paper's
//! objective, to 2e-4. The tests below: a hand-computed case; hostile sources are dropped in a toy, clean ones are kept.
//!
//! # Cost
//! One training on each source alone, together about one training on all data; for `leave-one-out` one training on nearly all data for
//! each source, and one more.
//!
//! # When it fails
//! `leave-one-out` sees nothing of a backdoor: no trusted sample shows the trigger. `discrepancy` sees one, if labels are wrong: networks
//! of other sources misread the poisoned samples. Poison with right labels is invisible to both. Trusted samples that are too few make
//! d_s noisy, and honest sources lose samples.

use theriac_core::{
    Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, Session, SourceId, Values, Verified, config,
};
use theriac_nn::Network;
use theriac_train::{Recipe, TrainError, TrainingSet, in_turn, train};

use crate::repairing::{share_correct, trusted};
use crate::source_diversity::one_source;
use crate::vetting::removal;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Weights of sources.
    pub struct SourceWeighting {
        /// What is compared: what a source says with what trusted samples say, or the model with and without the source.
        measure: String = "discrepancy", Range::Choice(&["discrepancy", "leave-one-out"]), "";
        /// What keeps weights near each other; the paper's lambda. In units of 1 / sqrt(samples) of error.
        lambda: f64 = 5.0, Range::Number(0.0, 1e6), "";
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
    }
}

/// alpha: the weights that minimise the paper's objective for discrepancies `d` of sources with `m` samples.
fn weights(d: &[f64], m: &[f64], lambda: f64) -> Vec<f64> {
    let lambda = lambda.max(1e-6);
    let spread = |nu: f64| d.iter().zip(m).map(|(d, m)| m * (nu - d).max(0.0).powi(2)).sum::<f64>();
    let least = d.iter().copied().fold(f64::INFINITY, f64::min);
    // At the upper end the term of the best source alone is large enough.
    let (mut low, mut high) = (least, least + lambda * m.iter().map(|m| m.recip().sqrt()).fold(0.0, f64::max));
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if spread(middle) < lambda.powi(2) { low = middle } else { high = middle }
    }
    let open: Vec<f64> = d.iter().zip(m).map(|(d, m)| m * (high - d).max(0.0)).collect();
    let sum: f64 = open.iter().sum();
    open.into_iter().map(|weight| weight / sum).collect()
}

impl SourceWeighting {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        if facts.sources > 1 { Ok(self) } else { Err(vec![one_source("measure")]) }
    }

    /// d, of the samples in `parts`.
    fn distances(&self, context: &VetContext, parts: &[Vec<usize>], known: &Dataset) -> Result<Vec<f64>, TrainError> {
        let data = context.data;
        let alone = self.measure == "discrepancy";
        // Alone, each source; else all data, then all but one source.
        let seen = |at: usize| -> Dataset {
            match (alone, at) {
                (true, at) => data.select(&parts[at]),
                (false, 0) => data.clone(),
                (false, at) => {
                    let without = |index: &usize| parts[at - 1].binary_search(index).is_err();
                    data.select(&(0..data.len()).filter(without).collect::<Vec<_>>())
                }
            }
        };
        // Errors on the trusted samples, and, of networks of one source, on the samples of each.
        let asked: Vec<Dataset> = match alone {
            true => std::iter::once(known.clone()).chain(parts.iter().map(|part| data.select(part))).collect(),
            false => vec![known.clone()],
        };
        let count = if alone { parts.len() } else { parts.len() + 1 };
        let judge = |at: usize, session: &dyn Session| -> Result<Vec<f64>, TrainError> {
            let network = learn(&seen(at), context, session)?;
            Ok(asked.iter().map(|asked| 1.0 - share_correct(&network, asked)).collect())
        };
        let take = |all: &mut Vec<Vec<f64>>, _, errors: Vec<f64>| all.push(errors);
        let errors = in_turn(context.session, context.seeds, count, Vec::new(), judge, take)?;
        Ok(match alone {
            true => discrepancies(&errors),
            false => errors[1..].iter().map(|without| (errors[0][0] - without[0]).max(0.0)).collect(),
        })
    }
}

/// d, from the errors of each source's network on the trusted samples and then on those of each source.
fn discrepancies(errors: &[Vec<f64>]) -> Vec<f64> {
    let far = |source: usize, judge: usize| (errors[judge][source + 1] - errors[judge][0]).abs();
    let others = |source: usize| (0..errors.len()).filter(move |&judge| judge != source);
    (0..errors.len()).map(|source| others(source).map(|judge| far(source, judge)).fold(0.0, f64::max)).collect()
}

/// A network that was trained on `data`. All begin with the same weights, so that they differ by their data.
fn learn(data: &Dataset, context: &VetContext, session: &dyn Session) -> Result<Network, TrainError> {
    let seeds = context.seeds.child("source");
    let untrained = context.victim.reinitialised(&seeds);
    let set = TrainingSet { train: data, test: data, probe: None };
    match train(untrained.clone(), set, &Recipe::from(context.recipe.unmeasured()), &seeds, session) {
        Ok(trained) => Ok(trained.network),
        Err(error) if error.is_divergence() || error == TrainError::Empty => Ok(untrained),
        Err(error) => Err(error),
    }
}

impl Defense for SourceWeighting {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let data = context.data;
        let sources: Vec<SourceId> = data.sources();
        if sources.len() < 2 {
            let message = format!("the data come from {} source, and weighing takes two", sources.len());
            return Err(DefenseError::Infeasible(message));
        }
        let parts: Vec<Vec<usize>> = sources.iter().map(|&source| data.of_source(source)).collect();
        let known = trusted(context.trusted, context.seeds, self.trusted);
        let distances = self.distances(context, &parts, &known)?;
        let sizes: Vec<f64> = parts.iter().map(|part| part.len() as f64).collect();
        let alpha = weights(&distances, &sizes, self.lambda);
        let density: Vec<f64> = alpha.iter().zip(&sizes).map(|(alpha, size)| alpha / size).collect();
        let densest = density.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let (mut scores, mut removed) = (vec![0.0; data.len()], Vec::new());
        for (at, part) in parts.iter().enumerate() {
            part.iter().for_each(|&index| scores[index] = distances[at]);
            let dropped = part.len() - (density[at] / densest * part.len() as f64).round() as usize;
            removed.extend(context.seeds.stream(&format!("drop/{at}")).choose(part, dropped));
        }
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "source-weighting",
        &[Hook::Vet],
        "Weighs data sources by how far what they say is from what trusted samples say.",
        &[Paper {
            cite: "Konstantinov & Lampert 2019",
            title: "Robust Learning from Untrusted Sources",
            link: "https://proceedings.mlr.press/v97/konstantinov19a.html",
        }],
        SourceWeighting::PARAMS,
    )
    .verified(&[Verified {
        against: "scipy 1.17.1, SLSQP on the paper's objective, 40 problems of 2 to 12 sources (scripts/verify/sources.py)",
        agreement: "weights to 2e-4",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(SourceWeighting::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests;
