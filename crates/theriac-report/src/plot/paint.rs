//! Colours, markers and dashes. Every pair of lines differs in all three, so that none depends on colour alone.

use plotters::style::RGBColor;

/// A colour by its role. The roles have other values on a dark background, see [`DARK_MODE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text and axes.
    Ink,
    /// Secondary text and references.
    Muted,
    /// Grid lines.
    Hairline,
    /// Series colours of Okabe and Ito, <https://jfly.uni-koeln.de/color/>.
    Blue,
    /// Second series.
    Vermillion,
    /// Third series.
    Green,
    /// Fourth series.
    Purple,
    /// Fifth series.
    Orange,
    /// A colour that is the same on every background, such as a cell of a heat map.
    Fixed(u8, u8, u8),
}

/// Style rules that give the roles their values on a dark background: the attribute selectors match what [`Paint`]
/// writes.
pub const DARK_MODE: &str = include_str!("dark.css");

impl Paint {
    /// The colour on a light background.
    pub fn rgb(self) -> RGBColor {
        let (red, green, blue) = match self {
            Self::Ink => (0x1B, 0x1F, 0x24),
            Self::Muted => (0x57, 0x60, 0x6A),
            Self::Hairline => (0xD8, 0xDE, 0xE4),
            Self::Blue => (0x00, 0x72, 0xB2),
            Self::Vermillion => (0xD5, 0x5E, 0x00),
            Self::Green => (0x00, 0x9E, 0x73),
            Self::Purple => (0xCC, 0x79, 0xA7),
            Self::Orange => (0xE6, 0x9F, 0x00),
            Self::Fixed(red, green, blue) => (red, green, blue),
        };
        RGBColor(red, green, blue)
    }

    /// Black or white, whichever is easier to read on this colour.
    pub fn text_on(self) -> Self {
        let RGBColor(red, green, blue) = self.rgb();
        let linear = |channel: u8| (f64::from(channel) / 255.0).powf(2.2);
        let luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
        // Equal contrast to black and to white is reached at a luminance of 0.18.
        if luminance > 0.18 { Self::Fixed(0, 0, 0) } else { Self::Fixed(255, 255, 255) }
    }

    /// The colour a fraction `at` of the way from `from` to `to`.
    pub fn between(from: (u8, u8, u8), to: (u8, u8, u8), at: f64) -> Self {
        let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * at.clamp(0.0, 1.0)).round();
        Self::Fixed(mix(from.0, to.0) as u8, mix(from.1, to.1) as u8, mix(from.2, to.2) as u8)
    }
}

/// How a line is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dash {
    /// Not at all.
    Solid,
    /// Long strokes.
    Long,
    /// Short strokes.
    Short,
}

/// The mark at each point of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// No mark.
    Bare,
    /// A filled circle.
    Disc,
    /// A filled square.
    Square,
    /// A filled triangle.
    Triangle,
    /// A filled diamond.
    Diamond,
    /// An upright cross.
    Plus,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Its colour.
    pub paint: Paint,
    /// Its dashes.
    pub dash: Dash,
    /// Its marks.
    pub marker: Marker,
    /// Its width.
    pub width: f64,
}

impl Style {
    /// The style of series `index`; repeats with other dashes after five.
    pub fn series(index: usize) -> Self {
        use Marker::{Diamond, Disc, Plus, Square, Triangle};
        let paints = [Paint::Blue, Paint::Vermillion, Paint::Green, Paint::Purple, Paint::Orange];
        let markers = [Disc, Square, Triangle, Diamond, Plus];
        let dash = [Dash::Solid, Dash::Long, Dash::Short][index / paints.len() % 3];
        Self { paint: paints[index % paints.len()], dash, marker: markers[index % markers.len()], width: 2.0 }
    }

    /// A level or a reference: no marks, muted.
    pub fn reference(dash: Dash) -> Self {
        Self { paint: Paint::Muted, dash, marker: Marker::Bare, width: 1.5 }
    }
}
