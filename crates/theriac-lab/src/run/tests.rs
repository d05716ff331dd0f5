mod shards;
mod survival;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::bench::Step;
use crate::bench::StepKind;
use crate::toy::{EVERY_KIND, SMALL, Toy, config};

/// A folder to run in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self, jobs: usize, threads: usize) -> Options {
        let (out, store) = (self.0.path().join("results"), self.0.path().join("store"));
        let (jobs, threads) = (Some(jobs), Some(threads));
        Options { config_path: "small.toml".to_owned(), jobs, threads, ..Options::new(out, store) }
    }

    fn run_with(&self, text: &str, toy: &Toy, observer: &dyn Observer, cancel: &AtomicBool, jobs: usize) -> Outcome {
        let config = config(text);
        let plan = Plan::new(&config, toy);
        run(&config, &plan, toy, &self.options(jobs, 1), observer, cancel).unwrap()
    }

    fn run(&self, text: &str, toy: &Toy) -> Outcome {
        self.run_with(text, toy, &(), &AtomicBool::new(false), 2)
    }

    fn results(&self) -> PathBuf {
        self.0.path().join("results/small")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.results().join(name)).unwrap()
    }

    fn cells(&self) -> Vec<Value> {
        self.read(CELLS).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a good run leaves, whatever the way there.
fn reference() -> String {
    let place = Place::new();
    place.run(SMALL, &Toy::default());
    place.read(CELLS)
}

fn report(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Finished(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Raises a flag after some steps.
struct CancelAfter<'a>(AtomicUsize, &'a AtomicBool);

impl Observer for CancelAfter<'_> {
    fn observe(&self, event: &Event) {
        if matches!(event, Event::StepFinished { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// The steps of a manifest, without what they cost.
fn steps(place: &Place) -> Vec<[String; 4]> {
    let manifest: Value = serde_json::from_str(&place.read(MANIFEST)).unwrap();
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    let steps = manifest["steps"].as_array().unwrap().iter();
    steps.map(|step| ["address", "kind", "label", "output"].map(|key| text(step, key))).collect()
}

#[test]
fn jobs_and_threads_do_not_change_the_results() {
    let expected = reference();
    for (jobs, threads) in [(1, 1), (4, 1), (1, 4), (3, 2)] {
        let (place, toy) = (Place::new(), Toy::default());
        let config = config(SMALL);
        let plan = Plan::new(&config, &toy);
        run(&config, &plan, &toy, &place.options(jobs, threads), &(), &AtomicBool::new(false)).unwrap();
        assert_eq!(place.read(CELLS), expected);
        assert_eq!(toy.ran.lock().unwrap().len(), plan.steps.len());
    }
}

#[test]
fn the_manifest_of_an_interrupted_run_knows_the_steps_of_all_kinds() {
    let text = EVERY_KIND.replace("name = \"badnets\"", "name = [\"badnets\", \"witches-brew\"]");
    let calm = Place::new();
    calm.run(&text, &Toy::default());
    let expected = steps(&calm);
    for kind in StepKind::ALL {
        assert!(expected.iter().any(|step| step[1] == kind.name()), "{kind}");
    }
    assert!(expected.iter().any(|step| step[2].starts_with("train surrogate")));
    for after in [expected.len() / 2, expected.len() - 4] {
        let (place, cancel) = (Place::new(), AtomicBool::new(false));
        place.run_with(&text, &Toy::default(), &CancelAfter(after.into(), &cancel), &cancel, 1);
        place.run(&text, &Toy::default());
        assert_eq!(steps(&place), expected, "after {after}");
    }
    // Results that are made again from the store alone know them, too.
    fs::remove_file(calm.results().join(CELLS)).unwrap();
    calm.run(&text, &Toy::default());
    assert_eq!(steps(&calm), expected);
}

#[test]
fn a_manifest_never_stands_beside_results_of_another_run() {
    let place = Place::new();
    place.run(SMALL, &Toy::default());
    // A folder in the place of the gallery, which cannot be replaced then.
    fs::remove_file(place.results().join(GALLERY)).unwrap();
    fs::create_dir(place.results().join(GALLERY)).unwrap();
    let (toy, text) = (Toy::default(), SMALL.replace("seeds = 2", "seeds = 1"));
    let config = config(&text);
    let plan = Plan::new(&config, &toy);
    let error = run(&config, &plan, &toy, &place.options(1, 1), &(), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains(GALLERY), "{error}");
    assert!(!place.results().join(MANIFEST).exists());
}

#[test]
fn there_are_no_more_workers_than_steps() {
    let place = Place::new();
    assert_eq!(report(place.run_with(SMALL, &Toy::default(), &(), &AtomicBool::new(false), 1_000_000)).failed_cells, 0);
    assert_eq!(place.read(CELLS), reference());
}

#[test]
fn a_second_run_does_nothing_and_leaves_every_file_as_it_was() {
    let place = Place::new();
    assert_eq!(report(place.run(SMALL, &Toy::default())).failed_cells, 0);
    let files = || {
        let paths = fs::read_dir(place.results()).unwrap().map(|entry| entry.unwrap().path());
        let read =
            |path: PathBuf| (path.clone(), fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        paths.map(read).collect::<BTreeSet<_>>()
    };
    let before = files();
    let toy = Toy::default();
    let outcome = place.run(SMALL, &toy);
    assert!(matches!(outcome, Outcome::NothingToDo { .. }), "{outcome:?}");
    assert!(outcome.to_string().starts_with("nothing to do: all "));
    assert_eq!(files(), before);
    assert!(toy.ran.lock().unwrap().is_empty());
    // Lost or altered results are made again, from the store alone.
    let cells = place.read(CELLS);
    fs::write(place.results().join(CELLS), "x").unwrap();
    assert_eq!(report(place.run(SMALL, &toy)).totals.reused, Plan::new(&config(SMALL), &toy).steps.len());
    assert_eq!(place.read(CELLS), cells);
    assert!(toy.ran.lock().unwrap().is_empty());
}

#[test]
fn a_changed_defense_trains_no_victim_again() {
    let place = Place::new();
    place.run(SMALL, &Toy::default());
    let toy = Toy::default();
    place.run(&SMALL.replace("\"prune\"", "\"prune\"\nstrength = 2"), &toy);
    assert_eq!((toy.count(StepKind::Train), toy.count(StepKind::Repair)), (0, 6));
    // A changed question changes the manifest and runs nothing.
    let toy = Toy::default();
    let text = SMALL.replace("seeds = 2", "question = \"Why?\"\nseeds = 2");
    assert!(matches!(place.run(&text, &toy), Outcome::Finished(_)));
    assert!(place.read(MANIFEST).contains("Why?") && toy.count(StepKind::Train) == 0);
}

#[test]
fn two_runs_on_one_folder_are_told_apart_and_share_a_store() {
    let (place, toy) = (Place::new(), Toy::default());
    let config = config(SMALL);
    let plan = Plan::new(&config, &toy);
    fs::create_dir_all(place.results()).unwrap();
    let held = lock(&place.results()).unwrap();
    let begin = || run(&config, &plan, &toy, &place.options(1, 1), &(), &AtomicBool::new(false));
    let message = begin().unwrap_err().to_string();
    assert!(message.starts_with("failed to begin: another run is writing to `"), "{message}");
    drop(held);
    // Two runs at once with results of their own share the work: no step is run twice.
    std::thread::scope(|scope| {
        for out in ["a", "b"] {
            let options = Options { out: place.0.path().join(out), ..place.options(2, 1) };
            let (config, plan, toy) = (&config, &plan, &toy);
            scope.spawn(move || run(config, plan, toy, &options, &(), &AtomicBool::new(false)).unwrap());
        }
    });
    let cells = |out: &str| fs::read(place.0.path().join(out).join("small").join(CELLS)).unwrap();
    assert_eq!(cells("a"), cells("b"));
    assert_eq!(String::from_utf8(cells("a")).unwrap(), reference());
    assert_eq!(toy.ran.lock().unwrap().len(), plan.steps.len());
}

#[test]
fn cells_carry_their_references_and_the_gallery_stands_once_per_attack() {
    let place = Place::new();
    place.run(SMALL, &Toy::default());
    let cells = place.cells();
    let defended =
        cells.iter().find(|cell| cell["defense"]["name"] == "spectral" && cell["attack"]["name"] == "badnets");
    let metrics = &defended.unwrap()["metrics"];
    let names: Vec<&str> = metrics.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "asr",
        "clean_accuracy",
        "clean_model_accuracy",
        "clean_model_success",
        "der",
        "poisoned",
        "tpr",
        "undefended_accuracy",
        "undefended_success",
    ];
    assert_eq!(names, expected);
    let number = |name: &str| metrics[name].as_f64().unwrap();
    let lost = |before: &str, after: &str| (number(before) - number(after)).max(0.0);
    let der = (lost("undefended_success", "asr") - lost("undefended_accuracy", "clean_accuracy") + 1.0) / 2.0;
    assert_eq!(number("der"), der);
    assert!(cells[0]["metrics"].get("der").is_none());
    assert_eq!(place.read(GALLERY).lines().count(), 2);
    let manifest: Value = serde_json::from_str(&place.read(MANIFEST)).unwrap();
    assert_eq!(manifest["steps"].as_array().unwrap().len(), Plan::new(&config(SMALL), &Toy::default()).steps.len());
    assert_eq!(manifest["config"].as_str().unwrap(), place.read(RESOLVED));
}

#[test]
fn narrow_plans_share_out_the_threads() {
    let toy = Toy::default();
    let plan = Plan::new(&config(SMALL), &toy);
    let due = vec![true; plan.steps.len()];
    let free = Options { jobs: None, threads: None, ..Place::new().options(1, 1) };
    // Clean models and victims are six; later come fourteen on vetted data: six by the filter, eight by its controls.
    assert_eq!(share_out(&plan, &due, 4, &free), (4, 1));
    assert_eq!(share_out(&plan, &due, 64, &free), (14, 4));
    let one = SMALL.replace("seeds = 2", "seeds = 1").replace("[0.05, 0.1]", "0.1");
    let plan = Plan::new(&config(&one[..one.find("[[experiment.defense]]").unwrap()]), &toy);
    assert_eq!(share_out(&plan, &vec![true; plan.steps.len()], 8, &free), (2, 4));
    assert_eq!(share_out(&plan, &due, 8, &Options { jobs: Some(3), ..free.clone() }), (3, 2));
    assert_eq!(share_out(&plan, &due, 8, &Options { threads: Some(4), ..free }), (2, 4));
}

#[test]
fn the_last_steps_get_all_cores_unless_the_threads_are_given() {
    let cores = std::thread::available_parallelism().unwrap().get();
    for given in [None, Some(1)] {
        let (place, toy) = (Place::new(), Toy::default());
        let options = Options { threads: given, ..place.options(cores, 1) };
        let config = config(SMALL);
        run(&config, &Plan::new(&config, &toy), &toy, &options, &(), &AtomicBool::new(false)).unwrap();
        let threads = toy.threads.lock().unwrap();
        assert_eq!(threads.iter().max(), Some(&given.unwrap_or(cores)));
        assert_eq!(place.read(CELLS), reference());
    }
}

#[test]
fn a_grid_of_six_by_six_by_three_trains_each_victim_once() {
    let mut text = SMALL[..SMALL.find("[[experiment.attack]]").unwrap()].replace("seeds = 2", "seeds = 3");
    for attack in ["badnets", "blended", "label-flip", "sig", "trojan", "witches-brew"] {
        text += &format!("[[experiment.attack]]\nname = \"{attack}\"\n");
    }
    for defense in ["spectral", "clustering", "robust", "prune", "strip", "all-in-one"] {
        text += &format!("[[experiment.defense]]\nname = \"{defense}\"\n");
    }
    let (place, toy) = (Place::new(), Toy::default());
    place.run(&text, &toy);
    let victims: Vec<Step> = toy
        .ran
        .lock()
        .unwrap()
        .iter()
        .filter(|step| step.kind == StepKind::Train && step.defense.is_none() && !step.inputs.contains_key("vet"))
        .cloned()
        .collect();
    // Six attacked victims and a clean model a seed, and the surrogate of the one attack that needs one.
    assert_eq!(victims.len(), 3 * (6 + 1 + 1));
    let label = |line: &str| serde_json::from_str::<Value>(line).unwrap()["label"].as_str().map(str::to_owned);
    let labels: Vec<String> = place.read(JOURNAL).lines().filter_map(label).collect();
    assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "the journal has no step twice");
    // Another parameter of a defense trains no victim again, and what a comparison asks runs nothing at all.
    let toy = Toy::default();
    let changed = text.replace("\"prune\"", "\"prune\"\nstrength = 2.0");
    place.run(&changed, &toy);
    assert_eq!((toy.count(StepKind::Train), toy.count(StepKind::Repair)), (0, 3 * 7));
    let toy = Toy::default();
    place.run(&format!("{changed}[[experiment.compare]]\ndefenses = [\"prune\", \"strip\"]\n"), &toy);
    assert!(toy.ran.lock().unwrap().is_empty());
    assert!(place.read(MANIFEST).contains("\"of\": \"defense\""));
}
