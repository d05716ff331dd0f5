use super::*;
use crate::testing::{Case, Golden};
use theriac_core::{Edit, Seeds, Shape};

fn scored(score: &str, within: &str) -> Outliers {
    Outliers { score: score.to_owned(), within: within.to_owned(), ..Outliers::default() }
}

/// A row with features like a noisy copy of another row, with this label.
fn with_copies(case: &Case, copies: &[(usize, Label, f32)]) -> Case {
    let mut labels = case.data.labels();
    let mut values = case.features.values().to_vec();
    for (number, &(index, label, noise)) in copies.iter().enumerate() {
        labels.push(label);
        values.extend(case.features.row(index).iter().map(|value| value + noise * (number + 1) as f32));
    }
    let poisoned = (0..labels.len()).map(|index| index >= case.data.len()).collect();
    Case::with_poison(&labels, Matrix::new(case.features.columns(), values), poisoned)
}

#[test]
fn wrong_labels_are_far_from_their_class() {
    let case = Case::flipped(1, 300, 20);
    for score in ["knn", "lof", "centroid", "mahalanobis"] {
        case.is_found_by(&scored(score, "class"), 0.99);
    }
    // Among all data they lie where others with their true label lie.
    let verdict = scored("knn", "data").vet(&case.context()).unwrap();
    assert!(case.recall(&verdict) < 0.4, "{}", case.recall(&verdict));
}

#[test]
fn lone_samples_are_far_from_all_data() {
    // Each along the last axis, at a place of its own.
    let poison: Vec<(Label, usize, f64)> = (0..10).map(|number| (0, 0, 12.0 + 6.0 * number as f64)).collect();
    let case = Case::planted(1, 100, &poison);
    for score in ["knn", "lof"] {
        case.is_found_by(&scored(score, "data"), 0.99);
    }
}

#[test]
fn dense_poison_is_no_outlier_to_its_neighbours() {
    let case = Case::backdoor(1, 300, 60);
    let knn = Outliers { share: 0.1, ..scored("knn", "class") };
    assert!(case.recall(&knn.vet(&case.context()).unwrap()) < 0.5);
}

#[test]
fn each_class_loses_the_same_share() {
    let case = Case::clean(2, 100);
    for score in ["knn", "lof", "centroid", "mahalanobis"] {
        let verdict = case.is_deterministic(&scored(score, "class"));
        assert_eq!(verdict.changes.apply(&case.data).unwrap().class_counts(), [90, 90, 90], "{score}");
    }
    let verdict = scored("lof", "data").vet(&case.context()).unwrap();
    assert_eq!(verdict.changes.edits.len(), 30);
    assert!(case.is_deterministic(&scored("duplicates", "class")).changes.edits.is_empty());
}

#[test]
fn of_copies_the_first_stays_and_of_contradictions_none() {
    let case = Case::clean(3, 100);
    assert_eq!((case.data.label(7), case.data.label(9)), (1, 0));
    // Two copies of sample 7 with its label, one of sample 9 with another one.
    let case = with_copies(&case, &[(7, 1, 0.0), (7, 1, 1e-3), (9, 2, 1e-3)]);
    let verdict = scored("duplicates", "class").vet(&case.context()).unwrap();
    assert_eq!(case.removed(&verdict), [9, 300, 301, 302]);
    // An exact copy scores 1, no other more than half as much as a near one.
    assert_eq!((verdict.scores[7], verdict.scores[300]), (1.0, 1.0));
    assert!(verdict.scores[302] > 0.99 && verdict.scores[0] < 0.7, "{} {}", verdict.scores[302], verdict.scores[0]);
    assert!(case.auc(&verdict) > 0.99);
    case.is_found_by(&scored("duplicates", "class"), 1.0);
    let blind = Outliers { near: 0.0, ..scored("duplicates", "class") }.vet(&case.context()).unwrap();
    assert_eq!(case.removed(&blind), [300]);
}

