//! How much damage each role of an organisation can do, and which permission, if withdrawn, reduces it most.
//!
//! An organisation says what each of its roles may do: permissions of the form `capability@stage`. A role can carry out an attack if it may
//! do all that the attack's threat model asks for, at its stage. What an attack does was measured: the damage of a role is that of the
//! worst measured attack that it can carry out, seed by seed. A permission that takes a second person, or holds only for some rounds, counts in full: what
//! these conditions leave is measured by `access-policy`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use theriac_core::ThreatModel;
use theriac_core::organisation::{Organisation, Permission, allows};
use theriac_core::record::{CellRecord, MethodRecord, Outcome};

use crate::plot::PlotError;
use crate::spread::Spread;

/// What a role can do.
#[derive(Clone, Debug, Serialize)]
pub struct Reach {
    /// The role.
    pub role: String,
    /// The attacks that it can carry out, with their damage, worst first.
    pub attacks: Vec<(String, Spread)>,
    /// The worst one of each seed; `None` if nothing that it can do was measured.
    pub damage: Option<Spread>,
}

/// What is gained where one role loses one permission.
#[derive(Clone, Debug, Serialize)]
pub struct Withdrawal {
    /// The role.
    pub role: String,
    /// The permission.
    pub permission: Permission,
    /// The damage of this role without it: 0 if it can then do nothing that was measured.
    pub left: Spread,
    /// By how much the damage of a role, averaged over all roles, falls.
    pub gain: Spread,
}

/// The answer for one organisation.
#[derive(Clone, Debug, Serialize)]
pub struct Roles {
    /// Each role, in the order of the organisation.
    pub reach: Vec<Reach>,
    /// Each permission of each role, the most valuable first.
    pub withdrawals: Vec<Withdrawal>,
    /// What was measured and nobody in the organisation can carry out, worst first.
    pub outside: Vec<(String, Spread)>,
}

/// The damage of each attack by seed.
type Damages = BTreeMap<String, (ThreatModel, BTreeMap<u64, f64>)>;

/// What `cells` tell about `organisation`; `threat` gives what an attack assumes. `None` where no seed was measured for all attacks.
pub fn roles(
    organisation: &Organisation,
    cells: &[CellRecord],
    threat: impl Fn(&MethodRecord) -> Option<ThreatModel>,
) -> Option<Roles> {
    let damages = damages(cells, threat);
    let seeds = common_seeds(&damages);
    if seeds.is_empty() {
        return None;
    }
    let worst = |may: &[Permission]| -> Option<Vec<f64>> {
        let open: Vec<_> = damages.values().filter(|(threat, _)| allows(may, threat)).collect();
        let of = |seed| open.iter().map(|(_, by_seed)| by_seed[seed]).fold(0.0, f64::max);
        (!open.is_empty()).then(|| seeds.iter().map(of).collect())
    };
    let attacks = |open: &dyn Fn(&ThreatModel) -> bool| {
        let open = damages.iter().filter(|(_, (threat, _))| open(threat));
        let spread = |(name, (_, by_seed)): (&String, &(ThreatModel, BTreeMap<u64, f64>))| {
            Some((name.clone(), Spread::of(&seeds.iter().map(|seed| by_seed[seed]).collect::<Vec<_>>())?))
        };
        let mut attacks: Vec<(String, Spread)> = open.filter_map(spread).collect();
        attacks.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
        attacks
    };
    let reach = organisation.positions.iter().map(|role| {
        let may = role.permissions();
        let damage = worst(&may).and_then(|worst| Spread::of(&worst));
        Reach { role: role.name.clone(), attacks: attacks(&|threat| allows(&may, threat)), damage }
    });
    let reach: Vec<Reach> = reach.collect();
    let anybody =
        |threat: &ThreatModel| organisation.positions.iter().any(|position| allows(&position.permissions(), threat));
    let outside = attacks(&|threat| !anybody(threat));
    let mut withdrawals = Vec::new();
    for role in &organisation.positions {
        let may = role.permissions();
        let Some(before) = worst(&may) else { continue };
        for permission in &may {
            let rest: Vec<Permission> = may.iter().copied().filter(|other| other != permission).collect();
            let after = worst(&rest);
            let count = organisation.positions.len() as f64;
            let after: Vec<f64> = after.unwrap_or_else(|| vec![0.0; before.len()]);
            let gain: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (before - after) / count).collect();
            let (left, gain) = (Spread::of(&after)?, Spread::of(&gain)?);
            withdrawals.push(Withdrawal { role: role.name.clone(), permission: *permission, left, gain });
        }
    }
    withdrawals.sort_by(|a, b| b.gain.mean.total_cmp(&a.gain.mean));
    Some(Roles { reach, withdrawals, outside })
}

