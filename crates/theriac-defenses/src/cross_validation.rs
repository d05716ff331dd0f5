//! What networks think of samples that they were not trained on.

use theriac_core::{Dataset, Label, Matrix, Session, seed::Stream};
use theriac_train::{Recipe, TrainError, TrainingSet, in_turn, train};

use crate::{DefenseError, VetContext};

/// The class probabilities of each sample, by a network that was trained without it: one of the victim's architecture,
/// trained by its recipe on all but one of `count` parts of the data.
pub(crate) fn cross_validated(context: &VetContext, count: usize) -> Result<Matrix, DefenseError> {
    let (data, classes) = (context.data, context.data.classes().len());
    let folds = folds(data, count, &mut context.seeds.stream("folds"));
    let recipe = Recipe::from(context.recipe.unmeasured());
    let judge = |at: usize, session: &dyn Session| -> Result<Vec<f32>, TrainError> {
        let held_out = &folds[at];
        let others: Vec<usize> = (0..data.len()).filter(|index| held_out.binary_search(index).is_err()).collect();
        let (seen, unseen) = (data.select(&others), data.select(held_out));
        let seeds = context.seeds.child(&format!("fold/{at}"));
        let set = TrainingSet { train: &seen, test: &unseen, probe: None };
        let network = train(context.victim.reinitialised(&seeds), set, &recipe, &seeds, session)?.network;
        Ok(network.logits(&unseen).softmax().values().to_vec())
    };
    let place = |all: &mut Vec<f32>, at: usize, judged: Vec<f32>| {
        for (&index, row) in folds[at].iter().zip(judged.chunks_exact(classes)) {
            all[index * classes..][..classes].copy_from_slice(row);
        }
    };
    let blank = vec![0.0; data.len() * classes];
    Ok(Matrix::new(classes, in_turn(context.session, context.seeds, folds.len(), blank, judge, place)?))
}

/// Deals the samples of each class to the folds in turn. The indices of a fold ascend, and no fold is empty.
fn folds(data: &Dataset, count: usize, stream: &mut Stream) -> Vec<Vec<usize>> {
    let mut folds = vec![Vec::new(); count];
    let shuffled = (0..data.classes().len()).flat_map(|class| {
        let mut members = data.of_class(class as Label);
        stream.shuffle(&mut members);
        members
    });
    shuffled.enumerate().for_each(|(at, index)| folds[at % count].push(index));
    folds.retain(|fold| !fold.is_empty());
    folds.iter_mut().for_each(|fold| fold.sort_unstable());
    folds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stripes;
    use theriac_core::Seeds;

    #[test]
    fn every_sample_is_in_one_fold_and_every_fold_has_its_share_of_each_class() {
        let data = stripes(300, 1);
        let parts = folds(&data, 7, &mut Seeds::new(2).stream("folds"));
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
        for class in 0..3 {
            let counts = parts.iter().map(|part| part.iter().filter(|&&index| data.label(index) == class).count());
            assert!(counts.clone().max().unwrap() - counts.min().unwrap() <= 1);
        }
        assert!(parts.iter().all(|part| part.is_sorted() && (42..=43).contains(&part.len())));
        assert_eq!(folds(&data.select(&[4, 9]), 5, &mut Seeds::new(2).stream("folds")).len(), 2);
    }
}
