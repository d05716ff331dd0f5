//! How much damage each role of an organisation can do, and which permission, if withdrawn, reduces it most.
//!
//! An organisation says what each of its roles may do: permissions of the form `capability@stage`. A role can carry out an attack if it may
//! do all that the attack's threat model asks for, at its stage. What an attack does was measured: the damage of a role is that of the
//! worst attack that it can carry out, seed by seed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use theriac_core::record::{CellRecord, MethodRecord, Outcome};
use theriac_core::{Capability, Stage, ThreatModel};

use crate::spread::Spread;

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its roles, in the order in which they are told.
    #[serde(rename = "role")]
    pub roles: Vec<Role>,
}

/// A role, and what it may do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Unique in its organisation.
    pub name: String,
    /// Each `capability@stage`, such as `labels@store`.
    pub may: Vec<Permission>,
}

/// One thing that a role may do at one stage of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    /// What.
    pub capability: Capability,
    /// Where.
    pub stage: Stage,
}

impl TryFrom<String> for Permission {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let word = |word: &str| serde_json::Value::from(word);
        let parts = text.split_once('@').and_then(|(capability, stage)| {
            let capability = serde_json::from_value(word(capability)).ok()?;
            Some(Self { capability, stage: serde_json::from_value(word(stage)).ok()? })
        });
        parts.ok_or_else(|| {
            format!(
                "`{text}` is no permission; write `capability@stage`, where a capability is labels, inputs, insert, remove, source, recipe, \
                 weights or architecture, and a stage is collect, label, store, train, distribute or deploy"
            )
        })
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        format!("{}@{}", permission.capability, permission.stage)
    }
}

/// Why an organisation was not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("failed to accept the organisation: {0}")]
pub struct OrganisationError(String);

impl Organisation {
    /// Refuses an organisation without roles, and two roles of one name.
    ///
    /// # Errors
    /// Names the fault.
    pub fn check(self) -> Result<Self, OrganisationError> {
        let mut names = BTreeSet::new();
        if self.roles.is_empty() {
            return Err(OrganisationError("it has no `[[role]]`".to_owned()));
        }
        match self.roles.iter().find(|role| !names.insert(&role.name)) {
            Some(twice) => Err(OrganisationError(format!("there are two roles called `{}`", twice.name))),
            None => Ok(self),
        }
    }
}

/// What a role can do.
#[derive(Clone, Debug, Serialize)]
pub struct Reach {
    /// The role.
    pub role: String,
    /// The attacks that it can carry out, with their damage, worst first.
    pub attacks: Vec<(String, Spread)>,
    /// The worst one of each seed.
    pub damage: Spread,
}

/// What is gained where one role loses one permission.
#[derive(Clone, Debug, Serialize)]
pub struct Withdrawal {
    /// The role.
    pub role: String,
    /// The permission.
    pub permission: Permission,
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
}

/// The damage of each attack by seed.
type Damages = BTreeMap<String, (ThreatModel, BTreeMap<u64, f64>)>;

/// What `cells` tell about `organisation`; `threat` gives the threat model of an attack. `None` where no seed was measured for all attacks.
pub fn roles(
    organisation: &Organisation,
    cells: &[CellRecord],
    threat: impl Fn(&str) -> Option<ThreatModel>,
) -> Option<Roles> {
    let damages = damages(cells, threat);
    let seeds = common_seeds(&damages);
    let worst = |may: &[Permission]| -> Vec<f64> {
        let open: Vec<_> = damages.values().filter(|(threat, _)| allows(may, threat)).collect();
        let of = |seed| open.iter().map(|(_, by_seed)| by_seed[seed]).fold(0.0, f64::max);
        seeds.iter().map(of).collect()
    };
    let reach = organisation.roles.iter().map(|role| {
        let open = damages.iter().filter(|(_, (threat, _))| allows(&role.may, threat));
        let spread = |(name, (_, by_seed)): (&String, &(ThreatModel, BTreeMap<u64, f64>))| {
            Some((name.clone(), Spread::of(&seeds.iter().map(|seed| by_seed[seed]).collect::<Vec<_>>())?))
        };
        let mut attacks: Vec<(String, Spread)> = open.filter_map(spread).collect();
        attacks.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
        Some(Reach { role: role.name.clone(), attacks, damage: Spread::of(&worst(&role.may))? })
    });
    let reach: Option<Vec<Reach>> = reach.collect();
    let mut withdrawals = Vec::new();
    for role in &organisation.roles {
        let before = worst(&role.may);
        for permission in &role.may {
            let rest: Vec<Permission> = role.may.iter().copied().filter(|other| other != permission).collect();
            let after = worst(&rest);
            let count = organisation.roles.len() as f64;
            let gain: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (before - after) / count).collect();
            withdrawals.push(Withdrawal { role: role.name.clone(), permission: *permission, gain: Spread::of(&gain)? });
        }
    }
    withdrawals.sort_by(|a, b| b.gain.mean.total_cmp(&a.gain.mean));
    Some(Roles { reach: reach?, withdrawals })
}

