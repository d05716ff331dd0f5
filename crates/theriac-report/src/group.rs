//! Cells that differ by seed only, and the names of methods among their neighbours.

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::param::Value;
use theriac_core::record::{CellRecord, CertifiedPoint, MethodRecord, Outcome, group_key, is_control_filter};

use crate::spread::Spread;
use crate::words::{Success, list, status, value_words};

/// The names of defenses that are references for the others.
pub const CLEAN_MODEL: &str = "clean-model";
/// No attack, or no defense.
pub const NONE: &str = "none";

/// Cells that differ by seed only.
pub struct Group<'a> {
    cells: Vec<&'a CellRecord>,
}

impl<'a> Group<'a> {
    /// The first cell; all others agree with it on everything but the seed and what was measured.
    pub fn first(&self) -> &'a CellRecord {
        self.cells[0]
    }

    /// The attack.
    pub fn attack(&self) -> &'a MethodRecord {
        &self.first().attack
    }

    /// The defense.
    pub fn defense(&self) -> &'a MethodRecord {
        &self.first().defense
    }

    /// All cells, by seed.
    pub fn cells(&self) -> impl Iterator<Item = &'a CellRecord> + Clone {
        self.cells.iter().copied()
    }

    /// The cells that were measured.
    pub fn ok(&self) -> impl Iterator<Item = &'a CellRecord> {
        self.cells.iter().copied().filter(|cell| cell.outcome == Outcome::Ok)
    }

    /// The cells without numbers: what happened, in one word, and why.
    pub fn unmeasured(&self) -> impl Iterator<Item = (&'a CellRecord, &'static str, &'a str)> {
        self.cells.iter().filter_map(|cell| Some((*cell, status(&cell.outcome), cell.outcome.reason()?)))
    }

    /// How often it came to that: `diverged at 1 of 3 seeds`; `None` if never.
    pub fn unmeasured_words(&self) -> Option<String> {
        let all = self.cells.len();
        let count = |word: &str| self.unmeasured().filter(|(_, status, _)| *status == word).count();
        let words = ["diverged", "failed"].map(|word| match count(word) {
            0 => None,
            some if some == all => Some(format!("{word} at all seeds")),
            some => Some(format!("{word} at {some} of {all} seeds")),
        });
        let words: Vec<String> = words.into_iter().flatten().collect();
        (!words.is_empty()).then(|| list(&words))
    }

    /// The values of `metric` by seed.
    pub fn values(&self, metric: &str) -> BTreeMap<u64, f64> {
        self.ok().filter_map(|cell| Some((cell.seed, *cell.metrics.get(metric)?))).collect()
    }

    /// `metric` over seeds.
    pub fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(&self.values(metric).into_values().collect::<Vec<_>>())
    }

    /// Which metric counts the attack's success.
    pub fn success(&self) -> Option<Success> {
        Success::ALL.into_iter().find(|success| self.ok().any(|cell| cell.metrics.contains_key(success.metric())))
    }

    /// The attack's success over seeds.
    pub fn success_spread(&self) -> Option<Spread> {
        self.spread(self.success()?.metric())
    }

    /// The certified accuracy at `budget`, over seeds.
    pub fn certified(&self, budget: usize) -> Option<Spread> {
        let curves = self.ok().map(|cell| cell.certified.as_slice()).filter(|curve| !curve.is_empty());
        Spread::of(&curves.map(|curve| certified_at(curve, budget)).collect::<Vec<_>>())
    }

    /// The largest budget against which anything is certified.
    pub fn last_certified(&self) -> Option<usize> {
        self.ok().flat_map(|cell| &cell.certified).map(|point| point.budget).max()
    }

    /// `after - before` over the seeds that both have.
    pub fn difference(&self, after: &str, other: &Group, before: &str) -> Option<Spread> {
        Spread::of(&self.pairs(after, other, before).map(|(after, before)| after - before).collect::<Vec<_>>())
    }

    /// `after` and `before`, each over the seeds that both have.
    pub fn both(&self, after: &str, other: &Group, before: &str) -> Option<(Spread, Spread)> {
        let (after, before): (Vec<f64>, Vec<f64>) = self.pairs(after, other, before).unzip();
        Some((Spread::of(&after)?, Spread::of(&before)?))
    }

    /// The values of `after` and `before` at the seeds that both have.
    pub fn pairs(&self, after: &str, other: &Group, before: &str) -> impl Iterator<Item = (f64, f64)> {
        let before = other.values(before);
        self.values(after).into_iter().filter_map(move |(seed, value)| Some((value, *before.get(&seed)?)))
    }
}

/// What a curve certifies at `budget`: it holds the points at which it falls.
pub fn certified_at(curve: &[CertifiedPoint], budget: usize) -> f64 {
    curve.iter().find(|point| point.budget >= budget).map_or(0.0, |point| point.accuracy)
}

