use serde_json::json;
use theriac_core::record::Outcome;

use super::*;
use crate::toy::{cell, method, seeds};

fn compare(of: &str, names: &[&str], metrics: &[&str]) -> CompareRecord {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    CompareRecord { experiment: "e".to_owned(), of: of.to_owned(), names: owned(names), metrics: owned(metrics) }
}

fn plain(name: &str) -> MethodRecord {
    method(name, json!({}))
}

fn badnets(rate: f64) -> MethodRecord {
    method("badnets", json!({"rate": rate}))
}

/// Which methods are compared, and where.
fn pairs(rows: &[Comparison]) -> Vec<String> {
    rows.iter().map(|row| format!("{} - {} | {}", row.names[1], row.names[0], row.place)).collect()
}

#[test]
fn a_comparison_by_hand() {
    // Differences 0.1, 0.2, 0.3: mean 0.2, s = 0.1, t = 2 sqrt(3), p = 1 - sqrt(12 / 14) with two degrees of freedom.
    let cells = [
        seeds(&badnets(0.1), &plain("knn"), "asr", &[0.1, 0.1, 0.1]),
        seeds(&badnets(0.1), &plain("strip"), "asr", &[0.2, 0.3, 0.4]),
    ];
    let rows = comparisons(&cells.concat(), &[compare("defense", &["knn", "strip"], &["asr"])]);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let (test, p) = (row.test.unwrap(), 1.0 - (12.0f64 / 14.0).sqrt());
    assert!((row.difference().unwrap() - 0.2).abs() < 1e-12 && (test.deviation - 0.1).abs() < 1e-12);
    assert!((test.p - p).abs() < 1e-9 && row.p_holm == Some(test.p), "a single test needs no correction");
    assert_eq!((row.n, row.seeds_needed), (3, Some(5)), "two standard deviations");
    assert_eq!(pairs(&rows), ["strip - knn | badnets"]);
    assert_eq!(row.condition.keys().copied().collect::<Vec<_>>(), ["attack", "dataset", "model", "train"]);
    assert_eq!(
        row.sentence(),
        "Attack success rate (ASR): strip and knn cannot be told apart: the first lies 20.0 points [-4.8, 44.8] higher \
         (p = 0.0742, n = 3 seeds); alone, at this spread, it would take about 5 seeds."
    );
    // The other way round, the sentence is the same.
    let turned = comparisons(&cells.concat(), &[compare("defense", &["strip", "knn"], &["asr"])]);
    assert_eq!(turned[0].sentence(), row.sentence());
    assert!((turned[0].difference().unwrap() + 0.2).abs() < 1e-12);
}

#[test]
fn the_tests_of_an_experiment_are_corrected_together() {
    let mut cells = Vec::new();
    for (name, asr, accuracy) in [("a", [0.10, 0.11, 0.12, 0.10], 0.9), ("b", [0.50, 0.52, 0.51, 0.54], 0.9)] {
        for (seed, asr) in (1..).zip(asr) {
            let wobble = if name == "a" { 0.001 * (seed % 2) as f64 } else { 0.0 };
            cells.push(cell(&badnets(0.1), &plain(name), seed, &[("asr", asr), ("clean_accuracy", accuracy + wobble)]));
        }
    }
    let other = cells.iter().cloned().map(|cell| CellRecord { experiment: "f".to_owned(), ..cell });
    let all: Vec<CellRecord> = cells.iter().cloned().chain(other).collect();
    let both = compare("defense", &["a", "b"], &["asr", "clean_accuracy"]);
    let alone = CompareRecord { experiment: "f".to_owned(), ..compare("defense", &["a", "b"], &["asr"]) };
    // The same comparison twice is one.
    let rows = comparisons(&all, &[both.clone(), alone, both]);
    assert_eq!(rows.len(), 3);
    let p: Vec<f64> = rows.iter().map(|row| row.test.unwrap().p).collect();
    assert_eq!((rows[0].p_holm, rows[1].p_holm, rows[2].p_holm), (Some(2.0 * p[0]), Some(p[1]), Some(p[0])));
    assert!(rows[0].holds() && !rows[1].holds() && p[0] < p[1]);
    assert_eq!(
        rows[0].sentence(),
        "Attack success rate (ASR): b lies 41.0 points [37.6, 44.4] above a (p < 0.001, n = 4 seeds)."
    );
}

