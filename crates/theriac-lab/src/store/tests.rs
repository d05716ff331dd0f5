use super::*;
use crate::toy;

const SPENT: Spent = Spent { seconds: 0.5, peak_memory_mib: 2.0 };

fn store() -> (tempfile::TempDir, Store, Step) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let step = toy::plan(toy::SMALL).steps[0].step.clone();
    let files = vec![("poison.json".to_owned(), b"{}".to_vec()), ("changes.bin".to_owned(), vec![0, 255])];
    store.insert(&step, &files, SPENT).unwrap();
    (folder, store, step)
}

#[test]
fn an_entry_is_found_again_with_its_cost() {
    let (_folder, store, step) = store();
    let Found::Good(entry) = store.find(&step.address()).unwrap() else { panic!("the entry is there") };
    assert_eq!((entry.note.seconds, entry.note.peak_memory_mib), (0.5, 2.0));
    assert_eq!(entry.note.step, step);
    assert_eq!(entry.output(), Some(Digest::of(b"{}")));
    assert!(store.contains(&step.address()));
    assert!(matches!(store.find(&Digest::of(b"other")).unwrap(), Found::Nothing));
}

#[test]
fn every_kind_of_damage_is_found_and_set_aside() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("`changes.bin` has the hash", |folder| fs::write(folder.join("changes.bin"), [0, 254]).unwrap()),
        ("`changes.bin` cannot be read", |folder| fs::remove_file(folder.join("changes.bin")).unwrap()),
        ("`checksums.json` is not", |folder| fs::write(folder.join(CHECKSUMS), b"{").unwrap()),
        ("`step.json` has the hash", |folder| fs::write(folder.join(NOTE), b"{}").unwrap()),
    ];
    for (expected, harm) in harms {
        let (_folder, store, step) = store();
        harm(&store.folder(&step.address()));
        let Found::Damaged(why) = store.find(&step.address()).unwrap() else { panic!("{expected}") };
        assert!(why.starts_with(expected), "{why}");
        assert!(!store.contains(&step.address()));
        let aside = fs::read_dir(store.root().join("damaged")).unwrap().next().unwrap().unwrap();
        assert!(fs::read_to_string(aside.path().join("why.txt")).unwrap().starts_with(expected));
        assert!(aside.path().join("entry").is_dir());
    }
}

#[test]
fn what_the_disk_refuses_to_read_is_no_damage() {
    let (_folder, store, step) = store();
    let path = store.folder(&step.address()).join("changes.bin");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let message = store.find(&step.address()).unwrap_err().to_string();
    assert!(message.starts_with("failed to read `") && message.contains("changes.bin`: "), "{message}");
    assert!(store.contains(&step.address()) && !store.root().join("damaged").exists());
}

#[test]
fn a_look_at_the_note_reads_no_other_file() {
    let (_folder, store, step) = store();
    let folder = store.folder(&step.address());
    fs::write(folder.join("changes.bin"), "damage").unwrap();
    assert_eq!(store.look_up(&step.address()).unwrap().unwrap().note.seconds, 0.5);
    fs::write(folder.join(NOTE), "damage").unwrap();
    assert!(store.look_up(&step.address()).unwrap().is_none());
    assert!(store.look_up(&Digest::of(b"other")).unwrap().is_none());
}

#[test]
fn storing_a_step_twice_keeps_the_first() {
    let (_folder, store, step) = store();
    let entry = store.insert(&step, &vec![("poison.json".to_owned(), b"{}".to_vec())], Spent::default()).unwrap();
    assert_eq!(entry.note.seconds, 0.5);
    assert_eq!(fs::read_dir(store.root().join("part")).unwrap().count(), 0);
}

#[test]
fn a_step_is_claimed_once_and_is_free_again_afterwards() {
    let (_folder, store, step) = store();
    let other = Store::open(store.root()).unwrap();
    let claim = store.claim(&step.address()).unwrap().unwrap();
    assert!(other.claim(&step.address()).unwrap().is_none());
    assert!(other.claim(&Digest::of(b"another")).unwrap().is_some());
    drop(claim);
    let path = store.root().join("claims").join(step.address().short(3));
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    let _claim = other.claim(&step.address()).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), step.address().to_string());
}

#[test]
fn claims_exclude_each_other_however_fast_they_come_and_go() {
    let (_folder, store, step) = store();
    let (inside, rounds) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Some(_claim) = store.claim(&step.address()).unwrap() {
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        rounds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(rounds.into_inner() > 0);
}

#[test]
fn a_checkpoint_is_replaced_and_a_damaged_one_is_none() {
    let (_folder, store, step) = store();
    let address = step.address();
    assert_eq!(store.checkpoint(&address), None);
    store.save_checkpoint(&address, b"one").unwrap();
    store.save_checkpoint(&address, b"two").unwrap();
    assert_eq!(store.checkpoint(&address).unwrap(), b"two");
    let path = store.root().join("checkpoints").join(address.to_string());
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(store.checkpoint(&address), None, "{end}");
    }
    store.drop_checkpoint(&address);
    assert!(!path.exists());
    store.drop_checkpoint(&address);
}

