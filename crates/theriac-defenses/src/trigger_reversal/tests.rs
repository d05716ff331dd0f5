use super::*;
use crate::testing::{Golden, stripes, toy_network};

const RULES: Reversal = Reversal { rounds: 60, steps: 4, batch: 16, success: 0.99, cost: 1e-3, patience: 3 };

fn bounded(values: &[f64], device: &Device) -> Bounded {
    Bounded::new(values.iter().map(|&value| value as f32).collect(), [1, 1, 6, 6], device)
}

#[test]
fn losses_masks_and_patterns_are_those_of_torch_step_by_step() {
    let (network, target) = (Golden::network(), 2);
    let table = Golden::table(include_str!("../../tests/golden/neural_cleanse.csv"));
    let rows = &table[8..];
    let pixels = Golden::images().into_iter().map(|pixel| f32::from(pixel) / 255.0).collect();
    let batch = Batch { shape: Shape { channels: 1, height: 6, width: 6 }, pixels };
    let device = &network.device;
    let mut sketch = Sketch { mask: bounded(&rows[0][5..41], device), pattern: bounded(&rows[0][41..], device) };
    let (mut furthest, mut steps) = (0.0f64, 0..);
    for row in rows {
        let [step, _, loss, hits, norm] = row[..5] else { unreachable!() };
        let cost = |step: usize| [0.0, 0.01, 0.05][step * 3 / 60];
        for step in steps.by_ref().take_while(|&at| at as f64 != step) {
            sketch.step(&network, batch.to_tensor(device), target, cost(step));
        }
        let trigger = sketch.trigger();
        let pairs = trigger.mask.iter().chain(&trigger.pattern).zip(&row[5..]);
        furthest = pairs.map(|(&ours, theirs)| (f64::from(ours) - theirs).abs()).fold(furthest, f64::max);
        let report = sketch.step(&network, batch.to_tensor(device), target, cost(step as usize));
        assert_eq!((report.hits as f64, row[1]), (hits, cost(step as usize)), "step {step}");
        assert!(
            (report.loss - loss).abs() < 1e-4 && (report.norm - norm).abs() < 1e-3,
            "step {step}: {report:?} {row:?}"
        );
    }
    assert!(furthest < 1e-5, "{furthest}");
}

#[test]
fn the_cost_follows_success_and_the_search_ends_when_it_has_gone_both_ways() {
    let mut balance = Balance::default();
    let mut rounds = |reached: bool, improved: bool, count: usize| {
        let ends: Vec<bool> = (0..count).map(|_| balance.settle(&RULES, reached, improved)).collect();
        (balance.cost, ends.contains(&true))
    };
    assert_eq!(rounds(false, false, 3), (0.0, false)); // nothing to lower yet
    assert_eq!(rounds(true, true, 2), (0.0, false));
    assert_eq!(rounds(true, true, 1), (1e-3, false));
    assert_eq!(rounds(true, true, 6), (1e-3 * 1.5 * 1.5, false));
    assert_eq!(rounds(true, false, 2), (1e-3 * 1.5 * 1.5, false));
    // A round without success starts the count anew.
    assert_eq!(rounds(false, false, 1), (1e-3 * 1.5 * 1.5, false));
    assert_eq!(rounds(true, false, 2), (1e-3 * 1.5 * 1.5, false));
    let lower = 1e-3 * 1.5 * 1.5 / 1.5f64.powf(1.5);
    assert_eq!(rounds(false, false, 3), (lower, false));
    // 8 rounds without progress so far, and the search ends after 15.
    assert!(!rounds(true, false, 6).1);
    assert!(rounds(true, false, 1).1);
}

#[test]
fn every_image_is_dealt_before_one_comes_again() {
    let images = stripes(10, 1);
    let mut deck = Deck { images: &images, left: Vec::new(), stream: Seeds::new(1).stream("order") };
    let size = images.shape().len();
    let dealt: Vec<Vec<f32>> =
        (0..5).flat_map(|_| deck.deal(4).pixels.chunks(size).map(<[f32]>::to_vec).collect::<Vec<_>>()).collect();
    for pass in dealt.chunks(10) {
        let everyone = (0..10).map(|index| Batch::gather(&images, &[index]).pixels);
        assert!(everyone.into_iter().all(|image| pass.contains(&image)));
    }
    assert_ne!(dealt[..10], dealt[10..]);
}

#[test]
fn a_trigger_covers_every_channel_by_the_same_mask() {
    let trigger = ReversedTrigger { shape: [2, 1, 2], mask: vec![0.0, 0.5], pattern: vec![1.0, 1.0, 0.0, 0.2] };
    assert_eq!(stamp(&trigger, &[10, 100, 30, 100]), [10, 178, 30, 76]);
    assert_eq!(norm(&trigger), 0.5);
}

#[test]
fn a_search_reaches_its_class_and_is_deterministic() {
    let (images, network) = (stripes(60, 1), toy_network(&stripes(60, 1)));
    let search = |seed: u64| RULES.search(&network, &images, 1, &Seeds::new(seed), &()).unwrap();
    let trigger = search(1);
    assert!(trigger.mask.iter().chain(&trigger.pattern).all(|value| (0.0..=1.0).contains(value)));
    let mut changes = theriac_core::ChangeSet::new("test", theriac_core::Role::Defender, theriac_core::Stage::Store);
    (0..60).for_each(|index| changes.replace(&images, index, stamp(&trigger, images.image(index))));
    let classes = network.predict(&changes.apply(&images).unwrap());
    assert!(classes.iter().filter(|&&class| class == 1).count() >= 57, "{classes:?}");
    assert_eq!(search(1), trigger);
    assert_ne!(search(2), trigger);
}

#[test]
fn starts_at_the_borders_are_finite() {
    let device = theriac_nn::device::open("cpu").unwrap();
    let edge = Bounded::new(vec![0.0, 1.0], [1, 1, 1, 2], &device);
    let values = Batch::from_tensor(edge.value()).pixels;
    assert!(values[0].abs() < 1e-6 && (values[1] - 1.0).abs() < 1e-6, "{values:?}");
}
