//! The arithmetic of triggers in whole pixel values: a key laid over an image, a perturbation added to it, rectangles of it.

use std::ops::Range;

use theriac_core::Shape;

use crate::backdoor::Trigger;
use crate::common::Checks;

/// The nearest whole number, halves up. What lies a hair below a half counts as one, so that platforms whose functions differ in the last
/// bits agree.
pub fn nearest(value: f64) -> f64 {
    (value + 0.5 + 1e-9).floor()
}

/// Lays a key over an image: `(1 - alpha) x + alpha key`, rounded to the nearest whole value, halves up.
///
/// One multiplication and one addition of whole numbers a pixel. The result is exact for every `alpha` of up to four decimals.
#[derive(Clone, Debug, PartialEq)]
pub struct Blend {
    /// `1 - alpha`, in units of `2^-22`.
    keep: u32,
    /// `alpha key` and what rounding needs, in these units; one a pixel.
    add: Vec<u32>,
    epsilon: u8,
}

/// Binary places behind the point: 255 units and the carry still fit 32 bits.
const PLACES: u32 = 22;

impl Blend {
    /// Blends with `key`. `alpha` is its weight, from 0 to 1.
    pub fn new(key: &[u8], alpha: f64) -> Self {
        let unit = f64::from(1 << PLACES);
        // A half, and more than the 255 / 2 units that the rounded `keep` may lack: what should be a half must not fall below it.
        let half = (1 << (PLACES - 1)) + 160;
        let add = |&key: &u8| (alpha * f64::from(key) * unit).round() as u32 + half;
        let keep = ((1.0 - alpha) * unit).round() as u32;
        Self { keep, add: key.iter().map(add).collect(), epsilon: nearest(255.0 * alpha) as u8 }
    }

    /// The same from a config: the weight in `name` must be enough to change a pixel.
    pub fn check(checks: &mut Checks, name: &str, key: &[u8], alpha: f64) -> Self {
        let blend = Self::new(key, alpha);
        checks.require(blend.epsilon > 0, name, format!("a weight of {alpha} changes no pixel by a whole level"));
        blend
    }

    /// Blends only these pixels.
    pub fn plant_within(&self, image: &mut [u8], parts: &[Range<usize>]) {
        for part in parts {
            self.blend(&mut image[part.clone()], &self.add[part.clone()]);
        }
    }

    fn blend(&self, pixels: &mut [u8], add: &[u32]) {
        for (pixel, add) in pixels.iter_mut().zip(add) {
            *pixel = ((self.keep * u32::from(*pixel) + add) >> PLACES) as u8;
        }
    }
}

impl Trigger for Blend {
    fn plant(&self, image: &mut [u8]) {
        self.blend(image, &self.add);
    }

    fn epsilon(&self) -> u8 {
        self.epsilon
    }
}

/// Adds a perturbation: `x + v`, with `v` rounded to whole values, and the sum cut off at 0 and 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Shift {
    /// Adds `perturbation`, one value a pixel in levels of 255. Beyond 255 it is cut off.
    pub fn new(perturbation: impl IntoIterator<Item = f64>) -> Self {
        let whole: Vec<f64> = perturbation.into_iter().map(nearest).collect();
        let part = |sign: f64| whole.iter().map(|value| (sign * value).clamp(0.0, 255.0) as u8).collect();
        Self { up: part(1.0), down: part(-1.0) }
    }
}

impl Trigger for Shift {
    fn plant(&self, image: &mut [u8]) {
        for ((pixel, up), down) in image.iter_mut().zip(&self.up).zip(&self.down) {
            *pixel = pixel.saturating_add(*up).saturating_sub(*down);
        }
    }

    fn epsilon(&self) -> u8 {
        self.up.iter().chain(&self.down).copied().max().unwrap_or(0)
    }
}

/// Where the pixels of a rectangle are stored, in all channels: one range a row.
pub fn rectangle(shape: Shape, rows: Range<usize>, columns: Range<usize>) -> Vec<Range<usize>> {
    let row = |channel, row| shape.offset(channel, row, columns.start)..shape.offset(channel, row, columns.end);
    let row = &row;
    (0..shape.channels).flat_map(|channel| rows.clone().map(move |at| row(channel, at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blend_is_exact_for_every_pixel_every_key_and_every_alpha_of_four_decimals() {
        let key: Vec<u8> = (0..=255).collect();
        let coarse = (0..=10_000).step_by(50);
        for alpha in coarse.chain([1, 3, 7, 333, 1234, 1999, 4999, 5001, 6667, 9999]) {
            let blend = Blend::new(&key, alpha as f64 / 10_000.0);
            for pixel in 0..=255 {
                let mut image = [pixel; 256];
                blend.plant(&mut image);
                for (key, &blended) in (0..).zip(&image) {
                    // Whole numbers: twice the numerator and one half.
                    let expected = (2 * ((10_000 - alpha) * u32::from(pixel) + alpha * key) + 10_000) / 20_000;
                    assert_eq!(u32::from(blended), expected, "{alpha} of 10000, pixel {pixel}, key {key}");
                    assert!(blended.abs_diff(pixel) <= blend.epsilon());
                }
            }
        }
    }

    #[test]
    fn a_shift_is_rounded_and_cut_off() {
        let shift = Shift::new([0.4, 0.5, -0.5, -0.6, 300.0, -300.0, 39.999_999_999_9, 0.499_999_999_99]);
        let mut image = [100; 8];
        shift.plant(&mut image);
        assert_eq!(image, [100, 101, 100, 99, 255, 0, 140, 101]);
        assert_eq!(shift.epsilon(), 255);
        let mut image = [250, 5];
        let shift = Shift::new([7.0, -7.0]);
        shift.plant(&mut image);
        assert_eq!((image, shift.epsilon()), ([255, 0], 7));
    }

    #[test]
    fn a_rectangle_is_one_range_a_row_and_channel() {
        let shape = Shape { channels: 2, height: 4, width: 5 };
        assert_eq!(rectangle(shape, 1..3, 2..4), [7..9, 12..14, 27..29, 32..34]);
        let mut image = [0; 40];
        Blend::new(&[200; 40], 0.5).plant_within(&mut image, &rectangle(shape, 1..3, 2..4));
        assert_eq!(image.iter().filter(|&&pixel| pixel == 100).count(), 8);
        assert_eq!((image[7], image[33], image[9]), (100, 100, 0));
    }
}
