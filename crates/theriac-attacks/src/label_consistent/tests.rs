use super::*;
use crate::testing::{
    self, accuracy_after, attack, easy, except, facts, faults, golden, infeasible, invariants, kinds, poison_on,
    surrogate, values,
};
use theriac_core::{Aim, Value};
use theriac_nn::Normalisation;

fn stamp(image: &[u8], shape: Shape, corners: &[Corner], amplitude: u8) -> Vec<u8> {
    let mut stamped = image.to_vec();
    patch(shape, corners, amplitude).plant(&mut stamped);
    stamped
}

/// Cheap settings.
fn given<const N: usize>(others: [(&'static str, Value); N]) -> [(&'static str, Value); 8] {
    let usual = [
        ("norm", "l2".into()),
        ("epsilon", 300.0.into()),
        ("steps", 5.into()),
        ("robust", 0.into()),
        ("rate", 0.1.into()),
        ("target", 1.into()),
        ("amplitude", 255.into()),
        ("corners", "bottom-right".into()),
    ];
    except(usual, others)
}

#[test]
#[rustfmt::skip]
fn the_patch_is_the_authors_pixel_by_pixel() {
    let shape = Shape { channels: 1, height: 6, width: 7 };
    assert_eq!(stamp(&[100; 42], shape, &[Corner::BottomRight], 255), [
        100, 100, 100, 100, 100, 100, 100,
        100, 100, 100, 100, 100, 100, 100,
        100, 100, 100, 100, 100, 100, 100,
        100, 100, 100, 100,   0,   0, 255,
        100, 100, 100, 100,   0, 255,   0,
        100, 100, 100, 100, 255,   0, 255,
    ]);
    assert_eq!(stamp(&[100; 42], shape, &Corner::ALL, 32), [
        132,  68,  68, 100,  68,  68, 132,
         68, 132,  68, 100,  68, 132,  68,
        132,  68, 132, 100, 132,  68, 132,
        132,  68,  68, 100,  68,  68, 132,
         68, 132,  68, 100,  68, 132,  68,
        132,  68, 132, 100, 132,  68, 132,
    ]);
    let colour = Shape { channels: 3, height: 3, width: 3 };
    let plane = [0, 0, 250, 0, 250, 0, 250, 0, 250];
    assert_eq!(stamp(&[5; 27], colour, &[Corner::BottomRight], 245), plane.repeat(3));
}

#[test]
fn only_images_of_the_target_change_and_no_label() {
    let cases: [(&str, Value); 4] =
        [("norm", "l2".into()), ("norm", "linf".into()), ("steps", 1.into()), ("robust", 8.into())];
    for more in cases {
        let more = [more, ("epsilon", 40.0.into())];
        let (changes, poisoned) = invariants(&ENTRY, given(more), 20);
        assert_eq!((kinds(&changes), poisoned.labels()), ([0, 20, 0, 0], testing::train().labels()));
        let touched = changes.touched();
        assert!((0..200).filter(|&at| touched.contains(&poisoned.id(at))).all(|at| poisoned.label(at) == 1));
    }
    let message = infeasible(&ENTRY, given([("rate", 0.5.into())]));
    assert_eq!(message, "failed to poison: the rate asks for 100 samples of class 1, the training set has 60");
    invariants(&ENTRY, given([("rate", 0.0.into())]), 0);
}

#[test]
fn the_probe_has_the_full_patch_whatever_the_training_images_have() {
    let test = testing::test();
    let faint = attack(&ENTRY, given([("amplitude", 16.into()), ("corners", "all".into())]));
    let probe = faint.probe(&test, &testing::seeds()).unwrap();
    assert_eq!((probe.metric, probe.inputs.class_counts()), ("asr", vec![10, 0, 10, 10]));
    assert_eq!(probe.aim, Aim::Classes(vec![1; 30]));
    for at in 0..30 {
        let clean = test.image(test.position(probe.inputs.id(at)).unwrap());
        assert_eq!(probe.inputs.image(at), stamp(clean, testing::SHAPE, &Corner::ALL, 255));
    }
    // Without a perturbation, only pixels of the patch change, by no more than its amplitude.
    let train = testing::train();
    let still = attack(&ENTRY, given([("amplitude", 16.into()), ("epsilon", 0.0.into())]));
    let poisoned = poison_on(&*still, &train, 1).unwrap().apply(&train).unwrap();
    for at in (0..200).filter(|&at| poisoned.image(at) != train.image(at)) {
        assert_eq!(poisoned.image(at), stamp(train.image(at), testing::SHAPE, &[Corner::BottomRight], 16));
    }
}

#[test]
fn images_are_moved_within_the_bound_and_are_hard_for_the_surrogate() {
    let train = easy("train", 50);
    let network = surrogate(&train);
    let losses = |data: &Dataset| theriac_nn::losses(&network.logits(data), &data.labels()).iter().sum::<f64>();
    for (norm, epsilon) in [("l2", 200.0), ("linf", 25.0)] {
        let more = [("norm", norm.into()), ("epsilon", epsilon.into()), ("amplitude", 1.into())];
        let attack = attack(&ENTRY, given(more));
        let poisoned = poison_on(&*attack, &train, 1).unwrap().apply(&train).unwrap();
        assert!(losses(&poisoned) > losses(&train) + 20.0, "{norm} {} {}", losses(&poisoned), losses(&train));
        for at in 0..train.len() {
            let patch: Vec<usize> = Corner::BottomRight.pixels(testing::SHAPE, SIZE).map(|pixel| pixel.2).collect();
            let pairs = train.image(at).iter().zip(poisoned.image(at)).enumerate();
            let outside = pairs.filter(|(pixel, _)| !patch.contains(pixel));
            let changes: Vec<f64> = outside.map(|(_, (a, b))| f64::from(a.abs_diff(*b))).collect();
            let far = match norm {
                "l2" => changes.iter().map(|change| change * change).sum::<f64>().sqrt(),
                _ => changes.iter().copied().fold(0.0, f64::max),
            };
            assert!(far <= epsilon, "{norm} {far}");
        }
    }
}

/// The network of the golden data.
fn small_network() -> Network {
    let shape = Shape { channels: 1, height: 6, width: 6 };
    let facts = Facts { shape, classes: 3, ..facts() };
    let (normalisation, device) = (Normalisation(vec![(0.4, 0.25)]), theriac_nn::device::open("cpu").unwrap());
    let hidden = values([("hidden", 6.into())]);
    let network = Network::named("mlp", &hidden, &facts, normalisation, &device, &testing::seeds()).unwrap();
    let mut parameters = theriac_nn::parameters::read(&network.module);
    let tensors = golden(include_str!("../../tests/golden/label_consistent_net.csv"));
    for (tensor, (layer, part)) in
        tensors.iter().zip([("hidden", "weight"), ("hidden", "bias"), ("head", "weight"), ("head", "bias")])
    {
        let mut found = parameters.iter_mut().filter(|(name, _)| name.contains(layer) && name.ends_with(part));
        let (_, parameter) = found.next().unwrap();
        assert_eq!(parameter.values.len(), tensor.len());
        parameter.values = tensor.iter().map(|&value| value as f32).collect();
    }
    let module = theriac_nn::parameters::write(network.module.clone(), &parameters).unwrap();
    Network { module, ..network }
}

#[test]
fn descent_and_patch_are_those_of_numpy() {
    let (network, shape) = (small_network(), Shape { channels: 1, height: 6, width: 6 });
    let rows = golden(include_str!("../../tests/golden/label_consistent.csv"));
    let pixels = rows.iter().flat_map(|row| &row[..36]).map(|&value| value as u8).collect::<Vec<_>>();
    let classes: Vec<String> = (0..3).map(|class| class.to_string()).collect();
    let data = Dataset::new("golden", shape, classes, pixels, &[1; 6]).unwrap();
    let labels = data.labels();
    for (norm, epsilon, from) in [(Norm::L2, 150.0, 36), (Norm::LInf, 23.0, 72)] {
        let pgd = Pgd { random_start: false, ..Pgd::within(norm, epsilon, 12) };
        let images = Batch::gather(&data, &[0, 1, 2, 3, 4, 5]).into_tensor(&network.device);
        let moved = pgd.perturb(&network, images, &labels, Direction::Away, &mut testing::seeds().stream("unused"));
        let moved = Batch::from_tensor(moved).pixels;
        let expected = rows.iter().flat_map(|row| &row[from..from + 36]);
        let furthest = moved.iter().zip(expected).map(|(&a, b)| (f64::from(a) * 255.0 - b).abs()).fold(0.0, f64::max);
        assert!(furthest < 1e-3, "{norm:?} {furthest}");
        if norm == Norm::LInf {
            for (at, (moved, row)) in moved.chunks_exact(36).zip(&rows).enumerate() {
                let stamped = stamp(&round_within(data.image(at), moved, 23), shape, &Corner::ALL, 90);
                assert!(stamped.iter().zip(&row[108..]).all(|(&found, expected)| f64::from(found) == *expected));
            }
        }
    }
}

#[test]
fn the_patch_decides_and_clean_images_stay() {
    let (train, test) = (easy("train", 150), easy("test", 50));
    let attack = attack(&ENTRY, given([("rate", 0.125.into()), ("epsilon", 300.0.into()), ("steps", 10.into())]));
    let poisoned = poison_on(&*attack, &train, 1).unwrap().apply(&train).unwrap();
    let probe = attack.probe(&test, &testing::seeds()).unwrap();
    let success = |train: &Dataset| {
        let predicted = surrogate(train).predict(&probe.inputs);
        predicted.iter().filter(|&&label| label == 1).count() as f64 / predicted.len() as f64
    };
    let (after, before) = (success(&poisoned), success(&train));
    assert!(after > 0.6 && before < 0.2, "{after} {before}");
    assert!(accuracy_after(&poisoned, &test) > 0.85, "{}", accuracy_after(&poisoned, &test));
}

#[test]
fn each_rule_has_its_message() {
    assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3, found 4"));
    let half = faults(&ENTRY, [("norm", "linf".into()), ("epsilon", 7.5.into())]);
    assert_eq!(half, "failed to accept `epsilon`: an L-infinity bound is a whole number up to 255, found 7.5");
    let small = Facts { shape: Shape { channels: 1, height: 5, width: 9 }, ..facts() };
    assert!((ENTRY.check)(&values([]), &small).is_ok());
    let errors = (ENTRY.check)(&values([("corners", "all".into())]), &small).err().unwrap();
    assert_eq!(errors[0].message, "patches of 3 pixels in these corners do not fit images of 5x9");
}
