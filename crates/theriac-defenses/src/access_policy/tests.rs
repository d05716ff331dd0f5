use theriac_core::{Dataset, Goal, Knowledge, Seeds, SourceId, ThreatModel, Trail};

use super::*;
use crate::Past;
use crate::testing::{Case, stripes};

fn policy<const N: usize>(given: [(&str, theriac_core::Value); N]) -> Result<Policy, String> {
    let values: Values = given.map(|(key, value)| (key.to_owned(), value)).into();
    AccessPolicy::from_values(&values).and_then(AccessPolicy::check).map_err(|errors| errors[0].to_string())
}

const fn threat(capabilities: &'static [Capability], stage: Stage) -> ThreatModel {
    ThreatModel { knowledge: Knowledge::Nothing, capabilities, goal: Goal::Untargeted, stage }
}

/// Someone in storage, or elsewhere, changes a label, an image, both, adds a sample and takes one away.
fn small(before: &Dataset, stage: Stage) -> ChangeSet {
    let mut changes = ChangeSet::new("test", Role::Engineer, stage);
    changes.relabel(before, 3, 1);
    changes.replace(before, 10, vec![9; 36]);
    changes.relabel(before, 11, 0);
    changes.replace(before, 11, vec![8; 36]);
    changes.remove(before, 20);
    changes.insert(before, 2, SourceId(0), vec![7; 36]);
    changes
}

const STORED: &[Capability] = &[Capability::Labels, Capability::Inputs, Capability::Insert, Capability::Remove];

/// The data after `changes` and after the policy, and the ids with score 1.
fn passed(policy: &Policy, changes: &ChangeSet, threat: Option<ThreatModel>, seed: u64) -> (Dataset, Vec<u64>) {
    passed_in(policy, changes, threat, seed, &|_| 1)
}

/// The same where samples arrive in rounds.
fn passed_in(
    policy: &Policy,
    changes: &ChangeSet,
    threat: Option<ThreatModel>,
    seed: u64,
    round_of: &(dyn Fn(SampleId) -> usize + Sync),
) -> (Dataset, Vec<u64>) {
    let (before, case, seeds) = (stripes(60, 1), Case::clean(1, 20), Seeds::new(seed));
    let data = changes.apply(&before).unwrap();
    let past = Past { before: &before, changes, threat, trail: Trail::Signed, round_of };
    let context = VetContext { data: &data, past: Some(past), seeds: &seeds, ..case.context() };
    let verdict = policy.vet(&context).unwrap();
    assert_eq!(verdict.changes.digest(), policy.vet(&context).unwrap().changes.digest());
    let denied = (0..data.len()).filter(|&at| verdict.scores[at] == 1.0).map(|at| data.id(at).0).collect();
    (verdict.changes.apply(&data).unwrap(), denied)
}

#[test]
fn who_uses_its_own_permissions_is_allowed_to() {
    let before = stripes(60, 1);
    let changes = small(&before, Stage::Store);
    let (after, denied) = passed(&policy([]).unwrap(), &changes, Some(threat(STORED, Stage::Store)), 1);
    assert_eq!(after.digest(), changes.apply(&before).unwrap().digest());
    assert!(denied.is_empty());
    let (after, denied) =
        passed(&policy([]).unwrap(), &ChangeSet::new("none", Role::Supplier, Stage::Collect), None, 1);
    assert_eq!((after.digest(), denied.len()), (before.digest(), 0));
}

#[test]
fn what_was_withdrawn_does_not_happen() {
    let before = stripes(60, 1);
    let changes = small(&before, Stage::Store);
    let stored = Some(threat(STORED, Stage::Store));
    for (withdrawn, expected) in [
        ("labels@store", &[3, 11][..]),
        ("inputs@store", &[10, 11]),
        ("insert@store", &[60]),
        ("remove@store", &[]),
        ("labels@store+inputs@store+insert@store+remove@store", &[3, 10, 11, 60]),
        ("labels@label", &[]),
    ] {
        let (after, denied) = passed(&policy([("withdraw", withdrawn.into())]).unwrap(), &changes, stored, 1);
        assert_eq!(denied, expected, "{withdrawn}");
        let all = withdrawn.contains("insert") && withdrawn.contains("remove");
        let gone = withdrawn != "remove@store" && !all;
        assert!(after.position(SampleId(20)).is_none(), "what comes back comes under a new id");
        let twenty = (0..after.len()).any(|at| after.image(at) == before.image(20));
        assert_eq!(twenty, !gone, "{withdrawn}");
        let eleven = after.position(SampleId(11)).unwrap();
        assert_eq!(after.label(eleven) == 0, !withdrawn.contains("labels@store"), "{withdrawn}");
        assert_eq!(after.image(eleven) == [8; 36], !withdrawn.contains("inputs@store"), "{withdrawn}");
    }
}

#[test]
fn what_nobody_may_do_comes_from_outside_and_is_denied() {
    let before = stripes(60, 1);
    let mut changes = ChangeSet::new("test", Role::Annotator, Stage::Label);
    changes.replace(&before, 5, vec![1; 36]);
    let outside = Some(threat(&[Capability::Inputs], Stage::Label));
    assert_eq!(passed(&policy([]).unwrap(), &changes, outside, 1).1, [5]);
}

