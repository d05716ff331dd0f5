//! Synthetic features with planted poison, for the tests of the vetting defenses.

use theriac_core::{ChangeSet, Dataset, Edit, Facts, Label, Matrix, Role, Seeds, Shape, Stage};

use theriac_train::TrainConfig;

use crate::random_filter::RandomFilter;
use crate::{Defense, Verdict, VetContext};

const CLASSES: usize = 3;
const COLUMNS: usize = 16;

/// A training set of blank images, with features and the truth about them.
pub(crate) struct Case {
    pub data: Dataset,
    pub features: Matrix,
    pub poisoned: Vec<bool>,
    truth: ChangeSet,
    seeds: Seeds,
    victim: theriac_nn::Network,
    recipe: TrainConfig,
}

impl Case {
    /// The given rows of features, none poisoned.
    pub fn new(labels: &[Label], features: Matrix) -> Self {
        Self::with_poison(labels, features, vec![false; labels.len()])
    }

    /// The given rows of features.
    pub fn with_poison(labels: &[Label], features: Matrix, poisoned: Vec<bool>) -> Self {
        let shape = Shape { channels: 1, height: 1, width: 1 };
        let names: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
        let data = Dataset::new("planted", shape, names, vec![0; labels.len()], labels).unwrap();
        let mut truth = ChangeSet::new("planted", Role::Supplier, Stage::Collect);
        let touched = (0..labels.len()).filter(|&index| poisoned[index]);
        truth.edits = touched.map(|index| Edit::Replace { id: data.id(index), image: vec![0] }).collect();
        let (victim, recipe) = (toy_network(&data), TrainConfig::default());
        Self { data, features, poisoned, truth, seeds: Seeds::new(1).child("defense"), victim, recipe }
    }

    /// One Gaussian cluster a class, standard deviation 1, centres 8 from the origin along axes of their own.
    pub fn clean(seed: u64, per_class: usize) -> Self {
        Self::planted(seed, per_class, &[])
    }

    /// The same, and `count` samples labelled 0 whose features lie 6 from the centre of class 0, along an axis of
    /// their own.
    pub fn backdoor(seed: u64, per_class: usize, count: usize) -> Self {
        Self::planted(seed, per_class, &vec![(0, 0, 6.0); count])
    }

    /// The same, and `count` samples with features of class 1 or 2 and the label 0.
    pub fn flipped(seed: u64, per_class: usize, count: usize) -> Self {
        let poison: Vec<_> = (0..count).map(|index| (0, 1 + index % 2, 0.0)).collect();
        Self::planted(seed, per_class, &poison)
    }

