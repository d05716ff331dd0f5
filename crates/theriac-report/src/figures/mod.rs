//! The figures. One kind of figure, one file; each makes as many as the setting asks for.

mod certified;
mod confusion;
mod curves;
mod detection;
mod filters;
mod heat;
pub mod roles;
pub mod scores;
mod sweep;
mod timeline;

use std::collections::BTreeMap;

use theriac_core::record::MethodRecord;
use theriac_core::{Kind, MethodInfo, Unit};

use crate::group::{slug, unique};
use crate::plot::{PlotError, Sheet, stand_alone};
use crate::setting::Setting;

/// A drawn figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Unique within a report: the file's name without its ending, and the anchor in the page.
    pub name: String,
    /// A heading.
    pub title: String,
    /// What is to be seen and how it was measured.
    pub caption: String,
    /// The drawing, to be set into a page.
    pub svg: String,
    /// The width that it is meant to be shown at.
    pub width: f64,
}

impl Figure {
    fn draw(sheet: &Sheet, name: String, title: String, caption: String) -> Result<Self, PlotError> {
        let svg = sheet.svg(&name, &title, &caption)?;
        Ok(Self { name, title, caption, svg, width: sheet.width() })
    }

    /// The drawing as a file of its own.
    pub fn file(&self) -> String {
        stand_alone(&self.svg)
    }
}

/// Everything about methods that the records do not hold.
#[derive(Clone, Copy)]
pub struct Methods<'a>(pub &'a [&'a MethodInfo]);

impl<'a> Methods<'a> {
    /// The registry entry of the attack called `name`.
    pub fn attack(self, name: &str) -> Option<&'a MethodInfo> {
        self.0.iter().copied().find(|info| info.kind == Kind::Attack && info.name == name)
    }

    /// The registry entry of the defense called `name`.
    pub fn defense(self, name: &str) -> Option<&'a MethodInfo> {
        self.0.iter().copied().find(|info| info.kind == Kind::Defense && info.name == name)
    }

    /// The registry entry of the data set called `name`.
    pub fn dataset(self, name: &str) -> Option<&'a MethodInfo> {
        self.0.iter().copied().find(|info| info.kind == Kind::Dataset && info.name == name)
    }

    /// What the certificates of `defense` count.
    pub fn unit(self, defense: &MethodRecord) -> Option<Unit> {
        self.defense(&defense.name)?.certifies
    }
}

/// All figures of a report.
pub struct Figures<'a> {
    /// Those that compare the settings of an experiment, by its name.
    pub across: BTreeMap<&'a str, Vec<Figure>>,
    /// Those of each setting.
    pub of_settings: Vec<Vec<Figure>>,
}

impl<'a> Figures<'a> {
    /// Draws them.
    ///
    /// # Errors
    /// When the drawing backend fails.
    pub fn draw(settings: &[Setting<'a>], methods: Methods) -> Result<Self, PlotError> {
        let mut across = BTreeMap::new();
        for experiment in unique(settings.iter().map(|setting| setting.experiment)) {
            let own: Vec<&Setting> = settings.iter().filter(|setting| setting.experiment == experiment).collect();
            across.insert(experiment, sweep::across(&own, methods)?);
        }
        let of_settings = settings.iter().map(|setting| figures(setting, methods)).collect::<Result<_, _>>()?;
        Ok(Self { across, of_settings })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        self.across.values().chain(&self.of_settings).flatten()
    }
}

/// All figures of one setting, in the order of the report.
fn figures(setting: &Setting, methods: Methods) -> Result<Vec<Figure>, PlotError> {
    let mut all = sweep::figures(setting, methods)?;
    all.extend(heat::figure(setting)?);
    all.extend(filters::figure(setting)?);
    all.extend(detection::figures(setting, methods)?);
    all.extend(scores::figures(setting, methods)?);
    all.extend(certified::figures(setting, methods)?);
    all.extend(timeline::figures(setting)?);
    all.extend(curves::figures(setting)?);
    all.extend(confusion::figures(setting, methods)?);
    Ok(all)
}

fn name(setting: &Setting, kind: &str, attack: &str) -> String {
    format!("{}-{kind}-{}", setting.slug, slug(attack))
}

/// Attacks that share a figure.
struct Topic<'a> {
    /// The attack, or words for several.
    title: String,
    /// For the figure's name.
    slug: &'static str,
    attacks: Vec<&'a MethodRecord>,
}

impl Topic<'_> {
    /// The heading of an attack's panel: its name is told by the figure's title where all panels share it.
    fn panel(&self, setting: &Setting, attack: &MethodRecord) -> String {
        let same = self.attacks.iter().all(|other| other.name == attack.name);
        if same { setting.variant_label(attack) } else { setting.attack_label(attack) }
    }

    fn name(&self, setting: &Setting, kind: &str) -> String {
        let own = self.attacks.first().map(|attack| attack.name.as_str()).unwrap_or_default();
        name(setting, kind, if self.slug.is_empty() { own } else { self.slug })
    }
}

/// Each attack with several variants is a topic of its own; the others share one, so that ten attacks need no ten
/// figures.
fn topics<'a>(setting: &Setting<'a>) -> Vec<Topic<'a>> {
    let own = |name: &str| setting.variants(name);
    let (single, several): (Vec<&str>, Vec<&str>) =
        setting.attack_names().into_iter().partition(|name| own(name).len() == 1);
    let mut topics: Vec<Topic> =
        several.iter().map(|name| Topic { title: (*name).to_owned(), slug: "", attacks: own(name) }).collect();
    match single.as_slice() {
        [] => {}
        [one] => topics.push(Topic { title: (*one).to_owned(), slug: "", attacks: own(one) }),
        many => {
            let title = if topics.is_empty() { "all attacks" } else { "other attacks" };
            let attacks = many.iter().flat_map(|name| own(name)).collect();
            topics.push(Topic { title: title.to_owned(), slug: "single-attacks", attacks });
        }
    }
    topics
}

/// How many panels stand side by side, so that the last row is as full as can be.
fn columns(panels: usize) -> usize {
    match panels {
        0..=3 => panels,
        4 => 2,
        _ => 3,
    }
}

/// How many seeds the means are over, where `counts` are those of the lines that are drawn.
fn band_words(counts: &[usize]) -> String {
    let measured = || counts.iter().copied().filter(|count| *count > 0);
    match (measured().min().unwrap_or(0), measured().max().unwrap_or(0)) {
        (_, 0 | 1) => "A single seed (n = 1): no interval.".to_owned(),
        (least, most) if least == most => {
            format!("Means over n = {most} seeds; bands are 95 % Student intervals.")
        }
        (1, most) => format!("Means over n = 1 to {most} seeds; bands are 95 % Student intervals, none for one seed."),
        (least, most) => format!("Means over n = {least} to {most} seeds; bands are 95 % Student intervals."),
    }
}

#[cfg(test)]
mod tests {
    use super::band_words;

    #[test]
    fn captions_tell_when_the_number_of_seeds_differs() {
        assert_eq!(band_words(&[3, 3]), "Means over n = 3 seeds; bands are 95 % Student intervals.");
        assert_eq!(band_words(&[3, 0, 2]), "Means over n = 2 to 3 seeds; bands are 95 % Student intervals.");
        assert!(band_words(&[1, 3]).ends_with("none for one seed."));
        assert_eq!(band_words(&[1]), "A single seed (n = 1): no interval.");
    }
}
