//! Networks that were trained on separate parts of the data vote, and what follows for those who control some of the parts.

use theriac_core::{Dataset, Label, Session};
use theriac_nn::Network;
use theriac_train::{Recipe, TrainError, TrainingSet, in_turn, train};

use crate::{Certificate, CertifyContext, DefenseError};

/// The samples at `indices`, in an order that depends on their content alone.
pub(crate) fn by_content(data: &Dataset, mut indices: Vec<usize>) -> Dataset {
    indices.sort_by_key(|&index| (data.image(index), data.label(index)));
    data.select(&indices)
}

/// The network of part `at`, a function of the samples in it and of nothing else in the data.
fn learn(
    part: &Dataset,
    at: usize,
    recipe: &Recipe,
    context: &CertifyContext,
    session: &dyn Session,
) -> Result<Network, TrainError> {
    let seeds = context.seeds.child(&format!("partition/{at}"));
    let untrained = context.network.reinitialised(&seeds);
    // Measured on itself: what is asked later must not decide whether a training counts.
    let set = TrainingSet { train: part, test: part, probe: None };
    match train(untrained.clone(), set, recipe, &seeds, session) {
        Ok(trained) => Ok(trained.network),
        Err(error) if error.is_divergence() || error == TrainError::Empty => Ok(untrained),
        Err(error) => Err(error),
    }
}

/// The answer, and how many voters may turn without changing it, from the number of votes for each class.
pub(crate) fn certificate(votes: &[u32]) -> Certificate {
    let class = (0..votes.len()).fold(0, |best, at| if votes[at] > votes[best] { at } else { best });
    let others = (0..votes.len()).filter(|&other| other != class);
    let strongest = others.map(|other| votes[other] + u32::from(other < class)).max().unwrap_or(0);
    Certificate { class: class as Label, radius: ((votes[class] - strongest) / 2) as usize }
}

/// What networks answer of which each was trained on one of `parts`: one certificate an input, data set by data set.
pub(crate) fn vote(
    context: &CertifyContext,
    parts: &[Dataset],
    recipe: &Recipe,
) -> Result<Vec<Vec<Certificate>>, DefenseError> {
    let classes = context.data.classes().len();
    let answer = |at: usize, session: &dyn Session| -> Result<Vec<Label>, TrainError> {
        let network = learn(&parts[at], at, recipe, context, session)?;
        Ok(context.inputs.iter().flat_map(|inputs| network.predict(inputs)).collect())
    };
    let count = |votes: &mut Vec<u32>, _, answers: Vec<Label>| {
        votes.chunks_exact_mut(classes).zip(answers).for_each(|(votes, class)| votes[usize::from(class)] += 1);
    };
    let none = vec![0; classes * context.inputs.iter().map(|inputs| inputs.len()).sum::<usize>()];
    let votes = in_turn(context.session, context.seeds, parts.len(), none, answer, count)?;
    let mut certificates = votes.chunks_exact(classes).map(certificate);
    Ok(context.inputs.iter().map(|inputs| certificates.by_ref().take(inputs.len()).collect()).collect())
}
