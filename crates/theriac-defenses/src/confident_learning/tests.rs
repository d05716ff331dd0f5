use theriac_core::{ChangeSet, Role, Seeds, Stage};
use theriac_train::TrainConfig;

use super::*;
use crate::random_filter::RandomFilter;
use crate::testing::{Case, Golden, stripes, toy_network};

const RULES: [&str; 7] = [
    "prune-by-noise-rate",
    "prune-by-class",
    "both",
    "confident-learning",
    "predicted-neq-given",
    "low-normalized-margin",
    "low-self-confidence",
];
const SCORES: [&str; 3] = ["self-confidence", "normalized-margin", "confidence-weighted-entropy"];

/// Judges by the victim's own probabilities.
fn by(rule: &str) -> ConfidentLearning {
    ConfidentLearning { folds: 0, rule: rule.to_owned(), ..ConfidentLearning::default() }
}

fn found(flags: &[bool]) -> Vec<usize> {
    (0..flags.len()).filter(|&index| flags[index]).collect()
}

/// Features of the planted cases as probabilities: those of a classifier by the nearest centre.
fn with_probabilities(mut case: Case) -> Case {
    let scaled = case.features.iter().flat_map(|row| row[..3].to_vec()).map(|value| value / 4.0).collect();
    case.features = Matrix::new(3, scaled).softmax();
    case
}

#[test]
fn a_small_case_by_hand() {
    // Thresholds: (0.9 + 0.6 + 0.3 + 0.2) / 4 = 0.5 and (0.8 + 0.4) / 2 = 0.6.
    let labels = [0, 0, 0, 0, 1, 1];
    let own = [0.9f32, 0.6, 0.3, 0.2, 0.8, 0.4];
    let rows = labels.iter().zip(own).flat_map(|(&label, p)| if label == 0 { [p, 1.0 - p] } else { [1.0 - p, p] });
    let probabilities = Matrix::new(2, rows.collect());
    let beliefs = Beliefs { labels: &labels, probabilities: &probabilities };
    assert_eq!(beliefs.guesses(), [Some(0), Some(0), Some(1), Some(1), Some(1), Some(0)]);
    assert_eq!(beliefs.calibrated_joint(), [[2, 2], [1, 1]]);
    for rule in RULES {
        assert_eq!(found(&by(rule).mislabelled(&labels, &probabilities)), [2, 3, 5], "{rule}");
    }
    let doubts = |score: &str| {
        let config = ConfidentLearning { score: score.to_owned(), ..by("both") };
        config.doubts(&labels, &probabilities).iter().map(|doubt| (doubt * 1e3).round() / 1e3).collect::<Vec<_>>()
    };
    assert_eq!(doubts("self-confidence"), [0.1, 0.4, 0.7, 0.8, 0.2, 0.6]);
    assert_eq!(doubts("normalized-margin"), doubts("self-confidence"), "of two classes the margin tells no more");
    // Entropies 0.469, 0.971, 0.881, 0.722, 0.722, 0.971 bits; ln(1 + r) / r of each.
    assert_eq!(doubts("confidence-weighted-entropy"), [0.195, 0.405, 0.533, 0.577, 0.287, 0.493]);
}

#[test]
fn no_rule_takes_what_is_beyond_doubt() {
    let sure = Matrix::new(3, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]].concat());
    for score in SCORES {
        let config = ConfidentLearning { score: score.to_owned(), ..by("both") };
        assert_eq!(config.doubts(&[0, 1, 2], &sure), [0.0, 0.0, 1.0], "{score}");
    }
    // A tie of the label with another class, and one that is as good as a tie.
    let even = Matrix::new(2, vec![0.5, 0.5, 0.500_000_2, 0.499_999_8, 0.2, 0.8]);
    assert_eq!(found(&by("predicted-neq-given").mislabelled(&[1, 1, 0], &even)), [2]);
}

#[test]
fn shares_are_whole_and_add_up() {
    assert_eq!(apportion(&[1, 1, 2], 4), [1, 1, 2]);
    assert_eq!(apportion(&[6, 2, 1, 3], 15), [7, 3, 1, 4], "7.5, 2.5, 1.25 and 3.75: the later of two halves");
    let mut stream = Seeds::new(3).stream("parts");
    for _ in 0..500 {
        let parts: Vec<usize> = (0..1 + stream.below(6)).map(|at| stream.below(40) + usize::from(at == 0)).collect();
        let (total, sum) = (stream.below(300), parts.iter().sum::<usize>());
        let shares = apportion(&parts, total);
        assert_eq!(shares.iter().sum::<usize>(), total);
        let near = |(&part, &share): (&usize, &usize)| (part * total).abs_diff(share * sum) < sum;
        assert!(parts.iter().zip(&shares).all(near), "{parts:?} {total} {shares:?}");
    }
}

