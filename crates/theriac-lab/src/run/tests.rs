use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::bench::Step;
use crate::toy::{SMALL, Toy, config};

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
fn an_interrupted_run_continues_and_ends_with_the_same_results() {
    let expected = reference();
    for after in [1, 3, 9] {
        let (place, cancel) = (Place::new(), AtomicBool::new(false));
        let outcome = place.run_with(SMALL, &Toy::default(), &CancelAfter(after.into(), &cancel), &cancel, 1);
        let Outcome::Interrupted { done, steps, saved: 0 } = outcome else { panic!("{outcome:?}") };
        assert_eq!(done, after);
        let text = format!("interrupted: {after} of {steps} steps done; run again to continue");
        assert_eq!(outcome.to_string(), text);
        assert!(!place.results().join(CELLS).exists());
        // What a kill leaves on top: a cut journal and half an entry.
        let journal = place.read(JOURNAL);
        fs::write(place.results().join(JOURNAL), &journal[..journal.len() - 5]).unwrap();
        fs::create_dir_all(place.0.path().join("store/part/0123456789abcdef-1-1")).unwrap();
        let toy = Toy::default();
        let report = report(place.run(SMALL, &toy));
        assert_eq!((report.totals.reused, toy.ran.lock().unwrap().len()), (after, steps - after));
        assert_eq!(place.read(CELLS), expected);
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
fn the_manifest_of_an_interrupted_run_knows_the_steps_of_all_kinds() {
    let text = format!("{SMALL}[[experiment.attack]]\nname = \"witches-brew\"\n");
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
fn a_failing_step_fails_its_cells_and_no_others() {
    let expected: Vec<Value> = reference().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (jobs, panics) in [(1, false), (4, false), (4, true)] {
        let (place, word) = (Place::new(), Some("\"kind\":\"repair\""));
        let toy = if panics { Toy { panic: word, ..Toy::default() } } else { Toy { fail: word, ..Toy::default() } };
        let outcome = place.run_with(SMALL, &toy, &(), &AtomicBool::new(false), jobs);
        assert!(outcome.to_string().ends_with("6 cells failed, run again to retry them"), "{outcome}");
        let report = report(outcome);
        // Three attacks with `none`, two seeds.
        assert_eq!((report.failed_steps.len(), report.failed_cells), (6, 6));
        let reason = if panics { "it panicked: toy panic" } else { "toy failure" };
        for (found, expected) in place.cells().iter().zip(&expected) {
            if found["defense"]["name"] == "prune" {
                let text = found["outcome"]["reason"].as_str().unwrap();
                assert!(text.starts_with("failed to repair cnn on digits"), "{text}");
                assert!(text.ends_with(reason), "{text}");
            } else {
                assert_eq!(found, expected);
            }
        }
        // A run that is mended computes only what failed.
        let toy = Toy::default();
        place.run(SMALL, &toy);
        assert_eq!(place.cells(), expected);
        assert_eq!((toy.count(StepKind::Repair), toy.count(StepKind::Train)), (6, 0));
    }
}

#[test]
fn a_damaged_entry_is_healed() {
    let (place, toy) = (Place::new(), Toy::default());
    place.run(SMALL, &toy);
    let (cells, plan) = (place.read(CELLS), Plan::new(&config(SMALL), &toy));
    let store = Store::open(place.0.path().join("store")).unwrap();
    for kind in StepKind::ALL {
        let planned = plan.steps.iter().find(|planned| planned.step.kind == kind).unwrap();
        let file = fs::read_dir(store.folder(&planned.address)).unwrap().map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| !path.ends_with("checksums.json")).unwrap();
        fs::write(file, "damage").unwrap();
    }
    fs::remove_file(place.results().join(CELLS)).unwrap();
    let toy = Toy::default();
    place.run(SMALL, &toy);
    assert_eq!(place.read(CELLS), cells);
    // The damaged repair is read by no cell and by nothing that is due, so nobody looks at it.
    assert_eq!(toy.ran.lock().unwrap().len(), 4);
    assert!(place.read(JOURNAL).contains("\"event\":\"damaged\""));
    assert_eq!(fs::read_dir(store.root().join("damaged")).unwrap().count(), 4);
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
fn paths_that_cannot_be_written_are_named() {
    let (place, toy) = (Place::new(), Toy::default());
    let config = config(SMALL);
    let plan = Plan::new(&config, &toy);
    let begin =
        |options: Options| run(&config, &plan, &toy, &options, &(), &AtomicBool::new(false)).unwrap_err().to_string();
    let file = place.0.path().join("file");
    fs::write(&file, "").unwrap();
    let out = begin(Options { out: file.clone(), ..place.options(1, 1) });
    assert!(out.starts_with("failed to create the folder `") && out.contains("file/small`: "), "{out}");
    let store = begin(Options { store: file, ..place.options(1, 1) });
    assert!(store.starts_with("failed to create the folder `") && store.contains("file/part`: "), "{store}");
}

#[test]
fn a_disk_that_fails_in_the_middle_ends_the_run_with_the_path() {
    let (place, toy) = (Place::new(), Toy::default());
    let config = config(SMALL);
    let plan = Plan::new(&config, &toy);
    // Files where the store wants folders.
    fs::create_dir_all(place.0.path().join("store")).unwrap();
    for planned in &plan.steps {
        fs::write(place.0.path().join("store").join(planned.address.short(2)), "").unwrap();
    }
    let error = run(&config, &plan, &toy, &place.options(2, 1), &(), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(&error, RunError::Midway(_)), "{error}");
    assert!(error.to_string().contains("/store/"), "{error}");
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
fn a_panicking_observer_does_not_stop_a_run() {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, event: &Event) {
            assert!(!matches!(event, Event::StepFinished { .. }), "observer");
        }
    }
    let place = Place::new();
    let outcome = place.run_with(SMALL, &Toy::default(), &Panics, &AtomicBool::new(false), 2);
    assert_eq!(report(outcome).failed_cells, 0);
    assert_eq!(place.read(CELLS), reference());
}

#[test]
fn shards_merge_to_what_one_process_gives() {
    let text = format!("{SMALL}[[experiment.attack]]\nname = \"sig\"\n");
    let whole = Place::new();
    whole.run(&text, &Toy::default());
    let (config, place) = (config(&text), Place::new());
    let mut trained = 0;
    for (index, machine) in [(2, "x"), (3, "y"), (1, "z")] {
        let toy = Toy::default();
        let plan = Plan::new(&config, &toy);
        let store = place.0.path().join(machine);
        let options = Options { shard: Some((index, 3)), store, ..place.options(2, 1) };
        let report = report(run(&config, &plan, &toy, &options, &(), &AtomicBool::new(false)).unwrap());
        trained += toy.ran.lock().unwrap().iter().filter(|step| step.inputs.contains_key("poison")).count();
        let last = index == 1;
        assert_eq!(report.missing_shards.is_empty(), last);
        assert_eq!(place.results().join(CELLS).exists(), last);
        assert_eq!(report.folder == place.results(), last, "{}", report.folder.display());
    }
    for name in [CELLS, GALLERY, RESOLVED] {
        assert_eq!(place.read(name), whole.read(name), "{name}");
    }
    assert_eq!(steps(&place), steps(&whole));
    // No two machines trained the same victim, or did anything else with it.
    let all = Plan::new(&config, &Toy::default());
    assert_eq!(trained, all.steps.iter().filter(|planned| planned.step.inputs.contains_key("poison")).count());
    // What is merged counts as run.
    assert!(matches!(place.run(&text, &Toy::default()), Outcome::NothingToDo { .. }));
}

#[test]
fn shards_that_do_not_belong_together_are_told() {
    use super::merge::{merge, shards_in};
    let place = Place::new();
    let shard = |text: &str, index: usize, of: usize, out: &str| {
        let (config, toy) = (config(text), Toy::default());
        let plan = Plan::new(&config, &toy);
        let out = place.0.path().join(out);
        let options = Options { shard: Some((index, of)), out: out.clone(), ..place.options(2, 1) };
        run(&config, &plan, &toy, &options, &(), &AtomicBool::new(false)).unwrap();
        shard_folder(&out.join("small"), index, of)
    };
    let other = SMALL.replace("0.1]", "0.2]");
    let (a, b, c) = (shard(SMALL, 1, 2, "a"), shard(&other, 2, 2, "b"), shard(SMALL, 2, 2, "c"));
    let into = place.0.path().join("merged");
    let fails = |folders: &[PathBuf]| merge(folders, &into).unwrap_err().to_string();
    assert!(fails(&[a.clone(), b]).contains("are parts of different plans"));
    assert!(fails(std::slice::from_ref(&a)).contains("of 2 shards these are missing: 2"));
    assert!(fails(&[a.clone(), a.clone()]).contains("shard 1/2 is there twice"));
    assert!(fails(&[a.clone(), into.clone()]).contains("merged` holds no shard; run it with `--shard i/n`"));
    assert!(fails(&[]).contains("missing"));
    assert_eq!(shards_in(a.parent().unwrap()).unwrap(), std::slice::from_ref(&a));
    merge(&[c.clone(), a], &into).unwrap();
    assert_eq!(fs::read_to_string(into.join(CELLS)).unwrap(), reference());
    fs::write(c.join(CELLS), "").unwrap();
    assert!(fails(std::slice::from_ref(&c)).contains("missing: 1"));
}

#[test]
fn a_diverging_training_is_a_result_and_is_not_tried_again() {
    let expected: Vec<Value> = reference().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seed_one = |step: &Step| step.kind == StepKind::Train && step.seed == 1;
    let diverging = || Toy { diverge: Some(seed_one), ..Toy::default() };
    let (place, toy) = (Place::new(), diverging());
    let outcome = place.run(SMALL, &toy);
    assert!(outcome.to_string().contains("cells diverged"), "{outcome}");
    let report = report(outcome);
    assert_eq!((report.failed_cells, report.failed_steps.len()), (0, 0));
    assert!(report.diverged_cells > 0);
    for (found, expected) in place.cells().iter().zip(&expected) {
        if found["seed"] == 1 {
            let reason = found["outcome"]["reason"].as_str().unwrap();
            assert_eq!(found["outcome"]["status"], "diverged");
            assert!(reason.starts_with("train cnn on digits") && reason.ends_with("NaN in epoch 1"), "{reason}");
        } else {
            assert_eq!(found, expected);
        }
    }
    assert!(place.read(JOURNAL).contains("\"event\":\"diverged\""));
    let cells = place.read(CELLS);
    assert!(matches!(place.run(SMALL, &diverging()), Outcome::NothingToDo { .. }));
    // Made again from the store, which remembers: nothing is run.
    fs::remove_file(place.results().join(CELLS)).unwrap();
    let toy = diverging();
    place.run(SMALL, &toy);
    assert_eq!(place.read(CELLS), cells);
    assert!(toy.ran.lock().unwrap().is_empty());
}

#[test]
fn a_defense_keeps_its_numbers_where_only_the_undefended_victim_diverged() {
    let text = SMALL.replace("\"spectral\"", "\"robust\"").replace("[0.05, 0.1]", "0.1");
    let undefended = |step: &Step| step.kind == StepKind::Train && step.defense.is_none() && !step.inputs.is_empty();
    let toy = Toy { diverge: Some(undefended), ..Toy::default() };
    let place = Place::new();
    place.run(&text, &toy);
    let robust: Vec<Value> = place.cells().into_iter().filter(|cell| cell["defense"]["name"] == "robust").collect();
    assert!(!robust.is_empty());
    for cell in robust.iter().filter(|cell| cell["attack"]["name"] == "badnets") {
        assert_eq!(cell["outcome"]["status"], "ok");
        assert!(
            cell["metrics"].get("clean_accuracy").is_some() && cell["metrics"].get("undefended_accuracy").is_none()
        );
    }
}

#[test]
fn a_stopped_training_goes_on_where_it_was() {
    let expected = reference();
    let (place, cancel) = (Place::new(), std::sync::Arc::new(AtomicBool::new(false)));
    let flag = cancel.clone();
    let each = move |epoch: usize| {
        if epoch == 6 {
            flag.store(true, Ordering::Relaxed);
        }
    };
    let toy = Toy { epochs: 10, each: Some(Box::new(each)), ..Toy::default() };
    let outcome = place.run_with(SMALL, &toy, &(), &cancel, 1);
    let text = outcome.to_string();
    assert!(text.ends_with(" steps done, 1 more saved on their way; run again to continue"), "{text}");
    let walked = *toy.walked.lock().unwrap();
    let toy = Toy { epochs: 10, ..Toy::default() };
    place.run(SMALL, &toy);
    assert_eq!(place.read(CELLS), expected);
    let trainings =
        Plan::new(&config(SMALL), &toy).steps.iter().filter(|step| step.step.kind == StepKind::Train).count();
    assert_eq!(walked + *toy.walked.lock().unwrap(), 10 * trainings);
    assert_eq!(fs::read_dir(place.0.path().join("store/checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_checkpoint_that_is_damaged_or_cannot_be_saved_loses_no_result() {
    let expected = reference();
    let place = Place::new();
    let store = place.0.path().join("store");
    // Files where the store wants folders: nothing can be saved.
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("checkpoints"), "").unwrap();
    struct Warned(AtomicUsize);
    impl Observer for Warned {
        fn observe(&self, event: &Event) {
            self.0.fetch_add(usize::from(matches!(event, Event::NotSaved { .. })), Ordering::Relaxed);
        }
    }
    let (toy, warned) = (Toy { epochs: 3, ..Toy::default() }, Warned(0.into()));
    let config = config(SMALL);
    let plan = Plan::new(&config, &toy);
    let options = Options { checkpoint_every: Duration::ZERO, ..place.options(2, 1) };
    run(&config, &plan, &toy, &options, &warned, &AtomicBool::new(false)).unwrap();
    assert_eq!(place.read(CELLS), expected);
    assert!(warned.0.into_inner() >= 3);
}

#[test]
fn running_steps_stay_within_the_memory_that_is_given() {
    // Each toy step takes 10 MiB.
    for (budget, most) in [(25.0, 2), (5.0, 1), (1e9, 4)] {
        let (place, now, seen) =
            (Place::new(), std::sync::Arc::new(AtomicUsize::new(0)), std::sync::Arc::new(AtomicUsize::new(0)));
        let (running, peak) = (now.clone(), seen.clone());
        let each = move |_| {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(3));
            running.fetch_sub(1, Ordering::SeqCst);
        };
        let toy = Toy { epochs: 2, each: Some(Box::new(each)), ..Toy::default() };
        let config = config(SMALL);
        let plan = Plan::new(&config, &toy);
        let options = Options { memory_mib: Some(budget), ..place.options(4, 1) };
        run(&config, &plan, &toy, &options, &(), &AtomicBool::new(false)).unwrap();
        let seen = seen.load(Ordering::SeqCst);
        assert!(seen <= most, "{seen} at a time with {budget} MiB");
        assert_eq!(place.read(CELLS), reference());
    }
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let place = Place::new();
    place.run(SMALL, &Toy::default());
    let cells = place.read(CELLS);
    // Everything that is there comes from the future now.
    let written = fs::metadata(place.results().join(CELLS)).unwrap().modified().unwrap();
    let later = written + Duration::from_secs(400 * 24 * 3600);
    let mut open = vec![place.0.path().to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        }
    }
    assert!(matches!(place.run(SMALL, &Toy::default()), Outcome::NothingToDo { .. }));
    fs::remove_file(place.results().join(CELLS)).unwrap();
    let toy = Toy::default();
    place.run(SMALL, &toy);
    assert_eq!(place.read(CELLS), cells);
    assert!(toy.ran.lock().unwrap().is_empty());
    let swept = Store::at(place.0.path().join("store")).sweep(u64::MAX, false).unwrap();
    assert_eq!(swept.removed, 0);
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