    /// Clean samples of all classes in turn, then poison as (label, class of the features, shift).
    pub fn planted(seed: u64, per_class: usize, poison: &[(Label, usize, f64)]) -> Self {
        let mut stream = Seeds::new(seed).stream("planted");
        let clean = (0..per_class * CLASSES).map(|index| ((index % CLASSES) as Label, index % CLASSES, 0.0));
        let (mut labels, mut values, mut poisoned) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (label, class, shift)) in clean.chain(poison.iter().copied()).enumerate() {
            labels.push(label);
            poisoned.push(index >= per_class * CLASSES);
            for column in 0..COLUMNS {
                let centre = if column == class { 8.0 } else { 0.0 };
                let shift = if column == COLUMNS - 1 { shift } else { 0.0 };
                values.push((centre + shift + stream.normal()) as f32);
            }
        }
        Self::with_poison(&labels, Matrix::new(COLUMNS, values), poisoned)
    }

    /// The samples at `indices` only; the truth still names all poison.
    pub fn select(self, indices: &[usize]) -> Self {
        let poisoned = indices.iter().map(|&index| self.poisoned[index]).collect();
        Self { data: self.data.select(indices), features: self.features.select(indices), poisoned, ..self }
    }

    pub fn context(&self) -> VetContext<'_> {
        VetContext {
            data: &self.data,
            features: &self.features,
            probabilities: &self.features,
            seeds: &self.seeds,
            trusted: &self.data,
            victim: &self.victim,
            recipe: &self.recipe,
            session: &(),
            past: None,
            truth: &self.truth,
            matched: None,
        }
    }

    pub fn facts(&self) -> Facts {
        Facts { shape: self.data.shape(), classes: CLASSES, train: self.data.len(), test: 0, sources: 1 }
    }

    /// The indices of the samples that `verdict` removes or relabels.
    pub fn removed(&self, verdict: &Verdict) -> Vec<usize> {
        let touched = verdict.changes.touched();
        (0..self.data.len()).filter(|&index| touched.contains(&self.data.id(index))).collect()
    }

    /// The fraction of the poison that `verdict` removes.
    pub fn recall(&self, verdict: &Verdict) -> f64 {
        let found = self.removed(verdict).into_iter().filter(|&index| self.poisoned[index]).count();
        found as f64 / self.poisoned.iter().filter(|&&poisoned| poisoned).count() as f64
    }

    /// The fraction of the clean samples that `verdict` removes.
    pub fn waste(&self, verdict: &Verdict) -> f64 {
        let lost = self.removed(verdict).into_iter().filter(|&index| !self.poisoned[index]).count();
        lost as f64 / self.poisoned.iter().filter(|&&poisoned| !poisoned).count() as f64
    }

    /// The probability that a poisoned sample scores higher than a clean one; ties count half.
    pub fn auc(&self, verdict: &Verdict) -> f64 {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for poison in (0..self.data.len()).filter(|&index| self.poisoned[index]) {
            for clean in (0..self.data.len()).filter(|&index| !self.poisoned[index]) {
                let difference = verdict.scores[poison] - verdict.scores[clean];
                wins += if difference > 0.0 { 1.0 } else { f64::from(u8::from(difference == 0.0)) / 2.0 };
                pairs += 1.0;
            }
        }
        wins / pairs
    }

    /// Asserts that `defense` finds at least `recall` of the poison, and more than the random filter at the same
    /// budget.
    pub fn is_found_by(&self, defense: &dyn Defense, recall: f64) {
        let verdict = defense.vet(&self.context()).unwrap();
        let matched = Some(self.removed(&verdict).len());
        let random = RandomFilter::default().vet(&VetContext { matched, ..self.context() }).unwrap();
        assert!(self.recall(&verdict) >= recall, "recall {}", self.recall(&verdict));
        assert!(self.recall(&verdict) > 2.0 * self.recall(&random), "random {}", self.recall(&random));
        assert!(self.auc(&verdict) > 0.9, "auc {}", self.auc(&verdict));
    }

    /// Asserts that two runs agree to the last bit, and that the verdict can be applied.
    pub fn is_deterministic(&self, defense: &dyn Defense) -> Verdict {
        let (first, second) = (defense.vet(&self.context()).unwrap(), defense.vet(&self.context()).unwrap());
        assert_eq!(first.changes.digest(), second.changes.digest());
        let bits = |verdict: &Verdict| verdict.scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&first), bits(&second));
        first.changes.apply(&self.data).unwrap();
        first
    }

    /// Asserts that degenerate data cause neither panics, nor scores that are not numbers, nor large removals.
    pub fn degenerate_data_are_harmless(defense: &dyn Defense) {
        for (case, verdict) in Self::degenerate_data_give_numbers(defense) {
            assert!(case.removed(&verdict).len() * 2 <= case.data.len());
        }
    }

    /// Asserts that degenerate data cause neither panics nor scores that are not numbers.
    pub fn degenerate_data_give_numbers(defense: &dyn Defense) -> Vec<(Self, Verdict)> {
        let empty = Self::new(&[], Matrix::default());
        let single = Self::new(&[0], Matrix::new(2, vec![1.0, 2.0]));
        let few = Self::new(&[0, 2, 2], Matrix::new(2, vec![1.0, 2.0, 0.0, 0.0, 3.0, 1.0]));
        let same = Self::new(&[0; 40], Matrix::new(3, vec![0.1; 120]));
        let zero = Self::new(&[0, 1].repeat(20), Matrix::new(3, vec![0.0; 120]));
        let huge = Self::new(&[0, 1].repeat(20), Matrix::new(1, (0..40).map(|row| row as f32 * 8e36).collect()));
        let cases = [empty, single, few, same, zero, huge].into_iter();
        let verdicts = cases.map(|case| (case.is_deterministic(defense), case)).map(|(verdict, case)| (case, verdict));
        let verdicts: Vec<_> = verdicts.collect();
        for (case, verdict) in &verdicts {
            assert_eq!(verdict.scores.len(), case.data.len());
            assert!(verdict.scores.iter().all(|score| score.is_finite()), "{:?}", verdict.scores);
        }
        verdicts
    }
}

/// The features on which other programs were run, see `scripts/verify/vetting.py`, and their network and images, see
/// `scripts/verify/neural_cleanse.py`.
pub(crate) struct Golden;

impl Golden {
    /// The case that the expected tables in `tests/golden` belong to.
    pub fn load() -> Case {
        let table = Self::table(include_str!("../tests/golden/features.csv"));
        let labels: Vec<Label> = table.iter().map(|row| row[0] as Label).collect();
        let poisoned = table.iter().map(|row| row[1] == 1.0).collect();
        let values = table.iter().flat_map(|row| &row[2..]).map(|&value| value as f32).collect();
        Case::with_poison(&labels, Matrix::new(table[0].len() - 2, values), poisoned)
    }

