use theriac_core::{ChangeSet, Role, Seeds, Stage};
use theriac_train::TrainConfig;

use super::*;
use crate::random_filter::RandomFilter;
use crate::testing::{Golden, stripes, toy_network};

fn weighting(measure: &str) -> SourceWeighting {
    SourceWeighting { measure: measure.to_owned(), lambda: 3.0, trusted: 0.3 }
}

/// Stripes from five sources in turn, of which source 2 turns all of its labels, if `hostile`.
fn from_five(hostile: bool) -> (Dataset, ChangeSet) {
    let data = stripes(300, 1);
    let sources: Vec<SourceId> = (0..300).map(|index| SourceId((index / 3 % 5) as u16)).collect();
    let data = data.with_sources(&sources);
    let mut truth = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    if hostile {
        data.of_source(SourceId(2)).iter().for_each(|&index| truth.relabel(&data, index, (data.label(index) + 1) % 3));
    }
    (truth.apply(&data).unwrap(), truth)
}

/// The verdict of `defense`, and how many samples of each source it removes.
fn removed_by(defense: &dyn Defense, hostile: bool, matched: Option<usize>) -> (Verdict, Vec<usize>) {
    let (data, truth) = from_five(hostile);
    let (victim, recipe) = (toy_network(&data), TrainConfig { epochs: 15, batch: 10, ..TrainConfig::default() });
    let (seeds, blank) = (Seeds::new(1).child("defense"), theriac_core::Matrix::new(1, vec![0.0; data.len()]));
    let clean = stripes(300, 7);
    let context = VetContext {
        data: &data,
        features: &blank,
        probabilities: &blank,
        seeds: &seeds,
        trusted: &clean,
        victim: &victim,
        recipe: &recipe,
        session: &(),
        past: None,
        truth: &truth,
        matched,
    };
    let verdict = defense.vet(&context).unwrap();
    let again = defense.vet(&context).unwrap();
    assert_eq!((verdict.changes.digest(), &verdict.scores), (again.changes.digest(), &again.scores));
    let gone = verdict.changes.removed();
    let counts = (0..5).map(|source| data.of_source(SourceId(source)));
    let counts = counts.map(|part| part.iter().filter(|&&index| gone.contains(&data.id(index))).count()).collect();
    (verdict, counts)
}

#[test]
fn weights_are_those_that_scipy_finds() {
    let table = Golden::table(include_str!("../../tests/golden/source_weights.csv"));
    assert_eq!(table.len(), 40);
    for row in table {
        let (lambda, k) = (row[0], row[1] as usize);
        let [d, m, expected] = [0, 1, 2].map(|part| &row[2 + part * k..][..k]);
        for (found, expected) in weights(d, m, lambda).iter().zip(expected) {
            assert!((found - expected).abs() < 2e-4, "{found} {expected} {row:?}");
        }
    }
}

#[test]
fn two_sources_by_hand() {
    // With d = (0, 0.3), m = 100 and lambda = 5: 100 (nu^2 + (nu - 0.3)^2) = 25 gives nu = (0.3 + sqrt(0.41)) / 2.
    let nu: f64 = (0.3 + 0.41f64.sqrt()) / 2.0;
    let found = weights(&[0.0, 0.3], &[100.0, 100.0], 5.0);
    let expected = [nu / (2.0 * nu - 0.3), (nu - 0.3) / (2.0 * nu - 0.3)];
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
    // At lambda = 1, nu = 0.1 is below 0.3: the second source is dropped.
    assert_eq!(weights(&[0.0, 0.3], &[100.0, 100.0], 1.0), [1.0, 0.0]);
    assert_eq!(weights(&[0.2, 0.2], &[300.0, 100.0], 1.0), [0.75, 0.25]);
    assert_eq!(weights(&[0.1, 0.2], &[50.0, 50.0], 0.0), [1.0, 0.0]);
}

#[test]
fn a_source_is_judged_by_the_networks_of_others() {
    // Errors on the trusted samples, on source 0, on source 1. The second network learnt wrong labels by heart.
    let errors = [vec![0.1, 0.0, 0.7], vec![0.8, 0.85, 0.0]];
    let found = discrepancies(&errors);
    assert!((found[0] - 0.05).abs() < 1e-12 && (found[1] - 0.6).abs() < 1e-12, "{found:?}");
}

#[test]
fn a_source_with_wrong_labels_is_dropped_and_others_are_kept() {
    let (verdict, counts) = removed_by(&weighting("discrepancy"), true, None);
    let honest: usize = counts.iter().sum::<usize>() - counts[2];
    assert!(counts[2] >= 55 && honest <= 80, "{counts:?}");
    let (_, random) = removed_by(&RandomFilter::default(), true, Some(verdict.changes.removed().len()));
    assert!(counts[2] > 2 * random[2], "{counts:?} {random:?}");
    let (data, _) = from_five(true);
    let most = verdict.scores.iter().copied().fold(0.0, f64::max);
    assert!((0..300).all(|index| (verdict.scores[index] == most) == (data.source(index) == SourceId(2))));
}

#[test]
fn clean_sources_keep_most_of_their_samples() {
    for measure in ["discrepancy", "leave-one-out"] {
        let (_, counts) = removed_by(&weighting(measure), false, None);
        assert!(counts.iter().sum::<usize>() <= 120, "{measure} {counts:?}");
    }
}

#[test]
fn one_source_is_refused() {
    let facts = Facts { shape: stripes(3, 1).shape(), classes: 3, train: 3, test: 0, sources: 1 };
    let error = check(&Values::new(), &facts).err().unwrap()[0].to_string();
    assert!(error.contains("the training set comes from one source"), "{error}");
}
