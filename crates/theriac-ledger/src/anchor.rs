//! A few lines that fix a ledger up to an entry. Kept where nobody who may write the ledger may write (on paper, on another machine), they
//! tell whether its end was cut off, or its history was replaced by another one with signatures as good.

use std::fmt;
use std::str::FromStr;

use theriac_core::Digest;

use crate::finding::Point;
use crate::hash::{Message, Tag};
use crate::when::utc;

const TITLE: &str = "theriac ledger anchor, version 1";

/// What a ledger was at an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The digest of its first entry: which ledger.
    pub ledger: Digest,
    /// The number of the entry.
    pub entry: u64,
    /// Its time, in seconds since 1970.
    pub time: u64,
    /// Its digest.
    pub head: Digest,
    /// The root of the tree over the samples after it.
    pub root: Digest,
    /// How many samples there were.
    pub count: u64,
}

/// Why a text is no anchor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnchorError {
    /// It is something else.
    #[error("failed to read an anchor: its first line should be `{TITLE}`")]
    NoAnchor,
    /// A line is missing or wrong.
    #[error("failed to read an anchor: expected a line `{0}` with its value")]
    Field(&'static str),
    /// The check digits do not fit.
    #[error("failed to read an anchor: it should end in `check {0}`; there is a typing error in it, or it was changed")]
    Check(String),
}

impl Anchor {
    pub(crate) fn point(&self) -> Point {
        Point { entry: self.entry, time: self.time }
    }

    fn body(&self) -> String {
        let Self { ledger, entry, time, head, root, count } = self;
        let utc = utc(*time);
        format!("{TITLE}\nledger {ledger}\nentry {entry}\ntime {time} {utc}\nhead {head}\nroot {root}\ncount {count}\n")
    }

    fn check(&self) -> String {
        Message::new(Tag::Anchor).bytes(self.body().as_bytes()).finish().short(8)
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}check {}", self.body(), self.check())
    }
}

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, AnchorError> {
        // Blank lines and spaces may have come on the way over paper or mail.
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some(TITLE) {
            return Err(AnchorError::NoAnchor);
        }
        let mut field = |name: &'static str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            let value = line.and_then(|rest| rest.split_whitespace().next());
            value.ok_or(AnchorError::Field(name)).map(|value| (name, value))
        };
        fn value<T: FromStr>((name, text): (&'static str, &str)) -> Result<T, AnchorError> {
            text.parse().map_err(|_| AnchorError::Field(name))
        }
        let anchor = Self {
            ledger: value(field("ledger")?)?,
            entry: value(field("entry")?)?,
            time: value(field("time")?)?,
            head: value(field("head")?)?,
            root: value(field("root")?)?,
            count: value(field("count")?)?,
        };
        match field("check")?.1 == anchor.check() {
            true => Ok(anchor),
            false => Err(AnchorError::Check(anchor.check())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor() -> Anchor {
        let [ledger, head, root] = [b"1", b"2", b"3"].map(|text| Digest::of(text));
        Anchor { ledger, entry: 17, time: 1_795_795_265, head, root, count: 60_000 }
    }

    #[test]
    fn an_anchor_is_read_as_it_was_printed_with_spaces_from_the_way() {
        let text = anchor().to_string();
        assert_eq!(text.parse(), Ok(anchor()));
        assert_eq!(format!("\n  {}", text.replace('\n', "  \r\n\n")).parse(), Ok(anchor()));
    }

    #[test]
    fn every_wrong_digit_is_told() {
        let text = anchor().to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let read = String::from_utf8(bytes).unwrap().parse::<Anchor>();
            // The date in words is for people; all else counts.
            assert!(read.is_err() || read == Ok(anchor()), "{at}");
        }
        assert_eq!("something".parse::<Anchor>(), Err(AnchorError::NoAnchor));
        let short = &text[..text.find("root").unwrap()];
        assert_eq!(short.parse::<Anchor>(), Err(AnchorError::Field("root")));
    }
}
