//! Poisoned samples to look at.

use theriac_core::record::GalleryRecord;

use super::Section;
use crate::gallery::{GAIN, pictures, trigger, zoom};
use crate::plot::escape;
use crate::setting::Setting;

/// The pictures of one experiment.
pub fn of_experiment(out: &mut String, section: &Section, gallery: &[GalleryRecord], settings: &[&Setting]) {
    let own: Vec<_> =
        gallery.iter().filter(|record| record.experiment == section.name && !record.tiles.is_empty()).collect();
    if own.is_empty() {
        return;
    }
    out.push_str(&format!(
        "<h3>Gallery</h3>\n<p>Samples before and after the attack. Difference: the size of the change of each \
         pixel, times \
         {GAIN}, clipped; black is unchanged. Common change: the mean signed change of the pixels that changed \
         in all samples shown, \
         stretched to full contrast around a middle grey; the checkered ground is what did not change in all of \
         them.</p>\n"
    ));
    for record in own {
        let known = settings.iter().find(|setting| setting.attacks().contains(&&record.attack));
        let label = known.map_or(record.attack.name.clone(), |setting| setting.attack_label(&record.attack));
        one(out, record, &escape(&label));
    }
}

fn one(out: &mut String, record: &GalleryRecord, label: &str) {
    out.push_str(&format!(
        "<figure class=\"gallery\">\n<h4>{label} <small>on {}</small></h4>\n<div class=\"tiles\">\n",
        escape(&record.dataset.name)
    ));
    for tile in &record.tiles {
        let width = tile.shape[2] * zoom(tile.shape[2]);
        let caption = escape(&tile.caption);
        let drawn = pictures(tile);
        out.push_str("<div class=\"tile\">");
        for (what, picture) in [("before", drawn.clean), ("after", drawn.poisoned), ("difference", drawn.difference)] {
            match picture {
                Some(uri) => out.push_str(&format!(
                    "<div><img src=\"{uri}\" width=\"{width}\" alt=\"{caption}: {what}\"><span>{what}</span></div>"
                )),
                None => out.push_str(&format!(
                    "<div><span class=\"absent\" style=\"width:{width}px\">no picture</span><span>{what}</span></div>"
                )),
            }
        }
        out.push_str(&format!("<p>{caption}</p></div>\n"));
    }
    if let Some(uri) = trigger(&record.tiles) {
        let width = record.tiles[0].shape[2] * zoom(record.tiles[0].shape[2]);
        out.push_str(&format!(
            "<div class=\"tile common\"><div><img class=\"checkered\" src=\"{uri}\" width=\"{width}\" \
             alt=\"{label}: pixels \
             that changed in all samples\"><span>in all</span></div><p>common change</p></div>\n"
        ));
    }
    out.push_str("</div>\n</figure>\n");
}