#[test]
fn pixels_are_compared_where_they_are_asked_for() {
    let shape = Shape { channels: 1, height: 2, width: 3 };
    let mut stream = Seeds::new(1).stream("pixels");
    let mut pixels: Vec<u8> = (0..40 * shape.len()).map(|_| stream.below(256) as u8).collect();
    let copy: Vec<u8> = pixels[60..66].iter().map(|pixel| pixel ^ 1).collect();
    pixels.extend(copy);
    let names: Vec<String> = ["a", "b"].map(String::from).into();
    let labels: Vec<Label> = (0..41).map(|index| index % 2).collect();
    let data = Dataset::new("pixels", shape, names, pixels, &labels).unwrap();
    let case = Case::clean(1, 2);
    let context = VetContext { data: &data, ..case.context() };
    let defense = Outliers { space: "pixels".to_owned(), ..scored("duplicates", "class") };
    let removed =
        |verdict: &Verdict| -> Vec<u64> { verdict.changes.edits.iter().map(|edit: &Edit| edit.id().0).collect() };
    assert_eq!(removed(&defense.vet(&context).unwrap()), [40]);
    let knn = Outliers { space: "pixels".to_owned(), k: 3, ..scored("knn", "class") };
    assert_eq!(removed(&knn.vet(&context).unwrap()).len(), 4);
    // Features of other data are not looked at in pixel space, and refused in feature space.
    assert!(scored("knn", "class").vet(&context).is_err());
}

#[test]
fn factors_of_four_points_are_as_computed_by_hand() {
    // At 0, 1, 3 and 7, with two neighbours each: reaches 3, 2, 3 and 6.
    let points = Matrix::new(1, vec![0.0, 1.0, 3.0, 7.0]);
    // Mean reachabilities: (2 + 3) / 2, (3 + 3) / 2, (2 + 3) / 2, (4 + 6) / 2.
    let densities = [0.4, 1.0 / 3.0, 0.4, 0.2];
    let expected = [[1, 2], [0, 2], [1, 0], [2, 1]];
    let found = local_outlier_factors(&points, 2);
    for (at, near) in expected.into_iter().enumerate() {
        let factor = near.iter().map(|&other| densities[other]).sum::<f64>() / 2.0 / densities[at];
        assert!((found[at] - factor).abs() < 1e-8, "{at}: {} {factor}", found[at]);
    }
}

#[test]
fn degenerate_data_are_harmless() {
    for score in ["knn", "lof", "centroid", "mahalanobis", "duplicates"] {
        Case::degenerate_data_give_numbers(&scored(score, "class"));
    }
    Case::degenerate_data_give_numbers(&scored("lof", "data"));
}

#[test]
fn more_neighbours_than_samples_are_refused() {
    let values = |score: &str| [("k".to_owned(), 30u64.into()), ("score".to_owned(), score.into())].into();
    let facts = Case::clean(1, 10).facts();
    let errors = check(&values("lof"), &facts).err().unwrap();
    assert!(errors[0].to_string().contains("has fewer than 30 others"), "{}", errors[0]);
    assert!(check(&values("centroid"), &facts).is_ok());
}

#[test]
fn all_scores_agree_with_scikit_learn() {
    let golden = Golden::load();
    let table = Golden::table(include_str!("../../tests/golden/outliers.csv"));
    let columns = [("knn", "class"), ("knn", "data"), ("lof", "class"), ("lof", "data"), ("centroid", "class")];
    for (column, (score, within)) in columns.into_iter().chain([("mahalanobis", "class")]).enumerate() {
        let defense = scored(score, within);
        let groups = defense.groups(&golden.data);
        for (members, found) in groups.iter().zip(defense.distances(&golden.features, &groups).unwrap()) {
            for (&index, found) in members.iter().zip(found) {
                let expected = table[index][column];
                assert!((found / expected - 1.0).abs() < 1e-9, "{score} {within} {index}: {found} {expected}");
            }
        }
    }
}

#[test]
fn twins_agree_with_scikit_learn() {
    let golden = Golden::load();
    let table = Golden::table(include_str!("../../tests/golden/duplicates.csv"));
    // The first 24 samples again, each a little further off, every other one with another label.
    let copies: Vec<_> =
        (0..24).map(|index| (index, (golden.data.label(index) + index as Label % 2) % 3, 1.0 / 64.0)).collect();
    let case = with_copies(&golden, &copies);
    let defense = scored("duplicates", "class");
    let verdict = defense.vet(&case.context()).unwrap();
    let removed: Vec<usize> = (0..table.len()).filter(|&index| table[index][1] == 1.0).collect();
    assert_eq!(case.removed(&verdict), removed);
    for (index, &score) in verdict.scores.iter().enumerate() {
        assert!((score - table[index][0]).abs() < 1e-9, "{index}: {score} {}", table[index][0]);
    }
}
