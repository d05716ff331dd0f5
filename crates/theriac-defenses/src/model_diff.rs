//! Compares a network with the one that was recorded under its name.
//!
//! The measure of software supply chains (reproducible builds, signed artefacts), applied to models: Santiago Torres-Arias, Hammad Afzali,
//! Trishank Karthik Kuppusamy, Reza Curtmola, Justin Cappos: "in-toto: Providing farm-to-table guarantees for bits and bytes",
//! USENIX Security 2019, <https://www.usenix.org/conference/usenixsecurity19/presentation/torres-arias>.
//!
//! # Assumptions
//! What training left was recorded where the attacker cannot write: the weights, or at least their hash. For a network that was downloaded, the
//! record is the one that its publisher made. Nothing is assumed about the attack.
//!
//! # Rule
//! ```text
//! w, v   = recorded weights, found weights, tensor by tensor; running statistics count
//! changed            = the share of numbers that differ in any bit;  a finding if it is not 0
//! disagreement       = the share of `trusted` samples that both networks answer differently
//! s_c                = | head_w[., c] - head_v[., c] |_2, a number for each class; the largest is the suspect
//! ```
//! A tensor that only one of them has, or that has another shape, counts as changed altogether. A path in the graph that the record
//! does not have is a finding of its own. Repair puts the recorded network back in its place.
//!
//! # Where this differs from the paper
//! - in-toto tells that a hash differs. Where both networks are at hand, this tells what differs, and which class it serves.
//!
//! # Verified against
//! Hand-computed networks (tests below): one changed bit is found, and two equal networks are.
//!
//! # When it fails
//! A network that was poisoned before it was recorded is what the record says. So is one whose training data were poisoned. A victim that began
//! with an exchanged network cannot be put back: it would have to be trained again.

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::record::InspectRecord;
use theriac_core::{Facts, Hook, Label, MethodInfo, Paper, Range, Values, Verified, config};
use theriac_nn::Network;
use theriac_nn::parameters::{self, Parameter};

use crate::repairing::trusted;
use crate::{Checked, Defense, DefenseEntry, DefenseError, InspectContext, RepairContext};

config! {
    /// The comparison.
    pub struct ModelDiff {
        /// Size of the set on which both networks are asked.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// What is done: only the comparison, or also the repair.
        hook: String = "inspect+repair", Range::Choice(&["inspect", "inspect+repair"]), "";
    }
}

/// The share of numbers that differ.
fn changed(recorded: &BTreeMap<String, Parameter>, found: &BTreeMap<String, Parameter>) -> f64 {
    let names: BTreeSet<&String> = recorded.keys().chain(found.keys()).collect();
    let (mut all, mut differing) = (0, 0);
    for name in names {
        let [before, after] = [recorded, found].map(|weights| weights.get(name));
        let size = |parameter: Option<&Parameter>| parameter.map_or(0, |parameter| parameter.values.len());
        let count = size(before).max(size(after));
        all += count;
        differing += match (before, after) {
            (Some(before), Some(after)) if before.shape == after.shape => {
                let pairs = before.values.iter().zip(&after.values);
                pairs.filter(|(before, after)| before.to_bits() != after.to_bits()).count()
            }
            _ => count,
        };
    }
    differing as f64 / all.max(1) as f64
}

/// s: how far the weights of each class moved in the last layer; zeros where the two cannot be compared.
fn moved(recorded: &BTreeMap<String, Parameter>, found: &BTreeMap<String, Parameter>, classes: usize) -> Vec<f64> {
    let head = |weights: &BTreeMap<String, Parameter>| {
        weights.iter().find(|(name, _)| name.ends_with("head.weight")).map(|(_, weight)| weight.clone())
    };
    let (Some(before), Some(after)) = (head(recorded), head(found)) else { return vec![0.0; classes] };
    let mut squares = vec![0.0; classes];
    if before.shape == after.shape {
        for (at, (before, after)) in before.values.iter().zip(&after.values).enumerate() {
            squares[at % classes] += f64::from(before - after).powi(2);
        }
    }
    squares.into_iter().map(f64::sqrt).collect()
}

