use theriac_core::{ChangeSet, Label, Role, Seeds, Shape, SourceId, Stage};

use super::*;
use crate::testing::{Golden, stripes, toy_network};
use crate::voting::certificate;

fn certify_by(dpa: &Dpa, data: &Dataset, inputs: &Dataset, recipe: &TrainConfig) -> Vec<Certificate> {
    let (network, seeds) = (toy_network(data), Seeds::new(1).child("defense"));
    let inputs = [inputs];
    let context = CertifyContext { data, network: &network, recipe, inputs: &inputs, seeds: &seeds, session: &() };
    let mut answers = dpa.certify(&context).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn dpa(partitions: usize) -> Dpa {
    Dpa { partitions, epochs: Some(6), batch: Some(8) }
}

fn edited(data: &Dataset, edit: impl FnOnce(&mut ChangeSet)) -> Dataset {
    let mut changes = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    edit(&mut changes);
    changes.apply(data).unwrap()
}

#[test]
fn ties_go_to_the_smaller_class_and_cost_the_larger_one_a_vote() {
    let of = |votes: &[u32]| {
        let Certificate { class, radius } = certificate(votes);
        (class, radius)
    };
    assert_eq!([of(&[3, 0]), of(&[4, 0]), of(&[0, 3]), of(&[0, 4])], [(0, 1), (0, 2), (1, 1), (1, 1)]);
    assert_eq!([of(&[2, 2]), of(&[2, 3]), of(&[1, 2, 2]), of(&[7])], [(0, 0), (1, 0), (1, 0), (0, 3)]);
}

/// All ways in which `voters` can vote for three classes.
fn tallies(voters: u32) -> Vec<[u32; 3]> {
    (0..=voters).flat_map(|a| (0..=voters - a).map(move |b| [a, b, voters - a - b])).collect()
}

#[test]
fn no_radius_is_too_large_and_none_is_too_small() {
    for voters in [1, 2, 5, 8, 13] {
        let all = tallies(voters);
        for votes in &all {
            let Certificate { class, radius } = certificate(votes);
            // The fewest voters that have to change their mind for another answer.
            let turned = |other: &[u32; 3]| votes.iter().zip(other).map(|(a, b)| a.saturating_sub(*b)).sum::<u32>();
            let fewest = all.iter().filter(|other| certificate(*other).class != class).map(turned).min().unwrap();
            assert_eq!(radius + 1, fewest as usize, "{votes:?}");
        }
    }
}

#[test]
fn answers_and_radii_agree_with_numpy_and_parts_with_another_blake3() {
    for row in Golden::table(include_str!("../../tests/golden/dpa_votes.csv")) {
        let votes: Vec<u32> = row[..4].iter().map(|&votes| votes as u32).collect();
        assert_eq!(certificate(&votes), Certificate { class: row[4] as Label, radius: row[5] as usize }, "{votes:?}");
    }
    for row in Golden::table(include_str!("../../tests/golden/dpa_parts.csv")) {
        let image: Vec<u8> = row[..8].iter().map(|&pixel| pixel as u8).collect();
        assert_eq!((part_of(&image, 7), part_of(&image, 250)), (row[8] as usize, row[9] as usize));
    }
}

#[test]
fn an_edit_touches_one_part_and_the_order_of_the_data_none() {
    let data = stripes(60, 1);
    let content = |part: &Dataset| -> Vec<(Vec<u8>, Label)> {
        (0..part.len()).map(|index| (part.image(index).to_vec(), part.label(index))).collect()
    };
    let contents = |data: &Dataset| partition(data, 7).iter().map(content).collect::<Vec<_>>();
    let plain = contents(&data);
    assert_eq!(plain.iter().map(Vec::len).sum::<usize>(), 60);
    let mut order: Vec<usize> = (0..60).collect();
    Seeds::new(1).stream("order").shuffle(&mut order);
    assert_eq!(contents(&data.select(&order)), plain);
    let differing = |edit: &dyn Fn(&mut ChangeSet)| {
        let other = contents(&edited(&data, edit));
        plain.iter().zip(&other).filter(|(a, b)| a != b).count()
    };
    assert_eq!(differing(&|changes| changes.remove(&data, 5)), 1);
    assert_eq!(differing(&|changes| changes.relabel(&data, 5, 0)), 1, "sample 5 is of class 2");
    assert_eq!(differing(&|changes| changes.insert(&data, 2, SourceId(1), vec![9; 36])), 1);
    assert!(differing(&|changes| changes.replace(&data, 5, vec![9; 36])) <= 2);
}

/// Two pixels of three shades and a label, in every combination: all samples that there are in a small world.
fn small_world() -> Dataset {
    let shades = [0u8, 100, 200];
    let images = shades.iter().flat_map(|&a| shades.map(|b| [a, b]));
    let pixels: Vec<u8> = images.flat_map(|image| [image, image].concat()).collect();
    let labels: Vec<Label> = [0, 1].repeat(9);
    let classes: Vec<String> = ["dark", "bright"].map(str::to_owned).into();
    Dataset::new("small", Shape { channels: 1, height: 1, width: 2 }, classes, pixels, &labels).unwrap()
}

/// What the nearest mean of a class answers to every image of the small world; class 0 where there is none, and on ties.
fn nearest_mean(part: &Dataset, inputs: &Dataset) -> Vec<Label> {
    let mean = |class: Label| {
        let members = part.of_class(class);
        let sum = |at: usize| members.iter().map(|&index| f64::from(part.image(index)[at])).sum::<f64>();
        (!members.is_empty()).then(|| [0, 1].map(|at| sum(at) / members.len() as f64))
    };
    let means = [mean(0), mean(1)];
    let answer = |index: usize| {
        let image = inputs.image(index);
        let far = |mean: &Option<[f64; 2]>| match mean {
            Some(mean) => mean.iter().zip(image).map(|(mean, &pixel)| (mean - f64::from(pixel)).powi(2)).sum(),
            None => f64::INFINITY,
        };
        Label::from(far(&means[1]) < far(&means[0]))
    };
    (0..inputs.len()).map(answer).collect()
}

fn certify_by_nearest_mean(data: &Dataset, inputs: &Dataset, partitions: usize) -> Vec<Certificate> {
    let mut votes = vec![[0; 2]; inputs.len()];
    for part in partition(data, partitions) {
        let answers = nearest_mean(&part, inputs);
        votes.iter_mut().zip(answers).for_each(|(votes, class)| votes[usize::from(class)] += 1);
    }
    votes.iter().map(|votes| certificate(votes)).collect()
}

/// Every training set that differs from `data` by one sample of `world`.
fn neighbours(data: &Dataset, world: &Dataset) -> Vec<Dataset> {
    let without = (0..data.len()).map(|index| edited(data, |changes| changes.remove(data, index)));
    let with = (0..world.len()).map(|index| {
        let (label, image) = (world.label(index), world.image(index).to_vec());
        edited(data, |changes| changes.insert(data, label, SourceId(1), image))
    });
    without.chain(with).collect()
}

#[test]
fn all_poison_within_the_radius_changes_no_answer_in_a_small_world() {
    let world = small_world();
    let (mut certified, mut broken_beyond) = ([0; 3], 0);
    for seed in 0..4 {
        let mut stream = Seeds::new(seed).stream("small");
        let chosen: Vec<usize> = (0..8).map(|_| stream.below(world.len())).collect();
        let data = world.select(&chosen);
        let before = certify_by_nearest_mean(&data, &world, 5);
        let once = neighbours(&data, &world);
        let twice: Vec<Dataset> = once.iter().flat_map(|data| neighbours(data, &world)).collect();
        for (edits, poisoned) in [(1, once), (2, twice)] {
            for data in poisoned {
                let after = certify_by_nearest_mean(&data, &world, 5);
                for (before, after) in before.iter().zip(after) {
                    assert!(edits > before.radius || before.class == after.class, "{edits} edits, {before:?}");
                    broken_beyond += usize::from(before.class != after.class);
                }
            }
        }
        before.iter().for_each(|answer| certified[answer.radius] += 1);
    }
    // Neither an empty promise nor one that could not be broken.
    assert!(certified[1] > 5 && certified[2] > 5 && broken_beyond > 1000, "{certified:?} {broken_beyond}");
}

#[test]
fn all_poison_within_the_radius_changes_no_answer_of_real_networks() {
    let (data, inputs) = (stripes(30, 1), stripes(40, 2));
    let recipe = TrainConfig::default();
    let before = certify_by(&dpa(5), &data, &inputs, &recipe);
    assert!(before.iter().filter(|answer| answer.radius >= 1).count() >= 10, "{before:?}");
    // Fifteen samples of the next stripes, each with a wrong label; and every single deletion.
    let world = edited(&stripes(15, 3), |changes| {
        let given = stripes(15, 3);
        (0..15).for_each(|index| changes.relabel(&given, index, (given.label(index) + 1) % 3));
    });
    let mut moved = 0;
    for poisoned in neighbours(&data, &world) {
        for (before, after) in before.iter().zip(certify_by(&dpa(5), &poisoned, &inputs, &recipe)) {
            assert!(before.radius < 1 || before.class == after.class, "{before:?} {after:?}");
            moved += usize::from(before.radius != after.radius);
        }
    }
    assert!(moved > 20, "poison moves votes all the same: {moved}");
}

#[test]
fn it_answers_rightly_as_before_whatever_the_order_and_the_other_inputs() {
    let (data, inputs) = (stripes(300, 1), stripes(60, 2));
    let recipe = TrainConfig::default();
    let answers = certify_by(&dpa(9), &data, &inputs, &recipe);
    let right = answers.iter().zip(inputs.labels()).filter(|(answer, label)| answer.class == *label).count();
    assert!(right >= 55, "{right} of 60");
    assert!(answers.iter().filter(|answer| answer.radius == 4).count() > 20, "{answers:?}");
    let reversed: Vec<usize> = (0..300).rev().collect();
    assert_eq!(certify_by(&dpa(9), &data.select(&reversed), &inputs, &recipe), answers);
    assert_eq!(certify_by(&dpa(9), &data, &inputs.select(&[7, 3]), &recipe), [answers[7], answers[3]]);
    // Its own epochs and batch, not the recipe's.
    let other = TrainConfig { epochs: 1, batch: 99, ..recipe.clone() };
    assert_eq!(certify_by(&dpa(9), &data, &inputs, &other), answers);
    let given = Dpa { partitions: 9, epochs: None, batch: None };
    let same = TrainConfig { epochs: 6, batch: 8, ..recipe };
    assert_eq!(certify_by(&given, &data, &inputs, &same), answers);
}

#[test]
fn parts_without_samples_and_trainings_that_diverge_vote_as_they_were_initialised() {
    let (data, inputs) = (stripes(3, 1), stripes(20, 2));
    let untrained = |at: usize| {
        let seeds = Seeds::new(1).child("defense").child(&format!("partition/{at}"));
        toy_network(&data).reinitialised(&seeds).predict(&inputs)
    };
    let mut votes = vec![[0; 3]; 20];
    for at in 0..8 {
        votes.iter_mut().zip(untrained(at)).for_each(|(votes, class)| votes[usize::from(class)] += 1);
    }
    let expected: Vec<Certificate> = votes.iter().map(|votes| certificate(votes)).collect();
    assert_eq!(certify_by(&dpa(8), &data.select(&[]), &inputs, &TrainConfig::default()), expected);
    let wild = TrainConfig { lr: 1e30, weight_decay: 10.0, ..TrainConfig::default() };
    let answers = certify_by(&Dpa { epochs: Some(50), ..dpa(8) }, &data, &inputs, &wild);
    assert_eq!(answers, expected);
    assert_eq!(certify_by(&dpa(3), &data, &inputs.select(&[]), &TrainConfig::default()), []);
}

#[test]
fn more_parts_than_samples_are_refused() {
    let facts = Facts { shape: Shape { channels: 1, height: 6, width: 6 }, classes: 3, train: 30, test: 0, sources: 1 };
    let errors = check(&Values::new(), &facts).err().unwrap();
    assert_eq!(
        errors[0].to_string(),
        "failed to accept `partitions`: 30 training samples leave most of 250 parts empty"
    );
    assert!(check(&[("partitions".to_owned(), 30.into())].into(), &facts).is_ok());
}
