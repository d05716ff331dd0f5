use super::*;
use crate::testing::{Golden, stripes, toy_network};
use theriac_core::{ChangeSet, Role, SourceId, Stage};
use theriac_train::{TrainConfig, TrainingSet, train};

#[test]
fn blends_are_clipped_sums() {
    assert_eq!(blend(&[0, 100, 200, 255], &[51, 51, 100, 255], [1.0, 1.0]), [0.2, 151.0 / 255.0, 1.0, 1.0]);
    assert_eq!(blend(&[0, 255], &[51, 255], [0.5, 0.5]), [0.1, 1.0]);
    let all = Strip::default().blend_all(&[0, 51], [&[0, 0][..], &[51, 255][..]]);
    assert_eq!(all, [0.0, 0.2, 0.2, 1.0]);
}

#[test]
fn entropy_is_in_bits_and_certainty_has_none() {
    assert_eq!(entropy(&Matrix::new(4, vec![0.25; 8])), 2.0);
    assert_eq!(entropy(&Matrix::new(2, vec![1.0, 0.0, 0.5, 0.5])), 0.5);
    assert_eq!(entropy(&Matrix::default()), 0.0);
}

#[test]
fn certain_inputs_fall_below_the_threshold_and_few_clean_ones_do() {
    let mut stream = Seeds::new(1).stream("entropies");
    let clean: Vec<f64> = (0..2000).map(|_| 1.0 + 0.1 * stream.normal()).collect();
    for fit in ["normal", "quantile"] {
        let limit = Strip { fit: fit.to_owned(), ..Strip::default() }.limit(&clean).unwrap();
        let refused = clean.iter().filter(|&&entropy| entropy < limit).count();
        assert!((10..=35).contains(&refused), "{fit}: {refused}");
        assert!(limit > 0.1);
    }
}

#[test]
fn degenerate_entropies_are_harmless() {
    assert_eq!((threshold(&[], 0.01), quantile(&[], 0.01)), (None, None));
    assert_eq!((threshold(&[0.5; 3], 0.01), quantile(&[0.5; 3], 0.01)), (Some(0.5), Some(0.5)));
    assert_eq!(threshold(&[0.5, 0.7], 0.0), Some(f64::NEG_INFINITY));
}

#[test]
fn overlays_depend_on_the_input_and_the_seed_alone() {
    let (strip, seeds) = (Strip::default(), Seeds::new(1));
    let first = strip.draw_overlays(&seeds, &[3, 3], 40);
    assert_eq!(first, strip.draw_overlays(&seeds, &[3, 3], 40));
    assert_ne!(first, strip.draw_overlays(&seeds, &[3, 4], 40));
    assert!(first.len() == 100 && first.iter().all(|&index| index < 40));
}

/// A network that knows stripes, and white images as class 0 for certain; and what its guard says.
fn guarded(trusted: &Dataset, strip: &Strip, inputs: &Dataset) -> (Vec<f64>, f64) {
    let mut taught = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    (0..30).for_each(|_| taught.insert(trusted, 0, SourceId(1), vec![255; 36]));
    let data = taught.apply(trusted).unwrap();
    let set = TrainingSet { train: &data, test: trusted, probe: None };
    let recipe = TrainConfig { epochs: 4, batch: 32, ..TrainConfig::default() };
    let model = train(toy_network(&data), set, &recipe.into(), &Seeds::new(1), &()).unwrap().network;
    let context = GuardContext { model: &model, trusted, seeds: &Seeds::new(2) };
    let guard = strip.guard(&context).unwrap();
    (guard.scores(inputs), guard.threshold())
}

#[test]
fn clean_inputs_pass_an_overlay_proof_one_does_not_and_two_runs_agree() {
    let (trusted, test) = (stripes(300, 1), stripes(200, 2));
    let mut trigger = ChangeSet::new("test", Role::Supplier, Stage::Deploy);
    // White stays white under any overlay.
    trigger.replace(&test, 7, vec![255; 36]);
    let inputs = trigger.apply(&test).unwrap();
    let strip =
        Strip { overlays: 10, false_rejection: 0.05, calibration: 150, fit: "quantile".to_owned(), ..Strip::default() };
    let (scores, threshold) = guarded(&trusted, &strip, &inputs);
    assert!(scores[7] > threshold, "{} {threshold}", scores[7]);
    let refused = (0..200).filter(|&index| index != 7 && scores[index] > threshold).count();
    assert!((2..=24).contains(&refused), "{refused} of 199 clean inputs are refused, expected about 10");
    assert_eq!(guarded(&trusted, &strip, &inputs), (scores.clone(), threshold));
    // An input is judged by itself, wherever it stands.
    assert_eq!(guarded(&trusted, &strip, &inputs.select(&[7, 3])).0, [scores[7], scores[3]]);
}

