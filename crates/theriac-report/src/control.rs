//! Each filter against the random filter that removes as many samples, paired by seed.

use theriac_core::record::{MethodRecord, PERFECT_FILTER, RANDOM_FILTER};

use crate::group::is_reference;
use crate::setting::Setting;
use crate::spread::Spread;
use crate::words::Success;

/// Whether a difference over seeds is an advantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies above zero.
    Beats,
    /// The interval includes zero or lies below it.
    DoesNotBeat,
    /// One seed: nobody can tell.
    Unknown,
}

impl Verdict {
    /// Judges `advantage`, where positive is better.
    pub fn of(advantage: &Spread) -> Self {
        match advantage.interval {
            Some((low, _)) if low > 0.0 => Self::Beats,
            Some(_) => Self::DoesNotBeat,
            None => Self::Unknown,
        }
    }

    /// For a table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Beats => "better",
            Self::DoesNotBeat => "NOT better",
            Self::Unknown => "one seed: cannot tell",
        }
    }
}

/// A filter minus its random filter on one attack. Every difference is turned so that positive is good for the
/// defender.
#[derive(Clone, Debug)]
pub struct Advantage<'a> {
    /// The attack.
    pub attack: &'a MethodRecord,
    /// The filter.
    pub defense: &'a MethodRecord,
    /// The fraction of the training set that both remove.
    pub budget: Option<Spread>,
    /// More poison found.
    pub found: Option<Spread>,
    /// The filter's TPR.
    pub own: Option<Spread>,
    /// The random filter's TPR.
    pub random: Option<Spread>,
    /// The TPR that no filter can exceed with this budget.
    pub perfect: Option<Spread>,
    /// Less attack success after retraining, by the attack's success metric.
    pub success: Option<(Success, Spread)>,
    /// More clean accuracy after retraining.
    pub accuracy: Option<Spread>,
}

/// All filters of `setting` that have a matched random filter.
pub fn advantages<'a>(setting: &Setting<'a>) -> Vec<Advantage<'a>> {
    let mut found = Vec::new();
    for attack in setting.attacks() {
        for defense in setting.defenses().into_iter().filter(|defense| !is_reference(defense)) {
            let Some(filter) = setting.find(attack, defense) else { continue };
            let Some(random) = setting.matched(filter, RANDOM_FILTER) else { continue };
            let success = filter.success().and_then(|success| {
                let metric = success.metric();
                let difference = match success.sign() {
                    sign if sign > 0.0 => random.difference(metric, filter, metric),
                    _ => filter.difference(metric, random, metric),
                };
                Some((success, difference?))
            });
            found.push(Advantage {
                attack,
                defense,
                budget: filter.spread("flagged"),
                found: filter.difference("tpr", random, "tpr"),
                own: filter.spread("tpr"),
                random: random.spread("tpr"),
                perfect: setting.matched(filter, PERFECT_FILTER).and_then(|perfect| perfect.spread("tpr")),
                success,
                accuracy: filter.difference("clean_accuracy", random, "clean_accuracy"),
            });
        }
    }
    found
}
