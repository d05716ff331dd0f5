//! What goes wrong in a run, and that nothing finished is lost.

use super::*;

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
    place.run(EVERY_KIND, &toy);
    let (cells, plan) = (place.read(CELLS), Plan::new(&config(EVERY_KIND), &toy));
    let store = Store::open(place.0.path().join("store")).unwrap();
    for kind in StepKind::ALL {
        let planned = plan.steps.iter().find(|planned| planned.step.kind == kind).unwrap();
        let file = fs::read_dir(store.folder(&planned.address)).unwrap().map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| !path.ends_with("checksums.json")).unwrap();
        fs::write(file, "damage").unwrap();
    }
    fs::remove_file(place.results().join(CELLS)).unwrap();
    let toy = Toy::default();
    place.run(EVERY_KIND, &toy);
    assert_eq!(place.read(CELLS), cells);
    // The damaged repair is read by no cell and by nothing that is due, so nobody looks at it; features are, by a vetting.
    assert_eq!(toy.ran.lock().unwrap().len(), 8);
    assert!(place.read(JOURNAL).contains("\"event\":\"damaged\""));
    assert_eq!(fs::read_dir(store.root().join("damaged")).unwrap().count(), 8);
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
fn a_training_that_fails_keeps_its_checkpoint() {
    let place = Place::new();
    let each = |epoch: usize| assert!(epoch != 8, "out of memory");
    let toy = Toy { epochs: 10, each: Some(Box::new(each)), ..Toy::default() };
    let config = config(SMALL);
    let options = Options { checkpoint_every: Duration::ZERO, ..place.options(1, 1) };
    run(&config, &Plan::new(&config, &toy), &toy, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(fs::read_dir(place.0.path().join("store/checkpoints")).unwrap().count() > 0);
    // The next run goes on from there.
    let toy = Toy { epochs: 10, ..Toy::default() };
    place.run(SMALL, &toy);
    let trainings = Plan::new(&config, &toy).steps.iter().filter(|step| step.step.kind == StepKind::Train).count();
    assert!(*toy.walked.lock().unwrap() < 10 * trainings);
    assert_eq!(place.read(CELLS), reference());
}

#[test]
fn what_is_left_of_a_training_says_nothing_of_its_pace() {
    let (place, toy) = (Place::new(), Toy { epochs: 10, ..Toy::default() });
    let store = Store::open(place.0.path().join("store")).unwrap();
    for planned in Plan::new(&config(SMALL), &toy).steps.iter().filter(|planned| planned.step.kind == StepKind::Train) {
        store.save_checkpoint(&planned.address, &[9]).unwrap();
    }
    drop(store);
    place.run(SMALL, &toy);
    let learned = fs::read_to_string(place.0.path().join("store/throughput.json")).unwrap();
    assert!(learned.contains(" poison") && !learned.contains(" train "), "{learned}");
}

#[test]
fn a_fixed_method_never_serves_an_old_result() {
    for kind in StepKind::ALL {
        let text = EVERY_KIND.replace("\"reverse\"", "\"reverse\", \"inspect\"");
        let place = Place::new();
        place.run(&text, &Toy::default());
        assert!(matches!(place.run(&text, &Toy::default()), Outcome::NothingToDo { .. }));
        let toy = Toy { newer: Some(kind), ..Toy::default() };
        assert!(matches!(place.run(&text, &toy), Outcome::Finished(_)), "{kind}");
        let plan = Plan::new(&config(&text), &toy);
        assert_eq!(toy.count(kind), plan.steps.iter().filter(|planned| planned.step.kind == kind).count(), "{kind}");
    }
}