#[test]
fn what_was_not_measured_on_both_sides_is_left_out_and_counted() {
    let mut cells = [
        seeds(&badnets(0.1), &plain("a"), "asr", &[0.1, 0.2, 0.3, 0.4]),
        seeds(&badnets(0.1), &plain("b"), "asr", &[0.2, 0.4, 0.5, 0.9]),
    ]
    .concat();
    cells[1].outcome = Outcome::Diverged("loss".to_owned());
    cells[6].outcome = Outcome::Failed("memory".to_owned());
    cells[7].metrics.clear();
    let asked = [compare("defense", &["a", "b"], &["asr", "no_such_metric"])];
    let rows = comparisons(&cells, &asked);
    assert_eq!(rows.len(), 1, "a metric that nobody has is no row");
    assert_eq!((rows[0].n, rows[0].means, rows[0].test), (1, Some([0.1, 0.2]), None));
    assert!(rows[0].sentence().contains("n = 1 seed") && rows[0].seeds_needed.is_none());
    for cell in &mut cells[4..] {
        cell.outcome = Outcome::Diverged("loss".to_owned());
    }
    let rows = comparisons(&cells, &asked);
    assert_eq!((rows.len(), rows[0].n, rows[0].means), (2, 0, None), "nothing is left of b, which is worth telling");
    assert!(rows[0].sentence().contains("no seed at which both a and b were measured"));
    let text = String::from_utf8(comparisons_csv(&rows).unwrap()).unwrap();
    assert!(text.lines().nth(1).unwrap().ends_with(",asr,0,,,,,,,,,"), "{text}");
}

#[test]
fn everything_but_the_compared_method_is_equal() {
    let mut cells = Vec::new();
    for attack in [
        plain("none"),
        badnets(0.01),
        badnets(0.1),
        method("blended", json!({"rate": 0.01})),
        method("blended", json!({"rate": 0.1})),
    ] {
        for defense in [plain("none"), method("knn", json!({"k": 5})), method("knn", json!({"k": 9})), plain("strip")] {
            cells.extend(seeds(&attack, &defense, "asr", &[0.1, 0.2]));
        }
    }
    let attacks = comparisons(&cells, &[compare("attack", &["blended", "badnets"], &["asr"])]);
    let expected = [
        "badnets, rate 0.01 - blended, rate 0.01 | no defense",
        "badnets, rate 0.1 - blended, rate 0.1 | no defense",
        "badnets, rate 0.01 - blended, rate 0.01 | knn, k 5",
    ];
    assert_eq!(pairs(&attacks)[..3], expected, "both sweep the rate, so it is a part of the condition");
    assert_eq!(attacks.len(), 8);
    let defenses = comparisons(&cells, &[compare("defense", &["strip", "knn"], &["asr"])]);
    assert_eq!(pairs(&defenses)[..2], ["knn, k 5 - strip | no attack", "knn, k 9 - strip | no attack"]);
    assert_eq!(defenses.len(), 10, "two pairs at five attacks");
    assert!(defenses.iter().all(|row| row.seeds_needed.is_none() && row.sentence().contains("their means are equal")));
    // Unknown words give no rows.
    assert_eq!(comparisons(&cells, &[compare("seed", &["1", "2"], &["asr"])]), []);
    assert_eq!(comparisons(&cells, &[compare("defense", &["strip", "abl"], &["asr"])]), []);
}

#[test]
fn a_filter_is_compared_with_its_own_control() {
    let control = |filter: &str| method("random-filter", json!({"matches": filter}));
    let defenses =
        [plain("none"), plain("knn"), control("knn"), plain("spectral"), control("spectral"), plain("strip")];
    let cells: Vec<CellRecord> =
        defenses.iter().flat_map(|defense| seeds(&badnets(0.1), defense, "tpr", &[0.1, 0.2])).collect();
    let rows = comparisons(&cells, &[compare("defense", &["knn", "spectral", "random-filter"], &["tpr"])]);
    let expected = [
        "spectral - knn | badnets",
        "random-filter as knn - knn | badnets",
        "random-filter as spectral - spectral | badnets",
    ];
    assert_eq!(pairs(&rows), expected);
    let rows = comparisons(&cells, &[compare("defense", &["strip", "random-filter"], &["tpr"])]);
    assert_eq!(rows.len(), 2, "no control matches strip, so both will do");
}

#[test]
fn the_table_for_other_programs() {
    let cells = [
        seeds(&badnets(0.1), &plain("knn"), "asr", &[0.25, 0.25]),
        seeds(&badnets(0.1), &plain("strip"), "asr", &[0.5, 0.75]),
    ];
    let rows = comparisons(&cells.concat(), &[compare("defense", &["knn", "strip"], &["asr"])]);
    let bytes = comparisons_csv(&rows).unwrap();
    let mut table = csv::Reader::from_reader(bytes.as_slice());
    let header: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
    let row = table.records().next().unwrap().unwrap();
    let value = |name: &str| &row[header.iter().position(|column| column == name).unwrap()];
    assert_eq!(
        [value("of"), value("a"), value("b"), value("defense"), value("attack")],
        ["defense", "knn", "strip", "", "badnets"]
    );
    assert_eq!([value("n"), value("mean_a"), value("mean_b"), value("difference")], ["2", "0.25", "0.625", "0.375"]);
    // t = 0.375 * sqrt(2) / 0.17678 = 3, and with one degree of freedom p = 1 - 2 atan(3) / pi.
    let p: f64 = value("p").parse().unwrap();
    assert!((p - (1.0 - 2.0 * 3f64.atan() / std::f64::consts::PI)).abs() < 1e-9);
    assert_eq!(value("p"), value("p_holm"));
    assert_eq!(header.last().unwrap(), "seeds_needed");
}
