//! Pictures of poisoned samples: before, after, what changed, and what changed in all of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use theriac_core::record::GalleryTile;

/// By how much differences are amplified.
pub const GAIN: u32 = 10;

/// The pictures of one tile as data URIs; a picture is absent where the tile has no pixels for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TilePictures {
    /// Before.
    pub clean: Option<String>,
    /// After.
    pub poisoned: Option<String>,
    /// `min(255, 10 |after - before|)` a pixel and channel: black is unchanged.
    pub difference: Option<String>,
}

/// Draws one tile.
pub fn pictures(tile: &GalleryTile) -> TilePictures {
    let difference = pair(tile).map(|(clean, poisoned)| {
        let amplify = |(a, b): (&u8, &u8)| (u32::from(a.abs_diff(*b)) * GAIN).min(255) as u8;
        clean.iter().zip(poisoned).map(amplify).collect::<Vec<u8>>()
    });
    let draw = |pixels: Option<&Vec<u8>>| pixels.and_then(|pixels| picture(tile.shape, pixels, None));
    TilePictures {
        clean: draw(tile.clean.as_ref()),
        poisoned: draw(tile.poisoned.as_ref()),
        difference: draw(difference.as_ref()),
    }
}

/// The common change of all tiles that have a before and an after: the mean signed change of those pixels that
/// changed in every one of them, around a middle grey and stretched to full contrast; all other pixels are
/// transparent. `None` with fewer than two such tiles, or when nothing is common.
pub fn trigger(tiles: &[GalleryTile]) -> Option<String> {
    let shape = tiles.first()?.shape;
    let pairs: Vec<(&[u8], &[u8])> = tiles.iter().filter(|tile| tile.shape == shape).filter_map(pair).collect();
    let [channels, height, width] = shape;
    if pairs.len() < 2 {
        return None;
    }
    let plane = height * width;
    let changed = |at: usize, (clean, poisoned): &(&[u8], &[u8])| {
        (0..channels).any(|channel| clean[channel * plane + at] != poisoned[channel * plane + at])
    };
    let mask: Vec<bool> = (0..plane).map(|at| pairs.iter().all(|pair| changed(at, pair))).collect();
    if !mask.contains(&true) {
        return None;
    }
    let change = |index: usize| -> i64 {
        let changes = pairs.iter().map(|(clean, poisoned)| i64::from(poisoned[index]) - i64::from(clean[index]));
        if mask[index % plane] { changes.sum() } else { 0 }
    };
    let changes: Vec<i64> = (0..channels * plane).map(change).collect();
    let largest = changes.iter().map(|change| change.abs()).max().unwrap_or(0).max(1);
    let pixels: Vec<u8> = changes.iter().map(|change| (128 + change * 127 / largest) as u8).collect();
    picture(shape, &pixels, Some(&mask))
}

/// The zoom at which a picture of this width is large enough to look at.
pub fn zoom(width: usize) -> usize {
    (84usize).div_ceil(width.max(1)).max(1)
}

/// Before and after, where both are as large as the shape says.
fn pair(tile: &GalleryTile) -> Option<(&[u8], &[u8])> {
    let size: usize = tile.shape.iter().product();
    let (clean, poisoned) = (tile.clean.as_ref()?, tile.poisoned.as_ref()?);
    (clean.len() == size && poisoned.len() == size && size > 0).then_some((clean.as_slice(), poisoned.as_slice()))
}

/// A PNG as a data URI. One channel is grey, three are red, green and blue; of any other number the first is shown as
/// grey.
fn picture([channels, height, width]: [usize; 3], pixels: &[u8], mask: Option<&[bool]>) -> Option<String> {
    if pixels.len() != channels * height * width || pixels.is_empty() {
        return None;
    }
    let plane = height * width;
    let used = if channels == 3 { 3 } else { 1 };
    let mut bytes = Vec::with_capacity(plane * (used + 1));
    for at in 0..plane {
        bytes.extend((0..used).map(|channel| pixels[channel * plane + at]));
        if let Some(mask) = mask {
            bytes.push(if mask[at] { 255 } else { 0 });
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match (used, mask) {
        (3, None) => png::ColorType::Rgb,
        (3, Some(_)) => png::ColorType::Rgba,
        (_, None) => png::ColorType::Grayscale,
        (_, Some(_)) => png::ColorType::GrayscaleAlpha,
    });
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&bytes).ok()?;
    writer.finish().ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(clean: Option<[u8; 4]>, poisoned: Option<[u8; 4]>) -> GalleryTile {
        let pixels = |pixels: Option<[u8; 4]>| pixels.map(Vec::from);
        GalleryTile { shape: [1, 2, 2], caption: String::new(), clean: pixels(clean), poisoned: pixels(poisoned) }
    }

    fn decode(uri: &str) -> Vec<u8> {
        let bytes = STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        pixels.truncate(info.buffer_size());
        pixels
    }

    #[test]
    fn the_difference_is_amplified_and_clipped() {
        let drawn = pictures(&tile(Some([0, 10, 20, 30]), Some([0, 12, 10, 200])));
        assert_eq!(decode(&drawn.difference.unwrap()), [0, 20, 100, 255]);
    }

    #[test]
    fn the_trigger_is_what_changed_everywhere() {
        let tiles = [tile(Some([0, 0, 0, 0]), Some([0, 7, 0, 255])), tile(Some([9, 9, 9, 9]), Some([9, 9, 9, 255]))];
        assert_eq!(decode(&trigger(&tiles).unwrap()), [128, 0, 128, 0, 128, 0, 255, 255]);
        assert_eq!(trigger(&tiles[..1]), None);
    }

    #[test]
    fn removed_inserted_and_broken_tiles_are_drawn_as_far_as_they_go() {
        let removed = pictures(&tile(Some([1; 4]), None));
        assert!(removed.clean.is_some() && removed.poisoned.is_none() && removed.difference.is_none());
        let broken = GalleryTile { shape: [3, 9, 9], ..tile(Some([1; 4]), Some([1; 4])) };
        assert_eq!(pictures(&broken), TilePictures { clean: None, poisoned: None, difference: None });
    }
}
