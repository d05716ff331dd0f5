//! The fully connected layers of a network, on the host, for attacks on stored weights.

use std::collections::BTreeMap;

use theriac_core::{Dataset, Label, Matrix, Probe};
use theriac_nn::parameters::{self, Parameter};
use theriac_nn::{Architecture, Batch, Network, forward_maps};

use crate::sra::{Layer, layers};
use crate::{AttackContext, AttackError};

/// A fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    pub name: String,
    pub weight: Vec<f32>, // [inputs, outputs]
    pub bias: Vec<f32>,   // [outputs]
}

impl Dense {
    /// What it gives out for each row, before ReLU.
    pub fn of(&self, inputs: &Matrix) -> Matrix {
        let outputs = self.bias.len();
        let row = |row: &[f32]| {
            let mut sums: Vec<f64> = self.bias.iter().copied().map(f64::from).collect();
            for (&value, weights) in
                row.iter().zip(self.weight.chunks_exact(outputs)).filter(|(value, _)| **value != 0.0)
            {
                sums.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += f64::from(value) * f64::from(weight));
            }
            sums.into_iter().map(|sum| sum as f32).collect::<Vec<f32>>()
        };
        Matrix::new(outputs, inputs.iter().flat_map(row).collect())
    }
}

/// The fully connected layers, given all weights, the network's path in their names, and its layers before the last one.
pub fn dense(weights: &BTreeMap<String, Parameter>, path: &str, hidden: Vec<Layer>) -> Vec<Dense> {
    let names = hidden.into_iter().filter(|(_, conv)| !conv).map(|(name, _)| name);
    let layer = |name: String| {
        let [weight, bias] = ["weight", "bias"].map(|part| weights[&format!("{name}.{part}")].values.clone());
        Dense { name, weight, bias }
    };
    names.chain([format!("{path}.head")]).map(layer).collect()
}

/// Has `edit` change the fully connected layers. It is given them and what the first of them reads of `samples` training images, their labels, and
/// what it reads of those of them with the trigger.
///
/// # Errors
/// Where the network has layers that are tied to each other, all images are of the target class already, or `edit` finds no way.
pub fn edited(
    network: &Network,
    context: &AttackContext,
    samples: usize,
    probe: impl FnOnce(&Dataset) -> Option<Probe>,
    edit: impl FnOnce(&mut [Dense], &Matrix, &[Label], &Matrix) -> Result<(), AttackError>,
) -> Result<Network, AttackError> {
    let infeasible = |message: &str| AttackError::Infeasible(message.to_owned());
    let (_, path, hidden) = layers(network)?;
    let weights = parameters::read(&network.module);
    let mut dense = dense(&weights, path, hidden);
    let everyone: Vec<usize> = (0..context.train.len()).collect();
    let samples = context.seeds.stream("samples").choose(&everyone, samples.min(everyone.len()));
    let clean = context.train.select(&samples);
    let triggered = probe(&clean).filter(|probe| !probe.inputs.is_empty());
    let triggered = triggered.ok_or_else(|| infeasible("all samples are of the target class"))?.inputs;
    let [read, heard] = [&clean, &triggered].map(|data| read_by_dense(network, data));
    edit(&mut dense, &read, &clean.labels(), &heard)?;
    let module = parameters::write(network.module.clone(), &write_dense(weights, dense));
    Ok(Network { module: module.map_err(|error| infeasible(&error.to_string()))?, ..network.clone() })
}

/// All weights, with those of these layers in their places.
fn write_dense(mut weights: BTreeMap<String, Parameter>, layers: Vec<Dense>) -> BTreeMap<String, Parameter> {
    for Dense { name, weight, bias } in layers {
        for (part, values) in [("weight", weight), ("bias", bias)] {
            weights.get_mut(&format!("{name}.{part}")).expect("it was read from there").values = values;
        }
    }
    weights
}

/// What ReLU leaves.
pub fn relu(matrix: &Matrix) -> Matrix {
    Matrix::new(matrix.columns(), matrix.values().iter().map(|value| value.max(0.0)).collect())
}

/// The logits, given what the first of these layers reads.
pub fn logits(layers: &[Dense], inputs: &Matrix) -> Matrix {
    let (last, hidden) = layers.split_last().expect("a network has a last layer");
    last.of(&hidden.iter().fold(inputs.clone(), |x, layer| relu(&layer.of(&x))))
}

/// What the first fully connected layer reads of each image.
pub fn read_by_dense(network: &Network, data: &Dataset) -> Matrix {
    let batch = Batch::gather(data, &(0..data.len()).collect::<Vec<_>>());
    match network.module {
        Architecture::Mlp(_) => {
            let plane = data.shape().height * data.shape().width;
            let channels = network.normalisation.0.iter().cycle();
            let planes = batch.pixels.chunks_exact(plane).zip(channels);
            let values =
                planes.flat_map(|(plane, (mean, deviation))| plane.iter().map(move |v| (v - mean) / deviation));
            Matrix::new(data.shape().len(), values.collect())
        }
        _ => {
            let images = batch.into_tensor(&network.device);
            let maps = forward_maps(&network.module, &network.normalisation, images).1;
            let map = maps.into_iter().next_back().expect("a convolutional network has a last convolution");
            let [_, height, width, channels] = map.dims();
            let values = map.into_data_as::<f32>().try_to_vec::<f32>().expect("the data were converted to f32");
            Matrix::new(height * width * channels, values)
        }
    }
}
