//! Named, value-stable streams of random numbers.
//!
//! Every draw names its stream: `seeds.stream("attack/badnets/select")`. A stream depends on the seed and the name alone, so
//! adding a draw somewhere never shifts another one, and nothing depends on the order in which threads run.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Beta, Distribution, StandardNormal};

/// The root of all streams of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    path: String,
}

impl Seeds {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { path: format!("theriac/{seed}") }
    }

    /// The streams below `name`.
    pub fn child(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path) }
    }

    /// The stream called `name`.
    pub fn stream(&self, name: &str) -> Stream {
        let path = format!("{}/{name}", self.path);
        Stream(ChaCha12Rng::from_seed(*blake3::hash(path.as_bytes()).as_bytes()))
    }
}

/// The first 53 of these bits as a number in `[0, 1)`. They fit a signed integer, which processors convert at once.
fn unit(bits: u64) -> f64 {
    (bits >> 11).cast_signed() as f64 / (1u64 << 53) as f64
}

/// One stream of random numbers. Its draws are defined here, so that they are the same on every machine and after every
/// update of a dependency. The exceptions are [`Stream::normal`] and [`Stream::beta`], see there.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha12Rng);

impl Stream {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.random()
    }

    /// How far the stream has been read.
    pub fn position(&self) -> u128 {
        self.0.get_word_pos()
    }

    /// Goes to a [`position`](Self::position) of the same stream.
    pub fn seek(&mut self, position: u128) {
        self.0.set_word_pos(position);
    }

    /// A whole number below `bound`, without bias.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a draw needs at least one outcome");
        let bound = bound as u64;
        let reject_from = u64::MAX - u64::MAX % bound;
        loop {
            let bits = self.bits();
            if bits < reject_from {
                return (bits % bound) as usize;
            }
        }
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// The next `count` draws of [`Stream::uniform`], in less time.
    pub fn uniforms(&mut self, count: usize) -> Vec<f64> {
        let mut bytes = vec![0; 8 * count];
        self.0.fill_bytes(&mut bytes);
        let bits = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        bytes.chunks_exact(8).map(|bytes| unit(bits(bytes))).collect()
    }

    /// Standard normal, drawn by the ziggurat method. Its tables and its bits are the same everywhere; about one draw in a hundred also
    /// takes the platform's `ln` or `exp`, and may differ between platforms in the last bit.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// From the beta distribution with both parameters `shape`, which is uniform at 1. Like [`Stream::normal`], it may differ between
    /// platforms in the last bit.
    ///
    /// # Panics
    /// When `shape` is not above 0.
    pub fn beta(&mut self, shape: f64) -> f64 {
        Beta::new(shape, shape).expect("the shape is above 0").sample(&mut self.0)
    }

    /// `true` with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `count` distinct items (all of them, if there are fewer), in ascending order of their position.
    pub fn choose<T: Copy>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        let count = count.min(items.len());
        for at in 0..count {
            let other = at + self.below(order.len() - at);
            order.swap(at, other);
        }
        order.truncate(count);
        order.sort_unstable();
        order.into_iter().map(|at| items[at]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_uniform_draws_are_those_that_single_ones_would_be() {
        for before in 0..5 {
            let (mut one, mut many) = (Seeds::new(1).stream("draws"), Seeds::new(1).stream("draws"));
            assert_eq!(one.uniforms(before).len(), many.uniforms(before).len());
            for count in [0, 1, 7, 100] {
                assert_eq!(many.uniforms(count), (0..count).map(|_| one.uniform()).collect::<Vec<_>>());
                assert_eq!((many.position(), many.bits()), (one.position(), one.bits()));
            }
        }
    }

    #[test]
    fn a_stream_goes_on_where_another_one_was() {
        let mut read = Seeds::new(3).stream("a");
        for _ in 0..5 {
            read.normal();
            read.below(7);
            let mut other = Seeds::new(3).stream("a");
            other.seek(read.position());
            assert_eq!(other.bits(), read.clone().bits());
        }
    }

    #[test]
    fn streams_are_value_stable_and_independent() {
        let seeds = Seeds::new(1);
        let first = seeds.stream("a").bits();
        assert_eq!(first, seeds.stream("a").bits());
        assert_ne!(first, seeds.stream("b").bits());
        assert_ne!(first, Seeds::new(2).stream("a").bits());
        assert_eq!(seeds.child("x").stream("y").bits(), seeds.stream("x/y").bits());
        // Pinned: a change of these numbers changes every published result.
        let mut stream = Seeds::new(0).stream("pinned");
        let draws: Vec<usize> = (0..8).map(|_| stream.below(100)).collect();
        assert_eq!(draws, [1, 74, 71, 50, 68, 64, 32, 71]);
        let uniform: Vec<f64> = (0..3).map(|_| stream.uniform()).collect();
        assert_eq!(uniform, [0.798_933_293_368_658, 0.167_051_426_798_606_18, 0.919_006_240_146_184_4]);
        for pinned in
            [0.650_682_635_921_707_9, -0.204_419_829_232_644_23, -0.771_038_098_519_089_1, 0.236_238_095_906_029_32]
        {
            let draw = stream.normal();
            assert!((draw - pinned).abs() < 1e-15, "{draw} {pinned}");
        }
        let items: Vec<usize> = (0..20).collect();
        assert_eq!(stream.choose(&items, 6), [0, 5, 12, 13, 16, 18]);
        let mut items: Vec<usize> = (0..10).collect();
        stream.shuffle(&mut items);
        assert_eq!(items, [9, 4, 1, 2, 0, 8, 5, 3, 7, 6]);
    }

    #[test]
    fn draws_have_the_right_mean_and_spread() {
        let mut stream = Seeds::new(3).stream("moments");
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mean = (0..20_000).map(|_| stream.uniform()).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    proptest! {
        #[test]
        fn a_choice_is_distinct_sorted_and_of_the_right_size(count in 0usize..40, seed: u64) {
            let items: Vec<usize> = (0..30).collect();
            let chosen = Seeds::new(seed).stream("choose").choose(&items, count);
            prop_assert_eq!(chosen.len(), count.min(30));
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn a_shuffle_keeps_all_items(seed: u64) {
            let mut items: Vec<usize> = (0..30).collect();
            Seeds::new(seed).stream("shuffle").shuffle(&mut items);
            items.sort_unstable();
            prop_assert_eq!(items, (0..30).collect::<Vec<_>>());
        }
    }
}
