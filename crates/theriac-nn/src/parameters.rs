//! Parameters and running statistics by name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

/// A tensor that has left its device.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Reads all parameters and running statistics, by their dotted path.
pub fn read<M: Module>(module: &M) -> BTreeMap<String, Parameter> {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.found
}

/// Reads the gradients of all parameters that have one, by their dotted path.
pub(crate) fn read_gradients<M: Module>(module: &M, gradients: &Gradients) -> BTreeMap<String, Parameter> {
    let mut reader = Reader { gradients: Some(gradients), ..Reader::default() };
    module.visit(&mut reader);
    reader.found
}

#[derive(Default)]
struct Reader<'a> {
    path: Vec<String>,
    /// Where gradients are read instead of values.
    gradients: Option<&'a Gradients>,
    found: BTreeMap<String, Parameter>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            None => param.val(),
            Some(gradients) => match param.val().grad(gradients) {
                Some(gradient) => gradient,
                None => return,
            },
        };
        let data = tensor.into_data_as::<f32>();
        let shape = data.shape().iter().copied().collect();
        let values = data.try_to_vec::<f32>().expect("the data were converted to f32");
        self.found.insert(self.path.join("."), Parameter { shape, values });
    }
}

/// Why parameters do not fit a network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParameterError {
    /// One is missing.
    #[error("failed to load weights: there is no tensor `{0}`")]
    Missing(String),
    /// One has another shape.
    #[error("failed to load weights: tensor `{name}` has shape {found:?}, the network expects {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// One is not known.
    #[error("failed to load weights: the network has no tensor `{0}`")]
    Unknown(String),
}

/// Writes parameters by name. All of them must be given, and no others.
///
/// # Errors
/// When names or shapes do not match; the module is dropped then.
pub fn write<M: Module>(module: M, parameters: &BTreeMap<String, Parameter>) -> Result<M, ParameterError> {
    let known = read(&module);
    for (name, expected) in &known {
        let found = parameters.get(name).ok_or_else(|| ParameterError::Missing(name.clone()))?;
        if found.shape != expected.shape {
            let (expected, found) = (expected.shape.clone(), found.shape.clone());
            return Err(ParameterError::Shape { name: name.clone(), expected, found });
        }
    }
    match parameters.keys().find(|name| !known.contains_key(*name)) {
        Some(name) => Err(ParameterError::Unknown(name.clone())),
        None => Ok(module.map(&mut Writer { path: Vec::new(), parameters })),
    }
}

struct Writer<'a> {
    path: Vec<String>,
    parameters: &'a BTreeMap<String, Parameter>,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let parameter = &self.parameters[&self.path.join(".")];
        let device = param.lazy_device();
        let data = TensorData::new(parameter.values.clone(), parameter.shape.clone());
        param.map(|_| Tensor::from_data(data, &device))
    }
}

/// Multiplies parameters by factors of their shape, by dotted path; what is not named stays. A module in training stays in training.
///
/// # Panics
/// When a shape does not match.
pub fn scale<M: Module>(module: M, factors: &BTreeMap<String, Parameter>) -> M {
    module.map(&mut Changer { path: Vec::new(), others: factors, change: Change::Times })
}

/// Moves parameters along a direction, `length` times the values of their shape, by dotted path; what is not named stays. A module in
/// training stays in training.
///
/// # Panics
/// When a shape does not match.
pub fn shift<M: Module>(module: M, direction: &BTreeMap<String, Parameter>, length: f64) -> M {
    module.map(&mut Changer { path: Vec::new(), others: direction, change: Change::Plus(length) })
}

/// What becomes of a parameter and the values of the same name.
#[derive(Clone, Copy)]
enum Change {
    Times,
    Plus(f64),
}

impl Change {
    fn of<const D: usize>(self, tensor: Tensor<D>, other: TensorData) -> Tensor<D> {
        let other = Tensor::from_data(other, &tensor.device());
        match self {
            Self::Times => tensor * other,
            Self::Plus(length) => tensor + other * length,
        }
    }
}

struct Changer<'a> {
    path: Vec<String>,
    others: &'a BTreeMap<String, Parameter>,
    change: Change,
}

impl ModuleMapper for Changer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(other) = self.others.get(&self.path.join(".")) else { return param };
        let data = TensorData::new(other.values.clone(), other.shape.clone());
        let change = self.change;
        param.map(|tensor| match tensor.is_require_grad() {
            // What is computed has no gradient of its own; made anew from its value, it is a parameter again.
            true => Tensor::from_inner(change.of(tensor.inner(), data)).require_grad(),
            false => change.of(tensor, data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;

    #[test]
    fn foreign_parameters_are_named() {
        let device = crate::device::open("cpu").unwrap();
        let layer = || LinearConfig::new(2, 3).init(&device);
        let parameters = read(&layer());
        assert_eq!(read(&write(layer(), &parameters).unwrap()), parameters);
        let refused = |change: fn(&mut BTreeMap<String, Parameter>)| {
            let mut parameters = parameters.clone();
            change(&mut parameters);
            write(layer(), &parameters).err().unwrap().to_string()
        };
        let missing = refused(|parameters| drop(parameters.remove("bias")));
        assert_eq!(missing, "failed to load weights: there is no tensor `bias`");
        // As many values, in another order.
        let shape = refused(|parameters| parameters.get_mut("weight").unwrap().shape = vec![3, 2]);
        assert_eq!(shape, "failed to load weights: tensor `weight` has shape [3, 2], the network expects [2, 3]");
        let unknown = refused(|parameters| {
            let spare = parameters["bias"].clone();
            parameters.insert("gain".to_owned(), spare);
        });
        assert_eq!(unknown, "failed to load weights: the network has no tensor `gain`");
    }
    #[test]
    fn scaled_parameters_still_learn_and_the_others_are_left_alone() {
        let device = crate::device::open("cpu").unwrap();
        let layer = LinearConfig::new(2, 3).with_initializer(burn::nn::Initializer::Ones).init(&device);
        let values = vec![0.0, 0.5, 1.0, 2.0, -1.0, 3.0];
        let factors = [("weight".to_owned(), Parameter { shape: vec![2, 3], values: values.clone() })].into();
        let scaled = read(&scale(layer.clone(), &factors));
        assert_eq!((&scaled["weight"].values, &scaled["bias"].values), (&values, &vec![1.0; 3]));
        let shifted = read(&shift(layer.clone(), &factors, -2.0));
        assert_eq!(
            (shifted["weight"].values[..4].to_vec(), &shifted["bias"].values),
            (vec![1.0, 0.0, -1.0, -3.0], &vec![1.0; 3])
        );
        let training = scale(scale(layer.train(), &factors), &factors);
        let squares: Vec<f32> = values.iter().map(|value| value * value).collect();
        assert_eq!(read(&training)["weight"].values, squares);
        let input = Tensor::<2>::from_data([[1.0, 4.0]], &device.autodiff());
        let gradients = training.forward(input).sum().backward();
        assert_eq!(read_gradients(&training, &gradients)["weight"].values, [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]);
    }
}
