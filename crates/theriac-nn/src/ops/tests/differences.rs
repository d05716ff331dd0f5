//! Gradients of every operation against central differences of its plain definition in double precision.

use std::collections::BTreeMap;

use super::*;

/// Half the distance of the two points of a difference.
const STEP: f64 = 1e-6;
/// Places of each tensor that are looked at.
const PLACES: usize = 12;
const EPSILON: f64 = 1e-5;

/// `[image, channel, row, column]`
#[derive(Clone)]
struct Maps {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Maps {
    fn new(shape: [usize; 4], value: impl Fn([usize; 4]) -> f64) -> Self {
        let [images, channels, rows, columns] = shape;
        let places = (0..images * channels * rows * columns).map(|at| {
            [at / (channels * rows * columns), at / (rows * columns) % channels, at / columns % rows, at % columns]
        });
        Self { shape, values: places.map(value).collect() }
    }

    /// The value at a place, 0 outside.
    fn at(&self, image: usize, channel: usize, row: isize, column: isize) -> f64 {
        let [_, channels, rows, columns] = self.shape;
        let inside = (0..rows as isize).contains(&row) && (0..columns as isize).contains(&column);
        let at = ((image * channels + channel) * rows) as isize + row;
        if inside { self.values[(at * columns as isize + column) as usize] } else { 0.0 }
    }

    fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.into_iter().map(change).collect(), ..self }
    }

    fn relu(self) -> Self {
        self.map(|value| value.max(0.0))
    }

    fn conv(&self, weight: &[f64], bias: Option<&[f64]>, sizes: Sizes) -> Self {
        let ([images, inputs, rows, columns], Sizes { outputs, kernel, stride, padding }) = (self.shape, sizes);
        let size = |axis: usize, size: usize| (size + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
        Self::new([images, outputs, size(0, rows), size(1, columns)], |[image, output, row, column]| {
            let mut sum = bias.map_or(0.0, |bias| bias[output]);
            for input in 0..inputs {
                for (down, right) in (0..kernel[0]).flat_map(|down| (0..kernel[1]).map(move |right| (down, right))) {
                    let y = (row * stride[0] + down) as isize - padding[0] as isize;
                    let x = (column * stride[1] + right) as isize - padding[1] as isize;
                    let at = ((output * inputs + input) * kernel[0] + down) * kernel[1] + right;
                    sum += self.at(image, input, y, x) * weight[at];
                }
            }
            sum
        })
    }

    /// The largest of each 2 x 2.
    fn pool(&self) -> Self {
        let [images, channels, rows, columns] = self.shape;
        Self::new([images, channels, rows / 2, columns / 2], |[image, channel, row, column]| {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let value = |(y, x)| self.at(image, channel, (2 * row + y) as isize, (2 * column + x) as isize);
            four.map(value).into_iter().fold(f64::NEG_INFINITY, f64::max)
        })
    }

    /// By the statistics of each channel, as in training.
    fn norm(&self, scale: &[f64], shift: &[f64]) -> Self {
        let [images, channels, rows, columns] = self.shape;
        let count = (images * rows * columns) as f64;
        let of = |channel: usize, value: &dyn Fn(f64) -> f64| {
            let all = self.values.iter().enumerate().filter(|(at, _)| at / (rows * columns) % channels == channel);
            all.map(|(_, x)| value(*x)).sum::<f64>() / count
        };
        let means: Vec<f64> = (0..channels).map(|channel| of(channel, &|x| x)).collect();
        let spread = |channel: usize| (of(channel, &|x| (x - means[channel]).powi(2)) + EPSILON).sqrt();
        let spreads: Vec<f64> = (0..channels).map(spread).collect();
        Self::new(self.shape, |[image, channel, row, column]| {
            let x = self.at(image, channel, row as isize, column as isize);
            (x - means[channel]) / spreads[channel] * scale[channel] + shift[channel]
        })
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

type Named = BTreeMap<String, Vec<f64>>;

/// Compares what `outcome` found with the definition: the output, and each gradient at some places.
fn check(found: &[(String, Vec<f32>)], at: &Named, define: impl Fn(&Named) -> Maps) {
    let output = define(at);
    let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let weights = double(&values(noise(output.shape, "gradient", &Device::flex())));
    let loss = |at: &Named| define(at).values.iter().zip(&weights).map(|(y, weight)| y * weight).sum::<f64>();
    let close = |name: &str, found: f64, expected: f64, largest: f64| {
        assert!(
            (found - expected).abs() <= 1e-4 * largest.max(1e-3),
            "{name}: {found}, expected {expected} of {largest}"
        );
    };
    for (name, gradient) in found {
        let gradient = double(gradient);
        let largest = gradient.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        if name == "output" {
            assert_eq!(gradient.len(), output.values.len());
            gradient.iter().zip(&output.values).for_each(|(found, expected)| close(name, *found, *expected, largest));
            continue;
        }
        let mut stream = Seeds::new(3).stream(name);
        for _ in 0..PLACES {
            let place = stream.below(gradient.len());
            let moved = |by: f64| {
                let mut at = at.clone();
                at.get_mut(name).unwrap()[place] += by;
                loss(&at)
            };
            close(name, gradient[place], (moved(STEP) - moved(-STEP)) / (2.0 * STEP), largest);
        }
    }
}

/// The parameters of a module and its input.
fn named<M: Module>(module: &M, input: &Tensor<4>) -> Named {
    let double = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let parameters = parameters::read(module).into_iter().map(|(name, parameter)| (name, double(parameter.values)));
    parameters.chain([("input".to_owned(), double(values(input.clone().inner())))]).collect()
}

/// The same shapes each time: next to a kink a difference means nothing, and no test may depend on luck.
fn draw(stream: &mut theriac_core::seed::Stream, from: usize, to: usize) -> usize {
    from + stream.below(to - from + 1)
}

#[test]
fn convolutions_and_pooled_ones() {
    let device = Device::flex().autodiff();
    let mut stream = Seeds::new(1).stream("shapes");
    let mut pooled_ones = 0;
    for case in 0..24 {
        let mut pair = |from: usize, to: usize| [draw(&mut stream, from, to), draw(&mut stream, from, to)];
        let (size, kernel, stride, padding) = (pair(1, 8), pair(1, 4), pair(1, 2), pair(0, 2));
        // Winograd's algorithm takes sixteen channels and more.
        let channels = if case % 4 == 3 { [16, 32] } else { pair(1, 5) };
        let batch = draw(&mut stream, 1, 3);
        let output = |axis: usize| {
            (size[axis] + 2 * padding[axis]).checked_sub(kernel[axis]).map(|rest| rest / stride[axis] + 1)
        };
        let (Some(rows), Some(columns)) = (output(0), output(1)) else { continue };
        let layer = any_layer(channels, kernel, stride, padding, &device);
        let images = noise([batch, channels[0], size[0], size[1]], "images", &device);
        let at = named(&layer, &images);
        let sizes = Sizes { outputs: channels[1], kernel, stride, padding };
        let define = |at: &Named| {
            let input = Maps { shape: [batch, channels[0], size[0], size[1]], values: at["input"].clone() };
            input.conv(&at["weight"], Some(&at["bias"]), sizes)
        };
        let forward = |layer: &Conv2d, images| conv2d(to_rows(images), layer).permute([0, 3, 1, 2]);
        check(&outcome(&layer, images.clone(), forward), &at, define);
        if rows > 1 && columns > 1 {
            pooled_ones += 1;
            check(&outcome(&layer, images, pooled), &at, |at| define(at).relu().pool());
        }
    }
    assert!(pooled_ones > 5);
}

#[test]
fn residual_blocks() {
    let device = Device::flex().autodiff();
    for (batch, [inputs, outputs], size, stride) in
        [(1, [3, 3], [7, 6], 1), (2, [3, 5], [7, 6], 2), (3, [16, 16], [6, 6], 1), (2, [16, 32], [8, 9], 2)]
    {
        let block = init::initialise(Block::new(inputs, outputs, stride, &device), &Seeds::new(1)).train();
        let images = noise([batch, inputs, size[0], size[1]], "images", &device);
        let at = named(&block, &images);
        let sizes = |kernel: usize, stride: usize| Sizes {
            outputs,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        };
        let define = |at: &Named| {
            let input = Maps { shape: [batch, inputs, size[0], size[1]], values: at["input"].clone() };
            let active = input.norm(&at["norm1.gamma"], &at["norm1.beta"]).relu();
            let around = at.get("shortcut.weight").map(|weight| active.conv(weight, None, sizes(1, stride)));
            let middle = active.conv(&at["conv1.weight"], None, sizes(3, stride));
            let middle = middle.norm(&at["norm2.gamma"], &at["norm2.beta"]).relu();
            let output = middle.conv(&at["conv2.weight"], None, sizes(3, 1));
            let around = around.unwrap_or(input);
            Maps { values: output.values.iter().zip(&around.values).map(|(a, b)| a + b).collect(), ..output }
        };
        let rows = |block: &Block, images: Tensor<4>| block.forward(to_rows(images)).permute([0, 3, 1, 2]);
        check(&outcome(&block, images, rows), &at, define);
    }
}

#[test]
fn images_that_enter() {
    let device = Device::flex().autodiff();
    let channels = [(0.2_f32, 0.5_f32), (0.4, 0.3), (0.1, 2.0)];
    for count in [1, 3] {
        let shape = [2, count, 5, 3];
        let images = noise(shape, "images", &device);
        let none = burn::nn::pool::MaxPool2dConfig::new([1, 1]).init();
        let at = named(&none, &images);
        let forward = |_: &burn::nn::pool::MaxPool2d, images| enter(images, &channels[..count]).permute([0, 3, 1, 2]);
        check(&outcome(&none, images, forward), &at, |at| {
            let input = Maps { shape, values: at["input"].clone() };
            Maps::new(shape, |[image, channel, row, column]| {
                let (mean, deviation) = channels[channel];
                (input.at(image, channel, row as isize, column as isize) - f64::from(mean)) / f64::from(deviation)
            })
        });
    }
}
