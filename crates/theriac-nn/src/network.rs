//! A network ready to use: architecture, weights and normalisation on one device.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use theriac_core::{Dataset, Facts, Label, Matrix, ParamError, Seeds, Shape, Values};

use crate::architecture::{Architecture, Taps};
use crate::models::{self, ModelEntry};
use crate::ops::{self, enter::enter};
use crate::parameters::Parameter;
use crate::{checkpoint, init, parameters};

/// Images a forward pass takes at a time when whole data sets are measured.
const EVALUATION_BATCH: usize = 250;

/// Mean and standard deviation of each channel, of pixel values in `[0, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation(pub Vec<(f32, f32)>);

impl Normalisation {
    /// `(images - mean) / deviation`, channel by channel, in the order of axes of [`Architecture::forward`].
    pub(crate) fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        if ops::runs(&images) {
            return enter(images, &self.0);
        }
        let device = images.device();
        let column = |pick: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = self.0.iter().map(pick).collect();
            let data = TensorData::new(values, [1, self.0.len(), 1, 1]);
            Tensor::<4>::from_data(data, &device)
        };
        (images - column(|channel| channel.0)) / column(|channel| channel.1)
    }
}

/// Images on the host: `[image, channel, row, column]`, values in `[0, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Size of one image.
    pub shape: Shape,
    /// All pixels.
    pub pixels: Vec<f32>,
}

impl Batch {
    /// The samples of `data` at `indices`.
    pub fn gather(data: &Dataset, indices: &[usize]) -> Self {
        let shape = data.shape();
        let mut pixels = Vec::with_capacity(indices.len() * shape.len());
        for &index in indices {
            pixels.extend(data.image(index).iter().map(|&byte| f32::from(byte) / 255.0));
        }
        Self { shape, pixels }
    }

    /// Images that come from a device: `[batch, channels, height, width]`.
    pub fn from_tensor(images: Tensor<4>) -> Self {
        let [_, channels, height, width] = images.dims();
        Self { shape: Shape { channels, height, width }, pixels: to_vec(images) }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The images as a tensor: `[batch, channels, height, width]`.
    pub fn to_tensor(&self, device: &Device) -> Tensor<4> {
        self.clone().into_tensor(device)
    }

    /// The same, without a copy.
    pub fn into_tensor(self, device: &Device) -> Tensor<4> {
        let Shape { channels, height, width } = self.shape;
        let shape = [self.len(), channels, height, width];
        Tensor::from_data(TensorData::new(self.pixels, shape), device)
    }
}

/// A network with weights. Values that leave it are on the host.
#[derive(Clone, Debug)]
pub struct Network {
    /// The layers, without gradients and in evaluation mode.
    pub module: Architecture,
    /// Applied to every input.
    pub normalisation: Normalisation,
    /// Where it runs.
    pub device: Device,
}

impl Network {
    /// A network with initial weights drawn from the streams below `seeds.child("init")`.
    ///
    /// # Errors
    /// When the config does not fit the network or the data.
    pub fn new(
        entry: &ModelEntry,
        values: &Values,
        facts: &Facts,
        normalisation: Normalisation,
        device: &Device,
        seeds: &Seeds,
    ) -> Result<Self, Vec<ParamError>> {
        let module = (entry.build)(values, facts, device)?;
        // A new module is in training mode, which outlasts the loading of weights.
        let module = init::initialise(module, &seeds.child("init")).valid();
        Ok(Self { module, normalisation, device: device.clone() })
    }

    /// The same as [`Network::new`], by registry name.
    ///
    /// # Errors
    /// Also when there is no such network.
    pub fn named(
        name: &str,
        values: &Values,
        facts: &Facts,
        normalisation: Normalisation,
        device: &Device,
        seeds: &Seeds,
    ) -> Result<Self, Vec<ParamError>> {
        let missing = || vec![ParamError::new("name", format!("there is no model `{name}`"))];
        Self::new(models::find(name).ok_or_else(missing)?, values, facts, normalisation, device, seeds)
    }

    /// The same architecture with other initial weights, and running statistics as before any training.
    pub fn reinitialised(&self, seeds: &Seeds) -> Self {
        // A mere clone would share its running statistics with this network and overwrite them.
        Self { module: init::reinitialise(self.module.valid(), &seeds.child("init")), ..self.clone() }
    }

