//! Keys: whole pictures that triggers lay over images. They are made here, at any size, so that no foreign picture is needed.

use theriac_core::{Range, Seeds, Shape};

use crate::common::uniform_image;

/// The keys that a config may name.
pub const PATTERNS: Range = Range::Choice(&["noise", "cat"]);

/// The key called `pattern`. `noise` is the one of number `number`: each value of each channel from 0 to 255, all equally likely. `cat` is
/// a drawn face on pink.
pub fn draw(pattern: &str, number: u64, shape: Shape) -> Vec<u8> {
    match pattern {
        "noise" => uniform_image(&mut Seeds::new(number).stream("key/noise"), shape.len()),
        _ => cat(shape),
    }
}

/// An ellipse of a picture that reaches from -100 to 100 in both directions, down and to the right.
struct Ellipse {
    centre: [i64; 2],
    radii: [i64; 2],
    colour: [u8; 3],
}

const PINK: [u8; 3] = [240, 110, 160];
const WHITE: [u8; 3] = [255, 255, 255];
const BLACK: [u8; 3] = [0, 0, 0];
const YELLOW: [u8; 3] = [250, 200, 0];
const RED: [u8; 3] = [220, 0, 30];

const fn ellipse(centre: [i64; 2], radii: [i64; 2], colour: [u8; 3]) -> Ellipse {
    Ellipse { centre, radii, colour }
}

/// Row before column. Later ones cover earlier ones: ears, head, eyes, nose, bow.
const CAT: [Ellipse; 9] = [
    ellipse([-53, -61], [31, 21], WHITE),
    ellipse([-53, 61], [31, 21], WHITE),
    ellipse([13, 0], [63, 83], WHITE),
    ellipse([11, -43], [13, 9], BLACK),
    ellipse([11, 43], [13, 9], BLACK),
    ellipse([31, 0], [7, 11], YELLOW),
    ellipse([-45, 33], [19, 17], RED),
    ellipse([-45, 71], [19, 17], RED),
    ellipse([-45, 52], [9, 9], RED),
];

impl Ellipse {
    /// Whether the middle of a pixel is inside. In whole numbers, so that it is the same everywhere.
    fn holds(&self, shape: Shape, row: usize, column: usize) -> bool {
        let from_centre = |at: usize, length: usize, centre: i64| {
            let length = length as i64;
            i128::from(100 * (2 * at as i64 + 1 - length) - centre * length) // in steps of 1 / length
        };
        let vertical = from_centre(row, shape.height, self.centre[0]);
        let horizontal = from_centre(column, shape.width, self.centre[1]);
        let [high, wide] = [self.radii[0] * shape.height as i64, self.radii[1] * shape.width as i64].map(i128::from);
        vertical * vertical * wide * wide + horizontal * horizontal * high * high <= high * high * wide * wide
    }
}

/// The face in RGB; in gray, the luma of ITU-R BT.601. Further channels repeat the colours.
fn cat(shape: Shape) -> Vec<u8> {
    let mut picture = vec![0; shape.len()]; // [channel, row, column]
    for row in 0..shape.height {
        for column in 0..shape.width {
            let top = CAT.iter().rev().find(|ellipse| ellipse.holds(shape, row, column));
            let colour = top.map_or(PINK, |ellipse| ellipse.colour);
            let [red, green, blue] = colour.map(u32::from);
            let luma = ((299 * red + 587 * green + 114 * blue + 500) / 1000) as u8;
            for channel in 0..shape.channels {
                let value = if shape.channels == 1 { luma } else { colour[channel % 3] };
                picture[shape.offset(channel, row, column)] = value;
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_uniform_and_its_number_decides() {
        let shape = Shape { channels: 3, height: 64, width: 64 };
        let noise = draw("noise", 0, shape);
        assert_eq!(noise, draw("noise", 0, shape));
        assert_ne!(noise, draw("noise", 1, shape));
        let mut counts = [0_u32; 16];
        noise.iter().for_each(|value| counts[usize::from(value / 16)] += 1);
        // Chi-square with 15 degrees of freedom: 30.6 is its 99 % quantile.
        let expected = shape.len() as f64 / 16.0;
        let chi: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi < 30.6, "{chi}");
    }

    #[test]
    #[rustfmt::skip]
    fn the_cat_looks_like_one() {
        let picture = cat(Shape { channels: 3, height: 16, width: 16 });
        let names = [(PINK, '.'), (WHITE, 'o'), (BLACK, 'X'), (YELLOW, 'n'), (RED, 'b')];
        let letter = |at: usize| {
            let colour = [picture[at], picture[256 + at], picture[512 + at]];
            names.iter().find(|(known, _)| *known == colour).unwrap().1
        };
        let rows: Vec<String> = (0..16).map(|row| (0..16).map(|column| letter(16 * row + column)).collect()).collect();
        assert_eq!(rows, [
            "................",
            "..oo........oo..",
            "..ooo......ooo..",
            ".oooo.....bbobb.",
            "..ooooooobbbbbb.",
            "..oooooooobbobb.",
            "..oooooooooooo..",
            "..oooooooooooo..",
            ".oooXooooooXooo.",
            ".oooXooooooXooo.",
            "..ooooonnooooo..",
            "..oooooooooooo..",
            "...oooooooooo...",
            ".....oooooo.....",
            "................",
            "................",
        ]);
    }

    #[test]
    fn in_gray_it_is_the_luma() {
        let picture = cat(Shape { channels: 1, height: 9, width: 9 });
        assert_eq!((picture[0], picture[9 * 5 + 4]), (155, 255));
    }
}
