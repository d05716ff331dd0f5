//! `leaderboard.html`: one file that needs no network; its tables can be sorted, and are readable without that, too.

use super::{Board, Row, Standing};
use crate::html::{STYLE, table};
use crate::plot::{DARK_MODE, escape};
use crate::spread::Spread;
use crate::words::{percent, points};

const SORT: &str = include_str!("sort.js");
const SORT_STYLE: &str = "th button{all:unset;cursor:pointer;font-weight:inherit}\nth button:focus-visible{outline:2px solid \
                          var(--link)}\nth[aria-sort=ascending] button::after{content:\" \\25B2\"}\nth[aria-sort=descending] \
                          button::after{content:\" \\25BC\"}\n";

/// The whole page.
pub fn page(boards: &[Board]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'unsafe-inline'\">\n\
         <title>Theriac leaderboard</title>\n<style>\n{STYLE}\n{SORT_STYLE}@media screen and \
         (prefers-color-scheme:dark){{\n{DARK_MODE}}}\n</style>\n</head>\n<body>\n\
         <header>\n<p class=\"kicker\">Theriac</p>\n<h1>Leaderboard</h1>\n<p class=\"scope\">{}</p>\n</header>\n<main>\n",
        escape(&super::markdown::preamble().replace('\n', " "))
    );
    let entry = |board: &Board| format!("<li><a href=\"#{}\">{}</a></li>", board.anchor, escape(&board.title));
    out.push_str(&format!(
        "<nav aria-label=\"Contents\"><ul>{}</ul></nav>\n",
        boards.iter().map(entry).collect::<String>()
    ));
    boards.iter().for_each(|board| section(&mut out, board));
    out.push_str(&format!("</main>\n<script>\n{SORT}</script>\n</body>\n</html>\n"));
    out
}

fn section(out: &mut String, board: &Board) {
    let anchor = &board.anchor;
    out.push_str(&format!(
        "<section aria-labelledby=\"{anchor}\">\n<h2 id=\"{anchor}\">{}</h2>\n<p class=\"params\">{}. Seconds are from {}.</p>\n",
        escape(&board.title),
        escape(&board.setting.label),
        escape(&board.machine),
    ));
    let head = super::markdown::STANDINGS;
    open(out, &format!("Defenses, ranked over {} attacks", board.ranked_over), &head);
    board.standings.iter().for_each(|row| standing(out, row));
    close(out);
    open(out, "Every attack against every defense", &super::markdown::ROWS);
    board.rows.iter().for_each(|each| row(out, each));
    close(out);
    out.push_str("</section>\n");
}

fn open(out: &mut String, caption: &str, head: &[&str]) {
    table::open(out, caption, head);
    out.push_str("<tbody>\n");
}

fn close(out: &mut String) {
    out.push_str("</tbody>\n");
    table::close(out);
}

fn standing(out: &mut String, row: &Standing) {
    let rank = row.rank.map_or("-".to_owned(), |rank| rank.to_string());
    // Without a rank comes last, whichever way the others are sorted.
    let key = row.rank.map_or(String::new(), |rank| rank.to_string());
    out.push_str(&format!("<tr><td data-sort=\"{key}\">{rank}</td><th scope=\"row\">{}</th>", escape(&row.defense)));
    number(out, row.der, |value| format!("{value:.3}"), "");
    match &row.worst {
        Some((attack, spread)) => number(out, Some(*spread), percent, attack),
        None => number(out, None, percent, ""),
    }
    number(out, row.lost, points, "");
    number(out, row.regained, points, "");
    number(out, row.cost, seconds, "");
    out.push_str("</tr>\n");
}

fn row(out: &mut String, row: &Row) {
    let gone = match row.gone.as_slice() {
        [] => String::new(),
        some => format!(" <span class=\"kind\">{}</span>", escape(&some.join("; "))),
    };
    out.push_str(&format!(
        "<tr><th scope=\"row\">{}</th><td data-sort=\"{defense}\">{defense}{gone}</td><td>{}</td>",
        escape(&row.attack),
        row.n,
        defense = escape(&row.defense)
    ));
    number(out, row.accuracy, percent, "");
    let (kind, success) = row.success.map_or(("", None), |(kind, spread)| (kind.short(), Some(spread)));
    number(out, success, percent, kind);
    number(out, row.der, |value| format!("{value:.3}"), "");
    number(out, row.auroc, |value| format!("{value:.3}"), "");
    number(out, row.cost, seconds, "");
    out.push_str(&format!("<td><a href=\"{}\">config</a></td></tr>\n", escape(&row.config)));
}

fn number(out: &mut String, spread: Option<Spread>, write: impl Fn(f64) -> String, kind: &str) {
    let Some(spread) = spread else {
        out.push_str("<td class=\"none\" data-sort=\"\">-</td>");
        return;
    };
    let interval = spread.interval.map(|(low, high)| format!("[{}, {}]", write(low), write(high))).unwrap_or_default();
    let kind = if kind.is_empty() { String::new() } else { format!(" <span class=\"kind\">{}</span>", escape(kind)) };
    out.push_str(&format!(
        "<td data-sort=\"{}\">{}{kind} <span class=\"interval\">{interval}</span></td>",
        spread.mean,
        write(spread.mean)
    ));
}

/// Seconds as a person reads them, three digits of them.
pub(super) fn seconds(value: f64) -> String {
    match value.abs() {
        small if small < 1.0 => format!("{value:.2}"),
        small if small < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
