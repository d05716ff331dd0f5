//! Random crops and flips, from a named stream.

use theriac_core::seed::Stream;
use theriac_nn::Batch;

use crate::recipe::Augment;

/// Shifts and mirrors every image of `batch`, each by draws of its own. What a shift uncovers is zero.
pub(crate) fn augment(batch: &mut Batch, mode: Augment, padding: usize, stream: &mut Stream) {
    let (crop, flip) = (mode.crops(), mode.flips());
    let (shape, size) = (batch.shape, batch.shape.len());
    let mut source = vec![0.0; size];
    for image in batch.pixels.chunks_exact_mut(size) {
        let (down, right) = match crop {
            true => (stream.below(2 * padding + 1), stream.below(2 * padding + 1)),
            false => (padding, padding),
        };
        let mirror = flip && stream.chance(0.5);
        source.copy_from_slice(image);
        for (line, to) in image.chunks_exact_mut(shape.width).enumerate() {
            let (channel, row) = (line / shape.height, line % shape.height + down);
            let inside = row >= padding && row - padding < shape.height;
            if inside {
                shift(&source[shape.offset(channel, row - padding, 0)..][..shape.width], right, padding, to);
            } else {
                to.fill(0.0);
            }
            if mirror {
                to.reverse();
            }
        }
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
}
