use super::*;
use crate::testing::Golden;
use theriac_core::{Shape, Wish};
use theriac_nn::Normalisation;
use theriac_train::{TrainConfig, TrainError, TrainingSet, train};

const CLASSES: u16 = 7;
const TARGET: Label = 2;
const SIDE: usize = 8;

/// Seven classes of 8 x 8 images: one row of the lower seven is brighter than the noise.
fn bars(samples: usize, seed: u64) -> Dataset {
    let mut stream = Seeds::new(seed).stream("bars");
    let labels: Vec<Label> = (0..samples).map(|index| (index % usize::from(CLASSES)) as Label).collect();
    let mut pixel = |label: Label, at: usize| {
        let bright = if at / SIDE == usize::from(label) + 1 { 90 } else { 0 };
        (stream.below(100) + bright) as u8
    };
    let pixels: Vec<u8> =
        labels.iter().flat_map(|&label| (0..SIDE * SIDE).map(|at| pixel(label, at)).collect::<Vec<_>>()).collect();
    let names: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    Dataset::new("bars", Shape { channels: 1, height: SIDE, width: SIDE }, names, pixels, &labels).unwrap()
}

/// A white pixel in the upper right.
fn mark() -> ReversedTrigger {
    let mut mask = vec![0.0; SIDE * SIDE];
    mask[SIDE - 1] = 1.0;
    ReversedTrigger { shape: [1, SIDE, SIDE], pattern: vec![1.0; SIDE * SIDE], mask }
}

/// A network that learnt `data`, one in five of them with the mark and the label of the target if it is backdoored.
fn fit(data: &Dataset, backdoored: bool) -> Network {
    let mark = mark();
    let chosen: Vec<usize> = (0..data.len()).filter(|index| backdoored && index % 5 == 0).collect();
    let marked = under(data, chosen.iter().map(|&index| (index, &mark)));
    let mut labels = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    chosen.iter().for_each(|&index| labels.relabel(&marked, index, TARGET));
    let data = labels.apply(&marked).unwrap();
    let facts = Facts { shape: data.shape(), classes: usize::from(CLASSES), train: data.len(), test: 0, sources: 1 };
    let (normalisation, device) = (Normalisation(vec![(0.25, 0.2)]), theriac_nn::device::open("cpu").unwrap());
    let network = Network::named("mlp", &Values::new(), &facts, normalisation, &device, &Seeds::new(3)).unwrap();
    let recipe = TrainConfig { epochs: 10, batch: 32, curve: false, ..TrainConfig::default() };
    let set = TrainingSet { train: &data, test: &data, probe: None };
    train(network, set, &recipe.into(), &Seeds::new(1), &()).unwrap().network
}

fn accuracy(network: &Network, data: &Dataset) -> f64 {
    theriac_core::metrics::accuracy(&network.predict(data), &data.labels()).unwrap()
}

/// The share of images of other classes that the mark turns into the target.
fn success(network: &Network, data: &Dataset) -> f64 {
    let (images, mark) = (others(data, TARGET), mark());
    let marked = under(&images, (0..images.len()).map(|index| (index, &mark)));
    let hits = network.predict(&marked).into_iter().filter(|&class| class == TARGET).count();
    hits as f64 / images.len() as f64
}

fn cleanse(repair: &str) -> NeuralCleanse {
    NeuralCleanse { trusted: 0.5, lr: 0.05, repair: repair.to_owned(), ..NeuralCleanse::default() }
}

fn inspect(model: &Network, trusted: &Dataset) -> InspectRecord {
    let context = InspectContext { model, recorded: None, trusted, seeds: &Seeds::new(4), session: &() };
    cleanse("unlearn").inspect(&context).unwrap()
}

fn repaired(defense: &NeuralCleanse, model: &Network, trusted: &Dataset, found: Option<&InspectRecord>) -> Network {
    let (seeds, removed) = (Seeds::new(4), trusted.select(&[]));
    let recipe = &TrainConfig { batch: 32, ..TrainConfig::default() };
    let context = RepairContext {
        model,
        recorded: None,
        trusted,
        removed: &removed,
        inspection: found,
        recipe,
        seeds: &seeds,
        session: &(),
    };
    defense.repair(&context).unwrap()
}

#[test]
fn a_planted_trigger_is_found_named_and_removed() {
    let (data, test) = (bars(700, 1), bars(350, 2));
    let model = fit(&data, true);
    assert!(accuracy(&model, &test) > 0.95 && success(&model, &test) > 0.95);
    let found = inspect(&model, &data);
    assert_eq!(
        (found.flagged.as_slice(), found.metrics["backdoor_found"]),
        (&[TARGET][..], 1.0),
        "{:?}",
        found.statistics
    );
    assert_eq!(found.metrics["anomaly_index"], found.statistics[usize::from(TARGET)]);
    assert_eq!((found.triggers.len(), found.statistics.len()), (7, 7));
    assert_eq!(inspect(&model, &data), found);
    for way in ["unlearn", "prune"] {
        let repaired = |found| repaired(&cleanse(way), &model, &data, found);
        let mended = repaired(Some(&found));
        let (kept, left) = (accuracy(&mended, &test), success(&mended, &test));
        assert!(kept > accuracy(&model, &test) - 0.03 && left < 0.1, "{way}: accuracy {kept}, success {left}");
        // Without an inspection it makes its own.
        assert_eq!(repaired(None).encode(), mended.encode());
    }
}

