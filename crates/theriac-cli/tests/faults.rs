//! What goes wrong on real machines: a clear message or healing, and nothing that was finished is lost.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Desk, Ended, SMALL, with};

/// A bit of every kind of step.
const EVERY_KIND: &str = r#"
[[experiment.defense]]
name = "fine-tuning"
epochs = 1
"#;

/// Runs a shell script in which disks can be mounted; `None` where the system does not permit that.
fn with_mounts(desk: &Desk, script: &str) -> Option<Ended> {
    let permitted = |mut command: Command| command.output().is_ok_and(|output| output.status.success());
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).current_dir(desk.path("."));
        command.env("THERIAC", env!("CARGO_BIN_EXE_theriac")).env_remove("THERIAC_DATA").stdin(Stdio::null());
        command
    };
    desk.write("mnt/.keep", "");
    if !permitted(namespace("mount -t tmpfs -o size=64k tmpfs mnt")) {
        eprintln!("not tested: this system lets nobody mount a disk");
        return None;
    }
    let output = namespace(script).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some(Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

fn undisturbed(desk: &Desk) -> Vec<u8> {
    desk.succeed(&["run", "study.toml", "--out", "undisturbed"]);
    desk.read("undisturbed/small/cells.jsonl")
}

#[test]
fn a_full_disk_ends_the_run_and_more_room_lets_it_go_on() {
    let desk = Desk::with_config(SMALL);
    let expected = undisturbed(&desk);
    let script = "mount -t tmpfs -o size=160k tmpfs mnt
        $THERIAC run study.toml --out mnt/results 2> first.txt && exit 9
        ls mnt/results/.store/part > parts.txt
        mount -o remount,size=64m mnt
        $THERIAC run study.toml --out mnt/results 2> second.txt
        cp -r mnt/results copy";
    let Some(ended) = with_mounts(&desk, script) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = |name: &str| String::from_utf8(desk.read(name)).unwrap();
    let first = text("first.txt");
    assert!(first.contains("error: failed to write `mnt/results/") && first.contains("No space left"), "{first}");
    assert!(first.contains("run again"), "{first}");
    assert_eq!(text("parts.txt"), "", "what does not fit must not take the room that is left");
    let second = text("second.txt");
    assert!(second.contains("finished") && !second.contains("; 0 reused"), "{second}");
    assert!(desk.read("copy/small/cells.jsonl") == expected);
}

/// The same without any privilege: no file may be larger than 8 KiB.
#[test]
fn a_disk_that_refuses_a_file_ends_the_run_and_what_was_finished_stays() {
    let desk = Desk::with_config(SMALL);
    let expected = undisturbed(&desk);
    let mut command = Command::new("sh");
    command.current_dir(desk.path(".")).env("THERIAC", env!("CARGO_BIN_EXE_theriac")).stdin(Stdio::null());
    command.args(["-c", "trap '' XFSZ; ulimit -f 16; exec $THERIAC run study.toml --out limited"]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("failed to write `limited/.store/part/") && stderr.contains("File too large"), "{stderr}");
    let ended = desk.succeed(&["run", "study.toml", "--out", "limited"]);
    assert!(ended.stderr.contains("finished"), "{}", ended.stderr);
    assert!(desk.read("limited/small/cells.jsonl") == expected);
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let desk = Desk::with_config(SMALL);
    let script = "mount -t tmpfs -o size=64m tmpfs mnt
        mkdir mnt/store
        $THERIAC run study.toml --out mnt/results
        mount -o remount,ro mnt
        $THERIAC run study.toml --out mnt/results 2> same.txt && exit 9
        $THERIAC run study.toml --out mnt/other 2> other.txt && exit 9
        $THERIAC run study.toml --out here --store mnt/store 2> store.txt && exit 9
        $THERIAC plan study.toml --out mnt/results
        $THERIAC results show mnt/results/small";
    let Some(ended) = with_mounts(&desk, script) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for (name, path) in
        [("same.txt", "mnt/results/small/.lock"), ("other.txt", "mnt/other/small"), ("store.txt", "mnt/store/part")]
    {
        let text = String::from_utf8(desk.read(name)).unwrap();
        assert!(text.contains(&format!("`{path}`: Read-only file system")), "{text}");
    }
}

#[test]
fn a_flipped_byte_in_any_stored_file_is_found_and_healed() {
    let desk = Desk::with_config(&format!("{SMALL}{EVERY_KIND}"));
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let before = desk.read("results/small/cells.jsonl");
    let weights = |desk: &Desk| common::outputs(&desk.json("results/small/manifest.json"), "train");
    let trained = weights(&desk);
    let names = [
        "changes.bin",
        "poison.json",
        "weights.safetensors",
        "curve.json",
        "vet.json",
        "evaluation.json",
        "step.json",
        "checksums.json",
    ];
    // One file a step, those first that the fewest steps have.
    let mut places = names.map(|name| desk.ending_in("results/.store", name));
    places.sort_by_key(Vec::len);
    let mut harmed = std::collections::BTreeSet::new();
    for files in places {
        let file = files.iter().find(|file| !harmed.contains(file.parent().unwrap())).unwrap();
        flip(file);
        harmed.insert(file.parent().unwrap().to_owned());
    }
    let found = desk.run(&["store", "verify", "--out", "results"]);
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    assert_eq!(found.stdout.matches("damaged and set aside").count(), names.len(), "{}", found.stdout);
    desk.succeed(&["store", "verify", "--out", "results"]);
    std::fs::remove_file(desk.path("results/small/cells.jsonl")).unwrap();
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(before == desk.read("results/small/cells.jsonl"));
    for (address, output) in weights(&desk) {
        assert_eq!(trained[&address], output);
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_and_a_journal_cut_in_mid_line_lose_nothing() {
    let desk = Desk::with_config(SMALL);
    let expected = undisturbed(&desk);
    desk.succeed(&["run", "study.toml", "--out", "results"]);
    let weights = desk.ending_in("results/.store", "weights.safetensors");
    let entry = weights[0].parent().unwrap();
    let address = entry.file_name().unwrap().to_string_lossy().into_owned();
    std::fs::remove_dir_all(entry).unwrap();
    desk.write(&format!("results/.store/checkpoints/{address}"), "not a checkpoint");
    for evaluation in desk.ending_in("results/.store", "evaluation.json") {
        std::fs::remove_dir_all(evaluation.parent().unwrap()).unwrap();
    }
    let journal = desk.read("results/small/journal.jsonl");
    desk.write("results/small/journal.jsonl", &journal[..journal.len() - 7]);
    let ended = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(ended.stderr.contains("finished"), "{}", ended.stderr);
    assert!(desk.read("results/small/cells.jsonl") == expected);
    let told = String::from_utf8(desk.read("results/small/journal.jsonl")).unwrap();
    assert!(told.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{told}");
}

#[test]
fn a_second_process_on_the_same_results_is_sent_away_and_the_first_goes_on() {
    let desk = Desk::with_config(&with(SMALL, &[("epochs = 1", "epochs = 400")]));
    let mut first = desk.command(&["run", "study.toml", "--out", "results"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| desk.path("results/small/journal.jsonl").exists());
    let second = desk.run(&["run", "study.toml", "--out", "results"]);
    second.refuses(1, &["another run is writing to `results/small`; wait for it, or choose another name or folder"]);
    let cleaning = desk.run(&["store", "gc", "--out", "results", "--limit", "0"]);
    cleaning.refuses(1, &["failed to clean up `results/.store`: a run is using it"]);
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_diverging_training_is_recorded_and_told_apart_from_a_failure() {
    let desk = Desk::with_config(&with(SMALL, &[("epochs = 1", "epochs = 20\nlr = 100\nweight_decay = 10")]));
    let ended = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(
        ended.stderr.contains("diverged: train mlp") && ended.stderr.contains("cells diverged"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
    assert!(String::from_utf8(desk.read("results/small/cells.jsonl")).unwrap().contains(r#""status":"diverged""#));
    let again = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(120), "it did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
