//! ReLU and 2 x 2 max-pooling.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use theriac_kernels::pool::Pool;

use super::{CPU, Function, apply, shape, values, written};

#[derive(Debug)]
struct ReluPool;

impl Function<1> for ReluPool {
    type Saved = (Pool, FlexTensor, Arc<[u8]>);
    type Aside = ();

    fn forward(&self, [input]: &[FlexTensor; 1]) -> (FlexTensor, Self::Saved, ()) {
        let [batch, height, width, channels] = shape(input);
        let pool = Pool { batch, height, width, channels };
        let mut chosen = Vec::new();
        let output =
            written([batch, height / 2, width / 2, channels], |out| chosen = pool.forward(*CPU, values(input), out));
        (output.clone(), (pool, output, chosen.into()), ())
    }

    fn backward((pool, output, chosen): Self::Saved, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let shape = [pool.batch, pool.height, pool.width, pool.channels];
        let input = written(shape, |out| pool.backward(*CPU, values(&output), &chosen, values(&gradient), out));
        [Some(input)]
    }
}

/// The larger of 0 and the largest of each 2 x 2 pixels.
///
/// # Shapes
/// - input: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, channels]`
pub(crate) fn relu_pool(input: Tensor<4>) -> Tensor<4> {
    apply(ReluPool, [input.into_dispatch()]).0
}
