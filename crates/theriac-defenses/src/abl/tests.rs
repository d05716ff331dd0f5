use super::*;
use crate::repairing::testing::{Backdoored, assert_near, assert_weights, golden_data, golden_networks, steps};
use crate::testing::{Golden, stripes};
use theriac_core::{ChangeSet, Dataset, Matrix, Role, Stage, Value};

fn config() -> Abl {
    Abl { epochs: 8, isolated: 0.1, ..Abl::default() }
}

/// Stripes that are hard to see, so that a network learns the trigger first.
fn faint(samples: usize, seed: u64) -> Dataset {
    let bright = stripes(samples, seed);
    let mut changes = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    for index in 0..samples {
        let band = usize::from(bright.label(index));
        let fade = |(at, &pixel): (usize, &u8)| if at / 12 == band { pixel - 90 } else { pixel };
        changes.replace(&bright, index, bright.image(index).iter().enumerate().map(fade).collect());
    }
    changes.apply(&bright).unwrap()
}

/// What `defense` isolates of the poisoned stripes.
fn isolated(case: &Backdoored, defense: &Abl) -> (Verdict, Vec<usize>) {
    let (truth, nothing) = (ChangeSet::new("test", Role::Supplier, Stage::Collect), Matrix::default());
    let context = VetContext {
        data: &case.poisoned,
        features: &nothing,
        probabilities: &nothing,
        seeds: case.context().seeds,
        victim: &case.model,
        recipe: case.context().recipe,
        session: &(),
        trusted: &case.poisoned,
        past: None,
        truth: &truth,
        matched: None,
    };
    let verdict = defense.vet(&context).unwrap();
    let touched = verdict.changes.touched();
    let found = (0..case.poisoned.len()).filter(|&index| touched.contains(&case.poisoned.id(index))).collect();
    (verdict, found)
}

#[test]
fn it_isolates_poison_unlearns_it_and_is_deterministic() {
    let case = Backdoored::on([faint(300, 1), faint(200, 2)], "cnn", "width=4 hidden=16", 45);
    let (verdict, found) = isolated(&case, &config());
    let is_poison = |index: usize| case.poisoned.image(index) != case.clean.image(index);
    let hits = found.iter().filter(|&&index| is_poison(index)).count();
    // A random filter would find 15 %.
    assert!(found.len() == 30 && hits >= 15, "{hits} of {}", found.len());
    assert_eq!(isolated(&case, &config()).0.changes.digest(), verdict.changes.digest());
    let removed = case.poisoned.select(&found);
    let context = RepairContext { removed: &removed, ..case.context() };
    let defense = Abl { unlearn_lr: 0.02, ..config() };
    let (repaired, again) = (defense.repair(&context).unwrap(), defense.repair(&context).unwrap());
    let ((_, before), (accuracy, success)) = (case.rates(&case.model), case.rates(&repaired));
    assert!(before > 0.9 && success < before - 0.3, "accuracy {accuracy}, attack success {before} -> {success}");
    assert_eq!(repaired.encode(), again.encode());
}

#[test]
fn where_nothing_was_isolated_nothing_is_unlearnt() {
    let case = Backdoored::new("cnn", "width=2 hidden=4", 0);
    assert_eq!(config().repair(&case.context()).unwrap().encode(), case.model.encode());
}

#[test]
fn bad_values_are_refused() {
    let values: Values =
        [("gamma", Value::from(-1)), ("isolated", 0.into())].map(|(key, value)| (key.to_owned(), value)).into();
    let keys: Vec<String> = Abl::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["gamma", "isolated"]);
}

#[test]
fn isolation_and_unlearning_agree_with_pytorch() {
    let data = golden_data();
    let tables = [include_str!("../../tests/golden/abl_cnn.csv"), include_str!("../../tests/golden/abl_resnet.csv")];
    for ([model, _], table) in golden_networks().iter().zip(tables) {
        let table = Golden::table(table);
        let recipe = Abl { gamma: 1.03, ..Abl::default() }.isolation(&TrainConfig::default());
        let (isolating, losses) = steps(model, recipe, &data, 8, 0.05);
        assert_near(&losses, &table[0], 1e-4, "losses");
        let each = theriac_nn::losses(&isolating.logits(&data), &data.labels());
        assert_near(&each, &table[1], 1e-4, "losses of the samples");
        let scores: Vec<f64> = each.iter().map(|loss| -loss).collect();
        let lowest = data.select(&most_suspicious(&(0..12).collect::<Vec<_>>(), &scores, 3));
        let recipe = Recipe { ascend_below: Some(f64::INFINITY), ..TrainConfig::default().into() };
        assert_weights(&steps(&isolating, recipe, &lowest, 3, 0.01).0, &table[2..]);
    }
}
