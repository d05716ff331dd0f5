//! A control, not a defense: the model trained on the data as they were before the attack. Nothing that cleans data
//! can be expected to do better. The lab trains it; this entry only names it.
//!
//! # Verified against
//!
//! `scripts/verify/draws.py`, 500 digits, `badnets`, 40 seeds: the weights are, bit by bit, those of another run, which knows
//! no attack.

use theriac_core::{Facts, Hook, MethodInfo, Values, Verified, config};

use crate::{Checked, Defense, DefenseEntry};

config! {
    /// The clean model.
    pub struct CleanModel {}
}

impl Defense for CleanModel {}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "clean-model",
        &[Hook::Control],
        "Control: the model trained without the attack.",
        &[],
        CleanModel::PARAMS,
    )
    .verified(&[Verified {
        against: "a run without an attack, 40 seeds (scripts/verify/draws.py)",
        agreement: "all weights equal",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(CleanModel::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn it_is_a_control_that_vets_nothing() {
        let case = Case::backdoor(1, 20, 2);
        let defense = (ENTRY.check)(&Values::new(), &case.facts()).unwrap();
        assert_eq!(ENTRY.info.hooks, [Hook::Control]);
        assert!(defense.vet(&case.context()).is_err());
    }
}
