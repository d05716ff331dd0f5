use theriac_core::SourceId;

use super::*;
use crate::testing::{Case, stripes};

fn audit(then: &str, anchored: bool) -> LedgerAudit {
    LedgerAudit { then: then.to_owned(), anchored }
}

/// A past of its own.
struct Story {
    before: Dataset,
    changes: ChangeSet,
    data: Dataset,
    trail: Trail,
}

impl Story {
    fn new(role: Role, stage: Stage, trail: Trail, edit: impl Fn(&Dataset, &mut ChangeSet)) -> Self {
        let before = stripes(60, 1);
        let mut changes = ChangeSet::new("test", role, stage);
        edit(&before, &mut changes);
        Self { data: changes.apply(&before).unwrap(), before, changes, trail }
    }

    /// Somebody changes a label, an image, both, adds one sample and takes one away.
    fn small(role: Role, stage: Stage, trail: Trail) -> Self {
        Self::new(role, stage, trail, |data, changes| {
            changes.relabel(data, 3, 1);
            changes.replace(data, 10, vec![9; 36]);
            changes.relabel(data, 11, 0);
            changes.replace(data, 11, vec![8; 36]);
            changes.remove(data, 20);
            changes.insert(data, 2, SourceId(0), vec![7; 36]);
        })
    }

    fn insider(trail: Trail) -> Self {
        Self::small(Role::Engineer, Stage::Store, trail)
    }

    fn past(&self) -> Past<'_> {
        Past { before: &self.before, changes: &self.changes, threat: None, trail: self.trail, round_of: &|_| 1 }
    }

    /// The verdict, and the ids of the samples with score 1.
    fn vetted(&self, defense: &LedgerAudit) -> (Verdict, Vec<u64>) {
        let case = Case::clean(1, 20);
        let context = VetContext { data: &self.data, past: Some(self.past()), ..case.context() };
        let (verdict, again) = (defense.vet(&context).unwrap(), defense.vet(&context).unwrap());
        assert_eq!((verdict.changes.digest(), &verdict.scores), (again.changes.digest(), &again.scores));
        assert!(verdict.scores.iter().all(|score| [0.0, 1.0].contains(score)));
        let suspects =
            (0..self.data.len()).filter(|&at| verdict.scores[at] == 1.0).map(|at| self.data.id(at).0).collect();
        (verdict, suspects)
    }

    fn books(&self) -> Books {
        books(&self.past(), &self.data, &Seeds::new(1)).unwrap()
    }
}

/// Images, labels and sources, whatever the ids and the order.
fn content(data: &Dataset) -> Vec<(Vec<u8>, u16, u16)> {
    let sample = |at: usize| (data.image(at).to_vec(), data.label(at), data.source(at).0);
    let mut samples: Vec<_> = (0..data.len()).map(sample).collect();
    samples.sort();
    samples
}

#[test]
fn what_nobody_entered_is_named_and_put_back_or_dropped() {
    let story = Story::insider(Trail::Untouched);
    for anchored in [true, false] {
        let (verdict, suspects) = story.vetted(&audit("restore", anchored));
        assert_eq!(suspects, [3, 10, 11, 60]);
        assert_eq!(content(&verdict.changes.apply(&story.data).unwrap()), content(&story.before));
        let (verdict, suspects) = story.vetted(&audit("drop", anchored));
        let gone: Vec<u64> = verdict.changes.removed().iter().map(|id| id.0).collect();
        assert_eq!((&suspects, &gone), (&vec![3, 10, 11, 60], &vec![3, 10, 11, 60]));
        assert_eq!(verdict.changes.edits.len(), 4);
    }
}