#[test]
fn rules_do_not_depend_on_the_order_of_samples_or_on_the_names_of_classes() {
    let mut stream = Seeds::new(5).stream("beliefs");
    for _ in 0..20 {
        let (classes, samples) = (2 + stream.below(3), 30 + stream.below(60));
        let logits = (0..samples * classes).map(|_| 2.0 * stream.normal() as f32).collect();
        let probabilities = Matrix::new(classes, logits).softmax();
        let labels: Vec<Label> = (0..samples).map(|_| stream.below(classes) as Label).collect();
        let mut order: Vec<usize> = (0..samples).collect();
        stream.shuffle(&mut order);
        let shuffled: Vec<Label> = order.iter().map(|&index| labels[index]).collect();
        for rule in RULES {
            let flags = by(rule).mislabelled(&labels, &probabilities);
            let moved = by(rule).mislabelled(&shuffled, &probabilities.select(&order));
            assert!(order.iter().zip(&moved).all(|(&index, &flag)| flags[index] == flag), "{rule}");
        }
        let of = |rule| by(rule).mislabelled(&labels, &probabilities);
        assert_eq!(of("both"), and(of("prune-by-class"), &of("prune-by-noise-rate")));
        let count = |rule| found(&of(rule)).len();
        assert_eq!(count("low-self-confidence"), count("confident-learning"));
        assert_eq!(count("low-normalized-margin"), count("confident-learning"));
        let predicted = probabilities.argmax();
        assert!(found(&of("predicted-neq-given")).iter().all(|&index| predicted[index] != labels[index]));
    }
}

#[test]
fn flipped_labels_are_found_and_clean_data_spared() {
    let case = with_probabilities(Case::flipped(1, 300, 40));
    for rule in RULES {
        // Half of a class is less sure than its mean, so about half of the flips are guessed or counted.
        case.is_found_by(&by(rule), if rule == "predicted-neq-given" { 0.95 } else { 0.4 });
        assert!(case.waste(&case.is_deterministic(&by(rule))) < 0.05, "{rule}");
        let clean = with_probabilities(Case::clean(2, 200));
        assert!(clean.waste(&clean.is_deterministic(&by(rule))) < 0.05, "{rule}");
    }
}

#[test]
fn degenerate_probabilities_are_harmless() {
    let cases = [
        (vec![], Matrix::new(3, vec![])),
        (vec![0], Matrix::new(3, vec![0.2, 0.3, 0.5])),
        (vec![0, 2, 2], Matrix::new(3, vec![1.0 / 3.0; 9])),
        (vec![1; 40], Matrix::new(3, vec![1.0 / 3.0; 120])),
        ([0, 1].repeat(20), Matrix::new(3, [0.0, 0.0, 1.0].repeat(40))),
    ];
    for (labels, probabilities) in cases {
        let case = Case::new(&labels, probabilities);
        for rule in RULES {
            for score in SCORES {
                for action in ["drop", "relabel"] {
                    let (score, action) = (score.to_owned(), action.to_owned());
                    let verdict = case.is_deterministic(&ConfidentLearning { score, action, ..by(rule) });
                    assert!(verdict.scores.iter().all(|score| (0.0..=1.0).contains(score)));
                }
            }
        }
    }
}

/// Stripes with a fifth of the labels wrong, and which ones.
fn noisy_stripes() -> (Dataset, Dataset, ChangeSet) {
    let clean = stripes(300, 1);
    let mut flips = ChangeSet::new("test", Role::Annotator, Stage::Label);
    (0..300).step_by(5).for_each(|index| flips.relabel(&clean, index, (clean.label(index) + 1) % 3));
    (flips.apply(&clean).unwrap(), clean, flips)
}