/// Groups `cells`, in the order in which each group first appears.
pub fn groups(cells: &[CellRecord]) -> Vec<Group<'_>> {
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for cell in cells {
        let index = *order.entry(group_key(cell)).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(group) => group.cells.push(cell),
            None => groups.push(Group { cells: vec![cell] }),
        }
    }
    for group in &mut groups {
        group.cells.sort_by_key(|cell| cell.seed);
    }
    groups
}

/// The filter whose removal budget this reference takes over, as the lab writes it; see
/// [`filter_key`](theriac_core::record::filter_key).
pub fn matches(defense: &MethodRecord) -> Option<&str> {
    let filter = defense.params.get("matches").and_then(Value::as_str);
    filter.filter(|filter| !filter.is_empty() && is_control_filter(&defense.name))
}

/// Whether this defense is a reference for the others rather than a defense that could be deployed.
pub fn is_reference(defense: &MethodRecord) -> bool {
    [NONE, CLEAN_MODEL].contains(&defense.name.as_str()) || is_control_filter(&defense.name)
}

/// Letters, digits and hyphens of `text`, in lower case.
pub fn slug(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "unnamed".to_owned() } else { parts.join("-") }
}

/// The values of parameter `name` among `methods`, in rising order.
pub fn distinct(methods: &[&MethodRecord], name: &str) -> Vec<Value> {
    let mut values = unique(methods.iter().filter_map(|method| method.params.get(name)));
    values.sort_by(|a, b| compare_values(a, b));
    values.into_iter().cloned().collect()
}

/// The parameters that differ among `methods` of one name; the hash of a file only where nothing else tells two of them apart.
pub fn varying(methods: &[&MethodRecord]) -> Vec<String> {
    let names: BTreeSet<&String> = methods.iter().flat_map(|method| method.params.keys()).collect();
    let differs = |name: &&&String| {
        let values = unique(methods.iter().map(|method| method.params.get(name.as_str())));
        values.len() > 1
    };
    let mut varying: Vec<String> = names.iter().filter(differs).map(|name| (*name).clone()).collect();
    let told_apart = |by: &[&String]| {
        let values = methods.iter().map(|method| by.iter().map(|name| method.params.get(name.as_str())).collect());
        unique::<Vec<Option<&Value>>>(values).len()
    };
    let (hash, rest): (Vec<&String>, Vec<&String>) = varying.iter().partition(|name| *name == "blake3");
    if !hash.is_empty() && told_apart(&rest) == told_apart(&varying.iter().collect::<Vec<_>>()) {
        varying.retain(|name| name != "blake3");
    }
    varying
}

/// The method with those parameters that tell it from its namesakes among `peers`, and those that are `always` shown.
pub fn label(method: &MethodRecord, peers: &[&MethodRecord], always: &[&str]) -> String {
    let peers: Vec<&MethodRecord> = peers.iter().copied().filter(|peer| peer.name == method.name).collect();
    let mut shown: Vec<String> = always.iter().map(|name| (*name).to_owned()).collect();
    shown.extend(varying(&peers).into_iter().filter(|name| !always.contains(&name.as_str())));
    let params = shown.iter().filter_map(|name| Some(format!("{name} {}", value_words(method.params.get(name)?))));
    let parts: Vec<String> = std::iter::once(method.name.clone()).chain(params).collect();
    parts.join(", ")
}

/// The order of one attack's variants: by rate, then by the other parameters.
pub fn compare_params(a: &MethodRecord, b: &MethodRecord) -> std::cmp::Ordering {
    let rate = |method: &MethodRecord| method.params.get("rate").and_then(Value::as_f64).unwrap_or(0.0);
    rate(a).total_cmp(&rate(b)).then_with(|| {
        let pairs = a.params.iter().zip(&b.params);
        pairs.map(|((_, a), (_, b))| compare_values(a, b)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    })
}

fn compare_values(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}

/// Each item once, in order of appearance.
pub fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_told_only_where_nothing_else_tells() {
        let file = |labels: &str, hash: &str| {
            crate::toy::method("flip", serde_json::json!({"labels": labels, "blake3": hash}))
        };
        let (a, b, c) = (file("a.csv", "01"), file("b.csv", "02"), file("a.csv", "03"));
        assert_eq!(varying(&[&a, &b]), ["labels"]);
        assert_eq!(varying(&[&a, &b, &c]), ["blake3", "labels"]);
        assert_eq!(label(&a, &[&a, &b], &[]), "flip, labels a.csv");
    }

    #[test]
    fn a_certified_curve_holds_its_value_until_it_falls() {
        let curve = [(0, 0.9), (3, 0.8), (5, 0.5)].map(|(budget, accuracy)| CertifiedPoint { budget, accuracy });
        let read: Vec<f64> = (0..7).map(|budget| certified_at(&curve, budget)).collect();
        assert_eq!(read, [0.9, 0.8, 0.8, 0.8, 0.5, 0.5, 0.0]);
    }
}
