//! Two ways to the same second derivative, in double precision: a process of its own, because a device's default precision is that of the
//! whole process.

use std::collections::BTreeMap;

use theriac_core::{Facts, Seeds, Shape, Values};
use theriac_nn::burn::tensor::{FloatDType, Tensor, TensorData};
use theriac_nn::parameters::{self, Parameter};
use theriac_nn::{Network, Normalisation, device, directional_gradient, gradient_difference};

const SHAPE: [usize; 4] = [4, 2, 9, 8];

#[test]
fn a_difference_of_gradients_is_the_gradient_of_the_derivative_along_a_direction() {
    let mut device = device::open("cpu").unwrap();
    device.configure(FloatDType::F64).unwrap();
    let shape = Shape { channels: SHAPE[1], height: SHAPE[2], width: SHAPE[3] };
    let facts = Facts { shape, classes: 3, train: 1, test: 1, sources: 1 };
    let networks = [
        ("mlp", &[("hidden", 9u64), ("layers", 2)][..]),
        ("cnn", &[("width", 3), ("hidden", 9)]),
        ("resnet", &[("width", 3), ("blocks", 1), ("stages", 2)]),
    ];
    for (name, given) in networks {
        let values: Values = given.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        let normalisation = Normalisation(vec![(0.5, 0.3), (0.4, 0.2)]);
        let network = Network::named(name, &values, &facts, normalisation, &device, &Seeds::new(1)).unwrap();
        let mut stream = Seeds::new(3).stream(name);
        let pixels: Vec<f64> = (0..SHAPE.iter().product()).map(|_| stream.uniform()).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, SHAPE), &device);
        let mut direction: BTreeMap<String, Parameter> = parameters::read(&network.module);
        direction.retain(|path, _| !path.contains("running"));
        direction.values_mut().flat_map(|entry| &mut entry.values).for_each(|value| *value = stream.normal() as f32);
        let labels = [0, 2, 1, 1];
        let (_, exact) = directional_gradient(&network, images.clone(), &labels, &direction);
        let length = |tensor: Tensor<4>| tensor.powi_scalar(2).sum().into_scalar::<f64>().sqrt();
        let error = |distance| {
            let found = gradient_difference(&network, images.clone(), &labels, &direction, distance);
            length(found - exact.clone()) / length(exact.clone())
        };
        let errors = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6].map(error);
        println!("{name}: {errors:?}");
        assert!(errors[3] < 1e-9, "{name}: {errors:?}");
        // In the others a ReLU or a maximum switches while the two sides are far apart.
        if name == "mlp" {
            assert!((90.0..110.0).contains(&(errors[0] / errors[1])), "the error is of second order: {errors:?}");
        }
    }
}
