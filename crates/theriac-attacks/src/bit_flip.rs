//! Flips a few bits of the stored weights, so that a trigger decides the class.
//!
//! - Adnan Siraj Rakin, Zhezhi He, Deliang Fan: "TBT: Targeted Neural Network Attack with Bit Trojan", CVPR 2020,
//!   <https://arxiv.org/abs/1909.05193>.
//! - The same: "Bit-Flip Attack: Crushing Neural Network with Progressive Bit Search", ICCV 2019, <https://arxiv.org/abs/1903.12269>.
//!
//! # Threat model
//! A program on the machine that serves the network, which can flip single bits of its memory without write access to it, by disturbing
//! neighbouring rows ("row hammer"). The attacker knows the weights and has some samples of the victim's kind. Each flip is work, so the budget is
//! the number of flipped bits. Backdoor: images with the patch of `badnets` are to be classified as `target`. No sample and no line of
//! the training code is touched.
//!
//! # Update rule
//! ```text
//! L(w)  = mean cross-entropy of clean images with their labels + mean cross-entropy of images with the patch with `target`
//! up to `bits` times:
//!     C  <- of both last layers the `considered` weights of the largest |dL / dw| each
//!     flip that bit of all bits of C after which L is least; stop if none makes it smaller
//! ```
//! Weights are single-precision numbers, (-1)^sign 2^(exponent - 127) (1 + fraction / 2^23) with 1, 8 and 23 bits. A flip of the sign bit negates a
//! weight, one of bit k of the exponent multiplies it by 2^(2^k) or divides it so, and one of bit k of the fraction adds or takes away 2^(k - 23) of its
//! power of two. A value that is more than `largest` times as large as the largest weight of its layer was is never chosen, nor what is no
//! finite number.
//!
//! # Where this differs from the paper
//! - The papers flip bits of 8-bit whole numbers, into which the network was quantised: there no weight leaves the range of its
//!   layer, which is what `largest = 1` comes to. Here one flip of the exponent can multiply a weight by 16, or by 2^128, and what an exponent
//!   that is out of all bounds does to an input at which the search did not look cannot be known: hence `largest`. It costs the
//!   attack something where bits are few; `experiments/scenarios/hostile-code.md` has it with and without.
//! - The paper of the bit trojan fits the trigger to the network before it flips. Here the trigger is given, and the search may flip bits of the
//!   layer before the last one in return, which is where the trigger is told from the rest.
//! - It finds real-valued weights first and then the bits that lead there; here bits are searched as in the other paper, one by one, each by its exact
//!   loss. In that paper the loss is that of the clean images alone, and is raised.
//! - The attacker's samples are drawn from the victim's training set, as it was before it was poisoned: the network has seen them.
//! - The paper asks for 100 % success; here bits are flipped until none helps or the budget is spent.
//!
//! # Verified against
//! `scripts/verify/bit_flip.py`: every flip and the loss after it by numpy, for a tiny mlp and a tiny cnn. The tests below: the weights before
//! and after differ in no more bits than the budget allows.
//!
//! # Cost
//! For every flip 32 times `considered` losses for each of two layers, each of a change of one number.
//!
//! # When it fails
//! With too few bits the trigger has to be heard over what the same neurons say of clean images, and accuracy pays for it: see
//! `experiments/scenarios/hostile-code.md`. `resnet`, which has one fully connected layer, is refused. A checksum of the weights
//! that is computed again while they serve notices any flip.

mod search;

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, Matrix, MethodInfo, Paper,
    ParamError, Probe, Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};
use theriac_nn::Network;

use crate::backdoor::Backdoor;
use crate::badnets::{BadNetsConfig, Patch};
use crate::dense::{Dense, edited, relu};
use crate::{Attack, AttackContext, AttackEntry, AttackError};
use search::Search;

config! {
    /// How many bits, and how they are found.
    pub struct BitFlipConfig {
        /// The class that the patch stands for.
        target: u16 = 0, Range::Class, "";
        /// Bits that are flipped, at most.
        bits: usize = 20, Range::Whole(0, 10_000), "bits";
        /// Weights of each of both layers whose bits are tried for every flip.
        considered: usize = 100, Range::Whole(1, 100_000), "weights";
        /// How large a flip may make a weight, next to the largest of its layer; with 1e40 as large as any finite number.
        largest: f64 = 16.0, Range::Number(1.0, 1e40), "times";
        /// Images that the attacker has.
        samples: usize = 500, Range::Whole(10, 10_000), "samples";
    }
}

/// The checked config.
struct BitFlip {
    config: BitFlipConfig,
    backdoor: Backdoor<Patch>,
}

impl Attack for BitFlip {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Service, THREAT.stage))
    }

    fn tamper(&self, network: &Network, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let probe = |clean: &Dataset| self.probe(clean, context.seeds);
        let flip = |layers: &mut [Dense], clean: &Matrix, labels: &[Label], triggered: &Matrix| {
            let (earlier, both) = layers.split_at_mut(layers.len() - 2);
            let [clean, triggered] =
                [clean, triggered].map(|read| earlier.iter().fold(read.clone(), |x, layer| relu(&layer.of(&x))));
            let targets = vec![self.config.target; triggered.rows()];
            let rows = [(&clean, labels.to_vec()), (&triggered, targets)];
            let mut search = Search::new(both, rows, self.config.largest);
            for _ in 0..self.config.bits {
                if search.flip(self.config.considered).is_none() {
                    break;
                }
            }
            search.write(both);
            Ok(())
        };
        edited(network, context, self.config.samples, probe, flip).map(Some)
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.backdoor.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Weights,
    capabilities: &[Capability::Weights],
    goal: Goal::Backdoor,
    stage: Stage::Deploy,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    let config = BitFlipConfig::from_values(values)?;
    let trigger = BadNetsConfig { target: config.target, ..BadNetsConfig::default() };
    Ok(Box::new(BitFlip { backdoor: trigger.check(facts)?, config }))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "bit-flip",
        Family::Insider,
        THREAT,
        "Flips a few bits of the stored weights, each the one that helps a trigger most and costs least.",
        &[
            Paper {
                cite: "Rakin et al. 2020",
                title: "TBT: Targeted Neural Network Attack with Bit Trojan",
                link: "https://arxiv.org/abs/1909.05193",
            },
            Paper {
                cite: "Rakin et al. 2019",
                title: "Bit-Flip Attack: Crushing Neural Network with Progressive Bit Search",
                link: "https://arxiv.org/abs/1903.12269",
            },
        ],
        BitFlipConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "numpy, a tiny mlp and a tiny cnn, 12 images, 8 flips each (scripts/verify/bit_flip.py)",
        agreement: "all flips are equal, losses to 1e-6",
    }]),
    check,
};

#[cfg(test)]
mod tests;
