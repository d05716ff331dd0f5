use serde_json::json;
use theriac_core::record::ShardRecord;

use super::*;
use crate::toy::{cell, method, results, seeds};

fn cells(asr: &[f64]) -> Vec<CellRecord> {
    let (none, badnets) = (method("none", json!({})), method("badnets", json!({"rate": 0.1})));
    [seeds(&none, &none, "clean_accuracy", &[0.9, 0.91, 0.92]), seeds(&badnets, &none, "asr", asr)].concat()
}

#[test]
fn equal_results_are_identical_whenever_and_wherever_they_were_made() {
    let a = results(cells(&[0.5, 0.6, 0.7]));
    let mut b = a.clone();
    b.manifest.seconds = 9.0;
    b.manifest.machine.insert("cores".to_owned(), "64".to_owned());
    b.cells.reverse();
    let same = diff(&a, &b);
    assert!(same.is_identical() && same.same_results());
    assert_eq!(same.to_string(), "The results are identical: 6 cells.\n");
}

#[test]
fn equal_numbers_from_elsewhere_are_told_from_identical_results() {
    let a = results(cells(&[0.5, 0.6, 0.7]));
    let mut b = a.clone();
    b.manifest.device = "gpu".to_owned();
    b.cells[0].address = "other".to_owned();
    let found = diff(&a, &b);
    assert!(found.same_results() && !found.is_identical());
    assert_eq!((found.equal, found.equal_but_for_details), (6, 1));
    let expected = "A: toy, B: toy\n6 cells equal.\n1 of the equal ones differ in details: addresses, curves or counts.\n\n\
                    How they came about:\n  device: cpu -> gpu\n";
    assert_eq!(found.to_string(), expected);
}

#[test]
fn differences_by_hand() {
    let a = results(cells(&[0.5, 0.6, 0.7]));
    let mut b = results(cells(&[0.6, 0.8, 1.0]));
    b.cells[0].outcome = Outcome::Diverged("the loss is not a number".to_owned());
    b.cells[0].metrics.clear();
    b.cells[2].metrics.insert("test_loss".to_owned(), 0.3);
    let extra = cell(&method("remove", json!({})), &method("none", json!({})), 7, &[]);
    b.cells.extend([CellRecord { seed: 8, ..extra.clone() }, extra]);
    b.cells.remove(1);
    let found = diff(&a, &b);
    assert_eq!((found.equal, found.only_a.len(), found.only_b.len(), found.outcomes.len()), (0, 1, 2, 1));
    let changed: Vec<_> = found.metrics.iter().map(|m| (m.metric.as_str(), m.cell.seed, m.a, m.b)).collect();
    let expected = [
        ("test_loss", 3, None, Some(0.3)),
        ("asr", 1, Some(0.5), Some(0.6)),
        ("asr", 2, Some(0.6), Some(0.8)),
        ("asr", 3, Some(0.7), Some(1.0)),
    ];
    assert_eq!(changed, expected);
    let [over] = found.over_seeds.as_slice() else { panic!("{:?}", found.over_seeds) };
    // Differences 0.1, 0.2, 0.3, as in the comparison by hand.
    let test = over.test.unwrap();
    assert!((test.p - (1.0 - (12.0f64 / 14.0).sqrt())).abs() < 1e-9 && over.p_holm == Some(test.p));
    assert_eq!((over.n, over.metric.as_str()), (3, "asr"));
    let expected = "\
A: toy, B: toy
0 cells equal, 4 with other metrics, 1 with another outcome, 1 only in A and 2 only in B.

Only in A:
  e: no attack; no defense, seed 2

Only in B:
  e: remove; no defense, seeds 8 and 7

Other outcome:
  e: no attack; no defense, seed 1: ok -> diverged (the loss is not a number)

Measured on one side only:
  test_loss: in B, 1 cell

Metrics, B minus A, the largest first (95 % interval; p by Holm's correction for 1 test):
  e: badnets; no defense
    Attack success rate (ASR): +20.00 points [-4.84, +44.84] (3 seeds, p = 0.0742)
";
    assert_eq!(found.to_string(), expected);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["only_a"][0]["seed"], 2);
    assert_eq!(json["metrics"][0]["a"], serde_json::Value::Null);
    assert_eq!(json["over_seeds"][0]["attack"]["name"], "badnets");
    assert_eq!(json["outcomes"][0]["b"]["status"], "diverged");
}

