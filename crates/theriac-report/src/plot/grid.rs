//! Numbers in a grid, each on a colour: heat maps and confusion matrices.

use super::paint::Paint;
use super::sheet::{Align, Sheet, Text, text_width};

/// The colours from 0 to 1. Lightness falls all the way, so that a grey print keeps the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ramp {
    /// White to blue.
    Blue,
    /// White to vermillion.
    Vermillion,
}

impl Ramp {
    fn paint(self, at: f64) -> Paint {
        match self {
            Self::Blue => Paint::between((0xF2, 0xF7, 0xFB), (0x00, 0x4B, 0x87), at),
            Self::Vermillion => Paint::between((0xFD, 0xF6, 0xEF), (0xA8, 0x36, 0x03), at),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum GridCell {
    /// A number.
    Value {
        /// Where it stands on the ramp, from 0 to 1.
        shade: f64,
        /// The number.
        text: String,
        /// Its spread, in small print; may be empty.
        note: String,
    },
    /// Nothing to show, and why.
    Blank(&'static str),
}

/// One grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Its heading.
    pub title: String,
    /// What the rows are.
    pub row_title: String,
    /// What the columns are.
    pub column_title: String,
    /// The rows' names.
    pub rows: Vec<String>,
    /// The columns' names.
    pub columns: Vec<String>,
    /// The cells, row by row.
    pub cells: Vec<Vec<GridCell>>,
    /// The colours.
    pub ramp: Ramp,
}

/// Grids of equal size.
#[derive(Clone, Debug)]
pub struct Grids {
    /// The grids.
    pub grids: Vec<Grid>,
    /// Whether they stand side by side rather than below each other.
    pub side_by_side: bool,
    /// The size of one cell.
    pub cell: (f64, f64),
}

const SMALL: f64 = 11.0;
const GAP: f64 = 26.0;

impl Grids {
    /// Lays the grids out.
    pub fn sheet(&self) -> Sheet {
        let sizes: Vec<(f64, f64)> = self.grids.iter().map(|grid| self.size(grid)).collect();
        let (widths, heights) = (sizes.iter().map(|size| size.0), sizes.iter().map(|size| size.1));
        let gaps = GAP * (sizes.len().max(1) - 1) as f64;
        let (width, height) = if self.side_by_side {
            (widths.sum::<f64>() + gaps, heights.fold(0.0, f64::max))
        } else {
            (widths.fold(0.0, f64::max), heights.sum::<f64>() + gaps)
        };
        let mut sheet = Sheet::new(width.max(320.0), height);
        let (mut left, mut top) = (0.0, 0.0);
        for (grid, size) in self.grids.iter().zip(sizes) {
            self.draw(&mut sheet, grid, left, top);
            if self.side_by_side {
                left += size.0 + GAP;
            } else {
                top += size.1 + GAP;
            }
        }
        sheet
    }

    fn margins(&self, grid: &Grid) -> (f64, f64) {
        let widest = grid.rows.iter().map(|name| text_width(name, 12.0)).fold(0.0, f64::max);
        let lines = grid.columns.iter().map(|name| self.wrap(name).len()).max().unwrap_or(1);
        // Side by side there is no room beside the names: the title of the rows stands upright there.
        let left =
            if self.side_by_side { widest + 34.0 } else { widest.max(text_width(&grid.row_title, SMALL)) + 14.0 };
        (left, 50.0 + lines as f64 * 13.0)
    }

    fn size(&self, grid: &Grid) -> (f64, f64) {
        let (left, top) = self.margins(grid);
        let width = left + grid.columns.len() as f64 * self.cell.0 + 6.0;
        (width.max(text_width(&grid.title, 14.0)), top + grid.rows.len() as f64 * self.cell.1 + 6.0)
    }

    /// Breaks a name after hyphens and blanks so that its lines fit over a cell.
    fn wrap(&self, name: &str) -> Vec<String> {
        let mut lines: Vec<String> = vec![String::new()];
        for piece in name.split_inclusive(['-', ' ']) {
            let last = lines.last().map(String::as_str).unwrap_or_default();
            if !last.is_empty() && text_width(&format!("{last}{piece}"), SMALL) > self.cell.0 - 4.0 {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(piece);
            }
        }
        lines
    }

    fn draw(&self, sheet: &mut Sheet, grid: &Grid, left: f64, top: f64) {
        let (margin, head) = self.margins(grid);
        let (x, y) = (left + margin, top + head);
        let (width, height) = self.cell;
        let span = width * grid.columns.len() as f64;
        sheet.text(Text::new(&grid.title, (left, top + 10.0), Align::Start).size(13.0).bold());
        let title = Text::new(&grid.column_title, (x + span / 2.0, top + 32.0), Align::Middle).size(SMALL);
        sheet.text(title.paint(Paint::Muted));
        if self.side_by_side {
            let middle = y + height * grid.rows.len() as f64 / 2.0;
            let title = Text::new(&grid.row_title, (left + 9.0, middle), Align::Middle).size(SMALL);
            sheet.text(title.paint(Paint::Muted).upwards());
        } else {
            let title = Text::new(&grid.row_title, (x - 8.0, y - 10.0), Align::End).size(SMALL);
            sheet.text(title.paint(Paint::Muted));
        }
        for (index, name) in grid.columns.iter().enumerate() {
            let middle = x + (index as f64 + 0.5) * width;
            let lines = self.wrap(name);
            for (line, words) in lines.iter().enumerate() {
                let up = (lines.len() - 1 - line) as f64 * 13.0;
                sheet.text(Text::new(words.trim(), (middle, y - 10.0 - up), Align::Middle).size(SMALL));
            }
        }
        for (index, (name, cells)) in grid.rows.iter().zip(&grid.cells).enumerate() {
            let row = y + index as f64 * height;
            sheet.text(Text::new(name, (x - 8.0, row + height / 2.0), Align::End));
            for (column, cell) in cells.iter().enumerate() {
                self.draw_cell(sheet, cell, grid.ramp, (x + column as f64 * width, row));
            }
        }
    }

    fn draw_cell(&self, sheet: &mut Sheet, cell: &GridCell, ramp: Ramp, (x, y): (f64, f64)) {
        let (width, height) = self.cell;
        let middle = x + width / 2.0;
        match cell {
            GridCell::Value { shade, text, note } => {
                let paint = ramp.paint(*shade);
                sheet.rectangle((x + 1.0, y + 1.0), width - 2.0, height - 2.0, paint);
                let lift = if note.is_empty() { 0.0 } else { 6.0 };
                let text = Text::new(text, (middle, y + height / 2.0 - lift), Align::Middle);
                sheet.text(text.size(if width < 40.0 { 10.0 } else { 13.0 }).paint(paint.text_on()));
                if !note.is_empty() {
                    let note = Text::new(note, (middle, y + height / 2.0 + 9.0), Align::Middle).size(10.0);
                    sheet.text(note.paint(paint.text_on()));
                }
            }
            GridCell::Blank(why) => {
                let corners =
                    [(1.0, 1.0), (width - 1.0, 1.0), (width - 1.0, height - 1.0), (1.0, height - 1.0), (1.0, 1.0)];
                let path: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
                for edge in path.windows(2) {
                    sheet.stroke(edge[0], edge[1], Paint::Hairline, 1.0);
                }
                let text = Text::new(*why, (middle, y + height / 2.0), Align::Middle).size(10.0);
                sheet.text(text.paint(Paint::Muted));
            }
        }
    }
}
