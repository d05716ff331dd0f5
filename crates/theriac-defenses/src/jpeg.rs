//! What is left of an image after it went through a JPEG file, to the bit as Pillow leaves it.
//!
//! Baseline JPEG (ITU-T T.81, 1992) as libjpeg makes it by default: the standard's tables of Annex K scaled by the quality, a quarter of the
//! colour, the cosine transform in whole numbers with 13 bits. The entropy coding loses nothing and is left out, so no file is ever
//! written. Results of a defense should not depend on whose codec it runs through, and codecs in Rust differ from
//! Pillow's by a few units of 255: hence this one.

use theriac_core::Shape;

/// Side of a block.
const SIDE: usize = 8;
/// Pixels of a block.
const AREA: usize = SIDE * SIDE;
/// Bits of the cosines below.
const BITS: u32 = 13;
/// Bits that the first pass keeps for the second one.
const KEPT: u32 = 2;

/// Half a row of the transform each: `cos(u (2 x + 1) pi / 16) * sqrt(2) * 2^13` for `x` from 0 to 3, `2^13` for `u = 0`.
/// Numbers that should be equal differ by one in places: they are sums of constants that were rounded one by one, as the fast
/// algorithm of Loeffler, Ligtenberg and Moschytz (1989) adds them up.
const HALF: [[i32; SIDE / 2]; SIDE] = [
    [8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260],
    [10703, 4433, -4433, -10703],
    [9633, -2259, -11362, -6436],
    [8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633],
    [4433, -10704, 10704, -4433],
    [2260, -6436, 9633, -11363],
];

/// The whole rows: the other half is the mirror image, with the sign turned for odd `u`.
const COSINES: [[i32; SIDE]; SIDE] = {
    let mut rows = [[0; SIDE]; SIDE];
    let mut at = 0;
    while at < AREA / 2 {
        let (u, x) = (at / (SIDE / 2), at % (SIDE / 2));
        rows[u][x] = HALF[u][x];
        rows[u][SIDE - 1 - x] = if u % 2 == 1 { -HALF[u][x] } else { HALF[u][x] };
        at += 1;
    }
    rows
};

#[rustfmt::skip]
const LUMINANCE: [u32; AREA] = [
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
];

#[rustfmt::skip]
const CHROMINANCE: [u32; AREA] = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// The image, `[channel, row, column]` with one channel or three, after compression at `quality`, from 1 to 100.
///
/// # Panics
/// When the image has another size or another number of channels.
pub(crate) fn compressed(image: &[u8], shape: Shape, quality: u8) -> Vec<u8> {
    assert_eq!(image.len(), shape.len(), "an image of this shape");
    let [luminance, chrominance] = [LUMINANCE, CHROMINANCE].map(|table| steps(&table, quality));
    let (height, width) = (shape.height, shape.width);
    match shape.channels {
        1 => Plane { height, width, values: image.to_vec() }.coded(&luminance).values,
        3 => {
            let [bright, blue, red] = split(image, height, width);
            let [blue, red] = [blue, red].map(|plane| plane.halved().coded(&chrominance).doubled(height, width));
            join(&bright.coded(&luminance), &blue, &red)
        }
        channels => panic!("an image of 1 or 3 channels, not of {channels}"),
    }
}

/// The luminance of each pixel of an image of three channels, as Pillow's mode `L` has it: `[row, column]`.
pub(crate) fn gray(image: &[u8]) -> Vec<u8> {
    let plane = image.len() / 3;
    (0..plane).map(|at| luminance([image[at], image[plane + at], image[2 * plane + at]])).collect()
}

fn luminance([red, green, blue]: [u8; 3]) -> u8 {
    ((19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue) + (1 << 15)) >> 16) as u8
}

/// The steps of the quantisation at `quality`.
fn steps(table: &[u32; AREA], quality: u8) -> [i32; AREA] {
    let quality = u32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    table.map(|step| ((step * percent + 50) / 100).clamp(1, 255) as i32)
}

/// One channel: `[row, column]`.
#[derive(Clone, Debug, PartialEq)]
struct Plane {
    height: usize,
    width: usize,
    values: Vec<u8>,
}

