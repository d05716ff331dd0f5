//! A pre-activation residual block as one operation: `conv2(relu(norm2(conv1(relu(norm1(x)))))) + shortcut`.
//!
//! As one operation it keeps two activations for the backward pass, `x` and the output of `conv1`; the other two are computed again,
//! which is cheaper than to fetch them from memory. Sums with the shortcut are taken where the values are stored anyway.

use burn::backend::flex::FlexTensor;
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, TensorData};
use theriac_kernels::Conv;
use theriac_kernels::conv::Added;
use theriac_kernels::memory::Floats;
use theriac_kernels::norm::{self, Affine, Gradients, Statistics};

use super::conv::{forward, geometry, sizes, weight_gradient};
use super::{CPU, Function, apply, shape, tensor, values, vector};

/// Inputs without a shortcut: activation, and twice scale, shift and weight. A shortcut's weight comes last.
const PLAIN: usize = 7;

#[derive(Debug)]
struct Residual {
    /// Given statistics; those of the batch if there are none.
    statistics: Option<[Statistics; 2]>,
    epsilon: [f64; 2],
    geometry: [([usize; 2], [usize; 2]); 3],
}

#[derive(Clone, Debug)]
struct Saved {
    /// Whether the statistics are those of the batch.
    trained: bool,
    convs: [Conv; 2],
    /// Inputs of the two normalisations.
    activations: [FlexTensor; 2],
    affine: [Affine; 2],
    weights: [FlexTensor; 2],
    shortcut: Option<(Conv, FlexTensor)>,
}

/// `relu(norm(x))`
fn active(x: &[f32], affine: &Affine) -> Floats {
    // SAFETY: the kernel writes the whole of its result.
    unsafe { Floats::written(x.len(), |out| norm::forward(*CPU, x, affine, true, out)) }
}

impl Residual {
    fn affine(&self, layer: usize, x: &FlexTensor, [scale, shift]: [&FlexTensor; 2]) -> (Affine, Statistics) {
        let [.., channels] = shape::<4>(x);
        let statistics = match &self.statistics {
            Some(given) => given[layer].clone(),
            None => norm::statistics(*CPU, values(x), channels),
        };
        let [scale, shift] = [scale, shift].map(values);
        (Affine::new(&statistics.mean, &statistics.variance, scale, shift, self.epsilon[layer]), statistics)
    }
}

impl<const N: usize> Function<N> for Residual {
    type Saved = Saved;
    type Aside = [Statistics; 2];

    fn forward(&self, inputs: &[FlexTensor; N]) -> (FlexTensor, Saved, [Statistics; 2]) {
        let [x, scale1, shift1, weight1, scale2, shift2, weight2] =
            std::array::from_fn::<_, PLAIN, _>(|at| &inputs[at]);
        let (affine1, statistics1) = self.affine(0, x, [scale1, shift1]);
        let active1 = active(values(x), &affine1);
        let conv1 = sizes(x, weight1, self.geometry[0].0, self.geometry[0].1);
        let middle = forward(&conv1, &active1, values(weight1), Added::default());
        let shortcut =
            inputs.get(PLAIN).map(|weight| (sizes(x, weight, self.geometry[2].0, self.geometry[2].1), weight.clone()));
        let resized = shortcut.as_ref().map(|(conv, weight)| forward(conv, &active1, values(weight), Added::default()));
        drop(active1);
        let (affine2, statistics2) = self.affine(1, &middle, [scale2, shift2]);
        let conv2 = sizes(&middle, weight2, self.geometry[1].0, self.geometry[1].1);
        let add = values(resized.as_ref().unwrap_or(x));
        let output =
            forward(&conv2, &active(values(&middle), &affine2), values(weight2), Added { bias: None, add: Some(add) });
        let saved = Saved {
            trained: self.statistics.is_none(),
            convs: [conv1, conv2],
            activations: [x.clone(), middle],
            affine: [affine1, affine2],
            weights: [weight1.clone(), weight2.clone()],
            shortcut,
        };
        (output, saved, [statistics1, statistics2])
    }