#[test]
fn many_differences_are_cut_and_counted_the_largest_first() {
    let none = method("none", json!({}));
    let many = |step: f64| {
        let attack = |rate: usize| method("badnets", json!({"rate": rate}));
        let cells = (1..=30).flat_map(|rate| seeds(&attack(rate), &none, "asr", &[0.1 + step * rate as f64, 0.1]));
        results(cells.collect())
    };
    let text = diff(&many(0.0), &many(0.001)).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "30 cells equal and 30 with other metrics.");
    assert_eq!(lines[4], "  e: badnets, rate 30; no defense");
    assert!(
        lines[5].starts_with("    Attack success rate (ASR): +1.50 points [-17.56, +20.56] (2 seeds, p = 1.00)"),
        "{text}"
    );
    assert_eq!((lines.len(), *lines.last().unwrap()), (25, "  and 20 more"));
}

#[test]
fn other_studies_say_what_is_different_about_them() {
    let mut a = results(cells(&[0.5]));
    let mut b = a.clone();
    for cell in &mut b.cells {
        cell.dataset = method("mnist", json!({"train": 20}));
    }
    a.manifest.config =
        "name = \"toy\"\n[[experiment]]\nname = \"e\"\n[[experiment.data]]\nname = \"mnist\"\ntrain = 10\n".to_owned();
    b.manifest.config = a.manifest.config.replace("10", "20");
    b.manifest.data.insert("mnist train=20".to_owned(), "0a1b2c3d".repeat(8));
    b.manifest.shard = Some(ShardRecord {
        index: 1,
        of: 2,
        plan: String::new(),
        cells: Vec::new(),
        gallery: Vec::new(),
        files: [].into(),
        steps: Vec::new(),
    });
    let found = diff(&a, &b);
    assert_eq!((found.equal, found.only_a.len(), found.only_b.len()), (0, 4, 4));
    let text = found.to_string();
    for line in [
        "0 cells equal, 4 only in A and 4 only in B.",
        "  part: absent -> 1 of 2",
        "  data mnist train=20: absent -> 0a1b2c3d0a1b...",
        "  config experiment.e.data.mnist.train: 10 -> 20",
        "  e: mnist, train 10; no attack; no defense, seeds 1, 2 and 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // A config that cannot be read is compared as a whole.
    b.manifest.config = "no toml".to_owned();
    b.manifest.config_digest = "abc".to_owned();
    assert!(diff(&a, &b).study.iter().any(|change| change.what == "config" && change.b.as_deref() == Some("abc")));
}

#[test]
fn tiny_differences_are_not_called_zero() {
    let (a, b) = (results(cells(&[0.5, 0.5])), results(cells(&[0.5 + 1e-9, 0.5 + 2e-9])));
    assert!(diff(&a, &b).to_string().contains("(ASR): +2e-7 points [-5e-7, +8e-7]"), "{}", diff(&a, &b));
}

#[test]
fn a_cell_that_is_there_twice_is_matched_once() {
    let a = results(cells(&[0.5]));
    let mut b = a.clone();
    b.cells.push(a.cells[3].clone());
    let found = diff(&a, &b);
    assert_eq!((found.equal, found.only_a.len(), found.only_b.len()), (4, 0, 1));
}

proptest::proptest! {
    #[test]
    fn a_difference_is_the_same_from_either_side(
        one in proptest::collection::vec(0.0f64..1.0, 0..5), other in proptest::collection::vec(0.0f64..1.0, 0..5)
    ) {
        let (a, b) = (results(cells(&one)), results(cells(&other)));
        let (there, back) = (diff(&a, &b), diff(&b, &a));
        proptest::prop_assert_eq!(there.equal, back.equal);
        proptest::prop_assert_eq!(&there.only_a, &back.only_b);
        let p = |found: &Diff| found.over_seeds.iter().map(|change| change.p_holm).collect::<Vec<_>>();
        proptest::prop_assert_eq!(p(&there), p(&back));
        proptest::prop_assert!(diff(&a, &a).is_identical());
        proptest::prop_assert_eq!(there.is_identical(), one == other);
    }
}