/// Whether `may` covers all that a threat model asks for. Whoever controls a source may do anything to its samples.
fn allows(may: &[Permission], threat: &ThreatModel) -> bool {
    let granted = |capability: &Capability| may.contains(&Permission { capability: *capability, stage: threat.stage });
    !threat.capabilities.is_empty() && threat.capabilities.iter().all(granted)
}

/// What attacks without a defense did: how far their success lies above that on a clean model, or how far the accuracy fell, whichever is
/// more; from 0 to 1.
fn damages(cells: &[CellRecord], threat: impl Fn(&str) -> Option<ThreatModel>) -> Damages {
    let undefended = cells.iter().filter(|cell| cell.defense.name == "none" && cell.attack.name != "none");
    let mut found = Damages::new();
    for cell in undefended.filter(|cell| cell.outcome == Outcome::Ok) {
        let Some(threat) = threat(&cell.attack.name) else { continue };
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

/// An attack with what tells it from its namesakes for a person: its rate, and what it delivers.
fn key(attack: &MethodRecord) -> String {
    attack.named(|key, value| ["rate", "delivers", "mode", "trigger"].contains(&key) && !value.is_null())
}

/// The seeds at which every attack was measured.
fn common_seeds(damages: &Damages) -> Vec<u64> {
    let mut sets = damages.values().map(|(_, by_seed)| by_seed.keys().copied().collect::<BTreeSet<u64>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).copied().collect()).into_iter().collect()
}

impl Roles {
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
            text.push_str(&format!("  {:<20} {:<15} {worst}\n", reach.role, number(&reach.damage)));
            for (name, spread) in reach.attacks.iter().skip(1) {
                text.push_str(&format!("  {:<20} {:<15} {name}\n", "", number(spread)));
            }
        }
        text.push_str(
            "permissions by what their withdrawal takes from the damage of a role, averaged over all roles\n",
        );
        for withdrawal in &self.withdrawals {
            let permission = String::from(withdrawal.permission);
            text.push_str(&format!("  {:<20} {:<20} {}\n", withdrawal.role, permission, number(&withdrawal.gain)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Goal, Knowledge};

    const fn threat(capabilities: &'static [Capability], stage: Stage) -> ThreatModel {
        ThreatModel { knowledge: Knowledge::Nothing, capabilities, goal: Goal::Backdoor, stage }
    }

    fn known(name: &str) -> Option<ThreatModel> {
        match name {
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
        let damage: Vec<f64> = found.reach.iter().map(|reach| (1000.0 * reach.damage.mean).round() / 1000.0).collect();
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
    }

    #[test]
    fn faults_are_named() {
        let unknown = organisation(r#"{"role": [{"name": "a", "may": ["labels"]}]}"#).unwrap_err();
        assert!(unknown.contains("`labels` is no permission; write `capability@stage`"), "{unknown}");
        let twice = organisation(r#"{"role": [{"name": "a", "may": []}, {"name": "a", "may": []}]}"#).unwrap_err();
        assert_eq!(twice, "failed to accept the organisation: there are two roles called `a`");
        assert!(organisation(r#"{"role": []}"#).unwrap_err().contains("it has no `[[role]]`"));
    }
}
