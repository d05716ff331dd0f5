//! The same config gives the same bytes, whatever the number of jobs and threads.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{Desk, outputs, with};
use std::time::SystemTime;

/// A bit of everything that draws at random or runs in parallel.
const DIVERSE: &str = r#"name = "same"
seeds = 2

[data]
name = "mnist-10k"
train = 300
test = 150

[model]
name = "mlp"
hidden = 16

[train]
epochs = 2
batch = 32

[[experiment]]
name = "backdoor"

[[experiment.attack]]
name = "badnets"
rate = [0.05, 0.1]

[[experiment.attack]]
name = "label-flip"
rate = 0.2

[[experiment.defense]]
name = "deep-knn"

[[experiment.defense]]
name = "strip"
against = ["badnets"]
overlays = 3
calibration = 40
"#;

const ONE_NETWORK: &str = r#"name = "same"
seeds = 1

[data]
name = "mnist-10k"
train = 200
test = 100

[train]
epochs = 1
batch = 32

[[experiment]]
name = "backdoor"
model = { MODEL }

[[experiment.attack]]
name = "badnets"
rate = 0.1

[[experiment.defense]]
name = "fine-tuning"
epochs = 1
"#;

/// Runs `config` in three ways, each from nothing, and compares all that has to be equal.
fn same_in_all_ways(config: &str) -> Desk {
    let desk = Desk::with_config(config);
    let ways = [("1", "1"), ("2", "1"), ("1", "2")];
    for (jobs, threads) in ways {
        let out = format!("jobs-{jobs}-threads-{threads}");
        desk.succeed(&["run", "study.toml", "--out", &out, "--jobs", jobs, "--threads", threads]);
    }
    let file = |(jobs, threads): (&str, &str), name: &str| format!("jobs-{jobs}-threads-{threads}/same/{name}");
    let manifest = |way| desk.json(&file(way, "manifest.json"));
    let trained = outputs(&manifest(ways[0]), "train");
    assert!(!trained.is_empty() && trained.values().all(|output| output.len() == 64), "{trained:?}");
    for way in &ways[1..] {
        for name in ["cells.jsonl", "gallery.jsonl", "config.resolved.toml"] {
            assert!(desk.read(&file(ways[0], name)) == desk.read(&file(*way, name)), "{name} differs with {way:?}");
        }
        for kind in ["poison", "train", "vet", "repair", "evaluate"] {
            assert_eq!(outputs(&manifest(ways[0]), kind), outputs(&manifest(*way), kind), "{kind} with {way:?}");
        }
    }
    desk
}

#[test]
fn jobs_and_threads_change_no_number_of_a_study_with_filters_and_guards() {
    let desk = same_in_all_ways(DIVERSE);
    let cells = String::from_utf8(desk.read("jobs-1-threads-1/same/cells.jsonl")).unwrap();
    // Per seed: 4 attacks with `none`, each bare, filtered, and with both controls of the filter; the guard meets two.
    assert!(cells.lines().count() > 20, "{}", cells.lines().count());
    assert!(cells.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["error"].is_null()));
}

#[test]
fn jobs_and_threads_change_no_weight_of_a_cnn() {
    same_in_all_ways(&with(ONE_NETWORK, &[("MODEL", r#"name = "cnn", width = 4, hidden = 8"#)]));
}

#[test]
fn jobs_and_threads_change_no_weight_of_a_resnet() {
    same_in_all_ways(&with(ONE_NETWORK, &[("MODEL", r#"name = "resnet", width = 4, stages = 2"#)]));
}

#[test]
fn a_finished_run_is_not_run_again_and_no_file_is_touched() {
    let desk = Desk::with_config(common::SMALL);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let names =
        ["cells.jsonl", "manifest.json", "gallery.jsonl", "config.resolved.toml", "report.html", "journal.jsonl"];
    let look = || -> Vec<(Vec<u8>, SystemTime)> {
        let path = |name: &&str| desk.path("results/small").join(name);
        let when = |name| std::fs::metadata(path(name)).unwrap().modified().unwrap();
        names.iter().map(|name| (std::fs::read(path(name)).unwrap(), when(name))).collect()
    };
    let before = look();
    let all = desk.files("results");
    let again = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert!(before == look());
    assert!(all == desk.files("results"));
    let told = desk.succeed(&["run", "study.toml", "--out", "results", "--json"]).json();
    assert_eq!(told["ran"], false);
}

#[test]
fn a_report_that_is_older_than_the_results_is_written_again() {
    let desk = Desk::with_config(common::SMALL);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let good = desk.read("results/small/report.html");
    // What a kill between the results and the report leaves.
    desk.write("results/small/report.html", "of an earlier run");
    let page = std::fs::File::options().write(true).open(desk.path("results/small/report.html")).unwrap();
    let results = std::fs::metadata(desk.path("results/small/manifest.json")).unwrap().modified().unwrap();
    page.set_modified(results - std::time::Duration::from_secs(1)).unwrap();
    let again = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert!(good == desk.read("results/small/report.html"));
}

#[test]
fn another_seed_gives_other_numbers() {
    let desk = Desk::with_config(&with(common::SMALL, &[("seeds = 1", "seeds = [1]")]));
    desk.write("other.toml", with(common::SMALL, &[("seeds = 1", "seeds = [2]")]));
    desk.succeed(&["run", "study.toml", "--out", "one"]);
    desk.succeed(&["run", "other.toml", "--out", "two"]);
    let trained = |out: &str| outputs(&desk.json(&format!("{out}/small/manifest.json")), "train");
    let (one, two) = (trained("one"), trained("two"));
    assert!(one.values().all(|output| two.values().all(|other| other != output)));
}
