//! A run that is killed again and again ends with the results of an undisturbed one.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Desk, outputs};
use serde_json::Value;

const MANY_STEPS: &str = r#"name = "many"
seeds = 4

[data]
name = "mnist-10k"
train = 400
test = 150

[model]
name = "mlp"
hidden = 32

[train]
epochs = 2

[[experiment]]
name = "backdoor"

[[experiment.attack]]
name = "badnets"
rate = [0.02, 0.05, 0.1]

[[experiment.attack]]
name = "label-flip"
rate = [0.1, 0.2]

[[experiment.defense]]
name = "deep-knn"
"#;
const KILLS: usize = 3;
/// Steps to wait for before each kill.
const STEPS: usize = 8;

/// The whole lines of the journal; a killed process may have left half a one at the end.
fn journal(desk: &Desk) -> Vec<Value> {
    let text = std::fs::read_to_string(desk.path("killed/many/journal.jsonl")).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn finished(desk: &Desk) -> Vec<String> {
    let lines = journal(desk).into_iter().filter(|line| line["event"] == "finished");
    lines.map(|line| line["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_that_is_killed_three_times_ends_with_the_same_bytes() {
    let desk = Desk::with_config(MANY_STEPS);
    desk.succeed(&["run", "study.toml", "--out", "undisturbed"]);

    let arguments = ["run", "study.toml", "--out", "killed", "--jobs", "2", "--threads", "1"];
    for kill in 0..KILLS {
        let enough = finished(&desk).len() + STEPS;
        let mut child =
            desk.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        let begin = Instant::now();
        while finished(&desk).len() < enough {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before kill {kill}");
            assert!(begin.elapsed() < Duration::from_secs(60), "no progress before kill {kill}");
            std::thread::sleep(Duration::from_millis(2));
        }
        // On Unix this is SIGKILL: the process cannot tidy up.
        child.kill().unwrap();
        assert!(child.wait().unwrap().code().is_none(), "the run ended before it was killed");
        assert!(!desk.path("killed/many/cells.jsonl").exists());
    }

    let ended = desk.succeed(&arguments);
    assert!(ended.stderr.contains("finished"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("damaged"), "{}", ended.stderr);
    for name in ["cells.jsonl", "gallery.jsonl", "config.resolved.toml"] {
        assert!(desk.read(&format!("undisturbed/many/{name}")) == desk.read(&format!("killed/many/{name}")), "{name}");
    }
    let [calm, stormy] = ["undisturbed", "killed"].map(|out| desk.json(&format!("{out}/many/manifest.json")));
    for kind in ["poison", "train", "vet", "evaluate"] {
        assert!(!outputs(&calm, kind).is_empty(), "{kind}");
        assert_eq!(outputs(&calm, kind), outputs(&stormy, kind), "{kind}");
    }

    // What was finished before a kill was not run again.
    let steps = finished(&desk);
    assert_eq!(steps.len(), steps.iter().collect::<BTreeSet<_>>().len(), "a step was run twice");
    let starts = journal(&desk).iter().filter(|line| line["event"] == "started").count();
    assert_eq!(starts, KILLS + 1);
}

#[test]
fn a_damaged_result_is_told_and_computed_again() {
    let desk = Desk::with_config(common::SMALL);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let before = desk.read("results/small/cells.jsonl");
    let weights = desk.ending_in("results/.store", "weights.safetensors");
    let mut bytes = std::fs::read(&weights[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights[0], bytes).unwrap();
    std::fs::remove_file(desk.path("results/small/cells.jsonl")).unwrap();
    for evaluation in desk.ending_in("results/.store", "evaluation.json") {
        std::fs::remove_dir_all(evaluation.parent().unwrap()).unwrap();
    }
    let ended = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(ended.stderr.contains("damaged"), "{}", ended.stderr);
    assert!(before == desk.read("results/small/cells.jsonl"));
}
