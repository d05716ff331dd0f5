//! Trainings that are stopped or killed go on from their checkpoint and end with the same bits.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Desk, outputs};

/// Running statistics, an optimizer with two moments, draws of augmentation and of adversarial examples: all that a checkpoint holds.
const LONG: &str = r#"name = "long"
seeds = 1

[data]
name = "mnist-10k"
train = 300
test = 100

[model]
name = "resnet"
width = 4
stages = 2

[train]
epochs = 12
batch = 32
optimizer = "adam"
lr = 0.002
augment = "crop"

[[experiment]]
name = "robust"

[[experiment.attack]]
name = "badnets"
rate = 0.1

[[experiment.defense]]
name = "adversarial-training"
steps = 2
"#;
const RUN: [&str; 10] =
    ["run", "study.toml", "--jobs", "1", "--threads", "1", "--out", "stopped", "--checkpoint-every", "0"];

fn spawn(desk: &Desk) -> Child {
    desk.command(&RUN).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until this very process has saved a training, and for a moment that differs from stop to stop.
fn wait_for_a_checkpoint(desk: &Desk, child: &mut Child, round: u64) {
    let begin = Instant::now();
    let is_whole = |path: &PathBuf| !path.to_string_lossy().ends_with(".part");
    let saved = || {
        let paths = desk.ending_in("stopped/.store/checkpoints", "").into_iter().filter(is_whole);
        paths.filter_map(|path| std::fs::metadata(path).ok()?.modified().ok()).max()
    };
    // One that an earlier process left says nothing of this one, which may not even listen yet.
    let before = saved();
    while saved() <= before {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before round {round}");
        assert!(begin.elapsed() < Duration::from_secs(120), "no checkpoint in round {round}");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(37 * round));
}

fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn same_as_undisturbed(desk: &Desk) {
    for name in ["cells.jsonl", "gallery.jsonl", "config.resolved.toml"] {
        assert!(desk.read(&format!("calm/long/{name}")) == desk.read(&format!("stopped/long/{name}")), "{name}");
    }
    let [calm, stopped] = ["calm", "stopped"].map(|out| desk.json(&format!("{out}/long/manifest.json")));
    assert_eq!(outputs(&calm, "train"), outputs(&stopped, "train"));
    assert!(desk.ending_in("stopped/.store/checkpoints", "").is_empty());
}

#[test]
fn killed_trainings_go_on_to_the_same_bits() {
    let desk = Desk::with_config(LONG);
    desk.succeed(&["run", "study.toml", "--out", "calm"]);
    let mut resumed = 0;
    for round in 0..4 {
        let mut child = spawn(&desk);
        wait_for_a_checkpoint(&desk, &mut child, round);
        child.kill().unwrap();
        resumed += end(child).1.matches("continued from a checkpoint").count();
    }
    let last = desk.succeed(&RUN);
    resumed += last.stderr.matches("continued from a checkpoint").count();
    assert!(resumed > 0, "{}", last.stderr);
    same_as_undisturbed(&desk);
}

#[test]
fn ctrl_c_saves_a_training_and_says_how_to_go_on() {
    let desk = Desk::with_config(LONG);
    desk.succeed(&["run", "study.toml", "--out", "calm"]);
    for round in 0..2 {
        let mut child = spawn(&desk);
        wait_for_a_checkpoint(&desk, &mut child, round);
        let asked = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let (code, text) = end(child);
        assert_eq!(code, Some(130), "{text}");
        assert!(text.contains("saving trainings and finishing what is cheap"), "{text}");
        assert!(text.contains("1 more saved on their way; run again to continue:\n"), "{text}");
        assert!(text.contains("run study.toml --jobs 1"), "{text}");
    }
    let last = desk.succeed(&RUN);
    assert!(last.stderr.contains("continued from a checkpoint: train resnet"), "{}", last.stderr);
    same_as_undisturbed(&desk);
}
