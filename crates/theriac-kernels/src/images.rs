//! Images between data sets and networks: normalised, and with the channels of a pixel side by side.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::Cpu;
use crate::memory::Out;

/// Pixels of a channel that are normalised before they are put apart, so that they stay in registers and in the first cache.
const RUN: usize = 256;

/// A batch of images with `pixels` values in each channel.
#[derive(Clone, Debug)]
pub struct Images<'a> {
    /// Images.
    pub batch: usize,
    /// Rows times columns.
    pub pixels: usize,
    /// Mean and standard deviation of each channel.
    pub channels: &'a [(f32, f32)],
}

impl Images<'_> {
    /// Writes `(images - mean) / deviation` as `[batch, pixels, channels]`, from `[batch, channels, pixels]`.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn normalise(&self, cpu: Cpu, images: &[f32], out: Out) {
        self.each(images, out, |channel, image, out| cpu.run(Apart { images: self, channel, image, out }));
    }

    /// The gradient of the images, `[batch, channels, pixels]`, from that of what [`Images::normalise`] writes.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn gradient(&self, gradient: &[f32], out: Out) {
        let channels = self.channels.len();
        self.each(gradient, out, |channel, image, out| {
            let (_, deviation) = self.channels[channel];
            for pixel in 0..self.pixels {
                // SAFETY: within the image, which one thread writes.
                unsafe { *out.add(channel * self.pixels + pixel) = image[pixel * channels + channel] / deviation };
            }
        });
    }

    /// Calls `task` with every channel of every image: its number, the image, and where the result of this image begins.
    fn each(&self, values: &[f32], out: Out, task: impl Fn(usize, &[f32], *mut f32) + Sync) {
        let image = self.pixels * self.channels.len();
        assert!([values.len(), out.len()] == [self.batch * image; 2], "sizes of a batch of images");
        if image > 0 {
            values.par_chunks_exact(image).enumerate().with_min_len(8).for_each(|(index, values)| {
                (0..self.channels.len()).for_each(|channel| task(channel, values, out.at(index * image)));
            });
        }
    }
}

/// Normalises one channel of an image and puts its pixels `channels` floats apart.
struct Apart<'a> {
    images: &'a Images<'a>,
    channel: usize,
    image: &'a [f32],
    out: *mut f32,
}

impl WithSimd for Apart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Images { pixels, channels, .. } = *self.images;
        let (mean, deviation) = channels[self.channel];
        let mut run = [0.0; RUN];
        for (index, values) in self.image[self.channel * pixels..][..pixels].chunks(RUN).enumerate() {
            run.iter_mut().zip(values).for_each(|(run, value)| *run = (value - mean) / deviation);
            for (at, &value) in run[..values.len()].iter().enumerate() {
                // SAFETY: within the image, which one thread writes.
                unsafe { *self.out.add((index * RUN + at) * channels.len() + self.channel) = value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_normalised_and_put_side_by_side() {
        for (batch, pixels, channels) in [(1, 1, 1), (2, 3, 1), (3, RUN + 5, 3), (20, 7, 2), (0, 4, 2)] {
            let statistics: Vec<(f32, f32)> =
                (0..channels).map(|at| (0.1 * at as f32, 0.2 + 0.3 * at as f32)).collect();
            let images = Images { batch, pixels, channels: &statistics };
            let len = batch * pixels * channels;
            let values: Vec<f32> = (0..len).map(|at| (at * 7 % 11) as f32 / 11.0).collect();
            let places = (0..len).map(|at| {
                let (image, channel, pixel) = (at / (pixels * channels), at / pixels % channels, at % pixels);
                ((image * pixels + pixel) * channels + channel, statistics[channel])
            });
            for cpu in Cpu::all() {
                let (mut found, mut back) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                images.normalise(cpu, &values, Out::new(&mut found));
                images.gradient(&found, Out::new(&mut back));
                for ((from, value), (to, (mean, deviation))) in values.iter().enumerate().zip(places.clone()) {
                    assert_eq!(found[to], (value - mean) / deviation);
                    assert_eq!(back[from], found[to] / deviation);
                }
            }
        }
    }
}
