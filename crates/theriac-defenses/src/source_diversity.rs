//! One network for each data source, and a vote of all of them: whoever controls one source has one vote.
//!
//! Alexander Levine, Soheil Feizi: "Deep Partition Aggregation: Provable Defense against General Poisoning Attacks", ICLR 2021,
//! <https://arxiv.org/abs/2006.14768>, with the sources as its parts.
//!
//! # Assumptions
//! The defender knows which sample came from which source, controls training, and trusts no source more than another. An attacker
//! controls some sources altogether: every sample of theirs may be anything. It cannot pass its samples off as another's.
//!
//! # Rule
//! ```text
//! f_s  = a network trained on the samples of source s alone, with streams of its own
//! n_c  = number of f_s that answer c
//! g    = argmax_c n_c, the smallest such class
//! r    = floor((n_g - max_{c not g} (n_c + [c < g])) / 2)
//! ```
//! The answer is g whatever up to r sources deliver, nothing included: who delivers nothing has a network that learnt nothing, and its vote. With k
//! sources r is at most floor(k / 2), and with two 0 but for the first class, which wins ties; three outvote one.
//!
//! # Where this differs from the paper
//! - The parts are those by which the data were collected, not those of a hash. So the certificate counts sources, not samples, and
//!   a source may be as large as it likes.
//! - Otherwise it is `dpa`: samples are sorted by content, seeds depend on the source alone, a training that fails
//!   leaves its initial weights to vote.
//!
//! # Verified against
//! The vote and the radius are those of `dpa`, which has a record of its own. The tests below give one source of five other
//! labels, other images, more samples and none: no answer with radius 1 or more changes.
//!
//! # When it fails
//! Each network sees 1/k of the data, and is worse than one that sees all. Against an attacker without a source of its own, as one who
//! corrupts the collection as a whole, it does nothing.

use theriac_core::{
    Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, SourceId, Unit, Values, Verified, config,
};
use theriac_train::{Recipe, TrainConfig};

use crate::voting::{by_content, vote};
use crate::{Certificate, CertifyContext, Defense, DefenseEntry, DefenseError};

config! {
    /// Partition aggregation by source.
    pub struct SourceDiversity {
        /// Passes of a network over the samples of its source; those of the recipe if none are given.
        epochs: Option<usize> = None::<u64>, Range::Whole(1, 100_000), "epochs";
        /// Samples of one step; those of the recipe if none are given.
        batch: Option<usize> = None::<u64>, Range::Whole(1, 65_536), "samples";
    }
}

/// The checked config.
struct BySource {
    config: SourceDiversity,
    sources: usize,
}

impl SourceDiversity {
    fn check(self, facts: &Facts) -> Result<BySource, Vec<ParamError>> {
        match facts.sources > 1 {
            true => Ok(BySource { config: self, sources: facts.sources }),
            false => Err(vec![one_source("epochs")]),
        }
    }

    fn recipe(&self, given: &TrainConfig) -> Recipe {
        let (epochs, batch) = (self.epochs.unwrap_or(given.epochs), self.batch.unwrap_or(given.batch));
        TrainConfig { epochs, batch, ..given.unmeasured() }.into()
    }
}

/// The data have one source, or nobody told which.
pub(crate) fn one_source(key: &str) -> ParamError {
    ParamError::new(key, "the training set comes from one source; `sources` of `[data]` says from how many it comes")
}

impl BySource {
    /// The samples of each source, those of one in an order that depends on their content alone.
    fn parts(&self, data: &Dataset) -> Vec<Dataset> {
        let sources = (0..self.sources as u16).map(SourceId);
        sources.map(|source| by_content(data, data.of_source(source))).collect()
    }
}

