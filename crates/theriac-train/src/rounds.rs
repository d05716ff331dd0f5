//! Rounds: data that arrive over time, and a network that is trained anew on the latest of them each time.

use theriac_core::{Dataset, SampleId, Seeds};

use crate::TrainConfig;

/// Which sample arrives in which round, counted from 1.
pub struct Rounds {
    seeds: Seeds,
    count: usize,
    window: usize,
}

impl Rounds {
    /// Those of a recipe. `seeds` are the root of the experiment's streams: attacker, victim and defender see the same rounds.
    pub fn new(config: &TrainConfig, seeds: &Seeds) -> Self {
        Self { seeds: seeds.child("rounds"), count: config.rounds, window: config.window }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many a network is trained on.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The round in which a sample arrives: each with the same probability, whatever else there is.
    pub fn of(&self, id: SampleId) -> usize {
        1 + self.seeds.stream(&format!("arrival/{}", id.0)).below(self.count)
    }

    /// What arrives in `round`.
    pub fn arrived(&self, data: &Dataset, round: usize) -> Dataset {
        self.between(data, round, round)
    }

    /// What the network of `round` is trained on.
    pub fn trained_on(&self, data: &Dataset, round: usize) -> Dataset {
        self.between(data, (round + 1).saturating_sub(self.window), round)
    }

    fn between(&self, data: &Dataset, first: usize, last: usize) -> Dataset {
        let within = |&index: &usize| (first..=last).contains(&self.of(data.id(index)));
        data.select(&(0..data.len()).filter(within).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Shape;

    fn samples(count: usize) -> Dataset {
        let shape = Shape { channels: 1, height: 1, width: 1 };
        Dataset::new("toy", shape, vec!["a".to_owned()], vec![0; count], &vec![0; count]).unwrap()
    }

    #[test]
    fn every_sample_arrives_once_and_stays_for_a_window() {
        let config = TrainConfig { rounds: 10, window: 3, ..TrainConfig::default() };
        let (data, rounds) = (samples(2000), Rounds::new(&config, &Seeds::new(1)));
        let arrived: Vec<usize> = (1..=10).map(|round| rounds.arrived(&data, round).len()).collect();
        assert_eq!(arrived.iter().sum::<usize>(), 2000);
        // 200 each, with a standard deviation of 13.4.
        assert!(arrived.iter().all(|count| count.abs_diff(200) < 54), "{arrived:?}");
        for round in 1..=10_usize {
            let expected: usize = arrived[round.saturating_sub(3)..round].iter().sum();
            assert_eq!(rounds.trained_on(&data, round).len(), expected, "{round}");
        }
    }

    #[test]
    fn arrival_depends_on_the_sample_and_the_seed_alone() {
        let config = TrainConfig { rounds: 4, ..TrainConfig::default() };
        let rounds = Rounds::new(&config, &Seeds::new(1));
        let whole = rounds.arrived(&samples(50), 2);
        let half = rounds.arrived(&samples(50).select(&(0..25).collect::<Vec<_>>()), 2);
        assert!((0..half.len()).all(|index| whole.id(index) == half.id(index)));
        let other = Rounds::new(&config, &Seeds::new(2));
        assert!((0..50).any(|id| rounds.of(SampleId(id)) != other.of(SampleId(id))));
    }
}
