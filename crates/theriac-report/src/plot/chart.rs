//! Line charts: panels of curves with bands, and one legend for all of them.

use super::axis::Axis;
use super::paint::{Marker, Paint, Style};
use super::sheet::{Align, Sheet, Text, text_width};

/// One point of a curve, with its interval where there is one.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Along the first axis.
    pub x: f64,
    /// Along the second axis.
    pub y: f64,
    /// The interval of `y`.
    pub band: Option<(f64, f64)>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its entry in the legend; curves of one name share the entry.
    pub name: String,
    /// How it looks.
    pub style: Style,
    /// Its points, from left to right.
    pub points: Vec<Point>,
    /// Single runs behind the mean, drawn thin.
    pub runs: Vec<Vec<(f64, f64)>>,
    /// Points to mark, in place of all points.
    pub marks: Option<Vec<(f64, f64)>>,
}

impl Curve {
    /// A curve without single runs, marked at all points.
    pub fn new(name: impl Into<String>, style: Style, points: Vec<Point>) -> Self {
        Self { name: name.into(), style, points, runs: Vec::new(), marks: None }
    }

    /// Points without intervals.
    pub fn plain(name: impl Into<String>, style: Style, points: &[(f64, f64)]) -> Self {
        Self::new(name, style, points.iter().map(|(x, y)| Point { x: *x, y: *y, band: None }).collect())
    }
}

/// One coordinate system with its curves.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its heading.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// From front to back, which is also their order in the legend.
    pub curves: Vec<Curve>,
}

/// Panels in rows.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The panels.
    pub panels: Vec<Panel>,
    /// How many stand side by side, if their headings let them.
    pub columns: usize,
    /// Whether panels are as high as they are wide.
    pub square: bool,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
const HEADING: f64 = 13.0;
/// Long headings become so small.
const SMALL_HEADING: f64 = 9.5;
const LEGEND_ROW: f64 = 22.0;
const KEY: f64 = 34.0;

struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn at(&self, panel: &Panel, x: f64, y: f64) -> (f64, f64) {
        (self.left + panel.x.place(x) * self.width, self.top + (1.0 - panel.y.place(y)) * self.height)
    }
}

impl Chart {
    /// Lays the chart out.
    pub fn sheet(&self) -> Sheet {
        // Headings must not run into each other.
        let widest = self.panels.iter().map(|panel| heading_width(&panel.title, SMALL_HEADING)).fold(0.0, f64::max);
        let columns = self.columns.clamp(1, ((WIDTH / (LEFT + widest)) as usize).max(1));
        let rows = self.panels.len().div_ceil(columns);
        let outer = WIDTH / columns as f64;
        let width = (outer - LEFT - RIGHT).min(if columns == 1 { 560.0 } else { f64::MAX });
        let height = if self.square { width } else { (width * 0.72).clamp(170.0, 300.0) };
        let legend = self.legend();
        let panels_height = rows as f64 * (TOP + height + BOTTOM);
        let mut sheet = Sheet::new(WIDTH, panels_height + legend.len() as f64 * LEGEND_ROW + 10.0);
        for (index, panel) in self.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let frame = Frame {
                left: column as f64 * outer + LEFT,
                top: row as f64 * (TOP + height + BOTTOM) + TOP,
                width,
                height,
            };
            let same = column > 0 && self.panels[index - 1].y.label == panel.y.label;
            draw_axes(&mut sheet, panel, &frame, !same);
            draw_curves(&mut sheet, panel, &frame);
        }
        for (row, entries) in legend.iter().enumerate() {
            draw_legend(&mut sheet, entries, panels_height + (row as f64 + 0.5) * LEGEND_ROW);
        }
        sheet
    }

    /// Rows of entries, each name once.
    fn legend(&self) -> Vec<Vec<(&str, Style)>> {
        let mut rows: Vec<Vec<(&str, Style)>> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut used = f64::INFINITY;
        for curve in self.panels.iter().flat_map(|panel| &panel.curves) {
            if curve.name.is_empty() || seen.contains(&curve.name.as_str()) {
                continue;
            }
            seen.push(&curve.name);
            let width = entry_width(&curve.name);
            if used + width > WIDTH - LEFT {
                rows.push(Vec::new());
                used = 0.0;
            }
            used += width;
            if let Some(row) = rows.last_mut() {
                row.push((&curve.name, curve.style));
            }
        }
        rows
    }
}

/// Bold letters are wider.
fn heading_width(words: &str, size: f64) -> f64 {
    text_width(words, size) * 1.1
}

fn entry_width(name: &str) -> f64 {
    KEY + 8.0 + text_width(name, 12.0) + 18.0
}