/// What attacks without a defense did: how far their success lies above that on a clean model, or how far the accuracy fell, whichever is
/// more; from 0 to 1.
fn damages(cells: &[CellRecord], threat: impl Fn(&MethodRecord) -> Option<ThreatModel>) -> Damages {
    let undefended = cells.iter().filter(|cell| cell.defense.name == "none" && cell.attack.name != "none");
    let mut found = Damages::new();
    for cell in undefended.filter(|cell| cell.outcome == Outcome::Ok) {
        let Some(threat) = threat(&cell.attack) else { continue };
        let metric = |name: &str| cell.metrics.get(name).copied();
        let success = metric("asr").or(metric("targeted_success"));
        let gained = success.map_or(0.0, |success| success - metric("clean_model_success").unwrap_or(0.0));
        let lost =
            metric("clean_model_accuracy").zip(metric("clean_accuracy")).map_or(0.0, |(before, after)| before - after);
        let damage = gained.max(lost).max(0.0);
        let (_, by_seed) = found.entry(key(&cell.attack)).or_insert((threat, BTreeMap::new()));
        // Where an attack was measured in several settings, the attacker takes the best one.
        let kept = by_seed.entry(cell.seed).or_insert(damage);
        *kept = kept.max(damage);
    }
    found
}

/// An attack with what tells it from its namesakes for a person: its rate, and what it delivers or does.
fn key(attack: &MethodRecord) -> String {
    attack.named(|key, value| ["rate", "delivers", "does", "mode", "trigger"].contains(&key) && !value.is_null())
}

/// The seeds at which every attack was measured.
fn common_seeds(damages: &Damages) -> Vec<u64> {
    let mut sets = damages.values().map(|(_, by_seed)| by_seed.keys().copied().collect::<BTreeSet<u64>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).copied().collect()).into_iter().collect()
}

impl Roles {
    /// As a figure, an SVG file.
    ///
    /// # Errors
    /// When the drawing backend fails.
    pub fn figure(&self) -> Result<String, PlotError> {
        Ok(crate::figures::roles::figure(self)?.file())
    }

