use serde_json::json;
use theriac_core::record::CellRecord;

use super::*;
use crate::setting::settings;
use crate::toy::{cell, method};

/// Two seeds of each, from so many sources; `vote` loses accuracy and keeps the backdoor out.
fn cells(sources: usize) -> Vec<CellRecord> {
    let none = method("none", json!({}));
    let attack = |delivers: &str, rate: f64| method("hostile", json!({"delivers": delivers, "rate": rate}));
    let mut cells = Vec::new();
    for attack in [none.clone(), attack("flip", 1.0), attack("badnets", 0.5), attack("badnets", 0.25)] {
        for (defense, asr) in [(&none, 1.0), (&method("vote", json!({})), 0.01)] {
            for seed in 1..=2 {
                let mut metrics = vec![("clean_accuracy", 0.9), ("clean_model_accuracy", 0.91)];
                if attack.params.get("delivers") == Some(&json!("badnets")) {
                    metrics.extend([("asr", asr), ("clean_model_success", 0.0)]);
                }
                let mut made = cell(&attack, defense, seed, &metrics);
                made.dataset.params.insert("sources".to_owned(), sources.into());
                cells.push(made);
            }
        }
    }
    cells
}

fn figures_of(cells: &[CellRecord]) -> Vec<Figure> {
    let settings = settings(cells);
    across(&settings.iter().collect::<Vec<_>>(), Methods(&[])).unwrap()
}

#[test]
fn settings_that_differ_in_the_number_of_sources_are_drawn_over_it_one_line_a_defense() {
    let drawn = figures_of(&[cells(2), cells(20), cells(5)].concat());
    let names: Vec<&str> = drawn.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "e-1-over-sources-none",
            "e-1-over-sources-hostile-delivers-badnets",
            "e-1-over-sources-hostile-delivers-flip",
        ]
    );
    let [none, backdoor, flip] = &drawn[..] else { panic!("three figures") };
    assert_eq!(none.title, "no attack: effect of the number of sources");
    assert!(none.svg.contains("undefended, sources pooled") && none.svg.contains("vote"));
    assert!(!none.svg.contains("clean model"), "it is the model of the line");
    // Two rates: two lines for each defense, and no common level.
    assert!(backdoor.svg.contains("vote, rate 0.25") && backdoor.svg.contains("Attack success rate"));
    assert_eq!(flip.title, "hostile, rate 1, delivers flip: effect of the number of sources");
    assert!(flip.svg.contains("clean model") && !flip.svg.contains("Attack success rate"));
    assert!(flip.caption.contains("Undefended models are trained on all sources together."), "{}", flip.caption);
}

#[test]
fn points_stand_at_their_numbers_in_rising_order_and_need_a_second_one() {
    let all = [cells(5), cells(2)].concat();
    let settings = settings(&all);
    let settings: Vec<&Setting> = settings.iter().collect();
    let runs = runs(&settings, "sources");
    assert_eq!(runs[0].1.iter().map(|(x, _)| *x).collect::<Vec<_>>(), [2.0, 5.0]);
    let choices = runs[0].1[0].1.choices("hostile", Methods(&[]));
    let sweep = of_data(&runs[0].1, &choices[1], "sources", Methods(&[]), "");
    let vote = sweep.lines.iter().find(|line| line.name == "vote").unwrap();
    assert_eq!(vote.groups.iter().map(|(x, group)| (*x, group.ok().count())).collect::<Vec<_>>(), [(2.0, 2), (5.0, 2)]);
    assert_eq!(figures_of(&cells(5)).len(), 0);
    // Other networks are other runs.
    let mut other = [cells(2), cells(5)].concat();
    other.iter_mut().for_each(|cell| cell.model.name = "cnn".to_owned());
    let drawn = figures_of(&[all.clone(), other].concat());
    assert_eq!(drawn.len(), 6);
    assert!(drawn[0].title.ends_with(" (mnist; mlp; sgd-loop)") && drawn[5].title.ends_with(" (mnist; cnn; sgd-loop)"));
}

#[test]
fn variants_that_only_have_different_rates_by_chance_are_no_sweep() {
    let mut one = cells(5);
    one.retain(|cell| cell.attack.params.get("rate") != Some(&json!(0.25)));
    assert_eq!(figures(&settings(&one)[0], Methods(&[])).unwrap(), []);
    let both = cells(5);
    let drawn = figures(&settings(&both)[0], Methods(&[])).unwrap();
    assert_eq!(drawn.len(), 1);
    assert!(drawn[0].svg.contains("undefended, delivers badnets") && drawn[0].svg.contains("Attack success rate"));
}
