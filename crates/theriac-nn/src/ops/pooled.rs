//! Convolution, ReLU and 2 x 2 max-pooling as one operation.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use theriac_kernels::Conv;
use theriac_kernels::conv::pooled::{Kept, Pooled, Wanted};
use theriac_kernels::memory::Floats;

use super::conv::{geometry, sizes};
use super::{CPU, Function, apply, shape, tensor, values, vector, written};

#[derive(Debug)]
struct ConvReluPool {
    stride: [usize; 2],
    padding: [usize; 2],
}

#[derive(Clone, Debug)]
struct Saved {
    conv: Conv,
    input: FlexTensor,
    weight: FlexTensor,
    output: FlexTensor,
    chosen: Arc<[u8]>,
}

impl Function<3> for ConvReluPool {
    type Saved = Saved;
    type Aside = ();

    fn forward(&self, [input, weight, bias]: &[FlexTensor; 3]) -> (FlexTensor, Saved, ()) {
        let conv = sizes(input, weight, self.stride, self.padding);
        let mut chosen = Vec::new();
        let output = written([conv.batch, conv.rows() / 2, conv.columns() / 2, conv.outputs], |out| {
            let [input, weight, bias] = [input, weight, bias].map(values);
            chosen = Pooled(conv).forward(*CPU, conv.fastest(*CPU), input, weight, Some(bias), out);
        });
        let [input, weight] = [input, weight].map(FlexTensor::clone);
        let saved = Saved { conv, input, weight, output: output.clone(), chosen: chosen.into() };
        (output, saved, ())
    }

    fn backward(saved: Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let Saved { conv, input, weight, output, chosen } = saved;
        let kept = Kept { input: values(&input), output: values(&output), chosen: &chosen };
        let mut bias = Vec::new();
        // SAFETY: the kernel writes the whole of each gradient that is asked for.
        let [of_input, of_weight] = unsafe {
            Floats::written_if([(wanted[0], conv.input_len()), (wanted[1], conv.weight_len())], |[input, weights]| {
                let wanted = Wanted { input, weights };
                let weight = values(&weight);
                bias = Pooled(conv).backward(*CPU, conv.fastest(*CPU), kept, weight, values(&gradient), wanted);
            })
        };
        [
            of_input.map(|floats| tensor(shape::<4>(&input), floats)),
            of_weight.map(|floats| tensor(shape::<4>(&weight), floats)),
            wanted[2].then(|| vector(bias)),
        ]
    }
}

/// A layer with a bias, and of each channel the larger of 0 and the largest of each 2 x 2 pixels.
///
/// # Shapes
/// - input: `[batch, height, width, inputs]`
/// - output: `[batch, rows / 2, columns / 2, outputs]`
///
/// # Panics
/// If the layer has no bias; those of our networks have one.
pub(crate) fn conv_relu_pool(input: Tensor<4>, layer: &Conv2d) -> Tensor<4> {
    let (stride, padding) = geometry(layer);
    let bias = layer.bias.as_ref().expect("a layer before a pooling has a bias");
    let inputs = [input.into_dispatch(), layer.weight.val().into_dispatch(), bias.val().into_dispatch()];
    apply(ConvReluPool { stride, padding }, inputs).0
}