    /// As text for a person: percent, half-widths of 95 % intervals.
    pub fn table(&self) -> String {
        let number = |spread: &Spread| {
            let half = spread.half_width().map_or(String::new(), |half| format!(" +- {:4.1}", 100.0 * half));
            format!("{:5.1}{half}", 100.0 * spread.mean)
        };
        let mut text =
            "damage by role: success above that on a clean model, or accuracy lost, of the worst attack of each seed\n"
                .to_owned();
        for reach in &self.reach {
            let worst = reach.attacks.first().map_or("nothing that was measured".to_owned(), |(name, _)| name.clone());
            let damage = reach.damage.as_ref().map_or("    -".to_owned(), number);
            text.push_str(&format!("  {:<20} {damage:<15} {worst}\n", reach.role));
            for (name, spread) in reach.attacks.iter().skip(1) {
                text.push_str(&format!("  {:<20} {:<15} {name}\n", "", number(spread)));
            }
        }
        for (at, (name, spread)) in self.outside.iter().enumerate() {
            let nobody = if at == 0 { "(nobody may)" } else { "" };
            text.push_str(&format!("  {nobody:<20} {:<15} {name}\n", number(spread)));
        }
        text.push_str(
            "permissions by what their withdrawal takes from the damage of a role, averaged over all roles\n",
        );
        for withdrawal in &self.withdrawals {
            let permission = String::from(withdrawal.permission);
            text.push_str(&format!("  {:<20} {:<20} {}\n", withdrawal.role, permission, number(&withdrawal.gain)));
        }
        text.push_str("a permission that takes a second person or holds for some rounds counts in full; `access-policy` measures what is left\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Capability, Goal, Knowledge, Stage};

    const fn threat(capabilities: &'static [Capability], stage: Stage) -> ThreatModel {
        ThreatModel { knowledge: Knowledge::Nothing, capabilities, goal: Goal::Backdoor, stage }
    }

    fn known(attack: &MethodRecord) -> Option<ThreatModel> {
        match attack.name.as_str() {
            "flip" => Some(threat(&[Capability::Labels], Stage::Label)),
            "patch" => Some(threat(&[Capability::Inputs, Capability::Labels], Stage::Label)),
            "weights" => Some(threat(&[Capability::Weights], Stage::Distribute)),
            _ => None,
        }
    }

    fn cell(attack: &str, seed: u64, metrics: &[(&str, f64)]) -> CellRecord {
        let method = |name| crate::toy::method(name, serde_json::json!({}));
        crate::toy::cell(&method(attack), &method("none"), seed, metrics)
    }

    fn cells() -> Vec<CellRecord> {
        let mut cells = Vec::new();
        for (seed, more) in [(1, 0.0), (2, 0.02)] {
            cells.push(cell("flip", seed, &[("clean_model_accuracy", 0.9), ("clean_accuracy", 0.8 - more)]));
            cells.push(cell("patch", seed, &[("asr", 0.9 + more), ("clean_model_success", 0.1)]));
            cells.push(cell("weights", seed, &[("asr", 1.0), ("clean_model_success", 0.5)]));
        }
        cells
    }

    fn organisation(text: &str) -> Result<Organisation, String> {
        let read: Organisation = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read.check().map_err(|error| error.to_string())
    }

    const TWO: &str = r#"{"role": [
        {"name": "annotator", "may": ["labels@label", "inputs@label"]},
        {"name": "engineer", "may": ["weights@distribute", "labels@store"]}]}"#;

    #[test]
    fn a_role_does_what_its_worst_attack_does() {
        let found = roles(&organisation(TWO).unwrap(), &cells(), known).unwrap();
        let damage: Vec<f64> =
            found.reach.iter().map(|reach| (1000.0 * reach.damage.unwrap().mean).round() / 1000.0).collect();
        assert_eq!(damage, [0.81, 0.5]);
        let names: Vec<&str> = found.reach[0].attacks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["patch", "flip"]);
    }

    #[test]
    fn the_most_valuable_permission_is_the_one_without_which_least_is_left() {
        let found = roles(&organisation(TWO).unwrap(), &cells(), known).unwrap();
        let gains: Vec<(String, f64)> = found
            .withdrawals
            .iter()
            .map(|withdrawal| (String::from(withdrawal.permission), (1000.0 * withdrawal.gain.mean).round() / 1000.0))
            .collect();
        // Without labels the annotator can do nothing; without inputs it still flips labels.
        let expected =
            [("labels@label", 0.405), ("inputs@label", 0.35), ("weights@distribute", 0.25), ("labels@store", 0.0)];
        assert_eq!(gains, expected.map(|(name, gain)| (name.to_owned(), gain)));
        assert!(found.table().contains("annotator"));
        let figure = found.figure().unwrap();
        assert!(figure.contains("without labels@label") && figure.contains("n = 2 seeds"), "{figure}");
    }
}
