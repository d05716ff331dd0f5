//! Deep partition aggregation: Alexander Levine, Soheil Feizi, "Deep Partition Aggregation: Provable Defense against
//! General Poisoning Attacks", ICLR 2021, <https://arxiv.org/abs/2006.14768>.
//!
//! # Assumptions
//!
//! The defender controls training, and has time for `partitions` networks, each on its small part of the data. About the
//! attacker nothing is assumed but a number: how many samples are inserted into the training set or deleted from it.
//! Neither the attack's goal nor its method matter, and the proof needs no clean data. What is proven is that the *answer*
//! stays, not that it is right: poison that is in the data already, within or beyond the radius, had its votes.
//!
//! # Rule
//!
//! ```text
//! P_i  = samples whose image hashes to i modulo k                 i = 1 .. k
//! f_i  = a network trained on P_i alone, with streams of its own
//! n_c  = number of f_i that answer c
//! g    = argmax_c n_c, the smallest such class
//! r    = floor((n_g - max_{c not g} (n_c + [c < g])) / 2)
//! ```
//!
//! A sample that is inserted or deleted is in one part only, so it changes one vote, and one vote changes the lead over
//! another class by 2 at most. Hence the answer is g for every training set that differs in up to r samples.
//!
//! This stands on f_i being the same function of the *set* P_i whatever else is in the data: its samples are sorted by
//! their content, seeds and initial weights depend on i and not on the data, and normalisation is a constant of the data
//! set. A training that cannot be done, because its part is empty or because it diverges, leaves the initial weights to
//! vote.
//!
//! # Where this differs from the paper
//!
//! - The hash is BLAKE3 of the image (the first eight bytes, little-endian, modulo k) where the authors sum pixels for
//!   MNIST. The label is not hashed, as in their SS-DPA: a wrong label changes one vote and not two. So r counts insertions,
//!   deletions and wrong labels; an image that is replaced counts as two.
//! - The architecture is the study's and the recipe its `[train]` table, with `epochs` and `batch` of the parts' own. The
//!   paper trains a Network-in-Network for 200 epochs.
//! - The default k is 250, for laptops; the paper has 1200 and 3000 for MNIST, and 50, 250 and 1000 for CIFAR-10.
//!
//! # Verified against
//!
//! `scripts/verify/dpa.py`: the parts of 60 images are those of another implementation of BLAKE3; answer and radius of 250
//! tallies are those of an attacker, written in numpy, who turns voters until the answer changes. The tests below try every
//! insertion and deletion within the radius: of one and two samples for nearest means in a world of 18 samples, of single
//! samples for trained networks. No certified answer changes.

use theriac_core::{Dataset, Digest, Facts, Hook, MethodInfo, Paper, ParamError, Range, Unit, Values, config};
use theriac_train::{Recipe, TrainConfig};

use crate::voting::{by_content, vote};
use crate::{Certificate, CertifyContext, Checked, Defense, DefenseEntry, DefenseError};

config! {
    /// Deep partition aggregation.
    pub struct Dpa {
        /// Parts of the training set, each with a network of its own; the paper's k. No radius is larger than half of it.
        partitions: usize = 250, Range::Whole(1, 100_000), "networks";
        /// Passes of a network over its part; those of the recipe if none are given.
        epochs: Option<usize> = None::<u64>, Range::Whole(1, 100_000), "epochs";
        /// Samples of one step; those of the recipe if none are given. A part should have several steps.
        batch: Option<usize> = None::<u64>, Range::Whole(1, 65_536), "samples";
    }
}

impl Dpa {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        if self.partitions <= facts.train {
            return Ok(self);
        }
        let message = format!("{} training samples leave most of {} parts empty", facts.train, self.partitions);
        Err(vec![ParamError::new("partitions", message)])
    }

    fn recipe(&self, given: &TrainConfig) -> Recipe {
        let (epochs, batch) = (self.epochs.unwrap_or(given.epochs), self.batch.unwrap_or(given.batch));
        TrainConfig { epochs, batch, ..given.unmeasured() }.into()
    }
}

/// P: the samples of `data` in `count` parts by their images, those of a part in an order that depends on their content alone.
fn partition(data: &Dataset, count: usize) -> Vec<Dataset> {
    let mut parts = vec![Vec::new(); count];
    (0..data.len()).for_each(|index| parts[part_of(data.image(index), count)].push(index));
    parts.into_iter().map(|part| by_content(data, part)).collect()
}

fn part_of(image: &[u8], count: usize) -> usize {
    let digest = Digest::of(image);
    let (number, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    (u64::from_le_bytes(*number) % count as u64) as usize
}

impl Defense for Dpa {
    fn certify(&self, context: &CertifyContext) -> Result<Vec<Vec<Certificate>>, DefenseError> {
        vote(context, &partition(context.data, self.partitions), &self.recipe(context.recipe))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "dpa",
        &[Hook::Certify],
        "Lets networks that were trained on separate parts of the data vote, and proves how much poison changes no answer.",
        &[Paper {
            cite: "Levine & Feizi 2021",
            title: "Deep Partition Aggregation: Provable Defense against General Poisoning Attacks",
            link: "https://arxiv.org/abs/2006.14768",
        }],
        Dpa::PARAMS,
    )
    .certifying(Unit::Samples)
    .verified(&[theriac_core::Verified {
        against: "blake3 1.0.11 for Python, 60 images; an attacker in numpy 2.1.3, 250 tallies (scripts/verify/dpa.py)",
        agreement: "the same parts, answers and radii",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(Dpa::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests;
