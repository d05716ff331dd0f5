//! A small synthetic data set, and the checks that every attack must pass.

use std::collections::BTreeMap;

use theriac_core::edit::Edit;
use theriac_core::{Aim, ChangeSet, Dataset, Facts, Label, Seeds, Shape, Value, Values};
use theriac_nn::burn::tensor::{Tensor, TensorData};
use theriac_nn::{Network, Normalisation};
use theriac_train::{TrainConfig, TrainingSet};

use crate::{Attack, AttackContext, AttackEntry, AttackError};

/// Gray, 8 by 8.
pub const SHAPE: Shape = Shape { channels: 1, height: 8, width: 8 };

/// `counts[class]` random images of each class, classes taking turns, so that positions and classes are not tied
/// together.
pub fn data_with(name: &str, shape: Shape, counts: &[usize]) -> Dataset {
    let mut stream = Seeds::new(7).stream(name);
    let rounds = counts.iter().copied().max().unwrap_or(0);
    let labels: Vec<Label> = (0..rounds)
        .flat_map(|round| (0..counts.len()).filter(move |&class| round < counts[class]).map(|class| class as Label))
        .collect();
    let pixels: Vec<u8> = (0..labels.len() * shape.len()).map(|_| stream.below(256) as u8).collect();
    let classes: Vec<String> = (0..counts.len()).map(|class| class.to_string()).collect();
    Dataset::new(name, shape, classes, pixels, &labels).unwrap()
}

/// 200 training images in 4 classes of 80, 60, 40 and 20.
pub fn train() -> Dataset {
    data_with("toy-train", SHAPE, &[80, 60, 40, 20])
}

/// 40 test images in the same classes.
pub fn test() -> Dataset {
    data_with("toy-test", SHAPE, &[10, 10, 10, 10])
}

/// Images of four classes that are easily learnt, in the toy's shape: one quarter is brighter than the others.
pub fn easy(name: &str, each: usize) -> Dataset {
    let mut stream = Seeds::new(7).stream(name);
    let labels: Vec<Label> = (0..4 * each).map(|at| (at % 4) as Label).collect();
    let mut pixels = Vec::with_capacity(labels.len() * SHAPE.len());
    for &label in &labels {
        for at in 0..SHAPE.len() {
            let quarter = at / SHAPE.width / 4 * 2 + at % SHAPE.width / 4;
            let bright = if quarter == usize::from(label) { 24 } else { 0 };
            pixels.push((60 + bright + stream.below(80)) as u8);
        }
    }
    let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
    Dataset::new(name, SHAPE, classes, pixels, &labels).unwrap()
}

/// The accuracy on `test` of a small network that is trained on `train`.
pub fn accuracy_after(train: &Dataset, test: &Dataset) -> f64 {
    theriac_core::metrics::accuracy(&surrogate(train).predict(test), &test.labels()).unwrap()
}

/// The rows of a table from `tests/golden`, without its header.
pub fn golden(text: &str) -> Vec<Vec<f64>> {
    let row = |line: &str| line.split(',').map(|cell| cell.parse().unwrap()).collect();
    text.lines().skip(1).map(row).collect()
}

/// What a config is checked against.
pub fn facts() -> Facts {
    Facts { shape: SHAPE, classes: 4, train: 200, test: 40, sources: 1 }
}

/// The streams of seed 1.
pub fn seeds() -> Seeds {
    Seeds::new(1)
}

/// Parameters by name.
pub fn values<const N: usize>(given: [(&str, Value); N]) -> Values {
    given.map(|(key, value)| (key.to_owned(), value)).into()
}

