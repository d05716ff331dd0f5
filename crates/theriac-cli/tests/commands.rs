//! Each command does what its help says.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use common::{Desk, SMALL};
use serde_json::Value;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn registries() -> Vec<Value> {
    list(&Desk::new().succeed(&["list", "--json"]).json()).to_vec()
}

#[test]
fn list_shows_every_method_under_its_kind() {
    let told = Desk::new().succeed(&["list"]).stdout;
    for info in registries() {
        assert!(told.contains(&format!("  {} ", text(&info, "name"))), "{info}");
        assert!(told.contains(text(&info, "summary")), "{info}");
    }
    let attacks = Desk::new().succeed(&["list", "attacks"]).stdout;
    assert!(attacks.contains("badnets") && !attacks.contains("deep-knn"), "{attacks}");
}

#[test]
fn names_are_unique_and_every_method_says_what_it_is() {
    let mut seen = BTreeSet::new();
    for info in registries() {
        let (kind, name) = (text(&info, "kind").to_owned(), text(&info, "name").to_owned());
        assert!(seen.insert((kind.clone(), name.clone())), "{kind} {name} is listed twice");
        assert!(text(&info, "summary").ends_with('.'), "{info}");
        match kind.as_str() {
            "attack" => assert!(info["threat"].is_object(), "{name} has no threat model"),
            "defense" => assert_eq!(list(&info["hooks"]).is_empty(), name == "none", "{name}: {}", info["hooks"]),
            _ => assert!(info["threat"].is_null() && list(&info["hooks"]).is_empty(), "{info}"),
        }
        let certifies = list(&info["hooks"]).iter().any(|hook| hook == "certify");
        assert_eq!(info["certifies"].is_string(), certifies, "{name} says what its certificates count");
        for paper in list(&info["papers"]) {
            assert!(text(paper, "link").starts_with("https://") && !text(paper, "title").is_empty(), "{paper}");
        }
        for param in list(&info["params"]) {
            assert!(!text(param, "doc").is_empty() && !text(param, "range").is_empty(), "{name}: {param}");
        }
    }
    let kinds: BTreeSet<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[test]
fn explain_tells_the_papers_and_parameters_of_every_method() {
    let desk = Desk::new();
    for info in registries() {
        let told = desk.succeed(&["explain", text(&info, "name")]).stdout;
        assert!(told.contains(text(&info, "summary")), "{told}");
        for paper in list(&info["papers"]) {
            assert!(told.contains(text(paper, "title")) && told.contains(text(paper, "link")), "{told}");
        }
        for param in list(&info["params"]) {
            let line = format!("  {} = ", text(param, "name"));
            assert!(told.contains(&line) && told.contains(text(param, "range")), "`{line}` in:\n{told}");
        }
        if info["threat"].is_object() {
            assert!(told.contains("threat model"), "{told}");
        }
        assert_eq!(told.contains("  surrogate "), info["surrogate"] != "none", "{told}");
    }
    assert!(desk.succeed(&["explain", "train"]).stdout.contains("epochs = "));
    assert_eq!(desk.succeed(&["explain", "badnets", "--json"]).json()["name"], "badnets");
    let both = desk.succeed(&["explain", "none", "--json"]).json();
    assert_eq!(list(&both).iter().map(|info| text(info, "kind")).collect::<Vec<_>>(), ["attack", "defense"]);
}

#[test]
fn plan_counts_the_steps_and_trains_nothing() {
    let desk = Desk::with_config(SMALL);
    let told = desk.succeed(&["plan", "study.toml", "--out", "results", "--verbose"]).stdout;
    for word in ["small: ", " cells over ", "train", "evaluate", "sharing saves", "train mlp hidden=16 on mnist-10k"] {
        assert!(told.contains(word), "`{word}` in:\n{told}");
    }
    assert!(desk.files("results").is_empty(), "{:?}", desk.files("results").keys());

    let json = desk.succeed(&["plan", "study.toml", "--out", "results", "--json"]).json();
    let (steps, cells) = (list(&json["plan"]["steps"]), list(&json["plan"]["cells"]));
    assert_eq!(json["summary"]["steps"], steps.len());
    assert_eq!(json["summary"]["cells"], cells.len());
    assert_eq!(json["summary"]["in_store"], 0);
    let addresses: BTreeSet<&str> = steps.iter().map(|step| text(step, "address")).collect();
    assert_eq!(addresses.len(), steps.len(), "each step is there once");
    for (index, step) in steps.iter().enumerate() {
        let before = |input: &Value| input.as_u64().unwrap() < index as u64;
        assert!(list(&step["inputs"]).iter().all(before), "a step stands before its input: {step}");
    }
    assert!(desk.files("results").is_empty());
}

#[test]
fn what_a_run_leaves_is_what_was_planned() {
    let desk = Desk::with_config(SMALL);
    let plan = desk.succeed(&["plan", "study.toml", "--out", "results", "--json"]).json();
    let ended = desk.succeed(&["run", "study.toml", "--out", "results", "--json"]);
    let told = ended.json();
    assert_eq!((&told["ran"], &told["failed_cells"]), (&Value::from(true), &Value::from(0)));
    let cells = String::from_utf8(desk.read("results/small/cells.jsonl")).unwrap();
    assert_eq!(plan["summary"]["cells"], cells.lines().count());
    assert_eq!(told["cells"], cells.lines().count());
    let planned: BTreeSet<&str> = list(&plan["plan"]["steps"]).iter().map(|step| text(step, "address")).collect();
    let manifest = desk.json("results/small/manifest.json");
    let run: BTreeSet<&str> = list(&manifest["steps"]).iter().map(|step| text(step, "address")).collect();
    assert_eq!(planned, run);
    let after = desk.succeed(&["plan", "study.toml", "--out", "results", "--json"]).json();
    assert_eq!(after["summary"]["in_store"], planned.len());
    let again = desk.succeed(&["plan", "study.toml", "--out", "results"]).stdout;
    assert!(again.contains(&format!("{} are in the store", planned.len())), "{again}");
}

#[test]
fn a_quiet_run_prints_nothing() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.succeed(&["run", "study.toml", "--out", "results", "--quiet"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    assert!(desk.path("results/small/report.html").exists());
}

#[test]
fn the_resolved_config_is_a_config_with_the_same_plan() {
    let desk = Desk::with_config(SMALL);
    let resolved = desk.succeed(&["check", "study.toml", "--resolved"]).stdout;
    assert!(resolved.contains("momentum"), "defaults are written out:\n{resolved}");
    desk.write("resolved.toml", &resolved);
    let plan = |config: &str| desk.succeed(&["plan", config, "--out", "results", "--json"]).json()["plan"].clone();
    assert_eq!(plan("study.toml"), plan("resolved.toml"));
    assert_eq!(desk.succeed(&["check", "resolved.toml", "--resolved"]).stdout, resolved);
}

#[test]
fn every_row_of_a_leaderboard_links_to_a_config_that_needs_no_step_more() {
    let desk = Desk::with_config(&common::with(SMALL, &[("seeds = 1", "seeds = [3, 1]")]));
    desk.succeed(&["run", "study.toml", "--out", "results", "--quiet"]);
    desk.succeed(&["leaderboard", "results/small", "--out", "board"]);
    let configs = desk.ending_in("board", ".toml");
    assert_eq!(configs.len(), String::from_utf8(desk.read("results/small/cells.jsonl")).unwrap().lines().count() / 2);
    for config in &configs {
        let plan = desk.succeed(&["plan", config.to_str().unwrap(), "--out", "results", "--json"]).json();
        assert_eq!(plan["summary"]["in_store"], plan["summary"]["steps"], "{}", config.display());
    }
    let page = String::from_utf8(desk.read("board/leaderboard.html")).unwrap();
    let links: BTreeSet<&str> =
        page.split("href=\"configs/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let names: BTreeSet<&str> = configs.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(links, names);
    assert!(desk.run(&["leaderboard", "nothing"]).stderr.contains("nothing/manifest.json"));
}

#[test]
fn completions_know_the_commands() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.succeed(&["completions", shell]).stdout;
        assert!(script.contains("theriac") && script.contains("explain") && script.contains("data-dir"), "{shell}");
    }
}

/// Runs a command whose output nobody reads.
fn unread(desk: &Desk, arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = desk.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_reader_that_goes_away_stops_no_work_and_changes_no_exit_code() {
    let second = "[[experiment.attack]]\nname = \"label-flip\"\n\n[[experiment.defense]]";
    let desk = Desk::with_config(&common::with(SMALL, &[("[[experiment.defense]]", second)]));
    let (code, told) = unread(&desk, &["poison", "study.toml", "--out", "poisoned"]);
    assert_eq!(code, Some(0), "{told}");
    for name in ["mnist-10k-badnets-1", "mnist-10k-label-flip-1"] {
        assert!(desk.path(&format!("poisoned/{name}/attack.json")).exists(), "{name}: {told}");
    }
    assert_eq!(unread(&desk, &["data", "verify", "mnist"]).0, Some(1));
    for arguments in [&["completions", "bash"][..], &["list"], &["explain", "badnets"]] {
        let (code, told) = unread(&desk, arguments);
        assert!(code == Some(0) && told.is_empty(), "{arguments:?}: {code:?} {told}");
    }
}

#[test]
fn poison_takes_the_first_seed_of_the_config() {
    let desk = Desk::with_config(&common::with(SMALL, &[("seeds = 1", "seeds = [5, 2]")]));
    desk.succeed(&["poison", "study.toml", "--out", "poisoned"]);
    assert_eq!(desk.json("poisoned/mnist-10k-badnets-1/attack.json")["seed"], 5);
    desk.run(&["poison", "study.toml", "--out", "other", "--seed", "9"])
        .refuses(2, &["no attack with seed 9; it has 2, 5"]);
}

#[test]
fn poison_writes_images_edits_and_arrays_and_spares_a_folder_that_is_not_empty() {
    let desk = Desk::with_config(SMALL);
    let told = desk.succeed(&["poison", "study.toml", "--out", "poisoned"]).stdout;
    assert!(told.contains("30 of 300 samples touched"), "{told}");
    let folder = "poisoned/mnist-10k-badnets-1";
    let images = desk.ending_in(&format!("{folder}/images"), ".png");
    assert_eq!(images.len(), 300);
    let classes: BTreeMap<_, usize> = images.iter().fold(BTreeMap::new(), |mut count, image| {
        *count.entry(image.parent().unwrap().to_owned()).or_default() += 1;
        count
    });
    assert_eq!(classes.len(), 10, "{classes:?}");
    let edits = String::from_utf8(desk.read(&format!("{folder}/edits.csv"))).unwrap();
    assert!(edits.lines().count() > 30, "{edits}");
    assert!(desk.read(&format!("{folder}/data.npz")).starts_with(b"PK"));
    assert_eq!(desk.json(&format!("{folder}/attack.json"))["attack"]["name"], "badnets");
    assert!(desk.ending_in("", "weights.safetensors").is_empty(), "nothing had to be trained");

    // What is there is found before anything is written, even by the second of two attacks.
    let second = "[[experiment.attack]]\nname = \"label-flip\"\n\n[[experiment.defense]]";
    desk.write(
        "study.toml",
        common::with(SMALL, &[("badnets", "random-noise"), ("target = 0", ""), ("[[experiment.defense]]", second)]),
    );
    desk.write("poisoned/mnist-10k-label-flip-1/notes.txt", "mine");
    let before = desk.files("poisoned");
    let ended = desk.run(&["poison", "study.toml", "--out", "poisoned"]);
    ended.refuses(1, &["poisoned/mnist-10k-label-flip-1", "not empty", "name a new one"]);
    assert!(before == desk.files("poisoned"));

    desk.write("study.toml", SMALL);
    desk.run(&["poison", "study.toml", "--out", "poisoned"]).refuses(1, &[folder, "not empty", "name a new one"]);
    assert!(before == desk.files("poisoned"));
}

#[test]
fn poisoned_images_can_be_loaded_again() {
    let desk = Desk::with_config(SMALL);
    desk.succeed(&["poison", "study.toml", "--out", "poisoned"]);
    let data = "name = \"folder\"\npath = \"poisoned/mnist-10k-badnets-1/images\"";
    desk.write("again.toml", common::with(SMALL, &[("name = \"mnist-10k\"\ntrain = 300\ntest = 150", data)]));
    desk.succeed(&["check", "again.toml"]);
}

#[test]
fn a_report_of_copied_results_is_the_same_to_the_byte() {
    let desk = Desk::with_config(SMALL);
    let ended = desk.succeed(&["run", "study.toml", "--out", "results"]);
    assert!(ended.stdout.contains("badnets") && ended.stderr.contains("finished"), "{}", ended.stdout);
    for (path, content) in desk.files("results/small") {
        let name = path.strip_prefix(desk.path("results/small")).unwrap();
        if !name.ends_with("report.html") {
            desk.write(Path::new("elsewhere/copy").join(name).to_str().unwrap(), content);
        }
    }
    let told = desk.succeed(&["report", "elsewhere/copy"]);
    assert_eq!(told.stdout, ended.stdout);
    assert!(desk.read("results/small/report.html") == desk.read("elsewhere/copy/report.html"));
}

#[test]
fn data_lists_what_is_built_in_and_what_is_absent() {
    let desk = Desk::new();
    let told = desk.succeed(&["data", "list", "--json"]).json();
    let state = |name: &str| text(list(&told).iter().find(|row| row["name"] == name).unwrap(), "state").to_owned();
    assert_eq!((state("mnist-10k").as_str(), state("mnist").as_str()), ("built in", "absent"));
    assert_eq!(state("folder"), "your own");
    assert!(desk.succeed(&["data", "list"]).stdout.contains("theriac data fetch"));
    assert!(desk.succeed(&["data", "verify", "mnist-10k"]).stdout.contains("built in, nothing to verify"));
    assert!(desk.succeed(&["data", "verify", "folder"]).stdout.contains("your own, nothing to verify"));
}

#[test]
fn every_config_of_the_repository_is_in_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let desk = Desk::new();
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let ended = desk.run(&["check", path.to_str().unwrap()]);
        if ended.code == Some(2) {
            // Data that are not on this machine are no fault of the config, but nothing else may be wrong.
            let faults = ended.stderr.lines().filter(|line| line.contains("| ") && line.contains('^')).count();
            let absent = ended.stderr.matches("or run `theriac data fetch").count();
            assert!(absent > 0 && faults == absent, "{}", ended.stderr);
            eprintln!("skipped: {}: {}", path.display(), ended.stderr);
            continue;
        }
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("in order"), "{}", ended.stdout);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let desk = Desk::new();
    let told = desk.succeed(&["--help"]).stdout;
    for part in ["Examples:", "theriac run configs/quickstart.toml", "Exit codes:", "  0 ", "  1 ", "  2 ", "  130 "] {
        assert!(told.contains(part), "`{part}` in:\n{told}");
    }
    for command in ["run", "plan", "check", "report", "leaderboard", "list", "explain", "data", "poison", "completions"]
    {
        assert!(told.contains(&format!("  {command} ")), "{command}");
        let page = desk.succeed(&[command, "--help"]).stdout;
        assert!(page.contains(&format!("Usage: theriac {command}")), "{page}");
    }
    assert!(desk.succeed(&["run", "--help"]).stdout.contains("Examples:"));
    assert!(desk.succeed(&["--version"]).stdout.starts_with("theriac "));
}
