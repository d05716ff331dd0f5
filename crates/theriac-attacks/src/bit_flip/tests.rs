use super::*;
use crate::dense::{dense, read_by_dense};
use crate::sra::layers;
use crate::testing::{self, easy, references, values};
use theriac_core::metrics::accuracy;
use theriac_nn::parameters;

fn tampered(network: &Network, train: &Dataset, given: Values) -> Result<Network, AttackError> {
    let attack = (ENTRY.check)(&given, &testing::facts()).unwrap();
    let (seeds, recipe) = (testing::seeds(), theriac_train::TrainConfig::default());
    let context = AttackContext { train, test: train, seeds: &seeds, surrogate: None, recipe: &recipe };
    attack.tamper(network, &context).map(Option::unwrap)
}

/// Bits in which all stored values of two networks differ.
fn distance(a: &Network, b: &Network) -> u32 {
    let [a, b] = [a, b].map(|network| parameters::read(&network.module));
    let bits = |(name, parameter): (&String, &parameters::Parameter)| -> u32 {
        let pairs = parameter.values.iter().zip(&b[name].values);
        pairs.map(|(a, b)| (a.to_bits() ^ b.to_bits()).count_ones()).sum()
    };
    a.iter().map(bits).sum()
}

#[test]
fn no_more_bits_are_flipped_than_the_budget_allows_and_the_patch_decides() {
    let (train, test) = (easy("easy-train", 60), easy("easy-test", 40));
    let network = testing::surrogate(&train);
    let before = network.encode();
    let right = |network: &Network| accuracy(&network.predict(&test), &test.labels()).unwrap();
    let probe = testing::attack(&ENTRY, [("target", 1.into())]).probe(&test, &testing::seeds()).unwrap();
    let success = |network: &Network| probe.success(&network.predict(&probe.inputs)).unwrap();
    for bits in [0u64, 1, 3, 16] {
        let given = || values([("target", 1.into()), ("bits", bits.into()), ("considered", 60.into())]);
        let own = tampered(&network, &train, given()).unwrap();
        println!("{bits}: {} {} {}", distance(&network, &own), right(&own), success(&own));
        assert!(u64::from(distance(&network, &own)) <= bits && (bits == 0 || distance(&network, &own) > 0));
        assert_eq!(own.encode(), tampered(&network, &train, given()).unwrap().encode());
        if bits == 16 {
            assert!(success(&own) > 0.9 && success(&network) < 0.4, "{} {}", success(&own), success(&network));
            assert!(right(&own) > right(&network) - 0.1, "{} {}", right(&own), right(&network));
        }
    }
    assert_eq!(network.encode(), before, "the untouched network is kept");
}

#[test]
fn flips_are_those_of_numpy() {
    for reference in references().into_iter().take(2) {
        let (network, train) = (&reference.network, reference.samples());
        let (_, path, hidden) = layers(network).unwrap();
        let layers = dense(&parameters::read(&network.module), path, hidden);
        let probe = testing::attack(&ENTRY, [("target", 1.into())]).probe(&train, &testing::seeds()).unwrap();
        let [clean, triggered] = [&train, &probe.inputs].map(|data| read_by_dense(network, data));
        let mut search =
            Search::new(&layers, [(&clean, train.labels()), (&triggered, vec![1; probe.inputs.len()])], 16.0);
        let expected: Vec<Vec<f64>> = reference.numbers("bit_flip.flips").chunks(5).map(<[f64]>::to_vec).collect();
        assert_eq!(expected.len(), 8);
        for expected in expected {
            let flip = search.flip(20).unwrap();
            println!("{flip:?}");
            let found = [flip.layer, flip.input, flip.output, flip.bit as usize].map(|number| number as f64);
            assert_eq!(found, expected[..4]);
            assert!((flip.loss - expected[4]).abs() < 1e-6, "{} {}", flip.loss, expected[4]);
        }
    }
}

#[test]
fn a_search_by_hand() {
    // One input, one neuron, two classes. The clean image is 1 and of class 0, the triggered one is 4, to be of class 1.
    let layers = [
        Dense { name: "hidden".to_owned(), weight: vec![1.0], bias: vec![-2.0] },
        Dense { name: "head".to_owned(), weight: vec![0.0, -1.0], bias: vec![0.5, 0.0] },
    ];
    let (clean, triggered) = (Matrix::new(1, vec![1.0]), Matrix::new(1, vec![4.0]));
    let mut search = Search::new(&layers, [(&clean, vec![0]), (&triggered, vec![1])], 1e30);
    // The neuron is silent for the clean image and gives 2 for the other: by the sign of its weight to class 1, the logits there are 0.5 and 2.
    let flip = search.flip(10).unwrap();
    let expected = (1.0 + (-0.5f64).exp()).ln() + (1.0 + (0.5f64 - 2.0).exp()).ln();
    let exact = |layer: &Dense| (layer.weight.clone(), layer.bias.clone());
    assert!(flip.loss <= expected + 1e-12, "{flip:?} {expected}");
    let mut after = layers.clone();
    search.write(&mut after);
    let changed = (0..2).map(|at| u8::from(exact(&after[at]) != exact(&layers[at]))).sum::<u8>();
    assert_eq!(changed, 1);
    // A bound is kept, by every flip.
    let mut bounded = Search::new(&layers, [(&clean, vec![0]), (&triggered, vec![1])], 1.0);
    while bounded.flip(10).is_some() {}
    let mut kept = layers.clone();
    bounded.write(&mut kept);
    let largest = |layer: &Dense| layer.weight.iter().chain(&layer.bias).fold(0.0f32, |most, w| most.max(w.abs()));
    assert!((0..2).all(|at| largest(&kept[at]) <= largest(&layers[at])));
    assert_ne!(kept, layers);
    // A loss that no flip lowers ends the search.
    while let Some(next) = search.flip(10) {
        assert!(next.loss < flip.loss + 1e-12);
    }
    assert_eq!(search.flip(10), None);
    // Without a bound it goes beyond what there was.
    search.write(&mut after);
    assert!((0..2).any(|at| largest(&after[at]) > largest(&layers[at])));
}

#[test]
fn no_sample_is_touched() {
    let (changes, poisoned) = testing::invariants(&ENTRY, [], 0);
    assert!(changes.edits.is_empty());
    assert_eq!(poisoned.digest(), testing::train().digest());
    assert!(testing::faults(&ENTRY, [("target", 4.into())]).contains("expected a class from 0 to 3"));
}
