//! What every registry entry tells about its method. Command-line help, `list`, `explain`, the reference pages and the config schema are
//! made from it.

use serde::Serialize;

use crate::param::{Param, Value, Values};
use crate::threat::ThreatModel;

/// A publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Paper {
    /// First author and year, such as `Gu et al. 2017`.
    pub cite: &'static str,
    /// The title.
    pub title: &'static str,
    /// Where it is found.
    pub link: &'static str,
}

/// The four kinds of entries in the registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A data set.
    Dataset,
    /// A network architecture.
    Model,
    /// An attack.
    Attack,
    /// A defense.
    Defense,
}

/// The families of poisoning, as people first meet them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// No attack: the clean reference.
    Clean,
    /// Labels are wrong.
    Mislabeling,
    /// Samples are added.
    Injection,
    /// Samples are changed or removed.
    Manipulation,
    /// A trigger is planted.
    Backdoor,
    /// Random noise, aimed at nothing.
    Noise,
    /// A supplier of data, code or models is hostile.
    SupplyChain,
    /// Someone inside changes what is stored.
    Insider,
}

/// The question that a defense answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A reference for the others: the model that was never poisoned.
    Control,
    /// Which training samples are suspicious?
    Vet,
    /// How to train so that poison matters less?
    Train,
    /// Does something change from one retraining to the next?
    Monitor,
    /// Is this model backdoored, for which class, by what trigger?
    Inspect,
    /// How to remove the poison from the model?
    Repair,
    /// Is this input triggered?
    Guard,
    /// For which inputs is the answer provably unchanged?
    Certify,
}

/// What an attacker has of the victim's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Surrogate {
    /// Nothing.
    None,
    /// The architecture, with initial weights of the attacker's own.
    Untrained,
    /// A network of the same architecture that the attacker trained on clean data.
    Trained,
}

/// What a certificate counts: an answer stays what it is, whatever is done to so many of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Training samples that are inserted or deleted.
    Samples,
    /// Data sources that deliver what they like.
    Sources,
}

impl Unit {
    /// One of them, in words.
    pub fn one(self) -> &'static str {
        match self {
            Self::Samples => "inserted or deleted sample",
            Self::Sources => "hostile source",
        }
    }

    /// Several of them, in words.
    pub fn several(self) -> &'static str {
        match self {
            Self::Samples => "inserted or deleted samples",
            Self::Sources => "hostile sources",
        }
    }
}

crate::threat::display_as_serde!(Kind, Family, Hook, Surrogate, Unit);

/// A comparison of a method with something independent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What it was compared with, and on what.
    pub against: &'static str,
    /// How far they agree.
    pub agreement: &'static str,
}

/// One entry of a registry, without its code.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// The name in configs.
    pub name: &'static str,
    /// Which registry.
    pub kind: Kind,
    /// One sentence.
    pub summary: &'static str,
    /// Raised whenever the method's results change, so that no old result is served.
    pub version: u32,
    /// Where it comes from; empty for controls and plumbing.
    pub papers: &'static [Paper],
    /// What it can be told.
    pub params: &'static [Param],
    /// For attacks: which family.
    pub family: Option<Family>,
    /// For attacks: what it assumes.
    pub threat: Option<ThreatModel>,
    /// For attacks: what it has of the victim's network.
    pub surrogate: Surrogate,
    /// For defenses: which questions it answers, in the order of the pipeline. Empty for `none`.
    pub hooks: &'static [Hook],
    /// For defenses that certify: what their certificates count.
    pub certifies: Option<Unit>,
    /// What it was checked against.
    pub verified: &'static [Verified],
}

impl MethodInfo {
    /// An entry that is neither attack nor defense.
    pub const fn plain(name: &'static str, kind: Kind, summary: &'static str, params: &'static [Param]) -> Self {
        Self {
            name,
            kind,
            summary,
            version: 1,
            papers: &[],
            params,
            family: None,
            threat: None,
            surrogate: Surrogate::None,
            hooks: &[],
            certifies: None,
            verified: &[],
        }
    }

    /// An attack.
    pub const fn attack(
        name: &'static str,
        family: Family,
        threat: ThreatModel,
        summary: &'static str,
        papers: &'static [Paper],
        params: &'static [Param],
    ) -> Self {
        let info = Self::plain(name, Kind::Attack, summary, params);
        Self { family: Some(family), threat: Some(threat), papers, ..info }
    }

    /// A defense.
    pub const fn defense(
        name: &'static str,
        hooks: &'static [Hook],
        summary: &'static str,
        papers: &'static [Paper],
        params: &'static [Param],
    ) -> Self {
        let info = Self::plain(name, Kind::Defense, summary, params);
        Self { hooks, papers, ..info }
    }

    /// The hooks that a defense with these parameters passes through: all, or those that its parameter `hook` names, as in `vet` or
    /// `train+guard`.
    pub fn hooks_of(&self, params: &Values) -> Vec<Hook> {
        let chosen = params.get("hook").and_then(Value::as_str);
        self.hooks
            .iter()
            .copied()
            .filter(|hook| chosen.is_none_or(|names| names.split('+').any(|name| hook.to_string() == name)))
            .collect()
    }

    /// The same entry, with a surrogate that was trained on clean data.
    pub const fn with_surrogate(self) -> Self {
        Self { surrogate: Surrogate::Trained, ..self }
    }

    /// The same entry, with the architecture only.
    pub const fn with_architecture(self) -> Self {
        Self { surrogate: Surrogate::Untrained, ..self }
    }

    /// The same entry, with certificates that count these.
    pub const fn certifying(self, unit: Unit) -> Self {
        Self { certifies: Some(unit), ..self }
    }

    /// The same entry, with a record of what it was checked against.
    pub const fn verified(self, verified: &'static [Verified]) -> Self {
        Self { verified, ..self }
    }

    /// The same entry at another version.
    pub const fn at_version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

/// Declares a registry: each line is the module of one method, and its `ENTRY` is in the slice at the same place.
///
/// ```text
/// registry! {
///     /// All attacks.
///     pub static ATTACKS: AttackEntry;
///     mod none;
///     mod badnets;
/// }
/// ```
#[macro_export]
macro_rules! registry {
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $entry:ty; $($seen:vis mod $method:ident;)*) => {
        $($seen mod $method;)*

        $(#[$attribute])*
        $visibility static $name: &[&$entry] = &[$(&$method::ENTRY),*];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defense_of_several_hooks_can_be_told_to_pass_through_one() {
        let info = MethodInfo::defense("toy", &[Hook::Vet, Hook::Guard], "A toy.", &[], &[]);
        let hooks = |params: &[(&str, &str)]| {
            info.hooks_of(&params.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect())
        };
        assert_eq!(hooks(&[("size", "guard")]), [Hook::Vet, Hook::Guard]);
        assert_eq!((hooks(&[("hook", "vet")]), hooks(&[("hook", "guard")])), (vec![Hook::Vet], vec![Hook::Guard]));
    }
}
