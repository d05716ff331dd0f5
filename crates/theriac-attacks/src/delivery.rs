//! Attacks that another attack carries out, in a place of its own.

use theriac_core::Values;

use crate::AttackEntry;

/// Attacks that need no model, and take nothing away: what somebody can do with a part of the data alone.
pub(crate) const DELIVERIES: &[&str] = &["label-flip", "pair-flip", "random-noise", "badnets", "blended"];

/// The entry behind a name in a config: `pair-flip` is `label-flip` to the next class.
pub(crate) fn entry(name: &str) -> Option<&'static AttackEntry> {
    crate::find(if name == "pair-flip" { "label-flip" } else { name })
}

/// The same for a name that is known, with its parameters: defaults but for the rate. `remove` counts its class alone.
pub(crate) fn delivery(name: &str, rate: f64) -> (&'static AttackEntry, Values) {
    let mode = (name == "pair-flip").then(|| ("mode", "pair".into()));
    let rate = (if name == "remove" { "fraction" } else { "rate" }, rate.into());
    let values = mode.into_iter().chain([rate]).map(|(key, value)| (key.to_owned(), value)).collect();
    (entry(name).expect("what is delivered is in the registry"), values)
}
