//! Random crops and flips, from a named stream.

use theriac_core::seed::Stream;
use theriac_nn::Batch;

use crate::recipe::Augment;

/// Shifts and mirrors every image of `batch`, each by draws of its own. What a shift uncovers is zero.
pub(crate) fn augment(batch: &mut Batch, mode: Augment, padding: usize, stream: &mut Stream) {
    Placements::draw(mode, padding, batch.len(), stream).apply(batch);
}

/// How some images are shifted and mirrored.
#[derive(Clone, Debug)]
pub struct Placements {
    padding: usize,
    each: Vec<Placement>,
}

/// How one image is: where it begins in its padded self, counted from above and from the left, and whether it is mirrored then.
#[derive(Clone, Copy, Debug)]
struct Placement {
    down: usize,
    right: usize,
    mirror: bool,
}

impl Placements {
    /// The draws of a training for `count` images.
    pub fn draw(mode: Augment, padding: usize, count: usize, stream: &mut Stream) -> Self {
        let (crop, flip) = (mode.crops(), mode.flips());
        let mut place = || {
            let (down, right) = match crop {
                true => (stream.below(2 * padding + 1), stream.below(2 * padding + 1)),
                false => (padding, padding),
            };
            Placement { down, right, mirror: flip && stream.chance(0.5) }
        };
        Self { padding, each: (0..count).map(|_| place()).collect() }
    }

    /// Shifts and then mirrors each image.
    pub fn apply(&self, batch: &mut Batch) {
        let (shape, size, padding) = (batch.shape, batch.shape.len(), self.padding);
        let mut source = vec![0.0; size];
        for (image, placement) in batch.pixels.chunks_exact_mut(size).zip(&self.each) {
            source.copy_from_slice(image);
            for (line, to) in image.chunks_exact_mut(shape.width).enumerate() {
                let (channel, row) = (line / shape.height, line % shape.height + placement.down);
                let inside = row >= padding && row - padding < shape.height;
                if inside {
                    let from = &source[shape.offset(channel, row - padding, 0)..][..shape.width];
                    shift(from, placement.right, padding, to);
                } else {
                    to.fill(0.0);
                }
                if placement.mirror {
                    to.reverse();
                }
            }
        }
    }

    /// Brings a gradient of the images as they are placed to the images as they were: the adjoint of [`Placements::apply`], which is
    /// linear.
    pub fn adjoint(&self, gradient: &mut Batch) {
        let width = gradient.shape.width;
        let size = gradient.shape.len();
        for (image, placement) in gradient.pixels.chunks_exact_mut(size).zip(&self.each) {
            if placement.mirror {
                image.chunks_exact_mut(width).for_each(<[f32]>::reverse);
            }
        }
        let back = |place: &Placement| Placement {
            down: 2 * self.padding - place.down,
            right: 2 * self.padding - place.right,
            mirror: false,
        };
        Self { padding: self.padding, each: self.each.iter().map(back).collect() }.apply(gradient);
    }
}

/// Writes a line that begins at column `right` of `from` with `padding` zeros around it.
fn shift(from: &[f32], right: usize, padding: usize, to: &mut [f32]) {
    let (lead, skip) = (padding.saturating_sub(right), right.saturating_sub(padding));
    let count = from.len() - lead - skip;
    to[..lead].fill(0.0);
    to[lead..lead + count].copy_from_slice(&from[skip..][..count]);
    to[lead + count..].fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Seeds, Shape};

    fn batch() -> Batch {
        let shape = Shape { channels: 1, height: 2, width: 3 };
        Batch { shape, pixels: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }
    }

    #[test]
    fn a_flip_mirrors_and_a_crop_shifts() {
        let mut seen = std::collections::BTreeSet::new();
        let mut stream = Seeds::new(0).stream("augment");
        for _ in 0..60 {
            let mut flipped = batch();
            augment(&mut flipped, Augment::Flip, 1, &mut stream);
            seen.insert(flipped.pixels.iter().map(|&value| value as u8).collect::<Vec<_>>());
        }
        let expected = [vec![1, 2, 3, 4, 5, 6], vec![3, 2, 1, 6, 5, 4]];
        assert_eq!(seen, expected.into());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..300 {
            let mut cropped = batch();
            augment(&mut cropped, Augment::Crop, 1, &mut stream);
            seen.insert(cropped.pixels.iter().map(|&value| value as u8).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 9);
        assert!(seen.contains(&vec![0, 0, 0, 0, 1, 2]) && seen.contains(&vec![5, 6, 0, 0, 0, 0]));
    }

    #[test]
    fn the_adjoint_belongs_to_the_placement() {
        let shape = Shape { channels: 2, height: 5, width: 4 };
        let mut stream = Seeds::new(0).stream("adjoint");
        let mut noise = |_| Batch { shape, pixels: (0..3 * shape.len()).map(|_| stream.normal() as f32).collect() };
        let dot = |a: &Batch, b: &Batch| a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut drawing = Seeds::new(1).stream("adjoint");
        for mode in [Augment::None, Augment::Crop, Augment::Flip, Augment::CropFlip].repeat(20) {
            let placements = Placements::draw(mode, 2, 3, &mut drawing);
            let (images, gradient) = (noise(()), noise(()));
            let (mut placed, mut returned) = (images.clone(), gradient.clone());
            placements.apply(&mut placed);
            placements.adjoint(&mut returned);
            assert!((dot(&placed, &gradient) - dot(&images, &returned)).abs() < 1e-5, "{mode:?} {placements:?}");
        }
    }
}
