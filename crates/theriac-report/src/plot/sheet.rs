//! A display list, drawn as SVG by plotters.
//!
//! The SVG backend rounds to whole units, so a sheet is drawn [`FINE`] times larger than it is shown.

use plotters::element::{DashedPathElement, Drawable};
use plotters::prelude::{Color, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, IntoFont, IntoTextStyle, ShapeStyle};

use super::paint::{DARK_MODE, Dash, Marker, Paint, Style};

const FINE: f64 = 10.0;
/// Text height of the backend over the font size that it writes.
const BACKEND_FONT_SCALE: f64 = 1.24;

/// A figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("failed to draw: {0}")]
pub struct PlotError(String);

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A line of text.
#[derive(Clone, Debug)]
pub struct Text {
    /// What it says.
    pub words: String,
    /// The point.
    pub at: (f64, f64),
    /// The side of the point.
    pub align: Align,
    /// The font size.
    pub size: f64,
    /// The colour.
    pub paint: Paint,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it is read from bottom to top.
    pub upwards: bool,
}

impl Text {
    /// Ink, 12 units high, upright.
    pub fn new(words: impl Into<String>, at: (f64, f64), align: Align) -> Self {
        Self { words: words.into(), at, align, size: 12.0, paint: Paint::Ink, bold: false, upwards: false }
    }

    /// Another size.
    pub fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    /// Another colour.
    pub fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// Bold.
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// Read from bottom to top.
    pub fn upwards(self) -> Self {
        Self { upwards: true, ..self }
    }
}

/// The width of `words` at a font size, about: there are no font files to ask, and wide system fonts must fit too.
pub fn text_width(words: &str, size: f64) -> f64 {
    let width = |c: char| match c {
        'i' | 'l' | 'j' | 't' | 'f' | 'r' | ' ' | '.' | ',' | '-' | '(' | ')' | '[' | ']' => 0.38,
        'm' | 'w' => 0.94,
        c if c.is_uppercase() => 0.75,
        _ => 0.64,
    };
    words.chars().map(width).sum::<f64>() * size
}

enum Mark {
    Line { points: Vec<(f64, f64)>, paint: Paint, width: f64, dash: Dash, opacity: f64 },
    Area { points: Vec<(f64, f64)>, paint: Paint, opacity: f64 },
    Disc { at: (f64, f64), radius: f64, paint: Paint },
    Text(Text),
}

/// What is to be drawn, from back to front. The background is left transparent.
pub struct Sheet {
    width: f64,
    height: f64,
    marks: Vec<Mark>,
}

impl Sheet {
    /// An empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, marks: Vec::new() }
    }

    /// The width that it is meant to be shown at.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// A line through `points`.
    pub fn line(&mut self, points: Vec<(f64, f64)>, style: Style) {
        let Style { paint, width, dash, .. } = style;
        self.marks.push(Mark::Line { points, paint, width, dash, opacity: 1.0 });
    }

    /// A thin line that stands back.
    pub fn faint(&mut self, points: Vec<(f64, f64)>, paint: Paint) {
        self.marks.push(Mark::Line { points, paint, width: 1.0, dash: Dash::Solid, opacity: 0.35 });
    }

    /// A plain solid line between two points.
    pub fn stroke(&mut self, from: (f64, f64), to: (f64, f64), paint: Paint, width: f64) {
        self.marks.push(Mark::Line { points: vec![from, to], paint, width, dash: Dash::Solid, opacity: 1.0 });
    }

    /// A filled shape.
    pub fn area(&mut self, points: Vec<(f64, f64)>, paint: Paint, opacity: f64) {
        self.marks.push(Mark::Area { points, paint, opacity });
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, (left, top): (f64, f64), width: f64, height: f64, paint: Paint) {
        let points = vec![(left, top), (left + width, top), (left + width, top + height), (left, top + height)];
        self.area(points, paint, 1.0);
    }

    /// A line of text.
    pub fn text(&mut self, text: Text) {
        self.marks.push(Mark::Text(text));
    }

    /// A series' mark.
    pub fn marker(&mut self, (x, y): (f64, f64), marker: Marker, paint: Paint) {
        let shape = |points: &[(f64, f64)]| points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        let points = match marker {
            Marker::Bare => return,
            Marker::Disc => return self.marks.push(Mark::Disc { at: (x, y), radius: 4.0, paint }),
            Marker::Square => shape(&[(-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)]),
            Marker::Triangle => shape(&[(0.0, -5.0), (4.6, 3.4), (-4.6, 3.4)]),
            Marker::Diamond => shape(&[(0.0, -5.4), (4.6, 0.0), (0.0, 5.4), (-4.6, 0.0)]),
            Marker::Plus => shape(&[
                (-1.4, -5.0),
                (1.4, -5.0),
                (1.4, -1.4),
                (5.0, -1.4),
                (5.0, 1.4),
                (1.4, 1.4),
                (1.4, 5.0),
                (-1.4, 5.0),
                (-1.4, 1.4),
                (-5.0, 1.4),
                (-5.0, -1.4),
                (-1.4, -1.4),
            ]),
        };
        self.area(points, paint, 1.0);
    }

    /// Draws everything. `name` is unique within a page; `title` and `description` are for those who do not see the
    /// figure.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn svg(&self, name: &str, title: &str, description: &str) -> Result<String, PlotError> {
        let size = ((self.width * FINE).round() as u32, (self.height * FINE).round() as u32);
        let mut body = String::new();
        {
            let mut backend = SVGBackend::with_string(&mut body, size);
            for mark in &self.marks {
                draw(mark, &mut backend, size)?;
            }
            backend.present().map_err(fault)?;
        }
        // The backend's first line is the opening tag, which knows neither a title nor a size other than the fine one.
        let rest = body.split_once('\n').map_or("", |(_, rest)| rest);
        let (title, description) = (escape(title), escape(description));
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" \
             aria-labelledby=\"{name}-title {name}-description\">\n<title id=\"{name}-title\">{title}</title>\n\
             <desc id=\"{name}-description\">{description}</desc>\n{rest}",
            self.width, self.height, size.0, size.1
        ))
    }
}

