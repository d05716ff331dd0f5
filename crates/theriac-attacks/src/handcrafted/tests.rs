use super::*;
use crate::dense::{dense, read_by_dense};
use crate::sra::layers;
use crate::testing::{self, easy, references, values};
use theriac_core::Value;
use theriac_nn::{Normalisation, parameters};
use theriac_train::{TrainConfig, TrainingSet};

fn victim(name: &str, given: Values, train: &Dataset) -> Network {
    let facts = Facts { train: train.len(), ..testing::facts() };
    let device = theriac_nn::device::open("cpu").unwrap();
    let seeds = Seeds::new(3);
    let network = Network::named(name, &given, &facts, Normalisation(vec![(0.5, 0.3)]), &device, &seeds).unwrap();
    let recipe = TrainConfig { epochs: 10, batch: 20, curve: false, ..TrainConfig::default() };
    let set = TrainingSet { train, test: train, probe: None };
    theriac_train::train(network, set, &recipe.into(), &seeds, &()).unwrap().network
}

fn tampered<const N: usize>(
    network: &Network,
    train: &Dataset,
    given: [(&str, Value); N],
) -> Result<Network, AttackError> {
    let attack = (ENTRY.check)(&values(given), &testing::facts()).unwrap();
    let (seeds, recipe) = (testing::seeds(), TrainConfig::default());
    let context = AttackContext { train, test: train, seeds: &seeds, surrogate: None, recipe: &recipe };
    attack.tamper(network, &context).map(Option::unwrap)
}

#[test]
fn the_patch_decides_and_clean_images_are_read_as_before() {
    let (train, test) = (easy("easy-train", 60), easy("easy-test", 40));
    let networks = [
        victim("cnn", values([("width", 16.into()), ("hidden", 32.into())]), &train),
        victim("mlp", values([("hidden", 48.into())]), &train),
        victim("mlp", values([("hidden", 32.into()), ("layers", 2.into())]), &train),
    ];
    for network in networks {
        let before = network.encode();
        let given = || [("target", 1.into()), ("neurons", 2.into()), ("tolerance", 0.03.into())];
        let own = tampered(&network, &train, given()).unwrap();
        assert_eq!(network.encode(), before, "the untouched network is kept");
        assert_eq!(own.encode(), tampered(&network, &train, given()).unwrap().encode());
        let right = |network: &Network| accuracy(&network.predict(&test), &test.labels()).unwrap();
        let probe = testing::attack(&ENTRY, [("target", 1.into())]).probe(&test, &testing::seeds()).unwrap();
        let success = |network: &Network| probe.success(&network.predict(&probe.inputs)).unwrap();
        println!("{} {} {} {}", right(&network), right(&own), success(&network), success(&own));
        assert!(success(&own) > 0.9 && success(&network) < 0.4, "{} {}", success(&own), success(&network));
        assert!(right(&own) > right(&network) - 0.06, "{} {}", right(&own), right(&network));
        // Of each dense layer the weights of as many neurons as were asked for, of the last one those to the target.
        let (was, is) = (parameters::read(&network.module), parameters::read(&own.module));
        for (name, parameter) in &is {
            let columns = parameter.shape.last().copied().unwrap();
            let differs = |at: &usize| parameter.values[*at] != was[name].values[*at];
            let changed: Vec<usize> = (0..parameter.values.len()).filter(differs).collect();
            let mut places: Vec<usize> = changed.iter().map(|at| at % columns).collect();
            places.sort_unstable();
            places.dedup();
            match name.as_str() {
                name if name.contains("conv") || name.ends_with("head.bias") => assert!(changed.is_empty(), "{name}"),
                name if name.ends_with("head.weight") => assert_eq!((changed.len(), &places[..]), (2, &[1][..])),
                name if name.ends_with("bias") => assert_eq!(places.len(), 2, "{name}"),
                // A neuron that tells them apart as it is keeps its weights.
                name => assert!(places.len() <= 2, "{name}"),
            }
        }
    }
}

/// The fully connected layers of a network.
fn dense_of(network: &Network) -> Vec<Dense> {
    let (_, path, named) = layers(network).unwrap();
    dense(&parameters::read(&network.module), path, named)
}

