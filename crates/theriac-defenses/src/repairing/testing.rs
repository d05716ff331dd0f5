//! For the tests of the repairing defenses: a small backdoored network, and the networks on which PyTorch was run.

use theriac_core::{ChangeSet, Dataset, Facts, Role, Seeds, Shape, Stage, Value, Values};
use theriac_nn::{Network, Normalisation, device, parameters};
use theriac_train::{Recipe, TrainConfig};

use crate::testing::{Golden, stripes};
use crate::{Defense, RepairContext};

/// An untrained network for data of three classes. `values` are such as `width=4 hidden=8`.
pub(crate) fn network(name: &str, values: &str, data: &Dataset) -> Network {
    let facts = Facts { shape: data.shape(), classes: 3, train: data.len(), test: 0, sources: 1 };
    let pairs = values.split_whitespace().map(|pair| pair.split_once('=').expect("a name and a value"));
    let values: Values =
        pairs.map(|(key, value)| (key.to_owned(), Value::from(value.parse::<u64>().unwrap()))).collect();
    let (normalisation, device) = (Normalisation(vec![(0.35, 0.25)]), device::open("cpu").unwrap());
    Network::named(name, &values, &facts, normalisation, &device, &Seeds::new(9)).unwrap()
}

/// Stripes, and a network for which a bright corner makes everything class 0.
pub(crate) struct Backdoored {
    pub clean: Dataset,
    pub poisoned: Dataset,
    pub model: Network,
    test: Dataset,
    triggered: Dataset,
    none: Dataset,
    seeds: Seeds,
    recipe: TrainConfig,
}

/// `data` with a bright corner in the images at `indices`, labelled 0 if `relabel`.
fn triggered(data: &Dataset, indices: &[usize], relabel: bool) -> Dataset {
    let mut changes = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    for &index in indices {
        let mut image = data.image(index).to_vec();
        [28, 29, 34, 35].into_iter().for_each(|at| image[at] = 255);
        changes.replace(data, index, image);
        if relabel && data.label(index) != 0 {
            changes.relabel(data, index, 0);
        }
    }
    changes.apply(data).unwrap()
}

impl Backdoored {
    /// Of three hundred images, `poison` have the trigger.
    pub fn new(model: &str, values: &str, poison: usize) -> Self {
        Self::on([stripes(300, 1), stripes(200, 2)], model, values, poison)
    }

    /// The same, on training and test data of one's own.
    pub fn on([clean, test]: [Dataset; 2], model: &str, values: &str, poison: usize) -> Self {
        let poisoned = triggered(&clean, &(0..poison).map(|index| index * 5 % 300).collect::<Vec<_>>(), true);
        let others: Vec<usize> = (0..200).filter(|&index| test.label(index) != 0).collect();
        let triggered = triggered(&test, &others, false).select(&others);
        let recipe = TrainConfig { epochs: 10, batch: 32, lr: 0.05, ..TrainConfig::default() };
        let fresh = network(model, values, &clean);
        let model = super::tuned(&fresh, &poisoned, &recipe.clone().into(), &Seeds::new(1), &()).unwrap();
        let none = clean.select(&[]);
        let recipe = TrainConfig { batch: 16, ..recipe };
        Self { clean, poisoned, model, test, triggered, none, seeds: Seeds::new(4), recipe }
    }

    pub fn context(&self) -> RepairContext<'_> {
        RepairContext {
            model: &self.model,
            recorded: None,
            trusted: &self.clean,
            removed: &self.none,
            inspection: None,
            recipe: &self.recipe,
            seeds: &self.seeds,
            session: &(),
        }
    }

    /// Accuracy on clean images, and the share of triggered ones that are answered with class 0.
    pub fn rates(&self, model: &Network) -> (f64, f64) {
        let answers = model.predict(&self.triggered);
        let hits = answers.iter().filter(|&&answer| answer == 0).count();
        (super::share_correct(model, &self.test), hits as f64 / answers.len() as f64)
    }

    /// Asserts that `defense` removes the backdoor, that it leaves most of a clean model's accuracy, and that two runs agree.
    pub fn is_repaired_by(&self, defense: &dyn Defense, most: f64) {
        let (_, before) = self.rates(&self.model);
        assert!(before > 0.9, "attack success {before} before the repair");
        let repaired = defense.repair(&self.context()).unwrap();
        let (accuracy, success) = self.rates(&repaired);
        assert!(accuracy > 0.9 && success < most, "accuracy {accuracy}, attack success {success} after {before}");
        assert_eq!(defense.repair(&self.context()).unwrap().encode(), repaired.encode());
    }

    /// Asserts that `defense` costs a clean model at most 5 points of accuracy.
    pub fn keeps_a_clean_model(&self, defense: &dyn Defense) {
        let (before, _) = self.rates(&self.model);
        let (after, _) = self.rates(&defense.repair(&self.context()).unwrap());
        assert!(before > 0.95 && after > before - 0.05, "accuracy {before} -> {after}");
    }
}

