//! Parts of a plan and what becomes of them.

use super::*;

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
    // What is merged counts as run, and a part that is there already writes nothing again.
    assert!(matches!(place.run(&text, &Toy::default()), Outcome::NothingToDo { .. }));
    let written = || fs::metadata(place.results().join(MANIFEST)).unwrap().modified().unwrap();
    let (before, toy) = (written(), Toy::default());
    let options = Options { shard: Some((2, 3)), ..place.options(2, 1) };
    let outcome = run(&config, &Plan::new(&config, &toy), &toy, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, Outcome::NothingToDo { .. }), "{outcome:?}");
    assert_eq!(written(), before);
}

#[test]
fn shards_of_an_earlier_config_are_missing() {
    let place = Place::new();
    let shard = |text: &str, index: usize| {
        let (config, toy) = (config(text), Toy::default());
        let options = Options { shard: Some((index, 2)), ..place.options(2, 1) };
        run(&config, &Plan::new(&config, &toy), &toy, &options, &(), &AtomicBool::new(false)).unwrap()
    };
    shard(SMALL, 1);
    assert!(report(shard(SMALL, 2)).missing_shards.is_empty());
    let other = SMALL.replace("0.1]", "0.2]");
    assert_eq!(report(shard(&other, 1)).missing_shards, [2]);
    assert!(report(shard(&other, 2)).missing_shards.is_empty());
    let whole = Place::new();
    whole.run(&other, &Toy::default());
    assert_eq!(place.read(CELLS), whole.read(CELLS));
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

/// Both halves of the small study, which are merged.
fn halves() -> Place {
    let place = Place::new();
    for index in [1, 2] {
        let (config, toy) = (config(SMALL), Toy::default());
        let options = Options { shard: Some((index, 2)), ..place.options(2, 1) };
        run(&config, &Plan::new(&config, &toy), &toy, &options, &(), &AtomicBool::new(false)).unwrap();
    }
    place
}

#[test]
fn a_part_that_is_not_what_was_written_is_refused_and_older_results_stay() {
    use crate::run::merge::{merge, shards_in};
    let place = halves();
    let cells = place.read(CELLS);
    let path = shard_folder(&place.results(), 2, 2).join(CELLS);
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("\"clean_accuracy\":0.").unwrap() + 19;
    let mut flipped = text.clone().into_bytes();
    flipped[at] = if flipped[at] == b'9' { b'8' } else { b'9' };
    for damage in [flipped, Vec::new()] {
        fs::write(&path, damage).unwrap();
        let error = merge(&shards_in(&place.results()).unwrap(), &place.results()).unwrap_err().to_string();
        assert!(error.contains("it is not what the run has written; run that shard again"), "{error}");
        assert_eq!(place.read(CELLS), cells);
        assert!(place.results().join(MANIFEST).exists());
        let parts = fs::read_dir(place.results())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "part"));
        assert_eq!(parts.count(), 0);
    }
    fs::write(&path, text).unwrap();
    merge(&shards_in(&place.results()).unwrap(), &place.results()).unwrap();
    assert_eq!(place.read(CELLS), cells);
}
