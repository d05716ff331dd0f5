//! The commands around a study: plans, shards, comparing and repeating results, the store.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::{Desk, SMALL, outputs, with};
use serde_json::Value;

/// Two attacks and two seeds, so that there is something to deal out.
fn two_attacks() -> String {
    let more = "\n[[experiment.attack]]\nname = \"label-flip\"\nrate = 0.3\n";
    with(SMALL, &[("seeds = 1", "seeds = 2")]) + more
}

#[test]
fn shards_of_several_machines_merge_to_the_results_of_one() {
    let desk = Desk::with_config(&two_attacks());
    desk.succeed(&["run", "study.toml", "--out", "whole"]);
    for index in 1..=3 {
        let (shard, out) = (format!("{index}/3"), format!("machine-{index}"));
        let ended = desk.succeed(&["run", "study.toml", "--shard", &shard, "--out", &out]);
        assert!(ended.stderr.contains("shards still missing: "), "{}", ended.stderr);
    }
    let folders: Vec<String> = (1..=3).map(|index| format!("machine-{index}/small/shard-{index}-of-3")).collect();
    let few = desk.run(&["results", "merge", &folders[0], &folders[2], "--out", "few"]);
    few.refuses(1, &["failed to merge: of 3 shards these are missing: 2"]);
    desk.succeed(&["results", "merge", &folders[2], &folders[0], &folders[1], "--out", "merged"]);
    // The same with one folder and one store for all, where the last shard merges.
    for index in [2, 3, 1] {
        desk.succeed(&["run", "study.toml", "--shard", &format!("{index}/3"), "--out", "shared"]);
    }
    for name in ["cells.jsonl", "gallery.jsonl", "config.resolved.toml", "summary.csv"] {
        let expected = desk.read(&format!("whole/small/{name}"));
        assert!(expected == desk.read(&format!("merged/{name}")), "{name}");
        assert!(expected == desk.read(&format!("shared/small/{name}")), "{name}");
    }
    let weights = |folder: &str| outputs(&desk.json(&format!("{folder}/manifest.json")), "train");
    assert_eq!(weights("whole/small"), weights("merged"));
    let again = desk.succeed(&["run", "study.toml", "--out", "shared"]);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    let same = desk.succeed(&["results", "diff", "whole/small", "merged"]);
    assert_eq!(same.stdout.lines().count(), 1, "{}", same.stdout);
    desk.run(&["run", "study.toml", "--shard", "4/3"]).refuses(2, &["expected I/N with I from 1 to N, such as 2/3"]);
}

#[test]
fn results_are_repeated_from_their_manifest_and_differences_are_told() {
    let desk = Desk::with_config(SMALL);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let ended = desk.succeed(&["rerun", "results/small/manifest.json", "--out", "again"]);
    assert!(ended.stdout.starts_with("identical: "), "{}", ended.stdout);
    assert!(desk.read("results/small/cells.jsonl") == desk.read("again/rerun/small/cells.jsonl"));
    let twice = desk.succeed(&["rerun", "results/small/manifest.json", "--out", "again"]);
    assert!(twice.stderr.contains("compared with an earlier repetition; remove `again/rerun`"), "{}", twice.stderr);
    // Beside the results it has a store of its own, so that nothing is taken from theirs.
    let beside = desk.succeed(&["rerun", "results/small/manifest.json", "--out", "results"]);
    assert!(beside.stdout.contains("in `results/rerun/small`"), "{}", beside.stdout);
    assert!(!desk.files("results/rerun/.store").is_empty());
    assert!(!beside.stderr.contains("earlier repetition"), "{}", beside.stderr);
    let itself = desk.run(&["rerun", "again/rerun/small/manifest.json", "--out", "again"]);
    itself.refuses(2, &["would be compared with themselves; name another folder with --out"]);
    // Somebody altered a number.
    let cells = String::from_utf8(desk.read("results/small/cells.jsonl")).unwrap();
    let at = cells.find("\"clean_accuracy\":").unwrap();
    let end = at + cells[at..].find([',', '}']).unwrap();
    desk.write("results/small/cells.jsonl", format!("{}\"clean_accuracy\":0.125{}", &cells[..at], &cells[end..]));
    let ended = desk.run(&["rerun", "results/small/manifest.json", "--out", "again"]);
    ended.refuses(1, &["theriac results diff results/small again/rerun/small"]);
    assert!(ended.stdout.contains("cells.jsonl differs"), "{}", ended.stdout);
    let told = desk.run(&["results", "diff", "results/small", "again/rerun/small"]);
    assert_eq!(told.code, Some(1));
    assert!(told.stdout.contains("Clean accuracy (CA): +"), "{}", told.stdout);
    let json = desk.run(&["results", "diff", "results/small", "again/rerun/small", "--json"]);
    assert!(serde_json::from_str::<Value>(&json.stdout).unwrap().is_object());
    desk.run(&["rerun", "results/small/cells.jsonl"]).refuses(2, &["failed to read the manifest `results/small/cells"]);
}

