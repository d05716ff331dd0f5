//! Where a training stands between two steps, as bytes. What is trained on from there has the same bits as without the stop.

use serde::{Deserialize, Serialize};
use theriac_core::Seeds;
use theriac_core::seed::Stream;

use crate::train::EpochReport;

/// The version of the format. A checkpoint of another one is none.
const FORMAT: u32 = 3;

/// Everything that the next step depends on and that is not in the recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub format: u32,
    /// Sets apart the trainings of one study.
    pub training: u64,
    /// The epoch of the next step, counted from 0.
    pub epoch: usize,
    /// The next batch of that epoch; as many as there are when only its measurement is left.
    pub batch: usize,
    /// The order of that epoch, where the recipe makes one; the network that it was made from is gone.
    pub order: Vec<usize>,
    /// How far the stream of the hooks has been read in that epoch.
    pub hooking: u128,
    /// The losses of that epoch so far.
    pub losses: Vec<f64>,
    /// Correct predictions of that epoch so far.
    pub correct: usize,
    /// The epochs before.
    pub curve: Vec<EpochReport>,
    /// The parameters and running statistics with their identities, to which the optimizer's state refers.
    #[serde(with = "serde_bytes")]
    pub module: Vec<u8>,
    /// The optimizer's state.
    #[serde(with = "serde_bytes")]
    pub optimizer: Vec<u8>,
}

impl Checkpoint {
    /// As bytes, for the training that draws from `seeds`.
    pub fn encode(self, seeds: &Seeds) -> Vec<u8> {
        let stamped = Self { format: FORMAT, training: fingerprint(seeds), ..self };
        postcard::to_stdvec(&stamped).expect("plain data serialises")
    }

    /// From bytes; `None` if they are of another training or another version.
    pub fn decode(bytes: &[u8], seeds: &Seeds) -> Option<Self> {
        let found: Self = postcard::from_bytes(bytes).ok()?;
        (found.format == FORMAT && found.training == fingerprint(seeds)).then_some(found)
    }

    /// The stream of the hooks of an epoch, where it goes on.
    pub fn hooking(&self, seeds: &Seeds, epoch: usize) -> Stream {
        let mut stream = seeds.stream(&format!("train/hook/{epoch}"));
        if epoch == self.epoch {
            stream.seek(self.hooking);
        }
        stream
    }
}

fn fingerprint(seeds: &Seeds) -> u64 {
    seeds.stream("train/checkpoint").bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_training_is_none() {
        let here = Checkpoint { epoch: 3, module: vec![1, 2], hooking: 1 << 100, ..Checkpoint::default() };
        let bytes = here.clone().encode(&Seeds::new(1));
        let found = Checkpoint::decode(&bytes, &Seeds::new(1)).unwrap();
        assert_eq!((found.epoch, found.module, found.hooking), (3, vec![1, 2], 1 << 100));
        assert_eq!(Checkpoint::decode(&bytes, &Seeds::new(2)), None);
        assert_eq!(Checkpoint::decode(&bytes[..bytes.len() - 1], &Seeds::new(1)), None);
        let other = postcard::to_stdvec(&Checkpoint { format: FORMAT + 1, ..here }).unwrap();
        assert_eq!(Checkpoint::decode(&other, &Seeds::new(1)), None);
    }
}
