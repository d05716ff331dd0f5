use crate::toy::small;

#[test]
fn blame_names_who_brought_a_sample_who_gave_it_its_content_and_who_removed_it() {
    let mut toy = small();
    let told = |toy: &crate::toy::Toy, key: &str| {
        let blame = toy.chain.blame(key).unwrap();
        (blame.added.entry, blame.content.entry, blame.content.actor, blame.removed.map(|version| version.entry))
    };
    assert_eq!(told(&toy, "a"), (0, 5, "bob".to_owned(), None));
    assert_eq!(told(&toy, "b"), (6, 6, "ada".to_owned(), None));
    assert_eq!(told(&toy, "c"), (0, 0, "ada".to_owned(), None));
    toy.remove("a").record("ada");
    assert_eq!(told(&toy, "a"), (0, 5, "bob".to_owned(), Some(7)));
    assert_eq!(toy.chain.blame("never"), None);
}

#[test]
fn shares_count_what_each_actor_did_and_what_is_left_of_it() {
    let shares = small().chain.shares();
    let told: Vec<_> =
        shares.iter().map(|s| (&s.actor[..], s.entries, s.added, s.changed, s.removed, s.holds)).collect();
    assert_eq!(told, [("ada", 5, 4, 0, 1, 2), ("bob", 2, 1, 2, 0, 2)]);
    assert_eq!((shares[1].first, shares[1].last), (1_000_020, 1_000_050));
}

#[test]
fn a_diff_is_what_is_left_of_all_changes_between_in_both_directions() {
    let toy = small();
    let keys = |from, to| -> Vec<_> {
        let each = |change: &crate::Change| (change.key.clone(), change.before.is_some(), change.after.is_some());
        toy.chain.diff(from, to).iter().map(each).collect()
    };
    let entry = |key: &str, before, after| (key.to_owned(), before, after);
    assert_eq!(keys(0, 6), [entry("a", true, true), entry("b", true, true), entry("d", false, true)]);
    assert_eq!(keys(6, 4), [entry("a", true, true), entry("b", true, false), entry("d", true, false)]);
    assert_eq!((keys(3, 4), keys(5, 5)), (vec![], vec![]));
}
