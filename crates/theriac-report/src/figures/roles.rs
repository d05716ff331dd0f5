//! How far each role of an organisation reaches, with all its permissions and without each of them.

use super::Figure;
use crate::plot::{Axis, Dash, Marker, Paint, PlotError, Style, Whisker, WhiskerPanel, Whiskers};
use crate::roles::Roles;
use crate::spread::Spread;

/// A row for each role, and below it one for each of its permissions.
pub fn figure(roles: &Roles) -> Result<Figure, PlotError> {
    let (mut rows, mut whiskers) = (Vec::new(), Vec::new());
    for reach in &roles.reach {
        rows.push(reach.role.clone());
        whiskers.push(reach.damage.as_ref().map(|damage| whisker(damage, Paint::Vermillion, Marker::Diamond)));
        for withdrawal in roles.withdrawals.iter().filter(|withdrawal| withdrawal.role == reach.role) {
            rows.push(format!("without {}", String::from(withdrawal.permission)));
            whiskers.push(Some(whisker(&withdrawal.left, Paint::Blue, Marker::Disc)));
        }
    }
    let seeds = roles.reach.iter().filter_map(|reach| Some(reach.damage.as_ref()?.n)).max().unwrap_or(0);
    let title = "Worst attack of each role (red), and without one permission (blue)".to_owned();
    let axis = Axis::whole_percent("damage (%)");
    let panels = vec![WhiskerPanel { title: title.clone(), axis, whiskers }];
    let caption = format!(
        "Damage is attack success above that on a clean model, or accuracy lost, whichever is more, of the worst measured attack that a role can \
         carry out, seed by seed. Red diamonds: with all its permissions. Blue discs: what is left without one of them, the most valuable first. \
         n = {seeds} seeds, 95 % Student intervals."
    );
    Figure::draw(&Whiskers { rows, panels }.sheet(), "roles".to_owned(), title, caption)
}

fn whisker(spread: &Spread, paint: Paint, marker: Marker) -> Whisker {
    let style = Style { paint, dash: Dash::Solid, marker, width: 2.0 };
    Whisker { mean: spread.mean, interval: spread.interval, style }
}