    /// Runs the network on images in `[0, 1]`, `[batch, channels, height, width]`.
    pub fn forward(&self, images: Tensor<4>) -> Taps {
        forward(&self.module, &self.normalisation, images)
    }

    fn over<T>(&self, data: &Dataset, collect: impl Fn(Taps) -> T) -> Vec<T> {
        let indices: Vec<usize> = (0..data.len()).collect();
        let chunks = indices.chunks(EVALUATION_BATCH);
        chunks.map(|chunk| collect(self.forward(Batch::gather(data, chunk).into_tensor(&self.device)))).collect()
    }

    /// Logits of every sample: `[samples, classes]`.
    pub fn logits(&self, data: &Dataset) -> Matrix {
        stack(self.over(data, |taps| to_matrix(taps.logits)))
    }

    /// Features and logits of every sample.
    pub fn taps(&self, data: &Dataset) -> (Matrix, Matrix) {
        let (features, logits) =
            self.over(data, |taps| (to_matrix(taps.features), to_matrix(taps.logits))).into_iter().unzip();
        (stack(features), stack(logits))
    }

    /// Logits of images on the host: `[images, classes]`.
    pub fn logits_of(&self, batch: &Batch) -> Matrix {
        to_matrix(self.forward(batch.to_tensor(&self.device)).logits)
    }

    /// The predicted class of every sample.
    pub fn predict(&self, data: &Dataset) -> Vec<Label> {
        self.logits(data).argmax()
    }

    /// Weights and running statistics as safetensors.
    pub fn encode(&self) -> Vec<u8> {
        checkpoint::encode(&parameters::read(&self.module))
    }

