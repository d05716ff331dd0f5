//! Filters against the random filter with the same removal budget.

use super::{Figure, name};
use crate::control::{Advantage, Verdict, advantages};
use crate::plot::{Axis, Dash, Marker, Paint, PlotError, Style, Whisker, WhiskerPanel, Whiskers};
use crate::setting::Setting;
use crate::spread::Spread;

/// One figure, when a filter has its random filter.
pub fn figure(setting: &Setting) -> Result<Option<Figure>, PlotError> {
    let advantages = advantages(setting);
    if advantages.is_empty() {
        return Ok(None);
    }
    let rows = advantages.iter().map(|advantage| {
        format!("{} on {}", setting.defense_label(advantage.defense), setting.attack_label(advantage.attack))
    });
    let panels = [
        panel("Poison found", &advantages, |advantage| advantage.found),
        panel("Success prevented", &advantages, |advantage| advantage.success.map(|(_, spread)| spread)),
        panel("Clean accuracy", &advantages, |advantage| advantage.accuracy),
    ];
    let whiskers = Whiskers { rows: rows.collect(), panels: panels.into_iter().flatten().collect() };
    let caption = "Poison found (TPR), attack success prevented and clean accuracy after retraining: each \
                   filter minus the random \
                   filter that removes as many samples, in percentage points, paired by seed, \
                   with 95 % Student intervals (none for a single seed); one that ends without a cap goes \
                   on beyond the axis. Right of the dashed line the filter is \
                   better. \
                   Blue discs: the whole interval lies right of it. Red diamonds: the filter does NOT beat the random \
                   filter. Grey squares: one seed, no verdict."
        .to_owned();
    let title = "Filters against the random filter".to_owned();
    Figure::draw(&whiskers.sheet(), name(setting, "filters", "random"), title, caption).map(Some)
}

fn panel(title: &str, advantages: &[Advantage], value: impl Fn(&Advantage) -> Option<Spread>) -> Option<WhiskerPanel> {
    let spreads: Vec<Option<Spread>> = advantages.iter().map(value).collect();
    if spreads.iter().all(Option::is_none) {
        return None;
    }
    // One wild interval of a few seeds must not press all others flat.
    let ends =
        spreads.iter().flatten().flat_map(|spread| [spread.low(), spread.high()]).map(|end| end.clamp(-1.0, 1.0));
    let axis = Axis::points("difference (points)", ends);
    let whiskers = spreads.iter().map(|spread| {
        let spread = spread.as_ref()?;
        let (paint, marker) = match Verdict::of(spread) {
            Verdict::Beats => (Paint::Blue, Marker::Disc),
            Verdict::DoesNotBeat => (Paint::Vermillion, Marker::Diamond),
            Verdict::Unknown => (Paint::Muted, Marker::Square),
        };
        let style = Style { paint, dash: Dash::Solid, marker, width: 2.0 };
        Some(Whisker { mean: spread.mean, interval: spread.interval, style })
    });
    Some(WhiskerPanel { title: title.to_owned(), axis, whiskers: whiskers.collect() })
}
