//! Sizes of a convolution.

/// A convolution of a batch: its sizes and how it is computed.
///
/// # Shapes
/// - input: `[batch, height, width, inputs]`
/// - weights: `[outputs, inputs, kernel[0], kernel[1]]`
/// - output: `[batch, rows, columns, outputs]`, see [`Conv::rows`] and [`Conv::columns`]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel, down and right.
    pub stride: [usize; 2],
    /// Zeros around the image: above and below, left and right.
    pub padding: [usize; 2],
}

impl Conv {
    /// Rows of the output.
    pub fn rows(&self) -> usize {
        (self.height + 2 * self.padding[0] - self.kernel[0]) / self.stride[0] + 1
    }

    /// Columns of the output.
    pub fn columns(&self) -> usize {
        (self.width + 2 * self.padding[1] - self.kernel[1]) / self.stride[1] + 1
    }

    /// Pixels of one image of the output.
    pub fn pixels(&self) -> usize {
        self.rows() * self.columns()
    }

    /// Floats of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.inputs
    }

    /// Floats of the weights.
    pub fn weight_len(&self) -> usize {
        self.outputs * self.inputs * self.kernel[0] * self.kernel[1]
    }

    /// Floats of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.pixels() * self.outputs
    }
}
