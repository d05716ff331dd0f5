use super::*;
use crate::repairing::testing::{Backdoored, assert_near, assert_weights, golden_data, golden_networks, steps};
use crate::testing::Golden;
use theriac_core::Value;
use theriac_train::TrainConfig;

fn config() -> Nad {
    Nad { trusted: 0.3, epochs: 20, lr: 0.05, weight_decay: 5e-4, ..Nad::default() }
}

#[test]
fn it_repairs_a_backdoored_network_and_is_deterministic() {
    Backdoored::new("resnet", "width=6 blocks=1 stages=2", 45).is_repaired_by(&config(), 0.5);
}

#[test]
fn it_keeps_a_clean_network_and_refuses_one_without_stages() {
    Backdoored::new("cnn", "width=4 hidden=16", 0).keeps_a_clean_model(&config());
    let error = config().repair(&Backdoored::new("mlp", "hidden=8", 0).context()).err().unwrap().to_string();
    assert!(error.contains("no convolution"), "{error}");
}

fn map(values: Vec<f32>) -> Tensor<4> {
    let places = values.len() / 2;
    let data = theriac_nn::burn::tensor::TensorData::new(values, [1, 1, places, 2]);
    Tensor::from_data(data, &theriac_nn::device::open("cpu").unwrap())
}

#[test]
fn attention_is_the_energy_of_a_place_at_length_one() {
    // Energies 9, 16 and 0 at three places of two channels; the length of (9, 16, 0) is sqrt(337).
    let found = attention(map(vec![-3.0, 0.0, 0.0, 4.0, 0.0, 0.0])).into_data_as::<f32>().try_to_vec::<f32>().unwrap();
    let expected = [9.0, 16.0, 0.0].map(|energy: f64| energy / 337.0f64.sqrt());
    assert_near(&found.into_iter().map(f64::from).collect::<Vec<_>>(), &expected, 1e-6, "attention");
}

#[test]
fn a_map_of_nothing_has_no_attention_and_no_gradient() {
    let device = theriac_nn::device::open("cpu").unwrap().autodiff();
    let nothing = Tensor::from_inner(map(vec![0.0; 6])).to_device(&device).require_grad();
    let gradients = attention(nothing.clone()).sum().backward();
    let gradient = nothing.grad(&gradients).unwrap().into_data_as::<f32>().try_to_vec::<f32>().unwrap();
    assert_eq!(gradient, [0.0; 6]);
}

#[test]
fn the_student_looks_where_the_teacher_looks() {
    let case = Backdoored::new("resnet", "width=6 blocks=1 stages=2", 45);
    let context = case.context();
    let teacher = repairing::tuned(
        context.model,
        &case.clean,
        &repairing::tuning(&context, 5, 0.05, 5e-4).into(),
        context.seeds,
        &(),
    );
    let attention = |beta: f64| Arc::new(Attention { teacher: teacher.as_ref().unwrap().clone(), beta });
    let distance = |student: &Network| {
        let images = Batch::gather(&case.clean, &(0..100).collect::<Vec<_>>()).into_tensor(&student.device);
        let (_, maps) = forward_maps(&student.module, &student.normalisation, images.clone());
        attention(1.0).of(images, maps).into_scalar::<f32>()
    };
    let taught = |beta: f64| {
        let recipe = Recipe { penalty: Some(attention(beta)), ..repairing::tuning(&context, 5, 0.01, 5e-4).into() };
        distance(&repairing::tuned(context.model, &case.clean, &recipe, context.seeds, &()).unwrap())
    };
    let (alone, guided) = (taught(0.0), taught(1000.0));
    assert!(guided < 0.5 * alone, "{guided} {alone}");
    assert!(distance(teacher.as_ref().unwrap()) < 1e-9);
}

#[test]
fn bad_values_are_refused() {
    let values: Values =
        [("beta", Value::from(-1)), ("epochs", 0.into())].map(|(key, value)| (key.to_owned(), value)).into();
    let keys: Vec<String> = Nad::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["epochs", "beta"]);
}

#[test]
fn losses_and_the_student_agree_with_pytorch() {
    let data = golden_data();
    let tables = [include_str!("../../tests/golden/nad_cnn.csv"), include_str!("../../tests/golden/nad_resnet.csv")];
    for ([suspect, teacher], table) in golden_networks().iter().zip(tables) {
        let table = Golden::table(table);
        let penalty: Arc<dyn Penalty> = Arc::new(Attention { teacher: teacher.clone(), beta: 1000.0 });
        let recipe = Recipe { penalty: Some(penalty), ..TrainConfig::default().into() };
        let (student, losses) = steps(suspect, recipe, &data, 5, 0.002);
        assert_near(&losses, &table[0], 1e-4, "losses");
        assert_weights(&student, &table[1..]);
    }
}
