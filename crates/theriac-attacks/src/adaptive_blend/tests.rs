use super::*;
use crate::testing::{self, attack, faults, golden_trigger, infeasible, invariants, kinds, poison_on, relabelled};
use theriac_core::{Aim, Value};

fn patch() -> (&'static str, Value) {
    ("trigger", "patch".into())
}

#[test]
fn pixels_are_those_of_exact_arithmetic() {
    golden_trigger("adaptive-blend", |shape, variant| {
        let (key, (patches, places)) = (testing::formula(shape, 2), corner_patches(shape, 3));
        let (pieces, blend) = (raster(shape, 4), |key: &[u8], alpha| Blend::new(key, alpha));
        let parts: Vec<(Blend, Place)> = match variant {
            "pieces 0 3 5 6 9 10 12 15, alpha 0.15" => {
                let chosen = [0, 3, 5, 6, 9, 10, 12, 15].into_iter();
                chosen.map(|piece| (blend(&key, 0.15), pieces[piece].clone())).collect()
            }
            "patches of 3 by 3, opacities 0.5 0.2 0.5 0.3" => {
                let opacities = [0.5, 0.2, 0.5, 0.3].map(|opacity| blend(&patches, opacity));
                opacities.into_iter().zip(places).collect()
            }
            other => panic!("{other}"),
        };
        move |image: &mut [u8]| parts.iter().for_each(|(blend, place)| blend.plant_within(image, place))
    });
}

#[test]
fn payload_changes_its_label_and_cover_does_not() {
    let given = [("rate", 0.1.into()), ("target", 1.into())];
    let blend = invariants(&ENTRY, given.clone(), 40);
    let [rate, target] = given;
    let patch = invariants(&ENTRY, [rate, target, patch(), ("cover_rate", 0.1.into()), ("size", 3.into())], 40);
    let train = testing::train();
    for (changes, poisoned) in [blend, patch] {
        assert_eq!(kinds(&changes), [20, 40, 0, 0]);
        assert!(relabelled(&changes).iter().all(|&(from, to)| from != 1 && to == 1));
        // Nothing of the target class is touched, and what is touched has changed.
        for index in 0..train.len() {
            let touched = changes.touched().contains(&train.id(index));
            assert!(!touched || train.label(index) != 1);
            assert_eq!(train.image(index) != poisoned.image(index), touched);
        }
    }
}

#[test]
fn each_training_image_shows_half_of_the_pieces_and_two_images_show_different_ones() {
    let attack = attack(&ENTRY, [("rate", 0.1.into()), ("alpha", 1.0.into()), ("test_alpha", 1.0.into())]);
    let train = testing::train();
    let changes = poison_on(&*attack, &train, 1).unwrap();
    let poisoned = changes.apply(&train).unwrap();
    let key = pattern::draw("noise", 0, testing::SHAPE);
    let shown = |index: usize| -> Vec<usize> {
        let same = |piece: &Place| piece.iter().cloned().flatten().all(|at| poisoned.image(index)[at] == key[at]);
        let pieces = raster(testing::SHAPE, 4);
        pieces.iter().enumerate().filter(|(_, piece)| same(piece)).map(|(at, _)| at).collect()
    };
    let positions = train.positions();
    let mut all: Vec<Vec<usize>> = changes.touched().iter().map(|id| shown(positions[id])).collect();
    assert!(all.iter().all(|shown| shown.len() == 8), "{all:?}");
    all.sort();
    all.dedup();
    assert!(all.len() > 35, "{}", all.len());
    // At test time all of it is there.
    let probe = attack.probe(&testing::test(), &testing::seeds()).unwrap();
    assert_eq!((probe.inputs.image(3), probe.aim), (&key[..], Aim::Classes(vec![0; 30])));
}

#[test]
fn each_training_image_shows_one_patch_and_test_images_show_several() {
    let given =
        [patch(), ("rate", 0.1.into()), ("size", 3.into()), ("opacities", [1.0, 1.0, 0.0, 1.0].to_vec().into())];
    let attack = attack(&ENTRY, given);
    let (picture, places) = corner_patches(testing::SHAPE, 3);
    let shows = |image: &[u8]| -> Vec<usize> {
        let same = |place: &Place| place.iter().cloned().flatten().all(|at| image[at] == picture[at]);
        (0..4).filter(|&patch| same(&places[patch])).collect()
    };
    let (train, test) = (testing::train(), testing::test());
    let changes = poison_on(&*attack, &train, 1).unwrap();
    assert_eq!(kinds(&changes), [20, 60, 0, 0]);
    let (poisoned, positions) = (changes.apply(&train).unwrap(), train.positions());
    let mut counts = [0; 4];
    for id in changes.touched() {
        let shown = shows(poisoned.image(positions[&id]));
        assert_eq!(shown.len(), 1);
        counts[shown[0]] += 1;
    }
    assert_eq!(counts, [7 + 14, 7 + 13, 0, 6 + 13]);
    let probe = attack.probe(&test, &testing::seeds()).unwrap();
    assert!((0..30).all(|index| shows(probe.inputs.image(index)) == [0, 2]));
}

#[test]
fn the_edges() {
    invariants(&ENTRY, [("rate", 0.0.into())], 0);
    invariants(&ENTRY, [("rate", 0.0.into()), ("cover_rate", 0.05.into())], 10);
    invariants(&ENTRY, [("rate", 0.3.into()), ("cover_rate", 0.3.into()), ("masked", 0.0.into())], 120);
    let expected = "failed to poison: the rate asks for 61 further samples outside class 0, the training set has 60";
    assert_eq!(infeasible(&ENTRY, [("rate", 0.3.into()), ("cover_rate", 0.305.into())]), expected);
    assert_eq!(attack(&ENTRY, []).budget(&testing::train()).epsilon, 38);
    assert_eq!(attack(&ENTRY, [patch(), ("size", 3.into())]).budget(&testing::train()).epsilon, 128);
}

#[test]
fn each_rule_has_its_message() {
    assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3"));
    let message = faults(&ENTRY, [("grid", 9.into())]);
    assert_eq!(message, "failed to accept `grid`: images of 8x8 cannot be cut into 9x9 pieces");
    assert!(faults(&ENTRY, [("masked", 0.99.into())]).contains("`masked`: a share of 0.99 hides all of the 16"));
    assert!(faults(&ENTRY, [patch()]).contains("`size`: four patches of 6 do not fit images of 8x8"));
    let opacities =
        |key: &'static str, given: &[f64]| faults(&ENTRY, [patch(), ("size", 3.into()), (key, given.to_vec().into())]);
    assert!(opacities("opacities", &[0.5]).contains("`opacities`: expected 4 opacities, found 1"));
    assert!(opacities("test_opacities", &[0.0; 4]).contains("`test_opacities`: no patch is visible"));
}
