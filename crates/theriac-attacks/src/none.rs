//! No attack: the clean reference that every other attack is compared with.

use theriac_core::{
    Budget, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, ParamError, Probe, Role, Seeds, Stage,
    ThreatModel, Values, config,
};

use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// No parameters.
    pub struct NoneConfig {}
}

/// Leaves everything as it is.
struct NoAttack;

impl Attack for NoAttack {
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage))
    }

    fn probe(&self, _test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        None
    }
}

const THREAT: ThreatModel =
    ThreatModel { knowledge: Knowledge::Nothing, capabilities: &[], goal: Goal::Untargeted, stage: Stage::Collect };

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    NoneConfig::from_values(values)?;
    Ok(Box::new(NoAttack))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack("none", Family::Clean, THREAT, "No attack: the clean reference.", &[], NoneConfig::PARAMS),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn nothing_is_touched() {
        let (changes, poisoned) = testing::invariants(&ENTRY, [], 0);
        assert!(changes.edits.is_empty());
        assert_eq!(poisoned.digest(), testing::train().digest());
        assert!(testing::attack(&ENTRY, []).probe(&testing::test(), &testing::seeds()).is_none());
    }

    #[test]
    fn it_takes_no_parameters() {
        let message = testing::faults(&ENTRY, [("rate", 0.1.into())]);
        assert_eq!(message, "failed to accept `rate`: unknown key; none is expected here");
    }
}
