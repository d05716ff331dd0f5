//! One PNG image, gray or RGB, as planes.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Reader, Transformations};
use theriac_core::Shape;

use crate::error::DataError;

/// No image that a network can be trained on has more bytes; a damaged or crafted header must not decide what is
/// allocated.
const MOST_BYTES: usize = 1 << 28;

/// The size of the image at `path`, from its header alone.
///
/// # Errors
/// When the file cannot be read, is no PNG image, or is neither gray nor RGB with 8 bits.
pub fn read_shape(path: &Path) -> Result<Shape, DataError> {
    open(path).map(|(_, shape)| shape)
}

/// The image at `path`: its size and its pixels, `[channel, row, column]`. Memory is taken as the header says, so the size
/// is better compared by [`read_shape`] first.
///
/// # Errors
/// When the file cannot be read, is no PNG image, is neither gray nor RGB with 8 bits, or declares an absurd size.
pub fn read(path: &Path) -> Result<(Shape, Vec<u8>), DataError> {
    let (mut reader, shape) = open(path)?;
    if reader.output_buffer_size().is_none_or(|size| size > MOST_BYTES) {
        let found = format!("{}x{} pixels in {} channels", shape.height, shape.width, shape.channels);
        // The header's first field stands behind the signature and the length and name of its chunk.
        return Err(DataError::Header { path: path.to_path_buf(), offset: 16, found });
    }
    let mut rows = vec![0; shape.len()];
    reader.next_frame(&mut rows).map_err(|source| DataError::Png { path: path.to_path_buf(), source })?;
    let area = shape.height * shape.width;
    let mut planes = vec![0; shape.len()];
    for (at, pixel) in rows.chunks(shape.channels).enumerate() {
        for (channel, &value) in pixel.iter().enumerate() {
            planes[channel * area + at] = value;
        }
    }
    Ok((shape, planes))
}

fn open(path: &Path) -> Result<(Reader<BufReader<File>>, Shape), DataError> {
    let file = File::open(path).map_err(|source| DataError::Read { path: path.to_path_buf(), source })?;
    let mut decoder = Decoder::new(BufReader::new(file));
    // Palettes become RGB and 1, 2 or 4 bits of gray become 8. Nothing here loses information: 16 bits stay and are
    // refused.
    decoder.set_transformations(Transformations::EXPAND);
    let reader = decoder.read_info().map_err(|source| DataError::Png { path: path.to_path_buf(), source })?;
    let channels = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Eight) => 1,
        (ColorType::Rgb, BitDepth::Eight) => 3,
        (color, depth) => {
            let found = format!("{color:?} with {} bits", depth as u8);
            return Err(DataError::PixelFormat { path: path.to_path_buf(), found });
        }
    };
    let (width, height) = reader.info().size();
    Ok((reader, Shape { channels, height: height as usize, width: width as usize }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Changes the size that the header of the image at `path` declares.
    pub(crate) fn declare(path: &Path, width: u32, height: u32) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        std::fs::write(path, bytes).unwrap();
    }

    fn write(color: ColorType, depth: BitDepth, bytes: &[u8]) -> tempfile::TempPath {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
        path
    }

    #[test]
    fn gray_and_rgb_become_planes() {
        let path = write(ColorType::Grayscale, BitDepth::Eight, &[7, 8]);
        assert_eq!(read(&path).unwrap(), (Shape { channels: 1, height: 1, width: 2 }, vec![7, 8]));
        let path = write(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&path).unwrap(), (Shape { channels: 3, height: 1, width: 2 }, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(read_shape(&path).unwrap().channels, 3);
    }

    #[test]
    fn few_bits_are_spread_over_the_full_range() {
        let path = write(ColorType::Grayscale, BitDepth::One, &[0b0100_0000]);
        assert_eq!(read(&path).unwrap().1, [0, 255]);
    }

    #[test]
    fn transparency_and_16_bits_are_refused() {
        for (color, depth, bytes) in
            [(ColorType::Rgba, BitDepth::Eight, &[0; 8][..]), (ColorType::Grayscale, BitDepth::Sixteen, &[0; 4][..])]
        {
            let error = read(&write(color, depth, bytes)).unwrap_err();
            assert!(matches!(&error, DataError::PixelFormat { .. }), "{error}");
        }
    }

    #[test]
    fn a_header_that_asks_for_too_much_memory_is_refused() {
        let path = write(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
        for (width, height) in [(50_000_000, 2_000_000_000), (20_000, 20_000)] {
            declare(&path, width, height);
            let error = read(&path).unwrap_err();
            assert!(matches!(&error, DataError::Header { offset: 16, .. } | DataError::Png { .. }), "{error}");
        }
    }

    #[test]
    fn text_and_cut_images_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no image at all").unwrap();
        assert!(matches!(read(file.path()), Err(DataError::Png { .. })));
        let path = write(ColorType::Grayscale, BitDepth::Eight, &[7, 8]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2 + 4]).unwrap();
        assert!(matches!(read(&path), Err(DataError::Png { .. })));
    }
}