    fn backward(saved: Saved, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N] {
        let Saved { trained, convs, activations, affine, weights, shortcut } = saved;
        let mut results: [Option<FlexTensor>; N] = std::array::from_fn(|_| None);
        let output = values(&gradient);
        // The second half: from the output to the output of the first convolution.
        let x = values(&activations[1]);
        if wanted[6] {
            results[6] = Some(weight_gradient(&convs[1], &active(x, &affine[1]), output));
        }
        let mut middle = input_gradient(&convs[1], output, values(&weights[1]), None);
        let (scale, shift) = norm::backward(*CPU, x, Gradients::InPlace(&mut middle), None, &affine[1], true, trained);
        results[4] = wanted[4].then(|| vector(scale));
        results[5] = wanted[5].then(|| vector(shift));
        // The first half, where the shortcut joins in.
        let x = values(&activations[0]);
        let resized = shortcut.as_ref().map(|(conv, weight)| input_gradient(conv, output, values(weight), None));
        if wanted[3] || wanted.get(PLAIN) == Some(&true) {
            let active = active(x, &affine[0]);
            results[3] = wanted[3].then(|| weight_gradient(&convs[0], &active, &middle));
            if let (Some((conv, _)), Some(true)) = (&shortcut, wanted.get(PLAIN)) {
                results[PLAIN] = Some(weight_gradient(conv, &active, output));
            }
        }
        let mut input = input_gradient(&convs[0], &middle, values(&weights[0]), resized.as_deref());
        let around = shortcut.is_none().then_some(output);
        let (scale, shift) = norm::backward(*CPU, x, Gradients::InPlace(&mut input), around, &affine[0], true, trained);
        results[1] = wanted[1].then(|| vector(scale));
        results[2] = wanted[2].then(|| vector(shift));
        results[0] = wanted[0].then(|| tensor(shape::<4>(&activations[0]), input));
        results
    }
}

fn input_gradient(conv: &Conv, gradient: &[f32], weight: &[f32], add: Option<&[f32]>) -> Floats {
    // SAFETY: the kernel writes the whole of its result.
    unsafe {
        Floats::written(conv.input_len(), |out| {
            conv.input_gradient(*CPU, conv.fastest(*CPU), gradient, weight, add, out)
        })
    }
}

/// Applies a block: two normalisations with their convolutions, and the shortcut's convolution if there is one.
///
/// In training the running statistics are brought up to date, as by the layers themselves.
///
/// # Shapes
/// - input: `[batch, height, width, inputs]`
/// - output: `[batch, rows, columns, outputs]`
pub(crate) fn residual(
    input: Tensor<4>,
    norms: [&BatchNorm; 2],
    convs: [&Conv2d; 2],
    shortcut: Option<&Conv2d>,
) -> Tensor<4> {
    // The layers' own rule.
    let trained = input.device().is_autodiff() && norms[0].training.is_enabled();
    let host =
        |tensor: Tensor<1>| tensor.into_data_as::<f32>().try_to_vec::<f32>().expect("the data were converted to f32");
    let running = |norm: &BatchNorm| Statistics {
        mean: host(norm.running_mean.value()),
        variance: host(norm.running_var.value()),
    };
    let function = Residual {
        statistics: (!trained).then(|| norms.map(running)),
        epsilon: norms.map(|norm| norm.epsilon),
        geometry: [geometry(convs[0]), geometry(convs[1]), geometry(shortcut.unwrap_or(convs[0]))],
    };
    let [norm1, norm2] = norms.map(|norm| [norm.gamma.val().into_dispatch(), norm.beta.val().into_dispatch()]);
    let [weight1, weight2] = convs.map(|conv| conv.weight.val().into_dispatch());
    let ([scale1, shift1], [scale2, shift2]) = (norm1, norm2);
    let input = input.into_dispatch();
    let (output, statistics) = match shortcut {
        None => apply(function, [input, scale1, shift1, weight1, scale2, shift2, weight2]),
        Some(shortcut) => {
            let shortcut = shortcut.weight.val().into_dispatch();
            apply(function, [input, scale1, shift1, weight1, scale2, shift2, weight2, shortcut])
        }
    };
    if trained {
        norms.into_iter().zip(statistics).for_each(|(norm, statistics)| follow(norm, statistics));
    }
    output
}

/// Moves the running statistics towards those of a batch.
fn follow(norm: &BatchNorm, batch: Statistics) {
    let toward = |running: Tensor<1>, batch: Vec<f32>| {
        let channels = batch.len();
        let batch = Tensor::from_data(TensorData::new(batch, [channels]), &running.device());
        running * (1.0 - norm.momentum) + batch * norm.momentum
    };
    norm.running_mean.update(toward(norm.running_mean.value_sync(), batch.mean).detach());
    norm.running_var.update(toward(norm.running_var.value_sync(), batch.variance).detach());
}