#[test]
fn what_its_author_signed_is_explained_and_blamed_on_its_author() {
    let story = Story::insider(Trail::Signed);
    for (then, anchored) in [("restore", true), ("restore", false), ("drop", true)] {
        let (verdict, suspects) = story.vetted(&audit(then, anchored));
        assert!(suspects.is_empty() && verdict.changes.edits.is_empty());
    }
    let chain = Chain::read(story.books().text.as_bytes());
    let blame = |key: &str| chain.blame(key).unwrap().content.actor;
    assert_eq!(["3", "4", "60"].map(blame), ["engineer", "auditor", "engineer"]);
    let share = chain.shares().into_iter().find(|share| share.actor == "engineer").unwrap();
    assert_eq!((share.role, share.added, share.changed, share.removed), (Role::Engineer, 1, 3, 1));
}

#[test]
fn another_ledger_passes_where_nobody_kept_an_anchor() {
    let story = Story::insider(Trail::Rewritten);
    let (verdict, suspects) = story.vetted(&audit("restore", false));
    assert!(suspects.is_empty() && verdict.changes.edits.is_empty());
    // All of it in the name of the one who wrote it.
    let chain = Chain::read(story.books().text.as_bytes());
    assert!(chain.findings().is_empty());
    assert!(["3", "4"].iter().all(|key| chain.blame(key).unwrap().content.actor == "engineer"));
    let (verdict, suspects) = story.vetted(&audit("restore", true));
    assert_eq!(suspects, [3, 10, 11, 60]);
    assert_eq!(content(&verdict.changes.apply(&story.data).unwrap()), content(&story.before));
    // An anchor alone tells that the ledger is another one, and not of which samples it lies.
    let (verdict, suspects) = story.vetted(&audit("drop", true));
    assert_eq!((suspects.len(), verdict.changes.edits.len()), (60, 0));
}

#[test]
fn integrity_is_not_honesty() {
    for (role, stage) in [(Role::Annotator, Stage::Label), (Role::Supplier, Stage::Collect)] {
        let story = Story::small(role, stage, Trail::usual(stage));
        for then in ["restore", "drop"] {
            let (verdict, suspects) = story.vetted(&audit(then, true));
            assert!(suspects.is_empty() && verdict.changes.edits.is_empty(), "{role}");
        }
        let chain = Chain::read(story.books().text.as_bytes());
        assert_eq!(chain.blame("3").unwrap().content.actor, role.to_string());
    }
}

#[test]
fn where_nothing_happened_nothing_is_found() {
    for trail in [Trail::Signed, Trail::Untouched] {
        let story = Story::new(Role::Supplier, Stage::Collect, trail, |_, _| {});
        for then in ["restore", "drop"] {
            let (verdict, suspects) = story.vetted(&audit(then, true));
            assert!(suspects.is_empty() && verdict.changes.edits.is_empty());
        }
    }
}

#[test]
fn random_change_sets_are_found_sample_by_sample() {
    for seed in 0..20 {
        let story = Story::new(Role::Engineer, Stage::Store, Trail::Untouched, |data, changes| {
            let mut stream = Seeds::new(seed).stream("edits");
            for index in 0..data.len() {
                match stream.below(8) {
                    0 => changes.relabel(data, index, (data.label(index) + 1) % 3),
                    1 => changes.replace(data, index, data.image(index).iter().map(|pixel| pixel ^ 1).collect()),
                    2 => changes.remove(data, index),
                    3 => changes.insert(data, 0, SourceId(0), data.image(index).to_vec()),
                    _ => {}
                }
            }
        });
        let (verdict, suspects) = story.vetted(&audit("restore", seed % 2 == 0));
        let there = |id: &u64| story.data.position(SampleId(*id)).is_some();
        let expected: Vec<u64> = story.changes.touched().iter().map(|id| id.0).filter(there).collect();
        let mut found = suspects;
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(content(&verdict.changes.apply(&story.data).unwrap()), content(&story.before));
    }
}

#[test]
fn without_a_past_there_is_no_audit() {
    let error = LedgerAudit::default().vet(&Case::clean(1, 20).context()).unwrap_err().to_string();
    assert_eq!(error, "failed to defend: nothing was kept of what happened to the data");
}