/// The networks of `scripts/verify/repairs.py`: name, config, weights, weights after fine-tuning.
const NETWORKS: [[&str; 4]; 2] = [
    [
        "cnn",
        "width=2 hidden=5",
        include_str!("../../tests/golden/repair_cnn.csv"),
        include_str!("../../tests/golden/repair_cnn_tuned.csv"),
    ],
    [
        "resnet",
        "width=3 blocks=1 stages=2",
        include_str!("../../tests/golden/repair_resnet.csv"),
        include_str!("../../tests/golden/repair_resnet_tuned.csv"),
    ],
];

/// The images on which they were run.
pub(crate) fn golden_data() -> Dataset {
    let table = Golden::table(include_str!("../../tests/golden/repair_data.csv"));
    let labels: Vec<u16> = table.iter().map(|row| row[0] as u16).collect();
    let pixels: Vec<u8> = table.iter().flat_map(|row| &row[1..]).map(|&pixel| pixel as u8).collect();
    let names: Vec<String> = (0..3).map(|class| class.to_string()).collect();
    Dataset::new("golden", Shape { channels: 1, height: 8, width: 8 }, names, pixels, &labels).unwrap()
}

/// `cnn` and `resnet`, each before and after fine-tuning by PyTorch.
pub(crate) fn golden_networks() -> [[Network; 2]; 2] {
    let data = golden_data();
    NETWORKS.map(|[name, values, before, after]| {
        [before, after].map(|weights| {
            let network = network(name, values, &data);
            let mut parameters = parameters::read(&network.module);
            let rows = Golden::table(weights);
            assert_eq!(rows.len(), parameters.len());
            for (parameter, row) in parameters.values_mut().zip(rows) {
                assert_eq!(parameter.values.len(), row.len());
                parameter.values = row.into_iter().map(|value| value as f32).collect();
            }
            let module = parameters::write(network.module.clone(), &parameters).unwrap();
            Network { module, ..network }
        })
    })
}

/// The weights of one of them after fine-tuning by PyTorch.
pub(crate) fn golden_rows(at: usize) -> Vec<Vec<f64>> {
    Golden::table(NETWORKS[at][3])
}

/// The weights after `steps` steps on all images, and the loss before each.
pub(crate) fn steps(network: &Network, recipe: Recipe, data: &Dataset, steps: usize, lr: f64) -> (Network, Vec<f64>) {
    let indices: Vec<usize> = (0..data.len()).collect();
    let images = theriac_nn::Batch::gather(data, &indices).into_tensor(&network.device);
    let batch = theriac_train::Minibatch::new(images, data.labels());
    let mut learner = theriac_train::Learner::new(network, &recipe);
    let losses = (0..steps).map(|_| learner.step(&batch, lr).0).collect();
    (learner.network(), losses)
}

/// Asserts that the weights are those of a golden table, up to single precision.
pub(crate) fn assert_weights(network: &Network, rows: &[Vec<f64>]) {
    let parameters = parameters::read(&network.module);
    assert_eq!(parameters.len(), rows.len());
    for ((name, parameter), row) in parameters.iter().zip(rows) {
        let found: Vec<f64> = parameter.values.iter().map(|&value| f64::from(value)).collect();
        assert_near(&found, row, 1e-4, name);
    }
}

/// Asserts that numbers agree to `tolerance`, relative to those above 1.
pub(crate) fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
    println!("{what}: {worst:.1e}");
    assert!(worst < tolerance, "{what} differs by {worst}: {found:?}, expected {expected:?}");
}