impl Defense for ModelDiff {
    fn inspect(&self, context: &InspectContext) -> Result<InspectRecord, DefenseError> {
        let known = trusted(context.trusted, context.seeds, self.trusted);
        let [recorded, found] = context.recorded.map_or([context.model; 2], |(recorded, found)| [recorded, found]);
        let [before, after] = [recorded, found].map(|network| parameters::read(&network.module));
        let answers = [recorded, found].map(|network| network.predict(&known));
        let differing = answers[0].iter().zip(&answers[1]).filter(|(before, after)| before != after).count();
        let share = changed(&before, &after);
        let other_graph = recorded.module.implant() != found.module.implant();
        let statistics = moved(&before, &after, known.classes().len());
        let suspect = (0..statistics.len()).max_by(|&a, &b| statistics[a].total_cmp(&statistics[b]));
        let suspect = suspect.filter(|&class| statistics[class] > 0.0);
        let served = found.module.implant().filter(|_| other_graph).map(|implant| implant.target);
        let flagged = served.or(suspect).map(|class| class as Label).into_iter().collect();
        let metrics = [
            ("backdoor_found", f64::from(u8::from(share > 0.0 || other_graph))),
            ("weights_changed", share),
            ("disagreement", differing as f64 / known.len().max(1) as f64),
        ];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(InspectRecord { metrics, statistics, flagged, triggers: Vec::new() })
    }

    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        Ok(context.recorded.unwrap_or(context.model).clone())
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "model-diff",
        &[Hook::Inspect, Hook::Repair],
        "Compares a network with the one that was recorded under its name: weights, graph and answers.",
        &[Paper {
            cite: "Torres-Arias et al. 2019",
            title: "in-toto: Providing farm-to-table guarantees for bits and bytes",
            link: "https://www.usenix.org/conference/usenixsecurity19/presentation/torres-arias",
        }],
        ModelDiff::PARAMS,
    )
    .verified(&[Verified {
        against: "networks that were changed by hand, by one bit and by one class",
        agreement: "each change is found and counted, none is found where nothing changed",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(ModelDiff::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stripes, toy_network};
    use theriac_core::Seeds;
    use theriac_nn::Implant;

    fn diff(trusted: f64) -> ModelDiff {
        ModelDiff { trusted, hook: "inspect+repair".to_owned() }
    }

    fn inspected(recorded: &Network, found: &Network) -> InspectRecord {
        let (data, seeds) = (stripes(60, 1), Seeds::new(1));
        let context = InspectContext {
            model: found,
            recorded: Some((recorded, found)),
            trusted: &data,
            seeds: &seeds,
            session: &(),
        };
        diff(1.0).inspect(&context).unwrap()
    }

    /// `network` with `change` made to one number of the parameter whose name ends so.
    fn with(network: &Network, name: &str, at: usize, change: impl Fn(f32) -> f32) -> Network {
        let mut weights = parameters::read(&network.module);
        let weight = weights.iter_mut().find(|(path, _)| path.ends_with(name)).unwrap().1;
        weight.values[at] = change(weight.values[at]);
        Network { module: parameters::write(network.module.clone(), &weights).unwrap(), ..network.clone() }
    }

    #[test]
    fn one_bit_is_found_and_equal_networks_are_equal() {
        let network = toy_network(&stripes(60, 1));
        let same = inspected(&network, &network);
        assert_eq!((same.metrics["backdoor_found"], same.metrics["weights_changed"]), (0.0, 0.0));
        assert!(same.flagged.is_empty() && same.metrics["disagreement"] == 0.0);
        let bit = with(&network, "hidden.0.weight", 7, |value| f32::from_bits(value.to_bits() ^ 1));
        let found = inspected(&network, &bit);
        // 36 x 24 and 24 weights, 24 x 3 and 3 weights.
        assert_eq!((found.metrics["backdoor_found"], found.metrics["weights_changed"]), (1.0, 1.0 / 963.0));
        assert!(found.flagged.is_empty(), "the last layer is as it was");
    }

    #[test]
    fn the_class_that_a_change_serves_is_named() {
        let network = toy_network(&stripes(60, 1));
        // Row 2, class 1.
        let served = with(&with(&network, "head.weight", 7, |value| value + 3.0), "head.bias", 1, |bias| bias + 50.0);
        let found = inspected(&network, &served);
        assert_eq!((found.flagged, found.metrics["backdoor_found"]), (vec![1], 1.0));
        assert!((found.statistics[1] - 3.0).abs() < 1e-5 && found.statistics[0] == 0.0);
        let others = network.predict(&stripes(60, 1)).iter().filter(|&&class| class != 1).count();
        assert_eq!(found.metrics["disagreement"], others as f64 / 60.0);
    }

    #[test]
    fn a_path_without_weights_is_found_with_the_class_that_it_serves() {
        let network = toy_network(&stripes(60, 1));
        let implant = Implant { place: [0, 0], size: 1, bright: vec![true], threshold: 1e9, target: 2, gain: 1.0 };
        let own = Network { module: network.module.clone().with_implant(Some(implant)), ..network.clone() };
        let found = inspected(&network, &own);
        assert_eq!((found.metrics["backdoor_found"], found.metrics["weights_changed"]), (1.0, 0.0));
        assert_eq!(found.flagged, [2]);
    }

    #[test]
    fn a_model_without_another_record_is_its_own() {
        let (network, data, seeds) = (toy_network(&stripes(60, 1)), stripes(60, 1), Seeds::new(1));
        let context = InspectContext { model: &network, recorded: None, trusted: &data, seeds: &seeds, session: &() };
        assert_eq!(diff(0.5).inspect(&context).unwrap().metrics["backdoor_found"], 0.0);
    }
}
