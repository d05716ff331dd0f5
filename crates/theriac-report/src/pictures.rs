//! A picture of each method, for its page: for an attack what it does to samples, for a defense how its scores lie, or what it
//! changes where it has none.

use std::collections::BTreeMap;

use theriac_core::record::{GalleryRecord, GalleryTile};

use crate::figures::scores;
use crate::gallery::{GAIN, pictures, trigger};
use crate::group::{Group, NONE, is_reference};
use crate::input::Results;
use crate::plot::{Axis, Chart, Marker, Paint, PlotError, Style, Whisker, WhiskerPanel, Whiskers, escape, stand_alone};
use crate::setting::{Setting, settings};

const TILE: usize = 112;
const GAP: usize = 10;
const LINE: usize = 18;
/// How many samples are shown.
const SHOWN: usize = 4;

/// The pictures of the methods in `results`, by name, as SVG files. A method that is there in several variants is drawn as it first
/// appears.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn method_pictures(results: &Results) -> Result<BTreeMap<String, String>, PlotError> {
    let mut drawn = BTreeMap::new();
    for record in results.gallery.iter().filter(|record| !record.tiles.is_empty()) {
        drawn.entry(record.attack.name.clone()).or_insert_with(|| samples(record));
    }
    for setting in &settings(&results.cells) {
        for defense in setting.defenses().into_iter().filter(|defense| !is_reference(defense)) {
            if !drawn.contains_key(&defense.name)
                && let Some(picture) = of_defense(setting, &defense.name)?
            {
                drawn.insert(defense.name.clone(), picture);
            }
        }
    }
    Ok(drawn)
}

/// Rows of before, after and difference, and beside them what they have in common.
fn samples(record: &GalleryRecord) -> String {
    let tiles: Vec<&GalleryTile> = record.tiles.iter().take(SHOWN).collect();
    let common = trigger(&record.tiles);
    let columns = tiles.len() + usize::from(common.is_some());
    let names = ["before".to_owned(), "after".to_owned(), format!("difference x {GAIN}")];
    let left = 110;
    let (width, height) = (left + columns * (TILE + GAP), LINE + names.len() * (TILE + GAP) + LINE);
    let name = escape(&record.attack.name);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"title\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title id=\"title\">{name}: samples before and after</title>\n\
         <style>text{{fill:#1b1f24}}@media (prefers-color-scheme:dark){{text{{fill:#e8ebee}}}}image{{image-rendering:pixelated}}\
         </style>\n"
    );
    let mut text = |x: usize, y: usize, anchor: &str, words: &str| {
        out.push_str(&format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n", escape(words)));
    };
    let row = |index: usize| LINE + index * (TILE + GAP);
    let column = |index: usize| left + index * (TILE + GAP);
    for (index, name) in names.iter().enumerate() {
        text(left - GAP, row(index) + TILE / 2 + 4, "end", name);
    }
    for (index, tile) in tiles.iter().enumerate() {
        text(column(index) + TILE / 2, row(names.len()) + 6, "middle", &tile.caption);
    }
    if common.is_some() {
        text(column(tiles.len()) + TILE / 2, row(names.len()) + 6, "middle", "common change");
    }
    let mut image = |x: usize, y: usize, uri: Option<&String>, style: &str| {
        let place = format!("x=\"{x}\" y=\"{y}\" width=\"{TILE}\" height=\"{TILE}\"");
        out.push_str(&match uri {
            Some(uri) => format!("<rect {place} {style}/><image {place} href=\"{uri}\"/>\n"),
            None => format!("<rect {place} fill=\"none\" stroke=\"#8a8f96\" stroke-dasharray=\"4 4\"/>\n"),
        });
    };
    for (index, tile) in tiles.iter().enumerate() {
        let drawn = pictures(tile);
        for (at, uri) in [drawn.clean, drawn.poisoned, drawn.difference].iter().enumerate() {
            image(column(index), row(at), uri.as_ref(), "fill=\"none\"");
        }
    }
    if common.is_some() {
        // What did not change in all of them is transparent: the ground must be neither black nor white.
        image(column(tiles.len()), row(1), common.as_ref(), "fill=\"#a9c3dc\"");
    }
    out.push_str("</svg>\n");
    out
}

/// A panel of scores for each of the first attacks; without scores, success and accuracy with and without the defense.
fn of_defense(setting: &Setting, name: &str) -> Result<Option<String>, PlotError> {
    let met: Vec<&Group> = setting
        .groups
        .iter()
        .filter(|group| group.defense().name == name && group.attack().name != NONE && group.ok().next().is_some())
        .take(3)
        .collect();
    let panels: Vec<_> =
        met.iter().filter_map(|group| scores::panel(group, setting.attack_label(group.attack()))).collect();
    let title = match panels.is_empty() {
        true => format!("{name}: attack success and clean accuracy, without and with it"),
        false => format!("{name}: scores of clean and poisoned samples"),
    };
    let sheet = if panels.is_empty() {
        let Some(chart) = before_and_after(setting, &met) else { return Ok(None) };
        chart.sheet()
    } else {
        Chart { columns: panels.len().max(2), panels, square: false }.sheet()
    };
    Ok(Some(stand_alone(&sheet.svg(name, &title, &title)?)))
}

fn before_and_after(setting: &Setting, met: &[&Group]) -> Option<Whiskers> {
    let mut rows = Vec::new();
    let (mut success, mut accuracy) = (Vec::new(), Vec::new());
    for group in met {
        let undefended = setting.undefended(group.attack())?;
        for (group, words, paint) in
            [(undefended, "undefended", Paint::Vermillion), (group, group.defense().name.as_str(), Paint::Blue)]
        {
            rows.push(format!("{}, {words}", setting.attack_label(group.attack())));
            let style = Style { paint, marker: Marker::Disc, ..Style::series(0) };
            let whisker = |spread: crate::spread::Spread| {
                let clip = |value: f64| value.clamp(0.0, 1.0);
                Whisker {
                    mean: spread.mean,
                    interval: spread.interval.map(|(low, high)| (clip(low), clip(high))),
                    style,
                }
            };
            success.push(group.success_spread().map(whisker));
            accuracy.push(group.spread("clean_accuracy").map(whisker));
        }
    }
    let panel =
        |title: &str, whiskers| WhiskerPanel { title: title.to_owned(), axis: Axis::whole_percent("%"), whiskers };
    let panels = vec![panel("Attack success", success), panel("Clean accuracy", accuracy)];
    (!rows.is_empty()).then_some(Whiskers { rows, panels })
}
