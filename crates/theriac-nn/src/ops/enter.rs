//! The way into a network: normalisation and the order of the axes in one pass.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use theriac_kernels::images::Images;

use super::{CPU, Function, apply, shape, values, written};

/// Mean and standard deviation of each channel.
#[derive(Clone, Debug)]
struct Enter(Vec<(f32, f32)>);

impl Enter {
    fn images(&self, [batch, height, width]: [usize; 3]) -> Images<'_> {
        Images { batch, pixels: height * width, channels: &self.0 }
    }
}

impl Function<1> for Enter {
    type Saved = Enter;
    type Aside = ();

    fn forward(&self, [images]: &[FlexTensor; 1]) -> (FlexTensor, Enter, ()) {
        let [batch, channels, height, width] = shape(images);
        assert_eq!(channels, self.0.len(), "a mean and a deviation for each channel");
        let size = self.images([batch, height, width]);
        let output = written([batch, height, width, channels], |out| size.normalise(*CPU, values(images), out));
        (output, self.clone(), ())
    }

    fn backward(saved: Enter, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [batch, height, width, channels] = shape(&gradient);
        let size = saved.images([batch, height, width]);
        [Some(written([batch, channels, height, width], |out| size.gradient(values(&gradient), out)))]
    }
}

/// Images minus the mean of each channel, divided by its deviation.
///
/// # Shapes
/// - images: `[batch, channels, height, width]`
/// - output: `[batch, height, width, channels]`
pub(crate) fn enter(images: Tensor<4>, channels: &[(f32, f32)]) -> Tensor<4> {
    apply(Enter(channels.to_vec()), [images.into_dispatch()]).0
}
