//! Intervals below each other on one scale, in panels side by side.

use super::axis::Axis;
use super::paint::{Dash, Paint, Style};
use super::sheet::{Align, Sheet, Text, text_width};

/// One interval.
#[derive(Clone, Copy, Debug)]
pub struct Whisker {
    /// The estimate.
    pub mean: f64,
    /// Its interval, if there is one.
    pub interval: Option<(f64, f64)>,
    /// How the estimate is marked.
    pub style: Style,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct WhiskerPanel {
    /// Its heading.
    pub title: String,
    /// Its scale, with zero inside.
    pub axis: Axis,
    /// One entry a row; `None` where nothing was measured.
    pub whiskers: Vec<Option<Whisker>>,
}

/// Panels that share their rows.
#[derive(Clone, Debug)]
pub struct Whiskers {
    /// The rows' names.
    pub rows: Vec<String>,
    /// The panels.
    pub panels: Vec<WhiskerPanel>,
}

const WIDTH: f64 = 760.0;
const ROW: f64 = 24.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;

impl Whiskers {
    /// Lays the panels out.
    pub fn sheet(&self) -> Sheet {
        let names = self.rows.iter().map(|name| text_width(name, 12.0)).fold(0.0, f64::max) + 14.0;
        let outer = ((WIDTH - names) / self.panels.len().max(1) as f64).max(190.0);
        let width = outer - 44.0;
        let height = self.rows.len() as f64 * ROW;
        let mut sheet = Sheet::new(names + outer * self.panels.len() as f64 + 4.0, TOP + height + BOTTOM);
        for (index, name) in self.rows.iter().enumerate() {
            let y = TOP + (index as f64 + 0.5) * ROW;
            sheet.text(Text::new(name, (names - 12.0, y), Align::End));
        }
        for (index, panel) in self.panels.iter().enumerate() {
            draw(&mut sheet, panel, names + outer * index as f64 + 16.0, width, height);
        }
        sheet
    }
}

fn draw(sheet: &mut Sheet, panel: &WhiskerPanel, left: f64, width: f64, height: f64) {
    let at = |value: f64| left + panel.axis.place(value) * width;
    let bottom = TOP + height;
    sheet.text(Text::new(&panel.title, (left, 12.0), Align::Start).size(13.0).bold());
    let mut free_from = f64::NEG_INFINITY;
    for (value, text) in &panel.axis.ticks {
        let x = at(*value);
        sheet.stroke((x, TOP), (x, bottom), Paint::Hairline, 1.0);
        let half = text_width(text, 12.0) / 2.0;
        if x - half > free_from {
            sheet.text(Text::new(text, (x, bottom + 13.0), Align::Middle).paint(Paint::Muted));
            free_from = x + half + 4.0;
        }
    }
    sheet.line(vec![(at(0.0), TOP - 4.0), (at(0.0), bottom + 4.0)], Style::reference(Dash::Long));
    sheet.text(Text::new(&panel.axis.label, (left + width / 2.0, bottom + 33.0), Align::Middle));
    for (index, whisker) in panel.whiskers.iter().enumerate() {
        let y = TOP + (index as f64 + 0.5) * ROW;
        let Some(whisker) = whisker else {
            let words = Text::new("n/a", (left + width / 2.0, y), Align::Middle);
            sheet.text(words.size(10.0).paint(Paint::Muted));
            continue;
        };
        let paint = whisker.style.paint;
        if let Some((low, high)) = whisker.interval {
            sheet.stroke((at(low), y), (at(high), y), paint, 2.0);
            // An interval that goes on beyond the axis has no end to mark.
            for end in [low, high].into_iter().filter(|end| panel.axis.holds(*end)).map(at) {
                sheet.stroke((end, y - 4.0), (end, y + 4.0), paint, 1.5);
            }
        }
        sheet.marker((at(whisker.mean), y), whisker.style.marker, paint);
    }
}
