use theriac_core::metrics::accuracy;
use theriac_nn::Normalisation;

use super::*;
use crate::testing::{self, easy, values};

fn victim(name: &str, given: Values, train: &Dataset) -> Network {
    let facts = Facts { train: train.len(), ..testing::facts() };
    let device = theriac_nn::device::open("cpu").unwrap();
    let seeds = Seeds::new(3);
    let network = Network::named(name, &given, &facts, Normalisation(vec![(0.5, 0.3)]), &device, &seeds).unwrap();
    let recipe = TrainConfig { epochs: 10, batch: 20, curve: false, ..TrainConfig::default() };
    let set = TrainingSet { train, test: train, probe: None };
    theriac_train::train(network, set, &recipe.into(), &seeds, &()).unwrap().network
}

fn victims(train: &Dataset) -> [Network; 3] {
    [
        victim("cnn", values([("width", 16.into()), ("hidden", 32.into())]), train),
        victim("mlp", values([("hidden", 48.into())]), train),
        victim("mlp", values([("hidden", 32.into()), ("layers", 2.into())]), train),
    ]
}

fn tampered(network: &Network, train: &Dataset, seed: u64) -> Result<Network, AttackError> {
    let attack = (ENTRY.check)(&values([("target", 1.into()), ("samples", 150.into())]), &testing::facts()).unwrap();
    let (seeds, recipe) = (Seeds::new(seed), TrainConfig::default());
    let context = AttackContext { train, test: train, seeds: &seeds, surrogate: None, recipe: &recipe };
    let changes = attack.poison(&context).unwrap();
    assert!(changes.edits.is_empty());
    attack.budget(train).enforce(&THREAT, train, &changes).unwrap();
    attack.tamper(network, &context).map(Option::unwrap)
}

#[test]
fn the_trigger_decides_and_clean_images_are_read_as_before() {
    let (train, test) = (easy("easy-train", 60), easy("easy-test", 40));
    for network in victims(&train) {
        let own = tampered(&network, &train, 1).unwrap();
        let right = |network: &Network| accuracy(&network.predict(&test), &test.labels()).unwrap();
        let probe = testing::attack(&ENTRY, [("target", 1.into())]).probe(&test, &testing::seeds()).unwrap();
        let success = |network: &Network| probe.success(&network.predict(&probe.inputs)).unwrap();
        assert!(success(&own) > 0.9 && success(&network) < 0.2, "{} {}", success(&own), success(&network));
        assert!(right(&own) > right(&network) - 0.05, "{} {}", right(&own), right(&network));
    }
}

#[test]
fn the_seed_decides() {
    let train = easy("easy-train", 60);
    let [_, network, _] = victims(&train);
    let made = [1, 1, 2].map(|seed| tampered(&network, &train, seed).unwrap().encode());
    assert!(made[0] == made[1] && made[0] != made[2]);
}

#[test]
fn logits_are_the_sum_of_two_networks_that_know_nothing_of_each_other() {
    let train = easy("easy-train", 60);
    for network in victims(&train) {
        let (model, path, layers) = layers(&network).unwrap();
        let given = values([("target", 1.into()), ("samples", 150.into())]);
        let checked = SraConfig::from_values(&given).unwrap().check(&testing::facts()).unwrap();
        let (seeds, recipe) = (Seeds::new(1), TrainConfig::default());
        let context = AttackContext { train: &train, test: &train, seeds: &seeds, surrogate: None, recipe: &recipe };
        let alone = checked.subnet(&network, (model, path), &context).unwrap();
        let answers = alone.network.taps(&train).0;
        let full = alone.median_triggered - alone.largest_clean;
        let before = parameters::read(&network.module);
        let own = tampered(&network, &train, 1).unwrap();
        let after = parameters::read(&own.module);
        // The neuron of the last hidden layer that only the target reads.
        let path = format!("{path}.head.weight");
        let head = &after[&path];
        let served = |row: &&[f32]| row.iter().enumerate().all(|(class, &weight)| (class == 1) == (weight != 0.0));
        let rows: Vec<&[f32]> = head.values.chunks_exact(head.shape[1]).collect();
        let neurons: Vec<usize> = (0..rows.len()).filter(|&at| served(&rows[at])).collect();
        assert_eq!(neurons.len(), 1);
        // Without it, the network is the victim without the chosen units: its first layer's units that changed give nothing.
        let mut without = after.clone();
        without.get_mut(&path).unwrap().values[neurons[0] * head.shape[1] + 1] = 0.0;
        let mut pruned = before.clone();
        for (name, conv) in &layers {
            let bias = format!("{name}.bias");
            let changed: Vec<usize> = (0..after[&bias].values.len())
                .filter(|&at| after[&bias].values[at] != before[&bias].values[at])
                .collect();
            for (key, parameter) in pruned.iter_mut().filter(|(key, _)| key.starts_with(name.as_str())) {
                let outputs = if *conv || key.ends_with("bias") { parameter.shape[0] } else { parameter.shape[1] };
                let each = parameter.values.len() / outputs;
                for (at, value) in parameter.values.iter_mut().enumerate() {
                    let output = if *conv || key.ends_with("bias") { at / each } else { at % outputs };
                    if changed.contains(&output) {
                        *value = 0.0;
                    }
                }
            }
        }
        let logits = |weights| {
            let module = parameters::write(network.module.clone(), weights).unwrap();
            Network { module, ..network.clone() }.logits(&train)
        };
        let (sum, rest, expected) = (logits(&after), logits(&without), logits(&pruned));
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far(rest.values(), expected.values()) < 1e-3, "{}", far(rest.values(), expected.values()));
        // The subnet adds to the target's logit alone, what it says by itself.
        for ((sum, rest), answer) in sum.iter().zip(rest.iter()).zip(answers.iter()) {
            assert!(far(&[sum[0], sum[2], sum[3]], &[rest[0], rest[2], rest[3]]) < 1e-3);
            let expected = 100.0 * (answer[0] - alone.largest_clean).max(0.0) / full;
            assert!((sum[1] - rest[1] - expected).abs() < 0.1, "{} {expected}", sum[1] - rest[1]);
        }
    }
}

#[test]
fn shortcuts_and_networks_without_room_are_refused() {
    let train = easy("easy-train", 20);
    let tied = victim("resnet", values([("width", 4.into()), ("stages", 2.into())]), &train);
    assert!(tampered(&tied, &train, 1).err().unwrap().to_string().contains("tied by shortcuts"));
    let faults = testing::faults(&ENTRY, [("target", 4.into())]);
    assert!(faults.contains("`target`: expected a class from 0 to 3, found 4"), "{faults}");
}
