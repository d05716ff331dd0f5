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

use theriac_core::{
    Dataset, Digest, Facts, Hook, Label, MethodInfo, Paper, ParamError, Range, Session, Values, config,
};
use theriac_nn::Network;
use theriac_train::{Recipe, TrainConfig, TrainError, TrainingSet, in_turn, train};

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
    for part in &mut parts {
        part.sort_by_key(|&index| (data.image(index), data.label(index)));
    }
    parts.iter().map(|part| data.select(part)).collect()
}

fn part_of(image: &[u8], count: usize) -> usize {
    let digest = Digest::of(image);
    let (number, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    (u64::from_le_bytes(*number) % count as u64) as usize
}

/// f: the network of part `at`, a function of the samples in it and of nothing else in the data.
fn learn(
    part: &Dataset,
    at: usize,
    recipe: &Recipe,
    context: &CertifyContext,
    session: &dyn Session,
) -> Result<Network, TrainError> {
    let seeds = context.seeds.child(&format!("partition/{at}"));
    let untrained = context.network.reinitialised(&seeds);
    // Measured on itself: what is asked later must not decide whether a training counts.
    let set = TrainingSet { train: part, test: part, probe: None };
    match train(untrained.clone(), set, recipe, &seeds, session) {
        Ok(trained) => Ok(trained.network),
        Err(error) if error.is_divergence() || error == TrainError::Empty => Ok(untrained),
        Err(error) => Err(error),
    }
}

/// g and r, from the number of votes for each class.
fn certificate(votes: &[u32]) -> Certificate {
    let class = (0..votes.len()).fold(0, |best, at| if votes[at] > votes[best] { at } else { best });
    let others = (0..votes.len()).filter(|&other| other != class);
    let strongest = others.map(|other| votes[other] + u32::from(other < class)).max().unwrap_or(0);
    Certificate { class: class as Label, radius: ((votes[class] - strongest) / 2) as usize }
}

impl Defense for Dpa {
    fn certify(&self, context: &CertifyContext) -> Result<Vec<Vec<Certificate>>, DefenseError> {
        let (classes, recipe) = (context.data.classes().len(), self.recipe(context.recipe));
        let parts = partition(context.data, self.partitions);
        let answer = |at: usize, session: &dyn Session| -> Result<Vec<Label>, TrainError> {
            let network = learn(&parts[at], at, &recipe, context, session)?;
            Ok(context.inputs.iter().flat_map(|inputs| network.predict(inputs)).collect())
        };
        let count = |votes: &mut Vec<u32>, _, answers: Vec<Label>| {
            votes.chunks_exact_mut(classes).zip(answers).for_each(|(votes, class)| votes[usize::from(class)] += 1);
        };
        let none = vec![0; classes * context.inputs.iter().map(|inputs| inputs.len()).sum::<usize>()];
        let votes = in_turn(context.session, context.seeds, parts.len(), none, answer, count)?;
        let mut certificates = votes.chunks_exact(classes).map(certificate);
        Ok(context.inputs.iter().map(|inputs| certificates.by_ref().take(inputs.len()).collect()).collect())
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