#[test]
fn a_clean_model_is_less_suspicious_and_stays_as_it_is() {
    let data = bars(700, 1);
    let (honest, model) = (fit(&data, false), fit(&data, true));
    let (clean, planted) = (inspect(&honest, &data), inspect(&model, &data));
    assert!(2.0 * clean.metrics["anomaly_index"] < planted.metrics["anomaly_index"], "{clean:?} {planted:?}");
    let nothing =
        InspectRecord { flagged: Vec::new(), metrics: [("backdoor_found".to_owned(), 0.0)].into(), ..planted };
    for way in ["unlearn", "prune"] {
        assert_eq!(repaired(&cleanse(way), &model, &data, Some(&nothing)).encode(), model.encode());
    }
}

#[test]
fn lessons_keep_their_labels_and_triggers_take_turns() {
    let (data, mark) = (bars(70, 1), mark());
    let blank = ReversedTrigger { pattern: vec![0.0; SIDE * SIDE], mask: vec![1.0; SIDE * SIDE], ..mark.clone() };
    let lessons = cleanse("unlearn").lessons(&data, &[&mark, &blank], &Seeds::new(1));
    assert_eq!(lessons.labels(), data.labels());
    let changed: Vec<usize> = (0..70).filter(|&index| lessons.image(index) != data.image(index)).collect();
    assert_eq!(changed.len(), 14); // 20 %
    let blanks = changed.iter().filter(|&&index| lessons.image(index).iter().all(|&pixel| pixel == 0)).count();
    assert_eq!(blanks, 7);
}

#[test]
fn only_the_trusted_share_is_used() {
    let (data, seeds) = (bars(70, 1), Seeds::new(4));
    let chosen = cleanse("unlearn").trusted(&data, &seeds);
    assert_eq!(chosen.len(), 35);
    let mut wrong = ChangeSet::new("test", Role::Supplier, Stage::Collect);
    let unused = (0..70).filter(|&index| chosen.position(data.id(index)).is_none());
    unused.for_each(|index| wrong.replace(&data, index, vec![0; SIDE * SIDE]));
    let quick = NeuralCleanse { rounds: 2, ..cleanse("unlearn") };
    let model = fit(&data, false);
    let inspect = |trusted: &Dataset| {
        quick.inspect(&InspectContext { model: &model, recorded: None, trusted, seeds: &seeds, session: &() }).unwrap()
    };
    assert_eq!(inspect(&wrong.apply(&data).unwrap()), inspect(&data));
}

#[test]
fn pruning_takes_the_neurons_that_the_trigger_excites_and_no_more_than_needed() {
    let data = bars(700, 1);
    let model = fit(&data, true);
    let prune = |residual: f64| {
        let defense = NeuralCleanse { residual, ..cleanse("prune") };
        let pruned = defense.pruned(&model, &data, &mark(), TARGET);
        let silent = |network: &Network| {
            let weights = parameters::read(&network.module);
            let (_, head) = weights.iter().find(|(name, _)| name.ends_with("head.weight")).unwrap();
            let rows = head.values.chunks(usize::from(CLASSES)).enumerate();
            rows.filter(|(_, row)| row.iter().all(|&value| value == 0.0)).map(|(at, _)| at).collect::<Vec<_>>()
        };
        (success(&pruned, &data), silent(&pruned))
    };
    let ((half, few), (none, more), (_, untouched)) = (prune(0.5), prune(0.02), prune(1.0));
    assert!(half <= 0.5 && none <= 0.02, "{half} {none}");
    assert!(untouched.is_empty() && few.len() < more.len() && few.iter().all(|neuron| more.contains(neuron)));
    assert!(more.len() < 64, "{more:?}");
}

#[test]
fn indices_are_those_of_numpy() {
    for row in Golden::table(include_str!("../../tests/golden/anomaly.csv")) {
        let (norms, expected) = row.split_at(10);
        for (found, expected) in anomaly_indices(norms).iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
    // By hand: the median is 10, deviations are 7, 1, 0, 1 and 2, their median is 1.
    let found = anomaly_indices(&[3.0, 9.0, 10.0, 11.0, 12.0]);
    let expected = [7.0, 1.0, 0.0, -1.0, -2.0].map(|deviation: f64| deviation / 1.4826);
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
}

#[test]
fn degenerate_norms_give_numbers() {
    assert!(anomaly_indices(&[]).is_empty());
    assert_eq!(anomaly_indices(&[4.0; 3]), [0.0; 3]);
    assert_eq!(anomaly_indices(&[4.0, 4.0, 4.0, 1.0]), [0.0, 0.0, 0.0, f64::MAX]);
    assert!(anomaly_indices(&[1.0, 9.0]).iter().all(|index| index.abs() < 1.0));
}

#[test]
fn it_stops_when_asked_and_tells_what_is_missing() {
    struct Hurried;
    impl theriac_core::Session for Hurried {
        fn progress(&self, _: f64) {}
        fn wish(&self) -> Wish {
            Wish::Stop
        }
    }
    let data = bars(70, 1);
    let model = fit(&data, false);
    let (seeds, defense) = (Seeds::new(1), cleanse("unlearn"));
    let stopped = InspectContext { model: &model, recorded: None, trusted: &data, seeds: &seeds, session: &Hurried };
    assert!(matches!(defense.inspect(&stopped), Err(DefenseError::Train(TrainError::Stopped))));
    let ones = data.select(&data.of_class(1));
    let context = InspectContext { trusted: &ones, session: &(), ..stopped };
    let quick = NeuralCleanse { rounds: 1, ..defense };
    let message = quick.inspect(&context).unwrap_err().to_string();
    assert_eq!(message, "failed to defend: all trusted samples belong to class 1");
}

#[test]
fn bad_values_are_refused() {
    let given = [("repair", "unlern".into()), ("trusted", 0.into()), ("stamped", 1.5.into())];
    let values: Values = given.map(|(key, value)| (key.to_owned(), value)).into();
    let errors = NeuralCleanse::from_values(&values).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.key.as_str()).collect::<Vec<_>>(), ["trusted", "repair", "stamped"]);
}