    /// 300 samples, of which every seventh is poisoned.
    pub fn of_controls() -> Case {
        let poisoned = (0..300).map(|index| index % 7 == 0).collect();
        Case::with_poison(&[0, 1, 2].repeat(100), Matrix::new(1, vec![0.0; 300]), poisoned)
    }

    /// Compares what a control removes with what another program makes of the same draws, see
    /// `scripts/verify/selections.py`.
    pub fn control(name: &str, filter: &dyn Defense) {
        let case = Self::of_controls();
        let rows =
            include_str!("../tests/golden/controls.csv").lines().filter(|row| row.split(';').next() == Some(name));
        let mut compared = 0;
        for row in rows {
            let [_, matched, removed] = row.split(';').collect::<Vec<_>>()[..] else { panic!("{row}") };
            let expected: Vec<usize> = removed.split(' ').map(|index| index.parse().unwrap()).collect();
            let context = VetContext { matched: matched.parse().ok(), ..case.context() };
            assert_eq!(case.removed(&filter.vet(&context).unwrap()), expected, "{name}, {matched}");
            compared += 1;
        }
        assert!(compared >= 4, "{compared}");
    }

    /// A network for three classes of 6 x 6 images.
    pub fn network() -> theriac_nn::Network {
        let facts = Facts {
            shape: Shape { channels: 1, height: 6, width: 6 },
            classes: CLASSES,
            train: 8,
            test: 0,
            sources: 1,
        };
        let (normalisation, device) = (theriac_nn::Normalisation(vec![(0.4, 0.25)]), theriac_nn::device::open("cpu"));
        let values = [("hidden".to_owned(), 6u64.into())].into();
        let seeds = Seeds::new(1);
        let network =
            theriac_nn::Network::named("mlp", &values, &facts, normalisation, &device.unwrap(), &seeds).unwrap();
        let mut weights = theriac_nn::parameters::read(&network.module);
        let names = [("hidden", "weight"), ("hidden", "bias"), ("head", "weight"), ("head", "bias")];
        for (tensor, (layer, part)) in Self::table(include_str!("../tests/golden/network.csv")).iter().zip(names) {
            let mut found = weights.iter_mut().filter(|(name, _)| name.contains(layer) && name.ends_with(part));
            found.next().unwrap().1.values = tensor.iter().map(|&value| value as f32).collect();
        }
        theriac_nn::Network { module: theriac_nn::parameters::write(network.module, &weights).unwrap(), ..network }
    }

    /// The pixels of eight images.
    pub fn images() -> Vec<u8> {
        let table = Self::table(include_str!("../tests/golden/neural_cleanse.csv"));
        table[..8].iter().flatten().map(|&pixel| pixel as u8).collect()
    }

    /// The numbers below the header of a table.
    pub fn table(text: &str) -> Vec<Vec<f64>> {
        let numbers = |line: &str| line.split(',').map(|field| field.parse().unwrap()).collect();
        text.lines().skip(1).map(numbers).collect()
    }
}

/// Three classes of 6 x 6 images: a bright band at the top, in the middle or at the bottom, under noise.
pub(crate) fn stripes(samples: usize, seed: u64) -> Dataset {
    let shape = Shape { channels: 1, height: 6, width: 6 };
    let mut stream = Seeds::new(seed).stream("stripes");
    let labels: Vec<Label> = (0..samples).map(|index| (index % CLASSES) as Label).collect();
    let mut pixel = |label: Label, at: usize| stream.below(100) + if at / 12 == usize::from(label) { 120 } else { 0 };
    let pixels: Vec<u8> =
        labels.iter().flat_map(|&label| (0..36).map(|at| pixel(label, at) as u8).collect::<Vec<_>>()).collect();
    let names: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    Dataset::new("stripes", shape, names, pixels, &labels).unwrap()
}

/// An untrained network for such images.
pub(crate) fn toy_network(data: &Dataset) -> theriac_nn::Network {
    let facts = Facts { shape: data.shape(), classes: CLASSES, train: data.len(), test: 0, sources: 1 };
    let device = theriac_nn::device::open("cpu").unwrap();
    let normalisation = theriac_nn::Normalisation(vec![(0.35, 0.25)]);
    let values = [("hidden".to_owned(), 24u64.into())].into();
    theriac_nn::Network::named("mlp", &values, &facts, normalisation, &device, &Seeds::new(9)).unwrap()
}