impl Defense for BySource {
    fn certify(&self, context: &CertifyContext) -> Result<Vec<Vec<Certificate>>, DefenseError> {
        vote(context, &self.parts(context.data), &self.config.recipe(context.recipe))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "source-diversity",
        &[Hook::Certify],
        "Lets networks vote that were trained on one data source each, and proves how many hostile sources change no answer.",
        &[Paper {
            cite: "Levine & Feizi 2021",
            title: "Deep Partition Aggregation: Provable Defense against General Poisoning Attacks",
            link: "https://arxiv.org/abs/2006.14768",
        }],
        SourceDiversity::PARAMS,
    )
    .certifying(Unit::Sources)
    .at_version(2)
    .verified(&[Verified {
        against: "the votes and radii of `dpa`, which has a record of its own; five hostile contents of one source of five, in a toy",
        agreement: "no answer that is certified against one source changes",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> crate::Checked {
    Ok(Box::new(SourceDiversity::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stripes, toy_network};
    use theriac_core::metrics::accuracy;
    use theriac_core::{ChangeSet, Label, Role, Seeds, Stage};

    /// Stripes from five sources in turn.
    fn from_five() -> Dataset {
        let data = stripes(150, 1);
        let sources: Vec<SourceId> = (0..150).map(|index| SourceId((index / 3 % 5) as u16)).collect();
        data.with_sources(&sources)
    }

    fn defense() -> BySource {
        BySource { config: SourceDiversity { epochs: None, batch: None }, sources: 5 }
    }

    fn answers(data: &Dataset) -> Vec<Certificate> {
        let (network, seeds) = (toy_network(data), Seeds::new(1).child("defense"));
        let (test, recipe) = (stripes(60, 2), TrainConfig { epochs: 12, batch: 10, ..TrainConfig::default() });
        let inputs = [&test];
        let context =
            CertifyContext { data, network: &network, recipe: &recipe, inputs: &inputs, seeds: &seeds, session: &() };
        defense().certify(&context).unwrap().remove(0)
    }

    fn right(answers: &[Certificate]) -> f64 {
        let classes: Vec<Label> = answers.iter().map(|answer| answer.class).collect();
        accuracy(&classes, &stripes(60, 2).labels()).unwrap()
    }

    #[test]
    fn no_content_of_one_source_changes_a_certified_answer() {
        let data = from_five();
        let plain = answers(&data);
        assert!(right(&plain) > 0.9, "{}", right(&plain));
        assert!(plain.iter().filter(|answer| answer.radius >= 1).count() > 30);
        let own = data.of_source(SourceId(2));
        // Whoever delivers nothing moves nobody else: the other parts are what they were.
        let without = data.select(&(0..data.len()).filter(|index| !own.contains(index)).collect::<Vec<_>>());
        let (parts, fewer) = (defense().parts(&data), defense().parts(&without));
        assert!(
            (0..5).all(|at| (at == 2) == fewer[at].is_empty() && (at == 2 || fewer[at].digest() == parts[at].digest()))
        );
        let changed = |edit: &dyn Fn(&mut ChangeSet, usize)| {
            let mut changes = ChangeSet::new("test", Role::Supplier, Stage::Collect);
            own.iter().for_each(|&index| edit(&mut changes, index));
            answers(&changes.apply(&data).unwrap())
        };
        let hostile = [
            changed(&|changes, index| changes.relabel(&data, index, 0)),
            changed(&|changes, index| changes.relabel(&data, index, (data.label(index) + 1) % 3)),
            changed(&|changes, index| changes.replace(&data, index, vec![0; 36])),
            changed(&|changes, index| changes.insert(&data, 1, SourceId(2), data.image(index).to_vec())),
            changed(&|changes, index| changes.remove(&data, index)),
        ];
        for (at, other) in hostile.iter().enumerate() {
            let certain = plain.iter().zip(other).filter(|(plain, _)| plain.radius >= 1);
            assert!(certain.clone().all(|(plain, other)| plain.class == other.class), "{at}");
        }
    }

    #[test]
    fn the_order_of_the_data_does_not_matter() {
        let data = from_five();
        let mut order: Vec<usize> = (0..data.len()).collect();
        Seeds::new(1).stream("order").shuffle(&mut order);
        assert_eq!(answers(&data), answers(&data.select(&order)));
        let sizes: Vec<usize> = defense().parts(&data).iter().map(Dataset::len).collect();
        assert_eq!(sizes, [30; 5]);
    }

    #[test]
    fn one_source_is_refused() {
        let facts = Facts { shape: from_five().shape(), classes: 3, train: 150, test: 0, sources: 1 };
        let error = check(&Values::new(), &facts).err().unwrap()[0].to_string();
        assert!(error.contains("the training set comes from one source"), "{error}");
        assert!(check(&Values::new(), &Facts { sources: 2, ..facts }).is_ok());
    }
}