fn draw_axes(sheet: &mut Sheet, panel: &Panel, frame: &Frame, with_label: bool) {
    let (right, bottom) = (frame.left + frame.width, frame.top + frame.height);
    for (value, text) in &panel.y.ticks {
        let (_, y) = frame.at(panel, 0.0, *value);
        sheet.stroke((frame.left, y), (right, y), Paint::Hairline, 1.0);
        sheet.text(Text::new(text, (frame.left - 7.0, y), Align::End).paint(Paint::Muted));
    }
    let mut free_from = f64::NEG_INFINITY;
    for (value, text) in &panel.x.ticks {
        let x = frame.left + panel.x.place(*value) * frame.width;
        let half = text_width(text, 12.0) / 2.0;
        sheet.stroke((x, bottom), (x, bottom + 4.0), Paint::Ink, 1.0);
        // A tick always stands; its text only where there is room.
        if x - half > free_from {
            sheet.text(Text::new(text, (x, bottom + 14.0), Align::Middle).paint(Paint::Muted));
            free_from = x + half + 4.0;
        }
    }
    sheet.stroke((frame.left, bottom), (right, bottom), Paint::Ink, 1.0);
    let fitting = HEADING * (frame.width + RIGHT) / heading_width(&panel.title, HEADING);
    let heading = Text::new(&panel.title, (frame.left, frame.top - 16.0), Align::Start);
    sheet.text(heading.size(fitting.clamp(SMALL_HEADING, HEADING)).bold());
    sheet.text(Text::new(&panel.x.label, (frame.left + frame.width / 2.0, bottom + 34.0), Align::Middle));
    if with_label {
        let middle = frame.top + frame.height / 2.0;
        sheet.text(Text::new(&panel.y.label, (frame.left - 43.0, middle), Align::Middle).upwards());
    }
}

fn draw_curves(sheet: &mut Sheet, panel: &Panel, frame: &Frame) {
    for curve in panel.curves.iter().rev() {
        let banded: Vec<_> = curve.points.iter().filter_map(|p| Some((p.x, p.band?))).collect();
        let upper = banded.iter().map(|(x, (_, high))| frame.at(panel, *x, *high));
        let lower = banded.iter().rev().map(|(x, (low, _))| frame.at(panel, *x, *low));
        if banded.len() > 1 {
            sheet.area(upper.chain(lower).collect(), curve.style.paint, 0.16);
        }
        for run in &curve.runs {
            sheet.faint(run.iter().map(|(x, y)| frame.at(panel, *x, *y)).collect(), curve.style.paint);
        }
    }
    for curve in panel.curves.iter().rev() {
        let points: Vec<_> = curve.points.iter().map(|point| frame.at(panel, point.x, point.y)).collect();
        if points.len() > 1 {
            sheet.line(points.clone(), curve.style);
        }
        let marks: Vec<_> = match &curve.marks {
            Some(marks) => marks.iter().map(|(x, y)| frame.at(panel, *x, *y)).collect(),
            None => points,
        };
        for at in marks {
            sheet.marker(at, curve.style.marker, curve.style.paint);
        }
    }
}

fn draw_legend(sheet: &mut Sheet, entries: &[(&str, Style)], y: f64) {
    let mut x = LEFT;
    for (name, style) in entries {
        // A style of no width is a lone mark.
        if style.width > 0.0 {
            sheet.line(vec![(x, y), (x + KEY, y)], *style);
        }
        if style.marker != Marker::Bare {
            sheet.marker((x + KEY / 2.0, y), style.marker, style.paint);
        }
        sheet.text(Text::new(*name, (x + KEY + 8.0, y), Align::Start));
        x += entry_width(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_that_would_run_into_each_other_become_small_and_then_stand_below_each_other() {
        let drawn = |title: &str| {
            let panel = Panel {
                title: title.to_owned(),
                x: Axis::whole_percent(""),
                y: Axis::whole_percent(""),
                curves: Vec::new(),
            };
            let sheet = Chart { panels: vec![panel; 3], columns: 3, square: true }.sheet();
            let svg = sheet.svg("x", "", "").unwrap();
            let height: f64 = svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            (height, svg)
        };
        let (short, medium) = (drawn("rate 0.5"), drawn("a heading of quite some length"));
        let long = drawn("an attack with a very long name, rate 0.5, delivers badnets");
        assert_eq!(short.0, medium.0);
        assert!(long.0 > 2.0 * short.0, "two rows");
        assert_ne!(short.1.replace("rate 0.5", "a heading of quite some length"), medium.1, "another size");
    }
}