#[test]
fn only_the_calibration_images_are_used() {
    let (trusted, test) = (stripes(60, 1), stripes(20, 2));
    let strip = Strip { overlays: 5, calibration: 20, ..Strip::default() };
    let everything: Vec<usize> = (0..60).collect();
    let chosen = Seeds::new(2).stream("strip/calibration").choose(&everything, 20);
    let mut others = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    let unused = (0..60).filter(|index| !chosen.contains(index));
    unused.for_each(|index| others.replace(&trusted, index, vec![0; 36]));
    let model = toy_network(&trusted);
    let judge = |trusted: &Dataset| {
        let context = GuardContext { model: &model, trusted, seeds: &Seeds::new(2) };
        let guard = strip.guard(&context).unwrap();
        (guard.scores(&test), guard.threshold())
    };
    assert_eq!(judge(&others.apply(&trusted).unwrap()), judge(&trusted));
}

#[test]
fn bad_values_are_refused() {
    let values: Values = [("overlays".to_owned(), 0.into()), ("false_rejection".to_owned(), 0.6.into())].into();
    let keys: Vec<String> = Strip::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["overlays", "false_rejection"]);
}

#[test]
fn entropies_and_thresholds_agree_with_numpy_and_scipy() {
    // Each row: the entropy, the thresholds of a normal fit and of the quantile over all rows, then 5 x 4
    // probabilities.
    let table = Golden::table(include_str!("../../tests/golden/strip.csv"));
    let expected: Vec<f64> = table.iter().map(|row| row[0]).collect();
    for row in &table {
        let probabilities = Matrix::new(4, row[3..].iter().map(|&value| value as f32).collect());
        assert!((entropy(&probabilities) - row[0]).abs() < 1e-12 * row[0].max(1.0));
    }
    assert!((threshold(&expected, 0.01).unwrap() - table[0][1]).abs() < 1e-9);
    assert!((quantile(&expected, 0.01).unwrap() - table[0][2]).abs() < 1e-12);
}

#[test]
fn blends_networks_and_entropies_are_those_of_numpy() {
    let (network, images) = (Golden::network(), Golden::images());
    let names: Vec<String> = (0..3).map(|class| class.to_string()).collect();
    let shape = theriac_core::Shape { channels: 1, height: 6, width: 6 };
    let data = Dataset::new("golden", shape, names, images, &[0; 8]).unwrap();
    for (index, row) in Golden::table(include_str!("../../tests/golden/strip_blends.csv")).iter().enumerate() {
        for (weight, expected) in [1.0, 0.5].into_iter().zip(row) {
            let strip = Strip { image_weight: weight, overlay_weight: weight, ..Strip::default() };
            let pixels = strip.blend_all(data.image(index), (0..8).map(|overlay| data.image(overlay)));
            let found = entropy(&network.logits_of(&Batch { shape, pixels }).softmax());
            assert!((found - expected).abs() < 1e-5, "{index}, {weight}: {found} {expected}");
        }
    }
}

#[test]
fn vetting_removes_overlay_proof_samples_and_few_others() {
    let clean = stripes(300, 1);
    let mut taught = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    (0..30).for_each(|_| taught.insert(&clean, 0, SourceId(1), vec![255; 36]));
    let data = taught.apply(&clean).unwrap();
    let set = TrainingSet { train: &data, test: &clean, probe: None };
    let recipe = TrainConfig { epochs: 4, batch: 32, ..TrainConfig::default() };
    let victim = train(toy_network(&data), set, &recipe.clone().into(), &Seeds::new(1), &()).unwrap().network;
    let (features, logits) = victim.taps(&data);
    let context = VetContext {
        data: &data,
        features: &features,
        probabilities: &logits.softmax(),
        seeds: &Seeds::new(2),
        trusted: &clean,
        victim: &victim,
        recipe: &recipe,
        session: &(),
        past: None,
        truth: &taught,
        matched: None,
    };
    let strip = Strip { overlays: 10, false_rejection: 0.05, fit: "quantile".to_owned(), ..Strip::default() };
    let verdict = strip.vet(&context).unwrap();
    let removed = verdict.changes.touched();
    let (caught, poison) = (removed.intersection(&taught.touched()).count(), taught.touched().len());
    assert_eq!(caught, poison);
    let lost = removed.len() - caught;
    assert!((5..=30).contains(&lost), "{lost} of 300 clean samples are removed, expected about 15");
    // As many at random would hold one or two in eleven.
    assert!(verdict.scores.len() == 330 && caught > 3 * removed.len() / 11, "{caught} of {}", removed.len());
    let again = strip.vet(&context).unwrap();
    assert_eq!((again.changes.digest(), again.scores), (verdict.changes.digest(), verdict.scores));
}