impl Plane {
    /// A plane whose values are made one by one from (row, column).
    fn from(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> Self {
        let values = (0..height * width).map(|at| value(at / width, at % width)).collect();
        Self { height, width, values }
    }

    /// A value; beyond the edges, the nearest one.
    fn at(&self, row: usize, column: usize) -> i32 {
        i32::from(self.values[row.min(self.height - 1) * self.width + column.min(self.width - 1)])
    }

    /// Each block through the transform, the quantisation, and back.
    fn coded(&self, steps: &[i32; AREA]) -> Self {
        let mut coded = self.clone();
        for (top, left) in
            (0..self.height).step_by(SIDE).flat_map(|top| (0..self.width).step_by(SIDE).map(move |left| (top, left)))
        {
            let block: [i32; AREA] =
                std::array::from_fn(|index| self.at(top + index / SIDE, left + index % SIDE) - 128);
            let block = inverse(quantised(forward(block), steps));
            let columns = SIDE.min(self.width - left);
            for row in 0..SIDE.min(self.height - top) {
                for column in 0..columns {
                    coded.values[(top + row) * self.width + left + column] =
                        (block[row * SIDE + column] + 128).clamp(0, 255) as u8;
                }
            }
        }
        coded
    }

    /// Means of two by two values, whose last bit is rounded up in every other column. As many columns as whole
    /// blocks have: those beyond the edge go on with the last values of the full plane.
    fn halved(&self) -> Self {
        let width = self.width.div_ceil(2).next_multiple_of(SIDE);
        Self::from(self.height.div_ceil(2), width, |row, column| {
            let (top, left) = (2 * row, 2 * column);
            let pair = |row: usize| self.at(row, left) + self.at(row, left + 1);
            ((pair(top) + pair(top + 1) + 1 + (column % 2) as i32) >> 2) as u8
        })
    }

    /// The full size: a value is three quarters of the nearer one and one quarter of the other one, in both directions.
    fn doubled(&self, height: usize, width: usize) -> Self {
        // Columns beyond the edge served the blocks only.
        let half = Self::from(height.div_ceil(2), width.div_ceil(2), |row, column| self.at(row, column) as u8);
        if half.width <= 2 {
            return Self::from(height, width, |row, column| half.at(row / 2, column / 2) as u8);
        }
        // Below and right of the nearer one for odd places, above and left for even ones.
        let other = |at: usize| if at % 2 == 1 { at / 2 + 1 } else { (at / 2).saturating_sub(1) };
        Self::from(height, width, |row, column| {
            let down = |column: usize| 3 * half.at(row / 2, column) + half.at(other(row), column);
            let rounding = if column % 2 == 1 { 7 } else { 8 };
            ((3 * down(column / 2) + down(other(column)) + rounding) >> 4) as u8
        })
    }
}

/// Brightness, and how far blue and red stand out from it.
fn split(image: &[u8], height: usize, width: usize) -> [Plane; 3] {
    let pixel = |row: usize, column: usize| -> [i32; 3] {
        std::array::from_fn(|channel| i32::from(image[(channel * height + row) * width + column]))
    };
    let colour = |[red, green, blue]: [i32; 3], row: usize, column: usize| {
        let pixel = pixel(row, column);
        ((red * pixel[0] + green * pixel[1] + blue * pixel[2] + (128 << 16) + (1 << 15) - 1) >> 16) as u8
    };
    [
        Plane::from(height, width, |row, column| luminance(pixel(row, column).map(|value| value as u8))),
        Plane::from(height, width, |row, column| colour([-11059, -21709, 32768], row, column)),
        Plane::from(height, width, |row, column| colour([32768, -27439, -5329], row, column)),
    ]
}

/// The image of three channels.
fn join(bright: &Plane, blue: &Plane, red: &Plane) -> Vec<u8> {
    let rounded = |value: i32| (value + (1 << 15)) >> 16;
    let channel = |change: &dyn Fn(i32, i32) -> i32| -> Vec<u8> {
        let planes = bright.values.iter().zip(&blue.values).zip(&red.values);
        let value = |((&bright, &blue), &red): ((&u8, &u8), &u8)| {
            (i32::from(bright) + change(i32::from(blue) - 128, i32::from(red) - 128)).clamp(0, 255) as u8
        };
        planes.map(value).collect()
    };
    [
        channel(&|_, red| rounded(91881 * red)),
        channel(&|blue, red| rounded(-22554 * blue - 46802 * red)),
        channel(&|blue, _| rounded(116_130 * blue)),
    ]
    .concat()
}

/// `value / 2^bits`, to the nearest whole number.
fn descaled(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

/// Eight times the cosine transform: rows first, then columns.
fn forward(block: [i32; AREA]) -> [i32; AREA] {
    let rows = |index: usize| {
        let (row, u) = (index / SIDE, index % SIDE);
        descaled((0..SIDE).map(|x| COSINES[u][x] * block[row * SIDE + x]).sum(), BITS - KEPT)
    };
    let half: [i32; AREA] = std::array::from_fn(rows);
    let columns = |index: usize| {
        let (v, column) = (index / SIDE, index % SIDE);
        descaled((0..SIDE).map(|y| COSINES[v][y] * half[y * SIDE + column]).sum(), BITS + KEPT)
    };
    std::array::from_fn(columns)
}

/// Each coefficient, eight times too large, at the nearest multiple of its step.
fn quantised(coefficients: [i32; AREA], steps: &[i32; AREA]) -> [i32; AREA] {
    std::array::from_fn(|index| {
        let (value, step) = (coefficients[index], steps[index]);
        (value.abs() + 4 * step) / (8 * step) * step * value.signum()
    })
}

/// The way back: columns first, then rows.
fn inverse(coefficients: [i32; AREA]) -> [i32; AREA] {
    let columns = |index: usize| {
        let (y, column) = (index / SIDE, index % SIDE);
        descaled((0..SIDE).map(|v| COSINES[v][y] * coefficients[v * SIDE + column]).sum(), BITS - KEPT)
    };
    let half: [i32; AREA] = std::array::from_fn(columns);
    let rows = |index: usize| {
        let (row, x) = (index / SIDE, index % SIDE);
        descaled((0..SIDE).map(|u| COSINES[u][x] * half[row * SIDE + u]).sum(), BITS + KEPT + 3)
    };
    std::array::from_fn(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Golden;

    fn shape(channels: usize, height: usize, width: usize) -> Shape {
        Shape { channels, height, width }
    }

    #[test]
    fn flat_images_are_as_computed_by_hand() {
        // 100 lies 28 below the middle; the first step at quality 10 is 16 * 5 = 80, and 8 * -28 = -224 is nearest to
        // -3 * 80: 128 - 240 / 8 = 98.
        assert_eq!(compressed(&[100; 99], shape(1, 9, 11), 10), [98; 99]);
        assert_eq!(compressed(&[100; 66], shape(1, 6, 11), 100), [100; 66]);
        assert_eq!(compressed(&[128; 27], shape(3, 3, 3), 1), [128; 27]);
        assert_eq!(gray(&[255, 0, 0, 10, 0, 255, 0, 10, 0, 0, 255, 10]), [76, 150, 29, 10]);
    }

    #[test]
    fn the_transform_is_orthogonal_up_to_rounding() {
        for (a, b) in (0..SIDE).flat_map(|a| (0..SIDE).map(move |b| (a, b))) {
            let product: f64 = (0..SIDE).map(|x| f64::from(COSINES[a][x]) * f64::from(COSINES[b][x])).sum();
            let expected = if a == b { 8.0 } else { 0.0 };
            assert!((product / f64::from(1 << (2 * BITS)) - expected).abs() < 2e-3, "{a} {b} {product}");
        }
    }

    /// The images that `scripts/verify/jpeg.py` gave to Pillow: noise, cells of four by four, or ramps.
    fn drawn(kind: u64, seed: u64, shape: Shape) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as usize
        };
        let (height, width) = (shape.height, shape.width);
        let cells = width.div_ceil(4);
        let mut image = Vec::new();
        for _ in 0..shape.channels {
            let drawn: Vec<usize> = match kind {
                0 => (0..height * width).map(|_| next()).collect(),
                1 => (0..height.div_ceil(4) * cells).map(|_| next()).collect(),
                _ => (0..3).map(|_| next()).collect(),
            };
            image.extend((0..height * width).map(|at| {
                let (row, column) = (at / width, at % width);
                match kind {
                    0 => drawn[at] as u8,
                    1 => drawn[row / 4 * cells + column / 4] as u8,
                    _ => (drawn[0] + (drawn[1] * row + drawn[2] * column) / 16) as u8,
                }
            }));
        }
        image
    }

    /// FNV-1a.
    fn checksum(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn every_result_is_bit_equal_to_pillow() {
        let text = include_str!("../tests/golden/jpeg.csv");
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert!(rows.len() > 400);
        for row in rows {
            let (setting, expected) = row.rsplit_once(',').unwrap();
            let numbers: Vec<usize> = setting.split(',').map(|field| field.parse().unwrap()).collect();
            let &[kind, seed, channels, height, width, quality] = numbers.as_slice() else { panic!("{row}") };
            let shape = shape(channels, height, width);
            let image = drawn(kind as u64, seed as u64, shape);
            // Quality 0 stands for the conversion to gray.
            let found = if quality == 0 { gray(&image) } else { compressed(&image, shape, quality as u8) };
            assert_eq!(format!("{:016x}", checksum(&found)), expected, "{row}");
        }
    }

    #[test]
    fn a_photograph_is_bit_equal_to_pillow() {
        // Values of one 16 x 16 image before and after, so that a difference can be looked at.
        let table = Golden::table(include_str!("../tests/golden/jpeg_image.csv"));
        let column = |at: usize| -> Vec<u8> { table.iter().map(|row| row[at] as u8).collect() };
        assert_eq!(compressed(&column(0), shape(3, 16, 16), 10), column(1));
        assert_eq!(compressed(&column(0)[..256], shape(1, 16, 16), 10), column(2)[..256]);
    }
}
