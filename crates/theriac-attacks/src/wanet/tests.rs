use super::*;
use crate::testing::{self, attack, faults, infeasible, invariants, kinds, relabelled};
use theriac_core::Value;
use theriac_train::TrainConfig;

fn numbers(line: &str) -> Vec<f64> {
    line.split(',').map(|field| field.parse().unwrap()).collect()
}

#[test]
fn fields_and_bent_images_agree_with_pytorch() {
    // Each case: height, width, channels, grid, strength; control points; an image; the field; the bent image.
    let lines: Vec<Vec<f64>> = include_str!("../../tests/golden/wanet.csv").lines().map(numbers).collect();
    assert_eq!(lines.len(), 3 * 5);
    for case in lines.chunks_exact(5) {
        let [height, width, channels, grid] = [0, 1, 2, 3].map(|at| case[0][at] as usize);
        let shape = Shape { channels, height, width };
        let points = [case[1][..grid * grid].to_vec(), case[1][grid * grid..].to_vec()];
        let field = Field::new(&points, grid, case[0][4], shape);
        let found: Vec<f64> = field.places.iter().flatten().map(|&value| f64::from(value)).collect();
        let largest = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
        };
        assert!(largest(&found, &case[3]) < 2e-6, "{}", largest(&found, &case[3]));
        let mut image: Vec<f32> = case[2].iter().map(|&value| value as f32).collect();
        field.bend(&mut image);
        let image: Vec<f64> = image.into_iter().map(f64::from).collect();
        assert!(largest(&image, &case[4]) < 2e-5, "{}", largest(&image, &case[4]));
    }
}

#[test]
fn bent_and_noisy_samples_are_others_and_only_bent_ones_change_their_label() {
    let given = [("rate", 0.1.into()), ("target", 2.into()), ("strength", 3.0.into())];
    let (changes, poisoned) = invariants(&ENTRY, given, 60);
    assert_eq!(kinds(&changes), [20, 60, 0, 0]);
    assert!(relabelled(&changes).iter().all(|&(from, to)| from != 2 && to == 2));
    let (train, test) = (testing::train(), testing::test());
    // The probe bends as the training does.
    let attack = attack(&ENTRY, [("rate", 0.1.into()), ("target", 2.into()), ("strength", 3.0.into())]);
    let probe = attack.probe(&train, &testing::seeds()).unwrap();
    let same = (0..train.len()).filter(|&at| poisoned.label(at) != train.label(at));
    assert!(same.clone().count() == 20);
    for at in same {
        assert_eq!(poisoned.image(at), probe.inputs.image(probe.inputs.position(train.id(at)).unwrap()));
    }
    assert_eq!(attack.probe(&test, &testing::seeds()).unwrap().inputs.class_counts(), [10, 10, 0, 10]);
}

#[test]
fn in_the_mode_training_batches_change_and_data_do_not() {
    let given = || [("mode", Value::from("training")), ("rate", 0.25.into()), ("strength", 3.0.into())];
    let (changes, _) = invariants(&ENTRY, given(), 0);
    assert!(changes.edits.is_empty());
    let train = testing::train();
    let network = testing::surrogate(&train);
    let mut recipe = Recipe::from(TrainConfig::default());
    attack(&ENTRY, given()).train(&mut recipe, &testing::seeds());
    let chosen: Vec<usize> = (0..8).collect();
    let clean = Batch::gather(&train, &chosen);
    let run = || {
        let batch = Minibatch::new(clean.to_tensor(&network.device), vec![1, 2, 3, 0, 1, 2, 3, 0]);
        recipe.hooks[0].apply(&network, batch, &mut testing::seeds().stream("hook"))
    };
    let batch = run();
    assert_eq!(batch.labels, [0, 0, 3, 0, 1, 2, 3, 0]);
    let images = Batch::from_tensor(batch.images);
    let differs = |at: usize| images.pixels[at * 64..][..64] != clean.pixels[at * 64..][..64];
    assert_eq!((0..8).map(differs).collect::<Vec<_>>(), [[true; 6].as_slice(), &[false; 2]].concat());
    assert_eq!(Batch::from_tensor(run().images), images);
    let mut none = Recipe::from(TrainConfig::default());
    attack(&ENTRY, []).train(&mut none, &testing::seeds());
    assert!(none.hooks.is_empty());
}

#[test]
fn each_rule_has_its_message() {
    assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3, found 4"));
    let message = faults(&ENTRY, [("rate", 0.5.into())]);
    assert!(message.contains("`noise_ratio`: 0.5 bent and 1 noisy samples of each 1 are more"), "{message}");
    let message = infeasible(&ENTRY, [("rate", 0.7.into()), ("noise_ratio", 0.0.into())]);
    assert!(message.contains("asks for 140 samples outside class 0, the training set has 120"), "{message}");
}