/// `usual` parameters, with other values for those that are named again.
pub fn except<const M: usize, const N: usize>(
    mut usual: [(&'static str, Value); M],
    others: [(&'static str, Value); N],
) -> [(&'static str, Value); M] {
    for (key, value) in others {
        usual.iter_mut().find(|(name, _)| *name == key).unwrap().1 = value;
    }
    usual
}

/// The attack with these parameters.
pub fn attack<const N: usize>(entry: &AttackEntry, given: [(&str, Value); N]) -> Box<dyn Attack> {
    (entry.check)(&values(given), &facts()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// All that is wrong with these parameters, one line each.
pub fn faults<const N: usize>(entry: &AttackEntry, given: [(&str, Value); N]) -> String {
    let errors = (entry.check)(&values(given), &facts()).err().expect("the config should be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A small network that was trained on `data` for a few epochs.
pub fn surrogate(data: &Dataset) -> Network {
    surrogate_of(data, 1)
}

/// The same with the streams of `seed`.
pub fn surrogate_of(data: &Dataset, seed: u64) -> Network {
    let facts = Facts { shape: data.shape(), classes: data.classes().len(), train: data.len(), test: 0, sources: 1 };
    let (normalisation, device) = (Normalisation(vec![(0.5, 0.3)]), theriac_nn::device::open("cpu").unwrap());
    let network = Network::named("mlp", &Values::new(), &facts, normalisation, &device, &Seeds::new(seed)).unwrap();
    let recipe = TrainConfig { epochs: 5, batch: 20, curve: false, ..TrainConfig::default() };
    let set = TrainingSet { train: data, test: data, probe: None };
    theriac_train::train(network, set, &recipe.into(), &Seeds::new(seed), &()).unwrap().network
}

/// Runs an attack on `train` with the streams of `seed` and, in case it asks for one, a surrogate.
pub fn poison_on(attack: &dyn Attack, train: &Dataset, seed: u64) -> Result<ChangeSet, AttackError> {
    let (test, seeds, recipe) = (test(), Seeds::new(seed), TrainConfig::default());
    let context = AttackContext { train, test: &test, seeds: &seeds, surrogate: None, recipe: &recipe };
    match attack.poison(&context) {
        Err(AttackError::NoSurrogate) => {
            attack.poison(&AttackContext { surrogate: Some(&surrogate_of(train, seed)), ..context })
        }
        other => other,
    }
}

/// Runs an attack on the toy training set.
pub fn poison<const N: usize>(entry: &AttackEntry, given: [(&str, Value); N]) -> Result<ChangeSet, AttackError> {
    poison_on(&*attack(entry, given), &train(), 1)
}

/// The message of an attack that cannot be carried out.
pub fn infeasible<const N: usize>(entry: &AttackEntry, given: [(&str, Value); N]) -> String {
    poison(entry, given).unwrap_err().to_string()
}

/// Checks what every attack promises: exactly `touched` samples, which is the whole budget; edits that the threat model
/// grants; nothing changed in place; a probe that does not depend on when it is made; the same change set for the same
/// seed and another one for another. Answers with the change set and the poisoned training set.
pub fn invariants<const N: usize>(
    entry: &AttackEntry,
    given: [(&str, Value); N],
    touched: usize,
) -> (ChangeSet, Dataset) {
    let (train, test) = (train(), test());
    let (train_before, test_before) = (train.digest(), test.digest());
    let attack = attack(entry, given);
    let changes = poison_on(&*attack, &train, 1).unwrap();
    assert_eq!(changes.touched().len(), touched);
    assert_eq!(attack.budget(&train).samples, touched);
    attack.budget(&train).enforce(&entry.info.threat.unwrap(), &train, &changes).unwrap();
    assert_eq!((changes.author.as_str(), changes.stage), (entry.info.name, entry.info.threat.unwrap().stage));
    assert_eq!(poison_on(&*attack, &train, 1).unwrap().digest(), changes.digest());
    if touched > 0 && touched < train.len() {
        assert_ne!(poison_on(&*attack, &train, 2).unwrap().digest(), changes.digest());
    }
    if let Some((first, second)) = attack.probe(&test, &seeds()).zip(attack.probe(&test, &seeds())) {
        assert_eq!((first.inputs.digest(), &first.aim), (second.inputs.digest(), &second.aim));
    }
    let poisoned = changes.apply(&train).unwrap();
    assert_eq!((train.digest(), test.digest()), (train_before, test_before));
    (changes, poisoned)
}

/// The same for attacks on one image, whose poisons are labelled 1 and `added`, or stand in place of images of that class: nothing else
/// changes, and the image, which is to be taken for class 1, is not trained on.
pub fn invariants_of_one_image<const N: usize>(
    entry: &AttackEntry,
    given: [(&str, Value); N],
    touched: usize,
    added: bool,
) -> (ChangeSet, Dataset) {
    let probe = attack(entry, given.clone()).probe(&test(), &seeds()).unwrap();
    assert_eq!((probe.inputs.len(), &probe.aim), (1, &Aim::Classes(vec![1])));
    assert_ne!(probe.inputs.label(0), 1);
    let (train, (changes, poisoned)) = (train(), invariants(entry, given, touched));
    let [replaced, inserted] = if added { [0, touched] } else { [touched, 0] };
    assert_eq!((kinds(&changes), poisoned.len()), ([0, replaced, inserted, 0], train.len() + inserted));
    let ids = changes.touched();
    for at in 0..poisoned.len() {
        assert_ne!(poisoned.image(at), probe.inputs.image(0), "the image is not trained on");
        match ids.contains(&poisoned.id(at)) {
            true => assert_eq!(poisoned.label(at), 1),
            false => assert_eq!((poisoned.image(at), poisoned.label(at)), (train.image(at), train.label(at))),
        }
    }
    (changes, poisoned)
}

/// How many edits relabel, replace, insert and remove.
pub fn kinds(changes: &ChangeSet) -> [usize; 4] {
    let mut counts = [0; 4];
    for edit in &changes.edits {
        counts[match edit {
            Edit::Relabel { .. } => 0,
            Edit::Replace { .. } => 1,
            Edit::Insert { .. } => 2,
            Edit::Remove { .. } => 3,
        }] += 1;
    }
    counts
}

/// For each relabelled sample the label before and after.
pub fn relabelled(changes: &ChangeSet) -> Vec<(Label, Label)> {
    let labels = |edit: &Edit| match edit {
        Edit::Relabel { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    changes.edits.iter().filter_map(labels).collect()
}

/// An image that programs in other languages make too: see `scripts/verify/triggers.py`.
pub fn formula(shape: Shape, number: usize) -> Vec<u8> {
    let mut image = vec![0; shape.len()]; // [channel, row, column]
    for channel in 0..shape.channels {
        for row in 0..shape.height {
            for column in 0..shape.width {
                let value = 41 * row + 73 * column + 97 * channel + row * column * (2 * number + 3) + 59 * number;
                image[shape.offset(channel, row, column)] = (value % 256) as u8;
            }
        }
    }
    image
}

/// Compares triggers, pixel by pixel, with what other programs make of [`formula`] images 0 and 1. `make` gives the trigger for images of a
/// shape in a variant of the attack.
pub fn golden_trigger<T: Fn(&mut [u8])>(attack: &str, make: impl Fn(Shape, &str) -> T) {
    let rows = include_str!("../tests/golden/triggers.csv").lines().skip(1);
    let mut compared = 0;
    for row in rows.filter(|row| row.split(';').next() == Some(attack)) {
        let [_, shape, variant, pixels] = row.split(';').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let shape = shape_of(shape);
        let byte = |at: usize| u8::from_str_radix(&pixels[2 * at..2 * at + 2], 16).unwrap();
        let expected: Vec<u8> = (0..pixels.len() / 2).map(byte).collect();
        let trigger = make(shape, variant);
        for (number, expected) in expected.chunks(shape.len()).enumerate() {
            let mut image = formula(shape, number);
            trigger(&mut image);
            assert_eq!(image, expected, "{attack}, {variant}, {shape:?}, image {number}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
}

/// Compares the edits of an attack, one by one, with what another program makes of the same draws: see
/// `scripts/verify/selections.py`.
pub fn golden_edits(entry: &AttackEntry) {
    let rows = include_str!("../tests/golden/selections.csv").lines().skip(1);
    let mut compared = 0;
    for row in rows.filter(|row| row.split(';').next() == Some(entry.info.name)) {
        let [_, shape, params, expected] = row.split(';').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let shape = shape_of(shape);
        let pixels: Vec<u8> = (0..48).flat_map(|number| formula(shape, number % 11)).collect();
        let labels: Vec<Label> = (0..48).map(|number| (number * number + number / 3) % 4).collect();
        let train = Dataset::new("formula", shape, ["0", "1", "2", "3"].map(str::to_owned), pixels, &labels).unwrap();
        let given: Value = params.parse().unwrap();
        let given: Values = given.as_object().unwrap().clone().into_iter().collect();
        let facts = Facts { shape, train: 48, ..facts() };
        let attack = (entry.check)(&given, &facts).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut edits = poison_on(&*attack, &train, 1).unwrap().edits;
        edits.sort_by_key(Edit::id);
        let hex = |image: &[u8]| image.iter().map(|pixel| format!("{pixel:02x}")).collect::<String>();
        let found = edits.iter().map(|edit| match edit {
            Edit::Relabel { id, to, .. } => format!("{}={to}", id.0),
            Edit::Replace { id, image } => format!("{}:{}", id.0, hex(image)),
            Edit::Insert { label, image, .. } => format!("+{label}:{}", hex(image)),
            Edit::Remove { id } => format!("{}-", id.0),
        });
        let (found, expected): (Vec<String>, Vec<&str>) = (found.collect(), expected.split(' ').collect());
        assert_eq!(found, expected, "{}, {params}, {shape:?}", entry.info.name);
        compared += found.len();
    }
    println!("{compared} edits");
    assert!(compared > 20, "{compared}");
}

fn shape_of(text: &str) -> Shape {
    let sizes: Vec<usize> = text.split('x').map(|size| size.parse().unwrap()).collect();
    Shape { channels: sizes[0], height: sizes[1], width: sizes[2] }
}

/// A network of `scripts/verify/targeted.py` for images in the toy's shape, and what PyTorch computes with it there, in
/// `adversarial.py`, in `tampered_recipe.py` and, by numpy, in `handcrafted.py` and
/// `bit_flip.py`.
pub struct Reference {
    /// With three classes.
    pub network: Network,
    /// The image that is to be misread: `[1, 1, 8, 8]`.
    pub image: Tensor<4>,
    /// Four images of class 1: `[4, 1, 8, 8]`.
    pub poisons: Tensor<4>,
    name: &'static str,
    numbers: BTreeMap<&'static str, Vec<f64>>,
}

/// All networks of the scripts: `mlp`, `cnn`, `resnet`.
pub fn references() -> [Reference; 3] {
    let line = |line: &'static str| {
        let (name, numbers) = line.split_once(',').unwrap();
        (name, numbers.split(',').map(|number| number.parse().unwrap()).collect())
    };
    let tables = [
        include_str!("../tests/golden/targeted.csv"),
        include_str!("../tests/golden/adversarial.csv"),
        include_str!("../tests/golden/bit_flip.csv"),
        include_str!("../tests/golden/blind.csv"),
        include_str!("../tests/golden/handcrafted.csv"),
    ];
    let numbers: BTreeMap<&str, Vec<f64>> = tables.iter().flat_map(|table| table.lines()).map(line).collect();
    let device = theriac_nn::device::open("cpu").unwrap();
    let images = |name: &str| {
        let pixels: Vec<f32> = numbers[name].iter().map(|&pixel| pixel as f32 / 255.0).collect();
        let count = pixels.len() / SHAPE.len();
        Tensor::from_data(TensorData::new(pixels, [count, SHAPE.channels, SHAPE.height, SHAPE.width]), &device)
    };
    let reference = |(name, given, weights): (&'static str, &[(&str, u64)], &[u8])| {
        let values = given.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        let (facts, normalisation) = (Facts { classes: 3, ..facts() }, Normalisation(vec![(0.4, 0.25)]));
        let network = Network::named(name, &values, &facts, normalisation, &device, &seeds()).unwrap();
        let network = network.decode(weights).unwrap();
        Reference { network, image: images("image"), poisons: images("poisons"), name, numbers: numbers.clone() }
    };
    [
        ("mlp", &[("hidden", 8)][..], &include_bytes!("../tests/golden/targeted_mlp.safetensors")[..]),
        ("cnn", &[("width", 2), ("hidden", 8)], include_bytes!("../tests/golden/targeted_cnn.safetensors")),
        (
            "resnet",
            &[("width", 2), ("blocks", 1), ("stages", 2)],
            include_bytes!("../tests/golden/targeted_resnet.safetensors"),
        ),
    ]
    .map(reference)
}

impl Reference {
    /// What PyTorch computes with this network under that name.
    pub fn numbers(&self, name: &str) -> &[f64] {
        &self.numbers[format!("{}.{name}", self.name).as_str()]
    }

    /// Twelve samples.
    pub fn samples(&self) -> Dataset {
        let pixels: Vec<u8> = self.numbers["images"].iter().map(|&pixel| pixel as u8).collect();
        let labels: Vec<Label> = self.numbers["labels"].iter().map(|&label| label as Label).collect();
        let classes: Vec<String> = (0..3).map(|class| class.to_string()).collect();
        Dataset::new("golden", SHAPE, classes, pixels, &labels).unwrap()
    }

    /// How networks are trained on them.
    pub fn recipe(&self) -> TrainConfig {
        TrainConfig { batch: 5, ..TrainConfig::default() }
    }

    /// All pixels of the samples after an attack, for which this network is the surrogate.
    pub fn poisoned<const N: usize>(&self, entry: &AttackEntry, given: [(&str, Value); N]) -> Vec<f64> {
        let (train, seeds, recipe) = (self.samples(), seeds(), self.recipe());
        let surrogate = Some(&self.network);
        let context = AttackContext { train: &train, test: &train, seeds: &seeds, surrogate, recipe: &recipe };
        let poisoned = attack(entry, given).poison(&context).unwrap().apply(&train).unwrap();
        (0..poisoned.len()).flat_map(|at| poisoned.image(at)).map(|&pixel| f64::from(pixel)).collect()
    }

    /// The largest distance between `found` and the script's numbers of this name, as a fraction of the largest of them.
    pub fn error(&self, name: &str, found: impl IntoIterator<Item = f64>) -> f64 {
        let (expected, found) = (self.numbers(name), found.into_iter().collect::<Vec<f64>>());
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest =
            |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, value| most.max(value.abs()));
        let error = largest(&mut found.iter().zip(expected).map(|(found, expected)| found - expected))
            / largest(&mut expected.iter().copied());
        println!("{} {name}: {error:.1e}", self.name);
        error
    }

    /// The same for a tensor.
    pub fn error_of<const D: usize>(&self, name: &str, found: Tensor<D>) -> f64 {
        let found = found.into_data_as::<f32>().try_to_vec::<f32>().unwrap();
        self.error(name, found.into_iter().map(f64::from))
    }
}

/// In how many of `runs` seeds a victim takes the probed image for the wanted class, with the poisons of an attack on one image and
/// without them.
pub fn successes(attack: &dyn Attack, train: &Dataset, test: &Dataset, runs: u64) -> [usize; 2] {
    let mut hits = [0; 2];
    for seed in 0..runs {
        let (seeds, recipe) = (Seeds::new(seed), TrainConfig::default());
        let surrogate = surrogate_of(train, 1000 + seed);
        let context = AttackContext { train, test, seeds: &seeds, surrogate: Some(&surrogate), recipe: &recipe };
        let poisoned = attack.poison(&context).unwrap().apply(train).unwrap();
        let probe = attack.probe(test, &seeds).unwrap();
        for (hits, data) in hits.iter_mut().zip([&poisoned, train]) {
            let predicted = surrogate_of(data, seed).predict(&probe.inputs);
            *hits += usize::from(probe.success(&predicted) == Some(1.0));
        }
    }
    hits
}
