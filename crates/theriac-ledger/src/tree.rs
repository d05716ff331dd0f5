//! The Merkle tree: a binary trie over the hashed keys, in which a leaf stands as high as it can stand alone.
//!
//! Its shape follows from the set of keys, not from the order in which they came. A change, and a new key anywhere, costs as many hashes
//! as the leaf is deep: about log2 of the number of keys. That a key is *not* there can be proved, too: its way ends at nothing, or at
//! another leaf. Keys are never taken out: what is removed keeps a leaf that says so.

use theriac_core::Digest;

use crate::hash::{leaf, node};

/// So many changes are worth a second thread.
const PARALLEL: usize = 1 << 10;

/// What stands where nothing is: nobody knows a message with this digest.
fn nothing() -> Digest {
    Digest::from(blake3::Hash::from_bytes([0; 32]))
}

#[derive(Clone, Debug)]
enum Node {
    Leaf { path: Digest, version: Digest, digest: Digest },
    Branch { children: [Child; 2], digest: Digest },
}

type Child = Option<Box<Node>>;

/// A Merkle tree over paths with versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Child,
}

/// What stands at the end of the way to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The path itself, with this version.
    Here(Digest),
    /// Another path with its version: so this one is not in the tree.
    Other(Digest, Digest),
    /// Nothing: so it is not in the tree.
    Nothing,
}

impl Tree {
    pub(crate) fn root(&self) -> Digest {
        digest(&self.root)
    }

    /// Sets the versions of paths; of one path the last one counts.
    pub(crate) fn set(&mut self, mut versions: Vec<(Digest, Digest)>) {
        versions.sort_by_key(|(path, _)| *path);
        versions.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            kept.1 = if same { later.1 } else { kept.1 };
            same
        });
        self.root = merge(self.root.take(), &versions, 0);
    }

    /// The digests beside the way from the root to `path`, and what is at its end.
    pub(crate) fn way(&self, path: &Digest) -> (Vec<Digest>, End) {
        let (mut beside, mut at) = (Vec::new(), &self.root);
        loop {
            match at.as_deref() {
                Some(Node::Branch { children, .. }) => {
                    let side = bit(path, beside.len());
                    beside.push(digest(&children[1 - side]));
                    at = &children[side];
                }
                Some(Node::Leaf { path: found, version, .. }) if found == path => return (beside, End::Here(*version)),
                Some(Node::Leaf { path, version, .. }) => return (beside, End::Other(*path, *version)),
                None => return (beside, End::Nothing),
            }
        }
    }
}

/// The root of the tree in which the way to `path` passes `beside` and ends at `end`; nothing if there is no such tree.
pub(crate) fn root_of(path: &Digest, beside: &[Digest], end: &End) -> Option<Digest> {
    let depth = beside.len();
    let sound = match end {
        End::Other(other, _) => other != path && (0..depth).all(|at| bit(other, at) == bit(path, at)),
        End::Here(_) | End::Nothing => true,
    };
    let bottom = match end {
        End::Here(version) => leaf(path, version),
        End::Other(other, version) => leaf(other, version),
        End::Nothing => nothing(),
    };
    let up = |below: Digest, (at, beside): (usize, &Digest)| match bit(path, at) {
        0 => node(&below, beside),
        _ => node(beside, &below),
    };
    (sound && depth <= 256).then(|| beside.iter().enumerate().rev().fold(bottom, up))
}

fn digest(child: &Child) -> Digest {
    match child.as_deref() {
        Some(Node::Leaf { digest, .. } | Node::Branch { digest, .. }) => *digest,
        None => nothing(),
    }
}

/// Bit `at` of a path, the most significant first.
fn bit(path: &Digest, at: usize) -> usize {
    usize::from(path.as_bytes()[at / 8] >> (7 - at % 8) & 1)
}

/// The subtree at `depth` with the versions set, which are sorted by path.
fn merge(at: Child, versions: &[(Digest, Digest)], depth: usize) -> Child {
    let [left, right] = match (at.map(|node| *node), versions) {
        (at, []) => return at.map(Box::new),
        (None, [one]) => return lone(one),
        (Some(Node::Leaf { path, .. }), [one]) if path == one.0 => return lone(one),
        (None, _) => [None, None],
        (Some(Node::Branch { children, .. }), _) => children,
        // A leaf that no longer stands alone moves down.
        (Some(Node::Leaf { path, version, digest }), _) => {
            let leaf = Some(Box::new(Node::Leaf { path, version, digest }));
            if bit(&path, depth) == 0 { [leaf, None] } else { [None, leaf] }
        }
    };
    let (lefts, rights) = versions.split_at(versions.partition_point(|(path, _)| bit(path, depth) == 0));
    let (to_left, to_right) = (|| merge(left, lefts, depth + 1), || merge(right, rights, depth + 1));
    let children = match versions.len() >= PARALLEL {
        true => rayon::join(to_left, to_right),
        false => (to_left(), to_right()),
    };
    let digest = node(&digest(&children.0), &digest(&children.1));
    Some(Box::new(Node::Branch { children: children.into(), digest }))
}

fn lone((path, version): &(Digest, Digest)) -> Child {
    Some(Box::new(Node::Leaf { path: *path, version: *version, digest: leaf(path, version) }))
}

#[cfg(test)]
mod tests;
