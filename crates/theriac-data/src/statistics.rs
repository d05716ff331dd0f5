//! Mean and standard deviation of each channel, for normalising inputs.

use theriac_core::Dataset;

/// For each channel, the mean and the standard deviation (over all pixels of all images) of pixel / 255. Sums are whole
/// numbers, so the result does not depend on the order of the samples. A constant channel, which is to be shifted and not
/// scaled, has the deviation 1; so has each channel of an empty data set, with the mean 0.
pub fn statistics(data: &Dataset) -> Vec<(f32, f32)> {
    let shape = data.shape();
    let area = shape.height * shape.width;
    let of_channel = |channel: usize| {
        let (mut sum, mut squares) = (0u64, 0u64);
        for index in 0..data.len() {
            for &pixel in &data.image(index)[channel * area..][..area] {
                sum += u64::from(pixel);
                squares += u64::from(pixel) * u64::from(pixel);
            }
        }
        let count = (area * data.len()).max(1) as f64;
        let mean = sum as f64 / count;
        let variance = (squares as f64 / count - mean * mean).max(0.0);
        let deviation = if variance > 0.0 { variance.sqrt() / 255.0 } else { 1.0 };
        ((mean / 255.0) as f32, deviation as f32)
    };
    (0..shape.channels).map(of_channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Shape;

    #[test]
    fn each_channel_has_its_mean_and_spread() {
        let shape = Shape { channels: 2, height: 1, width: 2 };
        let pixels = vec![0, 255, 51, 51, 0, 255, 51, 51];
        let data = Dataset::new("toy", shape, vec!["a".to_owned()], pixels, &[0, 0]).unwrap();
        assert_eq!(statistics(&data), [(0.5, 0.5), (0.2, 1.0)]);
        assert_eq!(statistics(&data.select(&[])), [(0.0, 1.0), (0.0, 1.0)]);
    }
}