    /// The same network with weights from safetensors.
    ///
    /// # Errors
    /// When the bytes are damaged or belong to another network.
    pub fn decode(self, bytes: &[u8]) -> Result<Self, LoadError> {
        // Clones of this network share its running statistics, and keep theirs.
        let module = parameters::write(self.module.valid(), &checkpoint::decode(bytes)?)?;
        Ok(Self { module, ..self })
    }
}

/// Runs a module, in training or in evaluation mode, on images in `[0, 1]`.
pub fn forward(module: &Architecture, normalisation: &Normalisation, images: Tensor<4>) -> Taps {
    module.forward(normalisation.apply(images))
}

/// The same, and what each stage gives out, in order: a pooled convolution, or all residual blocks of one size. A fully connected network
/// has no such stage.
///
/// # Shapes
/// - maps: `[batch, height, width, channels]` on every device
pub fn forward_maps(module: &Architecture, normalisation: &Normalisation, images: Tensor<4>) -> (Taps, Vec<Tensor<4>>) {
    let (by_channel, mut maps) = (!ops::runs(&images), Vec::new());
    let mut see = |map: &Tensor<4>| maps.push(map.clone());
    let taps = module.forward_showing(normalisation.apply(images), &mut see);
    if by_channel {
        maps = maps.into_iter().map(|map| map.permute([0, 2, 3, 1])).collect();
    }
    (taps, maps)
}

/// The gradient of the summed cross-entropy with respect to the images, for given labels.
///
/// # Shapes
/// - images: those of [`input_gradient_of`]
pub fn input_gradient(network: &Network, images: Tensor<4>, labels: &[Label]) -> Tensor<4> {
    input_gradient_of(network, images, |taps| cross_entropies(taps.logits, labels).sum()).1
}

/// The value of any loss of features and logits, and its gradient with respect to the images. The weights are constants and batch
/// normalisation is in evaluation mode.
///
/// # Shapes
/// - images: `[batch, channels, height, width]` in `[0, 1]`, on the network's device without gradients; so is the answer
/// - loss: one number; other tensors that it uses are made by `Tensor::from_inner` or on the device of the taps
pub fn input_gradient_of(
    network: &Network,
    images: Tensor<4>,
    loss: impl FnOnce(Taps) -> Tensor<1>,
) -> (f64, Tensor<4>) {
    let device = network.device.clone().autodiff();
    let images = Tensor::from_inner(images).to_device(&device).require_grad();
    // Not only without gradients of weights: on this device, batch normalisation in training mode would use the statistics of the batch
    // and overwrite the network's own.
    let module = network.module.valid();
    let loss = loss(forward(&module, &network.normalisation, images.clone()));
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let mut gradients = loss.backward();
    (value, images.grad_remove(&mut gradients).expect("the loss depends on the images"))
}

/// The value of any loss of features and logits, and its gradients with respect to all weights and biases, by their dotted path. Batch
/// normalisation is in evaluation mode, so its running statistics are constants.
///
/// # Shapes
/// - images: `[batch, channels, height, width]` in `[0, 1]`, on the network's device without gradients
/// - loss: one number; other tensors that it uses are made by `Tensor::from_inner` or on the device of the taps
pub fn parameter_gradients(
    network: &Network,
    images: Tensor<4>,
    loss: impl FnOnce(Taps) -> Tensor<1>,
) -> (f64, BTreeMap<String, Parameter>) {
    let images = Tensor::from_inner(images).to_device(&network.device.clone().autodiff());
    // Frozen layers keep their statistics; weights that are told so want gradients all the same.
    let module = network.module.clone().freeze().set_require_grad(true).train();
    let loss = loss(forward(&module, &network.normalisation, images));
    let value = f64::from(loss.clone().into_scalar::<f32>());
    (value, parameters::read_gradients(&module, &loss.backward()))
}

/// Cross-entropy of each row of logits against its label, in nats: `[batch]`.
pub fn cross_entropies(logits: Tensor<2>, labels: &[Label]) -> Tensor<1> {
    let wanted: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    let wanted = Tensor::<2, Int>::from_data(TensorData::new(wanted, [labels.len(), 1]), &logits.device());
    -log_softmax(logits, 1).gather(1, wanted).squeeze_dim(1)
}

/// Cross-entropy of each row of logits against its label, in nats, computed in double precision.
pub fn losses(logits: &Matrix, labels: &[Label]) -> Vec<f64> {
    let loss = |(row, &label): (&[f32], &Label)| {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        sum.ln() - (f64::from(row[usize::from(label)]) - largest)
    };
    logits.iter().zip(labels).map(loss).collect()
}

/// Why weights could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are damaged.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// They belong to another network.
    #[error(transparent)]
    Parameters(#[from] parameters::ParameterError),
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_to_vec::<f32>().expect("the data were converted to f32")
}

fn to_matrix(tensor: Tensor<2>) -> Matrix {
    let columns = tensor.dims()[1];
    Matrix::new(columns, to_vec(tensor))
}

fn stack(parts: Vec<Matrix>) -> Matrix {
    let columns = parts.first().map_or(1, Matrix::columns);
    Matrix::new(columns, parts.iter().flat_map(|part| part.values()).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_made_from_another_leaves_its_running_statistics_alone() {
        let facts =
            Facts { shape: Shape { channels: 1, height: 4, width: 4 }, classes: 2, train: 1, test: 1, sources: 1 };
        let values: Values = [("width", 2u64), ("stages", 1)].map(|(key, value)| (key.to_owned(), value.into())).into();
        let (normalisation, device) = (Normalisation(vec![(0.5, 0.3)]), crate::device::open("cpu").unwrap());
        let network = Network::named("resnet", &values, &facts, normalisation, &device, &Seeds::new(1)).unwrap();
        let mut trained = parameters::read(&network.module);
        let statistics = trained.iter_mut().filter(|(name, _)| name.contains("running"));
        statistics.for_each(|(_, parameter)| parameter.values.fill(7.0));
        let trained = network.clone().decode(&checkpoint::encode(&trained)).unwrap();
        let statistic = |network: &Network| {
            let all = parameters::read(&network.module).into_iter();
            all.filter(|(name, _)| name.contains("running")).flat_map(|(_, parameter)| parameter.values).sum::<f32>()
        };
        // Two means of 0 and two variances of 1, of two channels each.
        assert_eq!((statistic(&network), statistic(&trained)), (4.0, 56.0));
        assert_eq!(statistic(&trained.reinitialised(&Seeds::new(2))), 4.0);
        assert_eq!(statistic(&trained), 56.0);
    }

    #[test]
    fn losses_are_those_of_double_precision() {
        // In single precision 16777216 - 0.75 is 16777215, a quarter of a nat off.
        let logits = Matrix::new(2, vec![16_777_216.0, 0.75, 0.0, 0.0]);
        let found = losses(&logits, &[1, 0]);
        assert_eq!(found, [16_777_215.25, 2.0f64.ln()]);
    }
}
