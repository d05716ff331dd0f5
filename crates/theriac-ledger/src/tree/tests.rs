use super::*;
use crate::hash;
use proptest::prelude::*;

fn version(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn tree(keys: &[u64]) -> Tree {
    let mut tree = Tree::default();
    tree.set(keys.iter().map(|&key| (hash::path(&key.to_string()), version(key))).collect());
    tree
}

/// The root by its definition, with all leaves at hand.
fn root(leaves: &[(Digest, Digest)], depth: usize) -> Digest {
    match leaves {
        [] => nothing(),
        [(path, version)] => leaf(path, version),
        _ => {
            let [left, right] = [0, 1]
                .map(|side| leaves.iter().filter(|(path, _)| bit(path, depth) == side).copied().collect::<Vec<_>>());
            node(&root(&left, depth + 1), &root(&right, depth + 1))
        }
    }
}

#[test]
fn a_tree_of_none_and_of_one() {
    assert_eq!(Tree::default().root(), nothing());
    let path = hash::path("7");
    assert_eq!(tree(&[7]).root(), leaf(&path, &version(7)));
    assert_eq!(tree(&[7]).way(&path), (vec![], End::Here(version(7))));
    assert_eq!(Tree::default().way(&path), (vec![], End::Nothing));
    assert_eq!(root_of(&path, &[], &End::Nothing), Some(nothing()));
}

#[test]
fn a_large_tree_built_on_several_threads_is_the_one_built_leaf_by_leaf_and_is_flat() {
    let keys: Vec<u64> = (0..5_000).collect();
    let whole = tree(&keys);
    let mut single = Tree::default();
    for key in keys.iter().rev() {
        single.set(vec![(hash::path(&key.to_string()), version(*key))]);
    }
    assert_eq!(whole.root(), single.root());
    let deepest = keys.iter().map(|key| whole.way(&hash::path(&key.to_string())).0.len()).max().unwrap();
    assert!((12..32).contains(&deepest), "{deepest}");
}

#[test]
fn of_a_path_that_is_set_twice_the_last_version_counts() {
    let path = hash::path("7");
    let mut twice = Tree::default();
    twice.set(vec![(path, version(8)), (hash::path("1"), version(1)), (path, version(7))]);
    assert_eq!(twice.root(), tree(&[1, 7]).root());
}

proptest! {
    #[test]
    fn the_order_does_not_matter_and_every_way_leads_to_the_root(
        keys in prop::collection::btree_set(0_u64..200, 0..40), cut in 0_usize..40, absent in 200_u64..400,
    ) {
        let keys: Vec<u64> = keys.into_iter().collect();
        let (first, second) = keys.split_at(cut.min(keys.len()));
        let mut grown = tree(second);
        // Other versions first, then the right ones.
        grown.set(first.iter().map(|key| (hash::path(&key.to_string()), version(key + 1))).collect());
        grown.set(first.iter().map(|key| (hash::path(&key.to_string()), version(*key))).collect());
        let leaves: Vec<_> = keys.iter().map(|key| (hash::path(&key.to_string()), version(*key))).collect();
        prop_assert_eq!(grown.root(), root(&leaves, 0));
        for key in keys.iter().chain([&absent]) {
            let path = hash::path(&key.to_string());
            let (beside, end) = grown.way(&path);
            prop_assert_eq!(matches!(end, End::Here(_)), *key != absent);
            prop_assert_eq!(root_of(&path, &beside, &end), Some(grown.root()));
            // Nothing else can be said of this path with this root.
            for lie in [End::Here(version(1_000)), End::Nothing, End::Other(path, version(*key))] {
                prop_assert!(lie == end || root_of(&path, &beside, &lie) != Some(grown.root()));
            }
            for at in 0..beside.len() {
                let mut other = beside.clone();
                other[at] = version(1_000);
                prop_assert_ne!(root_of(&path, &other, &end), Some(grown.root()));
            }
        }
    }
}

#[test]
fn another_leaf_proves_absence_only_where_it_stands_in_the_way() {
    let whole = tree(&(0..50).collect::<Vec<_>>());
    let [path, other] = ["3", "4"].map(hash::path);
    let (beside, end) = whole.way(&other);
    let End::Here(version) = end else { panic!("4 is there") };
    assert_eq!(root_of(&other, &beside, &end), Some(whole.root()));
    // The leaf of 4 with its own way, shown for 3: it is refused, since 3 goes another way.
    assert_eq!(root_of(&path, &beside, &End::Other(other, version)), None);
    assert_eq!(root_of(&path, &vec![version; 300], &End::Nothing), None);
}
