use super::*;
use crate::one_image::pixels;
use crate::testing::{self, attack, easy, except, faults, invariants_of_one_image, references, successes, values};
use theriac_core::Value;
use theriac_train::Augment;

/// Cheap settings.
fn given<const N: usize>(others: [(&'static str, Value); N]) -> [(&'static str, Value); 6] {
    let usual = [
        ("rate", 0.1.into()),
        ("steps", 8.into()),
        ("restarts", 2.into()),
        ("epsilon", 20.into()),
        ("target", 1.into()),
        ("surrogates", 1.into()),
    ];
    except(usual, others)
}

fn checked<const N: usize>(given: [(&str, Value); N]) -> WitchesBrew {
    WitchesBrewConfig::from_values(&values(given)).unwrap().check(&testing::facts()).unwrap()
}

fn weights(given: &[f32]) -> Weights {
    [("w".to_owned(), Parameter { shape: vec![given.len()], values: given.to_vec() })].into()
}

#[test]
fn only_images_of_the_wanted_class_change_within_the_bound() {
    for surrogates in [1, 2] {
        invariants_of_one_image(&ENTRY, given([("surrogates", surrogates.into())]), 20, false);
    }
    invariants_of_one_image(&ENTRY, given([("rate", 0.0.into())]), 0, false);
}

#[test]
fn the_mismatch_and_its_derivative_are_those_worked_out_by_hand() {
    // cos = 1 / sqrt 2; the derivative is cos g / |g|^2 - goal / (|goal| |g|).
    let (value, slope) = mismatch(&weights(&[2.0, 0.0]), &weights(&[1.0, 1.0]));
    assert!((value - (1.0 - 0.5f64.sqrt())).abs() < 1e-12);
    let expected = 0.5 * 0.5f32.sqrt();
    assert!(
        slope["w"].values.iter().zip([-expected, expected]).all(|(found, expected)| (found - expected).abs() < 1e-6)
    );
    // It neither rewards nor punishes length, and a gradient that vanishes has no direction.
    let (value, slope) = mismatch(&weights(&[3.0, 4.0]), &weights(&[6.0, 8.0]));
    assert!(value.abs() < 1e-12 && slope["w"].values.iter().all(|value| value.abs() < 1e-6));
    assert_eq!(mismatch(&weights(&[1.0]), &weights(&[0.0])), (1.0, weights(&[0.0])));
}

#[test]
fn objective_second_derivative_and_poisons_are_those_of_pytorch() {
    for reference in references() {
        let (network, label) = (&reference.network, 1);
        let goal = Match { network, pull: pull(network, reference.image.clone(), label), label };
        assert!(reference.error("mismatch", [goal.mismatch(reference.poisons.clone()).0]) < 1e-5);
        assert!(reference.error_of("mismatch.gradient", goal.gradient(reference.poisons.clone())) < 1e-4);
        // Without steps a restart is its start; PyTorch starts at the images themselves.
        let attack = checked([("steps", 10.into()), ("epsilon", 16.into()), ("augment", false.into())]);
        let brewed = attack.descend(&[goal], &reference.poisons, reference.poisons.clone(), None);
        assert!(reference.error_of("brewed", brewed * 255.0) < 1e-4);
    }
}

#[test]
fn steps_become_shorter_three_times() {
    let attack = checked([("steps", 250.into()), ("step_size", 5.1.into())]);
    let lengths = [0, 92, 93, 155, 156, 217, 218, 249].map(|step| attack.length(step));
    let expected = [0.02, 0.02, 2e-3, 2e-3, 2e-4, 2e-4, 2e-5, 2e-5];
    assert!(lengths.iter().zip(expected).all(|(found, expected)| (found / expected - 1.0).abs() < 1e-9), "{lengths:?}");
}

#[test]
fn poisons_match_through_crops_and_flips_too() {
    let (train, test) = (easy("train", 50), easy("test", 10));
    let network = testing::surrogate(&train);
    let image = (0..test.len()).find(|&at| test.label(at) == 2).unwrap();
    let goal = Match { network: &network, pull: pull(&network, images(&network, &test, &[image]), 1), label: 1 };
    let bases = images(&network, &train, &train.of_class(1)[..20]);
    let recipe = TrainConfig { augment: Augment::CropFlip, padding: 1, ..TrainConfig::default() };
    let before = goal.mismatch(bases.clone()).0;
    let attack = checked([("steps", 40.into()), ("epsilon", 20.into())]);
    let goals = [goal];
    let poisons = attack.brew(&goals, &bases, &recipe, &testing::seeds());
    let after = goals[0].mismatch(poisons.clone()).0;
    assert!(after < 0.8 * before, "{before} {after}");
    // Without the switch, the recipe's crops do not matter.
    let plain = checked([("steps", 3.into()), ("augment", false.into())]);
    let brew = |recipe: &TrainConfig| pixels(plain.brew(&goals, &bases, recipe, &testing::seeds()));
    assert_eq!(brew(&recipe), brew(&TrainConfig::default()));
}

#[test]
fn a_victim_takes_the_image_for_the_wanted_class() {
    let (train, test) = (easy("train", 50), easy("test", 10));
    let attack = attack(&ENTRY, given([("rate", 0.2.into()), ("steps", 40.into()), ("epsilon", 26.into())]));
    let [hits, clean] = successes(&*attack, &train, &test, 6);
    assert!(hits >= 4 && clean <= 1, "{hits} {clean}");
}

#[test]
fn each_rule_has_its_message() {
    assert!(faults(&ENTRY, [("image", 40.into())]).contains("the test set has 40 images, found 40"));
    assert!(faults(&ENTRY, [("source", 1.into()), ("target", 1.into())]).contains("already the target"));
    let message = testing::infeasible(&ENTRY, given([("rate", 0.5.into())]));
    assert_eq!(message, "failed to poison: the rate asks for 100 samples of class 1, the training set has 60");
}