#[test]
fn cross_validation_finds_flips_beats_chance_and_relabelling_restores_them() {
    let (data, clean, truth) = noisy_stripes();
    let recipe = TrainConfig { epochs: 6, batch: 16, ..TrainConfig::default() };
    let (seeds, victim) = (Seeds::new(1).child("defense"), toy_network(&data));
    let context = VetContext {
        data: &data,
        features: &Matrix::default(),
        probabilities: &Matrix::default(),
        seeds: &seeds,
        victim: &victim,
        recipe: &recipe,
        session: &(),
        trusted: &data,
        past: None,
        truth: &truth,
        matched: None,
    };
    let defense = ConfidentLearning::default();
    let verdict = defense.vet(&context).unwrap();
    let (wrong, removed) = (truth.touched(), verdict.changes.touched());
    let hits = wrong.intersection(&removed).count();
    assert!(hits >= 54 && removed.len() <= 70, "{hits} of 60 among {}", removed.len());
    let random = RandomFilter::default().vet(&VetContext { matched: Some(removed.len()), ..context }).unwrap();
    assert!(hits > 2 * wrong.intersection(&random.changes.touched()).count());
    assert_eq!(defense.vet(&context).unwrap().scores, verdict.scores);
    let relabel = ConfidentLearning { action: "relabel".to_owned(), ..defense };
    let restored = relabel.vet(&context).unwrap().changes.apply(&data).unwrap();
    let right = (0..300).filter(|&index| restored.label(index) == clean.label(index)).count();
    assert!(restored.len() == 300 && right >= 290, "{right} of 300 labels are right again");
}

#[test]
fn each_rule_has_its_message() {
    let facts = Case::clean(1, 10).facts();
    let message = |folds: u64| {
        let errors = check(&[("folds".to_owned(), folds.into())].into(), &facts).err();
        errors.map(|errors| errors[0].to_string()).unwrap_or_default()
    };
    assert_eq!(
        message(1),
        "failed to accept `folds`: a single fold leaves nothing to train on; 0 takes the victim's own probabilities"
    );
    assert_eq!(message(31), "failed to accept `folds`: there are only 30 training samples");
    assert_eq!([message(0), message(30)], [String::new(), String::new()]);

    let case = with_probabilities(Case::clean(1, 10));
    let other = case.features.select(&[0, 1]);
    let text = by("both").vet(&VetContext { probabilities: &other, ..case.context() }).unwrap_err().to_string();
    assert_eq!(text, "failed to defend: there are 30 samples of 3 classes, but probabilities of 2 and 3");
    let broken = Matrix::new(3, vec![f32::NAN; 90]);
    let text = by("both").vet(&VetContext { probabilities: &broken, ..case.context() }).unwrap_err().to_string();
    assert!(text.contains("probabilities of sample 0 are not finite"), "{text}");
}

#[test]
fn joints_rules_and_scores_agree_with_cleanlab() {
    let samples = Golden::table(include_str!("../../tests/golden/confident_learning.csv"));
    let joints = Golden::table(include_str!("../../tests/golden/confident_joint.csv"));
    for (setting, joint) in joints.iter().enumerate() {
        let rows: Vec<&Vec<f64>> = samples.iter().filter(|row| row[0] == setting as f64).collect();
        let labels: Vec<Label> = rows.iter().map(|row| row[1] as Label).collect();
        let values = rows.iter().flat_map(|row| &row[2..6]).map(|&value| value as f32).collect();
        let probabilities = Matrix::new(4, values);
        let ours = Beliefs { labels: &labels, probabilities: &probabilities }.calibrated_joint().concat();
        assert!(ours.iter().zip(&joint[1..]).all(|(&ours, &theirs)| ours as f64 == theirs), "{setting}: {ours:?}");

        for (at, rule) in RULES.into_iter().enumerate() {
            let flags = by(rule).mislabelled(&labels, &probabilities);
            let theirs: Vec<bool> = rows.iter().map(|row| row[6 + at] == 1.0).collect();
            // Which of equal samples are taken is nobody's to say.
            for row in &rows {
                let of =
                    |flags: &[bool]| found(flags).into_iter().filter(|&index| rows[index][..6] == row[..6]).count();
                assert_eq!(of(&flags), of(&theirs), "setting {setting}, {rule}: {row:?}");
            }
        }
        for (at, score) in SCORES.into_iter().enumerate() {
            let config = ConfidentLearning { score: score.to_owned(), ..by("both") };
            for (doubt, row) in config.doubts(&labels, &probabilities).iter().zip(&rows) {
                let own = row[2 + row[1] as usize];
                // Where a label is beyond doubt or impossible, cleanlab says something else; see the head of the file.
                if at < 2 || own > 1e-6 && own < 1.0 {
                    assert!((1.0 - doubt - row[13 + at]).abs() < 1e-6, "setting {setting}, {score}: {doubt} {row:?}");
                }
            }
        }
    }
}
