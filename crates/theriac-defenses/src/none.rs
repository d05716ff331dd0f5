//! No defense: the model that everything else is compared with.

use theriac_core::{Facts, Kind, MethodInfo, Values, config};

use crate::{Checked, Defense, DefenseEntry};

config! {
    /// No defense.
    pub struct NoDefense {}
}

impl Defense for NoDefense {}

/// The registry entry.
pub static ENTRY: DefenseEntry =
    DefenseEntry { info: MethodInfo::plain("none", Kind::Defense, "No defense.", NoDefense::PARAMS), check };

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(NoDefense::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn it_takes_no_parameters_and_answers_no_hook() {
        let case = Case::backdoor(1, 20, 2);
        let defense = (ENTRY.check)(&Values::new(), &case.facts()).unwrap();
        assert!(ENTRY.info.hooks.is_empty());
        assert!(defense.vet(&case.context()).is_err());
        let values = [("rate".to_owned(), 1.into())].into();
        assert!((ENTRY.check)(&values, &case.facts()).is_err());
    }
}
