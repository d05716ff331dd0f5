//! Initial weights from named streams: the same on every device, and independent of the order in which layers are first used.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use theriac_core::Seeds;

/// Draws every weight and bias of `module` uniformly from `[-b, b]` with `b = 1 / sqrt(fan_in)`, PyTorch's default for linear and
/// convolution layers. Batch normalisation keeps its ones and zeros. Each parameter has its own stream, named by its path.
pub(crate) fn initialise<M: Module>(module: M, seeds: &Seeds) -> M {
    module.map(&mut Initialiser { seeds, path: Vec::new(), fan_in: 1 })
}

/// The same for a module that was trained: batch normalisation gets its ones and zeros back.
pub(crate) fn reinitialise<M: Module>(module: M, seeds: &Seeds) -> M {
    initialise(module.map(&mut Forgetter::default()), seeds)
}

#[derive(Default)]
struct Forgetter(Vec<String>);

impl ModuleMapper for Forgetter {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.last().map(String::as_str) {
            Some("gamma" | "running_var") => param.map(|tensor| tensor.ones_like()),
            Some("beta" | "running_mean") => param.map(|tensor| tensor.zeros_like()),
            _ => param,
        }
    }
}

struct Initialiser<'a> {
    seeds: &'a Seeds,
    path: Vec<String>,
    fan_in: usize,
}

impl ModuleMapper for Initialiser<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let dims: Vec<usize> = shape.iter().copied().collect();
        match self.path.last().map(String::as_str) {
            // A linear weight is [inputs, outputs], a convolution's is [outputs, inputs, kernel rows, kernel columns].
            Some("weight") => self.fan_in = if D == 2 { dims[0] } else { dims[1..].iter().product() },
            // The bias follows its weight, so `fan_in` is still that layer's.
            Some("bias") => {}
            _ => return param,
        }
        let bound = 1.0 / (self.fan_in as f64).sqrt();
        let mut stream = self.seeds.stream(&self.path.join("."));
        let values: Vec<f32> =
            (0..dims.iter().product()).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect();
        let device = param.lazy_device();
        param.map(|_| Tensor::from_data(TensorData::new(values, shape), &device))
    }
}

#[cfg(test)]
mod tests {
    use theriac_core::{Facts, Seeds, Shape, Value};

    use crate::{Network, Normalisation, device, parameters};

    #[test]
    fn every_layer_is_drawn_within_the_bound_of_its_inputs() {
        let facts =
            Facts { shape: Shape { channels: 3, height: 8, width: 8 }, classes: 10, train: 1, test: 1, sources: 1 };
        let values = [("width", 8), ("hidden", 50)].map(|(key, value)| (key.to_owned(), Value::from(value))).into();
        let (normalisation, device) = (Normalisation(vec![(0.0, 1.0); 3]), device::open("cpu").unwrap());
        let network = Network::named("cnn", &values, &facts, normalisation, &device, &Seeds::new(1)).unwrap();
        let parameters = parameters::read(&network.module);
        for (layer, inputs) in [("conv1", 9 * 3), ("conv2", 9 * 8), ("hidden", 16 * 2 * 2), ("head", 50)] {
            let bound = 1.0 / f64::from(inputs).sqrt();
            for kind in ["weight", "bias"] {
                let ending = format!("{layer}.{kind}");
                let (_, parameter) = parameters.iter().find(|(name, _)| name.ends_with(&ending)).unwrap();
                let largest = parameter.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                assert!(f64::from(largest) <= bound + 1e-7, "{ending}: {largest} above {bound}");
                assert!(f64::from(largest) > 0.7 * bound, "{ending}: {largest} far below {bound}");
            }
        }
    }
}