/// Makes an SVG that stands alone follow the reader's light or dark background where the viewer knows of it.
pub fn stand_alone(svg: &str) -> String {
    let style = format!("<style>@media (prefers-color-scheme:dark){{{DARK_MODE}}}</style>\n");
    let (head, rest) = svg.split_once('\n').unwrap_or((svg, ""));
    format!("{head}\n{style}{rest}")
}

/// `text` with the characters that mean something in XML written out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XML at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn fault(error: impl std::error::Error) -> PlotError {
    PlotError(error.to_string())
}

fn draw(mark: &Mark, backend: &mut SVGBackend, size: (u32, u32)) -> Result<(), PlotError> {
    let pixel = |(x, y): (f64, f64)| ((x * FINE).round() as i32, (y * FINE).round() as i32);
    let stroke = |paint: Paint, opacity: f64, width: f64| {
        ShapeStyle::from(paint.rgb().mix(opacity)).stroke_width((width * FINE).round() as u32)
    };
    match mark {
        Mark::Line { points, paint, width, dash, opacity } => {
            let style = stroke(*paint, *opacity, *width);
            let points: Vec<(i32, i32)> = points.iter().copied().map(pixel).collect();
            let (long, gap) = match dash {
                Dash::Solid => return backend.draw_path(points, &style).map_err(fault),
                Dash::Long => (8.0, 4.0),
                Dash::Short => (2.5, 3.0),
            };
            let element = DashedPathElement::new(points.iter().copied(), long * FINE as f32, gap * FINE as f32, style);
            element.draw(points.iter().copied(), backend, size).map_err(fault)
        }
        Mark::Area { points, paint, opacity } => {
            let shape = points.iter().copied().map(pixel);
            backend.fill_polygon(shape, &stroke(*paint, *opacity, 0.0).filled()).map_err(fault)
        }
        Mark::Disc { at, radius, paint } => {
            let style = stroke(*paint, 1.0, 0.0).filled();
            backend.draw_circle(pixel(*at), (radius * FINE).round() as u32, &style, true).map_err(fault)
        }
        Mark::Text(text) => {
            let horizontal = match text.align {
                Align::Start => HPos::Left,
                Align::Middle => HPos::Center,
                Align::End => HPos::Right,
            };
            let font = ("sans-serif", text.size * FINE * BACKEND_FONT_SCALE).into_font();
            let font = if text.bold { font.style(FontStyle::Bold) } else { font };
            let font = if text.upwards { font.transform(FontTransform::Rotate270) } else { font };
            let paint = text.paint.rgb();
            let style = font.into_text_style(&size).color(&paint).pos(Pos::new(horizontal, VPos::Center));
            let words: String = text.words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            backend.draw_text(&words, &style, pixel(text.at)).map_err(fault)
        }
    }
}