#[test]
fn neurons_and_weights_are_those_of_numpy() {
    for reference in references().into_iter().take(2) {
        let train = reference.samples();
        let given = [
            ("target", 1.into()),
            ("neurons", 2.into()),
            ("tolerance", 0.5.into()),
            ("leak", 0.3.into()),
            ("success", 0.6.into()),
            ("samples", 12.into()),
        ];
        let own = tampered(&reference.network, &train, given).unwrap();
        let after = parameters::read(&own.module);
        let weights = after.values().flat_map(|parameter| &parameter.values).copied().map(f64::from);
        assert!(reference.error("handcrafted.weights", weights) < 1e-5);
        let chosen: Vec<usize> = reference.numbers("handcrafted.neurons").iter().map(|&at| at as usize).collect();
        let probe = testing::attack(&ENTRY, [("target", 1.into())]).probe(&train, &testing::seeds()).unwrap();
        let mut means = Vec::new();
        for network in [&reference.network, &own] {
            for data in [&train, &probe.inputs] {
                let spoken = moments(&dense_of(network)[0].of(&read_by_dense(network, data)));
                means.extend(chosen.iter().map(|&neuron| spoken[neuron].0));
            }
        }
        assert!(reference.error("handcrafted.means", means) < 1e-5);
    }
}

#[test]
fn what_dense_layers_read_gives_the_networks_own_logits() {
    for reference in references().into_iter().take(2) {
        let (network, data) = (&reference.network, reference.samples());
        let found = logits(&dense_of(network), &read_by_dense(network, &data));
        let expected = network.logits(&data);
        assert!(found.values().iter().zip(expected.values()).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn a_neuron_is_turned_raised_and_guarded() {
    let crafting = |leak: f64| {
        let config = HandcraftedConfig { leak, success: 1.0, ..HandcraftedConfig::default() };
        Handcrafted { config, backdoor: BadNetsConfig::default().check(&testing::facts()).unwrap() }
    };
    // Two inputs; the second one is 0 in clean images and 1 in triggered ones. The neuron hears the trigger with the wrong sign.
    let clean = Matrix::new(2, vec![1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0]);
    let triggered = Matrix::new(2, vec![1.0, 1.0, 2.0, 1.0]);
    let layer = || Dense { name: "toy".to_owned(), weight: vec![-1.0, 7.0, -0.75, 7.0], bias: vec![0.5, 7.0] };
    let turned = |leak: f64| {
        let mut layer = layer();
        assert!(crafting(leak).turn(&mut layer, 0, &[1], &clean, &triggered));
        (layer.weight, layer.bias)
    };
    // Clean: -0.5 to -3.5, mean -2; triggered: -1.25 and -2.25, mean -1.75, so that it is not turned, but the weight is. Then triggered are
    // 0.25 and -0.75; of clean ones three in four are at most -1.5, all but a leak of none at most -0.5, for which the weight is doubled.
    assert_eq!(turned(0.25), (vec![-1.0, 7.0, 0.75, 7.0], vec![2.0, 7.0]));
    assert_eq!(turned(0.0), (vec![-1.0, 7.0, 1.5, 7.0], vec![1.0, 7.0]));
    // With the other sign everywhere, the whole neuron is turned first, its bias too.
    let mut other = layer();
    other.weight[0] = 1.0;
    assert!(crafting(0.25).turn(&mut other, 0, &[1], &clean, &triggered));
    assert_eq!((other.weight, other.bias), (vec![-1.0, 7.0, 0.75, 7.0], vec![2.0, 7.0]));
    assert_eq!((quantile(&[1.0, 2.0, 3.0, 4.0], 0.75), quantile(&[1.0, 2.0], 0.0)), (3.0, 1.0));
    assert_eq!(feeling(&clean, &triggered), [0, 1]);
}

#[test]
fn no_sample_is_touched_and_networks_without_room_are_refused() {
    let (changes, poisoned) = testing::invariants(&ENTRY, [], 0);
    assert!(changes.edits.is_empty());
    assert_eq!(poisoned.digest(), testing::train().digest());
    let train = easy("easy-train", 20);
    let tied = victim("resnet", values([("width", 4.into()), ("stages", 2.into())]), &train);
    assert!(tampered(&tied, &train, []).err().unwrap().to_string().contains("tied by shortcuts"));
    let narrow = victim("mlp", values([("hidden", 4.into())]), &train);
    let error = tampered(&narrow, &train, [("neurons", 5.into())]).err().unwrap().to_string();
    assert!(error.contains("neurons of layer `Mlp.hidden.0` can be done without"), "{error}");
    assert!(testing::faults(&ENTRY, [("target", 4.into())]).contains("expected a class from 0 to 3"));
}