#[test]
fn results_are_shown_as_a_table_as_csv_and_as_json() {
    let desk = Desk::with_config(SMALL);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let show = |more: &[&str]| desk.succeed(&[&["results", "show", "results/small"], more].concat()).stdout;
    assert!(show(&[]).contains("badnets") && show(&[]).contains("deep-knn"));
    assert_eq!(
        show(&["--csv"]).trim_end(),
        String::from_utf8(desk.read("results/small/summary.csv")).unwrap().trim_end()
    );
    assert_eq!(show(&["--json"]), String::from_utf8(desk.read("results/small/cells.jsonl")).unwrap());
    for name in ["cells.csv", "cells.parquet"] {
        assert!(!desk.read(&format!("results/small/{name}")).is_empty());
    }
    desk.run(&["results", "show", "nowhere"]).refuses(1, &["failed to read `nowhere/"]);
}

#[test]
fn a_plan_is_drawn_and_knows_what_is_in_the_store() {
    let desk = Desk::with_config(SMALL);
    let plan = |more: &[&str]| desk.succeed(&[&["plan", "study.toml", "--out", "results"], more].concat()).stdout;
    let before: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(before["summary"]["in_store"], 0);
    assert!(before["summary"]["memory_mib"].as_f64().unwrap() > 0.0);
    let drawn = plan(&["--dot"]);
    assert!(drawn.starts_with("digraph \"small\" {") && drawn.contains(" -> ") && !drawn.contains("gray70"), "{drawn}");
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let after: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(after["summary"]["in_store"], after["summary"]["steps"]);
    assert_eq!(after["summary"]["seconds"], 0.0);
    assert!(plan(&["--dot"]).contains("gray70"));
    // The next estimate goes by what this machine has measured.
    let seconds = |plan: &Value, key: &str| plan["plan"]["steps"][0][key].as_f64();
    assert_eq!(seconds(&before, "seconds"), before["plan"]["steps"][0]["estimate"]["seconds"].as_f64());
    assert_ne!(seconds(&before, "seconds"), seconds(&after, "seconds"));
}

#[test]
fn progress_for_machines_is_one_object_a_line() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.succeed(&["run", "study.toml", "--out", "results", "--progress", "json"]);
    let events = ended.stderr.lines().filter(|line| line.starts_with('{'));
    let events: Vec<Value> = events.map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    let steps = desk.json("results/small/manifest.json")["steps"].as_array().unwrap().len();
    assert_eq!((count("began"), count("started"), count("finished")), (1, steps, steps));
    assert_eq!(events.last().unwrap()["totals"]["done"], steps);
}

#[test]
fn a_comparison_that_the_config_asks_for_stands_in_the_report() {
    let compare = "\n[[experiment.compare]]\ndefenses = [\"deep-knn\", \"none\"]\n";
    let desk = Desk::with_config(&(two_attacks() + compare));
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let page = String::from_utf8(desk.read("results/small/report.html")).unwrap();
    assert!(page.contains("Comparisons"));
    assert!(!desk.read("results/small/comparisons.csv").is_empty());
}

#[test]
fn the_store_is_listed_verified_and_cleaned_up() {
    let desk = Desk::with_config(SMALL);
    desk.run(&["store", "ls"]).refuses(2, &["there is no store at `results/.store`"]);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let store =
        |action: &str, more: &[&str]| desk.succeed(&[&["store", action, "--out", "results"], more].concat()).stdout;
    let steps = desk.json("results/small/manifest.json")["steps"].as_array().unwrap().len();
    let listed = store("ls", &[]);
    assert_eq!(listed.lines().count(), steps + 1, "{listed}");
    assert!(listed.contains("train mlp, mnist-10k, seed 1"), "{listed}");
    assert_eq!(store("ls", &["--json"]).lines().count(), steps);
    assert!(store("verify", &[]).contains(&format!("{steps} entries are sound, 0 were damaged")));
    assert!(store("gc", &["--limit", "1GiB"]).starts_with("removed 0 entries"));
    assert!(store("gc", &["--limit", "0", "--dry-run"]).starts_with(&format!("would remove {steps} entries")));
    assert!(store("gc", &["--limit", "0"]).starts_with(&format!("removed {steps} entries")));
    let cells = desk.read("results/small/cells.jsonl");
    std::fs::remove_file(desk.path("results/small/cells.jsonl")).unwrap();
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(cells == desk.read("results/small/cells.jsonl"));
}
