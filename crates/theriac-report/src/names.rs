//! What methods and cells are called among others.

use theriac_core::record::{CellRecord, MethodRecord};

use crate::group::{NONE, label, matches};
use crate::rows::parts;

/// The methods of some cells, part by part, among which a name must tell which one is meant.
pub struct Names<'a>(Vec<(&'static str, Vec<&'a MethodRecord>)>);

impl<'a> Names<'a> {
    /// Those of `cells`.
    pub fn of(cells: impl Iterator<Item = &'a CellRecord>) -> Self {
        let mut peers: Vec<(&'static str, Vec<&MethodRecord>)> = Vec::new();
        for (part, method) in cells.flat_map(parts) {
            match peers.iter_mut().find(|(name, _)| *name == part) {
                Some((_, methods)) if methods.contains(&method) => {}
                Some((_, methods)) => methods.push(method),
                None => peers.push((part, vec![method])),
            }
        }
        Self(peers)
    }

    /// The method with those parameters that tell it from its namesakes: `knn, k 5`, or `no defense`.
    pub fn method(&self, part: &str, method: &MethodRecord) -> String {
        match matches(method) {
            Some(filter) => format!("{} as {filter}", method.name),
            None if method.name == NONE => format!("no {part}"),
            None => label(method, &self.peers(part), &[]),
        }
    }

    /// Attack and defense, if they are among `parts`, and whatever else is not the same everywhere.
    pub fn place<'m>(&self, parts: impl Iterator<Item = (&'static str, &'m MethodRecord)>) -> String {
        let words = parts.filter_map(|(part, method)| match part {
            "attack" | "defense" => Some(self.method(part, method)),
            _ => (self.peers(part).len() > 1).then(|| self.method(part, method)),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn peers(&self, part: &str) -> Vec<&'a MethodRecord> {
        self.0.iter().filter(|(name, _)| *name == part).flat_map(|(_, methods)| methods.iter().copied()).collect()
    }
}
