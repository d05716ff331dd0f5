//! What is hashed, and how: every message begins with a byte that tells what it is, and every text in it with its length, so that no two
//! different things have the same message.

use theriac_core::Digest;

/// The first byte of a message. Leaves and nodes are told apart as in RFC 6962.
#[derive(Clone, Copy)]
pub(crate) enum Tag {
    Leaf = 0,
    Node = 1,
    Path = 2,
    Version = 3,
    Changes = 4,
    Entry = 5,
    Content = 6,
    Anchor = 7,
}

/// A message on its way to its digest.
pub(crate) struct Message(blake3::Hasher);

impl Message {
    pub(crate) fn new(tag: Tag) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[tag as u8]);
        Self(hasher)
    }

    /// A number: 8 bytes, little-endian.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Bytes of any length, after their length.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut message = self.number(bytes.len() as u64);
        message.0.update(bytes);
        message
    }

    /// A digest, which needs no length.
    pub(crate) fn digest(mut self, digest: &Digest) -> Self {
        self.0.update(digest.as_bytes());
        self
    }

    /// 1 and a digest, or 0.
    pub(crate) fn optional(mut self, digest: Option<&Digest>) -> Self {
        self.0.update(&[u8::from(digest.is_some())]);
        match digest {
            Some(digest) => self.digest(digest),
            None => self,
        }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from(self.0.finalize())
    }
}

/// Where a key stands in the tree.
pub(crate) fn path(key: &str) -> Digest {
    Message::new(Tag::Path).bytes(key.as_bytes()).finish()
}

pub(crate) fn leaf(path: &Digest, version: &Digest) -> Digest {
    pair(Tag::Leaf, path, version)
}

pub(crate) fn node(left: &Digest, right: &Digest) -> Digest {
    pair(Tag::Node, left, right)
}

/// Two digests after a tag: most of the hashing of a tree.
fn pair(tag: Tag, one: &Digest, two: &Digest) -> Digest {
    let mut message = [0; 65];
    message[0] = tag as u8;
    message[1..33].copy_from_slice(one.as_bytes());
    message[33..].copy_from_slice(two.as_bytes());
    Digest::of(&message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_tag_and_its_parts_with_their_lengths() {
        let mut bytes = vec![3, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 0, 1];
        bytes.extend([7; 32]);
        let seven = Digest::from(blake3::Hash::from_bytes([7; 32]));
        let message = Message::new(Tag::Version).bytes(b"ab").optional(None).optional(Some(&seven));
        assert_eq!(message.finish(), Digest::of(&bytes));
    }

    #[test]
    fn leaves_and_nodes_differ() {
        let [one, two] = [Digest::of(b"1"), Digest::of(b"2")];
        assert_ne!(leaf(&one, &two), node(&one, &two));
        assert_ne!(node(&one, &two), node(&two, &one));
        assert_ne!(path("a"), Digest::of(b"a"));
    }
}
