//! Convolution, with an optional bias.

use burn::backend::flex::FlexTensor;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use theriac_kernels::Conv;
use theriac_kernels::conv::{Added, bias_gradient};

use super::{CPU, Function, apply, shape, values, vector, written};

/// Sizes of the convolution of `input` (`[batch, height, width, inputs]`) by `weight` (`[outputs, inputs, rows, columns]`).
pub(super) fn sizes(input: &FlexTensor, weight: &FlexTensor, stride: [usize; 2], padding: [usize; 2]) -> Conv {
    let [batch, height, width, inputs] = shape(input);
    let [outputs, weight_inputs, rows, columns] = shape(weight);
    assert_eq!(inputs, weight_inputs, "channels of a convolution");
    Conv { batch, height, width, inputs, outputs, kernel: [rows, columns], stride, padding }
}

/// Stride and padding of a layer.
///
/// # Panics
/// If the layer has what the kernels do not compute; no network of ours has.
pub(super) fn geometry(layer: &Conv2d) -> ([usize; 2], [usize; 2]) {
    assert!(layer.dilation == [1, 1] && layer.groups == 1, "a dense convolution in one group");
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [0, 0],
        PaddingConfig2d::Explicit(top, left, bottom, right) if (top, left) == (bottom, right) => [top, left],
        ref other => panic!("explicit padding, the same on opposite sides, found {other:?}"),
    };
    (layer.stride, padding)
}

pub(super) fn forward(conv: &Conv, input: &[f32], weight: &[f32], added: Added) -> FlexTensor {
    let shape = [conv.batch, conv.rows(), conv.columns(), conv.outputs];
    written(shape, |out| conv.forward(*CPU, conv.fastest(*CPU), input, weight, added, out))
}

pub(super) fn weight_gradient(conv: &Conv, input: &[f32], gradient: &[f32]) -> FlexTensor {
    let shape = [conv.outputs, conv.inputs, conv.kernel[0], conv.kernel[1]];
    written(shape, |out| conv.weight_gradient(*CPU, conv.fastest(*CPU), input, gradient, out))
}

pub(super) fn input_gradient(conv: &Conv, gradient: &[f32], weight: &[f32]) -> FlexTensor {
    let shape = [conv.batch, conv.height, conv.width, conv.inputs];
    written(shape, |out| conv.input_gradient(*CPU, conv.fastest(*CPU), gradient, weight, None, out))
}

#[derive(Debug)]
struct Convolution {
    stride: [usize; 2],
    padding: [usize; 2],
}

impl<const N: usize> Function<N> for Convolution {
    type Saved = (Conv, FlexTensor, FlexTensor);
    type Aside = ();

    fn forward(&self, inputs: &[FlexTensor; N]) -> (FlexTensor, Self::Saved, ()) {
        let (input, weight, bias) = (&inputs[0], &inputs[1], inputs.get(2));
        let conv = sizes(input, weight, self.stride, self.padding);
        let output = forward(&conv, values(input), values(weight), Added { bias: bias.map(values), add: None });
        (output, (conv, input.clone(), weight.clone()), ())
    }

    fn backward(
        (conv, input, weight): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let gradient = values(&gradient);
        std::array::from_fn(|at| {
            wanted[at].then(|| match at {
                0 => input_gradient(&conv, gradient, values(&weight)),
                1 => weight_gradient(&conv, values(&input), gradient),
                _ => vector(bias_gradient(*CPU, gradient, conv.outputs)),
            })
        })
    }
}

/// Applies a layer.
///
/// # Shapes
/// - input: `[batch, height, width, inputs]`
/// - output: `[batch, rows, columns, outputs]`
pub(crate) fn conv(input: Tensor<4>, layer: &Conv2d) -> Tensor<4> {
    let (stride, padding) = geometry(layer);
    let function = Convolution { stride, padding };
    let (input, weight) = (input.into_dispatch(), layer.weight.val().into_dispatch());
    match &layer.bias {
        Some(bias) => apply(function, [input, weight, bias.val().into_dispatch()]).0,
        None => apply(function, [input, weight]).0,
    }
}
