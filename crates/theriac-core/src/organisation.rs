//! Who in an organisation may do what, at which stage of the pipeline.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::threat::{Capability, Stage, ThreatModel};

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its positions, in the order in which they are told.
    #[serde(rename = "role")]
    pub positions: Vec<Position>,
}

/// What somebody is in an organisation, and what that allows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Unique in its organisation.
    pub name: String,
    /// Each `capability@stage`, such as `labels@store`.
    pub may: Vec<Grant>,
}

/// A permission, whether somebody else has to look at each use of it, and when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub permission: Permission,
    /// Whether it takes a second person.
    pub second_person: bool,
    /// The first and the last round in which it holds, counted from 1; in all of them if there is none.
    pub rounds: Option<[usize; 2]>,
}

/// How a grant with conditions is written: `{ permission = "labels@store", needs = "second-person", rounds = [1, 5] }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    permission: String,
    needs: Option<String>,
    rounds: Option<[usize; 2]>,
}

impl TryFrom<Condition> for Grant {
    type Error = String;

    fn try_from(Condition { permission, needs, rounds }: Condition) -> Result<Self, String> {
        if let Some(needs) = needs.as_ref().filter(|needs| *needs != "second-person") {
            return Err(format!("`needs` is \"{needs}\"; \"second-person\" is all that a permission can need"));
        }
        if let Some([first, last]) = rounds.filter(|[first, last]| *first == 0 || first > last) {
            return Err(format!("`rounds` is [{first}, {last}]; write the first and the last round, counted from 1"));
        }
        Ok(Self { permission: permission.try_into()?, second_person: needs.is_some(), rounds })
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Grant;

            fn expecting(&self, text: &mut fmt::Formatter) -> fmt::Result {
                text.write_str(
                    "a permission such as \"labels@store\", or a table with `permission` and `needs` or `rounds`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Grant, E> {
                let permission = text.to_owned().try_into().map_err(E::custom)?;
                Ok(Grant { permission, second_person: false, rounds: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Grant, A::Error> {
                let condition = Condition::deserialize(de::value::MapAccessDeserializer::new(map))?;
                condition.try_into().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

/// One thing that somebody may do at one stage of the pipeline.
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
    /// Refuses an organisation without positions, and two positions of one name.
    ///
    /// # Errors
    /// Names the fault.
    pub fn check(self) -> Result<Self, OrganisationError> {
        let mut names = BTreeSet::new();
        if self.positions.is_empty() {
            return Err(OrganisationError("it has no `[[role]]`".to_owned()));
        }
        match self.positions.iter().find(|position| !names.insert(&position.name)) {
            Some(twice) => Err(OrganisationError(format!("there are two roles called `{}`", twice.name))),
            None => Ok(self),
        }
    }
}

impl Position {
    /// What it allows in any round, with or without a second person; each once.
    pub fn permissions(&self) -> Vec<Permission> {
        let mut found: Vec<Permission> = Vec::new();
        for Grant { permission, .. } in &self.may {
            if !found.contains(permission) {
                found.push(*permission);
            }
        }
        found
    }
}

/// Whether `may` covers all that a threat model asks for, at its stage.
pub fn allows(may: &[Permission], threat: &ThreatModel) -> bool {
    let granted = |capability: &Capability| may.contains(&Permission { capability: *capability, stage: threat.stage });
    !threat.capabilities.is_empty() && threat.capabilities.iter().all(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organisation(text: &str) -> Result<Organisation, String> {
        let read: Organisation = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read.check().map_err(|error| error.to_string())
    }

    #[test]
    fn faults_are_named() {
        let unknown = organisation(r#"{"role": [{"name": "a", "may": ["labels"]}]}"#).unwrap_err();
        assert!(unknown.contains("`labels` is no permission; write `capability@stage`"), "{unknown}");
        let twice = organisation(r#"{"role": [{"name": "a", "may": []}, {"name": "a", "may": []}]}"#).unwrap_err();
        assert_eq!(twice, "failed to accept the organisation: there are two roles called `a`");
        assert!(organisation(r#"{"role": []}"#).unwrap_err().contains("it has no `[[role]]`"));
        let needs = r#"{"role": [{"name": "a", "may": [{"permission": "labels@store", "needs": "luck"}]}]}"#;
        assert!(organisation(needs).unwrap_err().contains("`needs` is \"luck\""));
        let typo = needs.replace("needs", "need");
        assert!(organisation(&typo).unwrap_err().contains("unknown field `need`, expected one of"));
        let number = organisation(r#"{"role": [{"name": "a", "may": [3]}]}"#).unwrap_err();
        assert!(number.contains("expected a permission such as \"labels@store\""), "{number}");
        for rounds in ["[0, 3]", "[5, 4]"] {
            let text = format!(
                r#"{{"role": [{{"name": "a", "may": [{{"permission": "labels@store", "rounds": {rounds}}}]}}]}}"#
            );
            assert!(organisation(&text).unwrap_err().contains(&format!("`rounds` is {rounds}")));
        }
    }

    #[test]
    fn a_permission_may_take_a_second_person_and_hold_for_a_while() {
        let text = r#"{"role": [{"name": "a", "may":
            ["labels@label", {"permission": "labels@store", "needs": "second-person", "rounds": [2, 4]},
             {"permission": "labels@store", "rounds": [5, 9]}]}]}"#;
        let position = organisation(text).unwrap().positions.remove(0);
        let labels = |stage| Permission { capability: Capability::Labels, stage };
        assert_eq!(position.permissions(), [labels(Stage::Label), labels(Stage::Store)]);
        assert_eq!(position.may.iter().map(|grant| grant.second_person).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(
            position.may.iter().map(|grant| grant.rounds).collect::<Vec<_>>(),
            [None, Some([2, 4]), Some([5, 9])]
        );
    }
}