#[test]
fn whoever_controls_a_source_is_judged_as_that() {
    let before = stripes(60, 1);
    let changes = ChangeSet { role: Role::Supplier, ..small(&before, Stage::Collect) };
    let source = Some(threat(&[Capability::Source], Stage::Collect));
    assert!(passed(&policy([]).unwrap(), &changes, source, 1).1.is_empty());
    let without = policy([("withdraw", "source@collect".into())]).unwrap();
    assert_eq!(passed(&without, &changes, source, 1).1, [3, 10, 11, 60]);
    let labels = policy([("withdraw", "labels@collect".into())]).unwrap();
    assert!(passed(&labels, &changes, source, 1).1.is_empty());
}

#[test]
fn a_second_person_misses_as_often_as_it_says() {
    let before = stripes(60, 1);
    let mut changes = ChangeSet::new("test", Role::Engineer, Stage::Store);
    (0..60).for_each(|at| changes.relabel(&before, at, (before.label(at) + 1) % 3));
    let labels = Some(threat(&[Capability::Labels], Stage::Store));
    let missed = |miss: f64, runs: u64| {
        let policy = policy([("second_person", "labels@store".into()), ("miss", miss.into())]).unwrap();
        let count = |seed| 60 - passed(&policy, &changes, labels, seed).1.len();
        (0..runs).map(count).sum::<usize>() as f64 / (60 * runs) as f64
    };
    assert_eq!((missed(0.0, 2), missed(1.0, 2)), (0.0, 1.0));
    let deviation = (0.1_f64 * 0.9 / 6000.0).sqrt();
    let share = missed(0.1, 100);
    assert!((share - 0.1).abs() < 4.0 * deviation, "{share}");
    // The same from a file, in which the permission takes a second person.
    let [known, unknown] = from_file("[{ permission = \"labels@store\", needs = \"second-person\" }]", "second");
    assert_eq!(passed(&known.unwrap(), &changes, labels, 1).1.len(), 60);
    assert!(unknown.err().unwrap().contains("write `blake3 = "));
}

/// The policy of a file in which somebody may do this, with the file's hash and without.
fn from_file(may: &str, name: &str) -> [Result<Policy, String>; 2] {
    let text = format!("[[role]]\nname = \"a\"\nmay = {may}\n");
    let path = std::env::temp_dir().join(format!("theriac-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, &text).unwrap();
    let (place, hash) = (path.to_str().unwrap(), Digest::of(text.as_bytes()).to_string());
    let known = policy([("organisation", place.into()), ("blake3", hash.into()), ("miss", 0.0.into())]);
    let unknown = policy([("organisation", place.into())]);
    std::fs::remove_file(&path).unwrap();
    [known, unknown]
}

#[test]
fn a_permission_holds_in_its_rounds_alone() {
    let before = stripes(60, 1);
    let changes = small(&before, Stage::Store);
    let [known, _] = from_file(
        "[\"inputs@store\", \"insert@store\", \"remove@store\", { permission = \"labels@store\", rounds = [2, 3] }]",
        "window",
    );
    let known = known.unwrap();
    // Samples 3 and 11 are relabelled.
    let denied = |round_of: &(dyn Fn(SampleId) -> usize + Sync)| {
        passed_in(&known, &changes, Some(threat(STORED, Stage::Store)), 1, round_of).1
    };
    assert_eq!(denied(&|_| 1), [3, 11]);
    assert!(denied(&|_| 2).is_empty());
    assert_eq!(denied(&|_| 4), [3, 11]);
    assert_eq!(denied(&|id| if id == SampleId(3) { 3 } else { 4 }), [11]);
}

#[test]
fn the_attacker_is_who_is_restricted_least() {
    let before = stripes(60, 1);
    let mut changes = ChangeSet::new("test", Role::Engineer, Stage::Store);
    changes.relabel(&before, 3, 1);
    let labels = Some(threat(&[Capability::Labels], Stage::Store));
    let (alone, held) = ("\"labels@store\"", "{ permission = \"labels@store\", needs = \"second-person\" }");
    for (at, may) in [
        // Of two grants to the same effect the more generous one counts, and so it is with two roles.
        format!("[{alone}, {held}]"),
        format!("[{held}, {alone}]"),
        format!("[{held}]\n[[role]]\nname = \"b\"\nmay = [{alone}]"),
        format!("[{alone}]\n[[role]]\nname = \"b\"\nmay = [{held}]"),
    ]
    .into_iter()
    .enumerate()
    {
        let [known, _] = from_file(&may, &format!("least-{at}"));
        assert!(passed(&known.unwrap(), &changes, labels, 1).1.is_empty(), "{may}");
    }
}

#[test]
fn faults_are_named() {
    let nobody = policy([("withdraw", "labels@train".into())]).err().unwrap();
    assert_eq!(nobody, "failed to accept `withdraw`: nobody in the organisation may do `labels@train`");
    let unseen = policy([("withdraw", "weights@distribute".into())]).err().unwrap();
    assert!(
        unseen.contains("`weights@distribute` is no change of data, and this policy sees nothing else"),
        "{unseen}"
    );
    let hash = policy([("blake3", "00".into())]).err().unwrap();
    assert!(hash.contains("the hash of an `organisation`, and none is named"), "{hash}");
    let [_, typo] = from_file("[{ permission = \"labels@store\", need = \"second-person\" }]", "typo");
    let typo = typo.err().unwrap();
    assert!(typo.contains("unknown field `need`, expected one of `permission`, `needs`, `rounds`"), "{typo}");
    let unknown = policy([("second_person", "labels".into())]).err().unwrap();
    assert!(unknown.contains("`labels` is no permission"), "{unknown}");
    let missing = policy([("organisation", "no/such.toml".into())]).err().unwrap();
    assert!(missing.contains("failed to read `no/such.toml`"), "{missing}");
}