/// A store with entries of 1000, 2000 and 3000 bytes and a bit, the smallest of them used last.
fn three() -> (tempfile::TempDir, Store, [Digest; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let plan = toy::plan(toy::SMALL);
    let mut at = 0;
    let addresses = [3000, 2000, 1000].map(|size| {
        let step = &plan.steps[at].step;
        at += 1;
        store.insert(step, &vec![("a.bin".to_owned(), vec![7; size])], SPENT).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
        let sums = fs::File::options().append(true).open(store.folder(&step.address()).join(CHECKSUMS)).unwrap();
        sums.set_modified(old).unwrap();
        step.address()
    });
    (folder, store, addresses)
}

#[test]
fn making_room_removes_what_was_not_used_for_the_longest_time() {
    let (_folder, store, [largest, middle, smallest]) = three();
    let entries = store.entries().unwrap();
    assert_eq!(entries.iter().map(|entry| entry.address).collect::<Vec<_>>(), [smallest, middle, largest]);
    let overhead = entries[0].bytes - 1000;
    // The largest, the smallest, and a checkpoint.
    let limit = 4000 + 2 * overhead + 100;
    // While somebody uses it, nothing is removed.
    let message = store.sweep(limit, false).unwrap_err().to_string();
    assert!(message.contains("a run is using it; wait until that is over"), "{message}");
    let quiet = Store::at(store.root());
    store.touch(&largest);
    drop(store);
    quiet.save_checkpoint(&largest, b"of a finished step").unwrap();
    quiet.save_checkpoint(&Digest::of(b"unfinished"), b"of one that goes on").unwrap();
    let told = quiet.sweep(limit, true).unwrap();
    assert_eq!(quiet.entries().unwrap().len(), 3);
    let swept = quiet.sweep(limit, false).unwrap();
    assert_eq!(swept, told);
    // The checkpoint of a finished step, and the entry that was neither used last nor fits.
    assert_eq!((swept.kept, swept.removed), (3, 2));
    assert!(quiet.contains(&largest) && quiet.contains(&smallest) && !quiet.contains(&middle));
    assert!(quiet.checkpoint(&Digest::of(b"unfinished")).is_some() && quiet.checkpoint(&largest).is_none());
    let rest = quiet.sweep(0, false).unwrap();
    assert_eq!((rest.kept, rest.kept_bytes), (0, 0));
    assert!(quiet.checkpoint(&Digest::of(b"unfinished")).is_none());
}

#[test]
fn checking_sets_damage_aside_and_making_room_removes_it() {
    let (_folder, store, [largest, ..]) = three();
    assert_eq!(store.check().unwrap(), (3, Vec::new()));
    fs::write(store.folder(&largest).join("a.bin"), b"damage").unwrap();
    let (good, damaged) = store.check().unwrap();
    assert_eq!((good, damaged.len(), damaged[0].0), (2, 1, largest));
    let quiet = Store::at(store.root());
    drop(store);
    assert_eq!(quiet.sweep(u64::MAX, false).unwrap().removed, 1);
    assert_eq!(fs::read_dir(quiet.root().join("damaged")).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_left_is_removed_when_nobody_else_is_there() {
    let (_folder, store, step) = store();
    let part = store.root().join("part/0123456789abcdef-1-1");
    let claim = store.root().join("claims").join(step.address().to_string());
    fs::create_dir_all(&part).unwrap();
    fs::create_dir_all(claim.parent().unwrap()).unwrap();
    fs::write(&claim, "").unwrap();
    store.save_checkpoint(&step.address(), b"whole").unwrap();
    let half = store.root().join("checkpoints/abc.1-1.part");
    fs::write(&half, "half").unwrap();
    // It may be at work: times say nothing, for a clock can be set back.
    drop(Store::open(store.root()).unwrap());
    assert!(part.exists());
    let root = store.root().to_owned();
    drop(store);
    drop(Store::open(&root).unwrap());
    assert!(!part.exists() && !claim.exists() && !half.exists());
    assert_eq!(Store::at(&root).checkpoint(&step.address()).unwrap(), b"whole");
}

#[test]
fn a_training_that_diverged_is_kept_as_a_result() {
    let (_folder, store, _) = store();
    let step = toy::plan(toy::SMALL).steps[1].step.clone();
    store.insert_diverged(&step, "the loss became NaN", SPENT).unwrap();
    let Found::Good(entry) = store.find(&step.address()).unwrap() else { panic!("the entry is there") };
    assert_eq!(entry.note.diverged.as_deref(), Some("the loss became NaN"));
    assert_eq!(entry.output(), None);
}
