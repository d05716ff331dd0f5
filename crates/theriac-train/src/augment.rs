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
        for channel in 0..shape.channels {
            for row in 0..shape.height {
                for column in 0..shape.width {
                    let column_in = if mirror { shape.width - 1 - column } else { column };
                    let (from_row, from_column) = (row + down, column_in + right);
                    let inside = from_row >= padding
                        && from_column >= padding
                        && from_row - padding < shape.height
                        && from_column - padding < shape.width;
                    let value = if inside {
                        source[shape.offset(channel, from_row - padding, from_column - padding)]
                    } else {
                        0.0
                    };
                    image[shape.offset(channel, row, column)] = value;
                }
            }
        }
    }
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
