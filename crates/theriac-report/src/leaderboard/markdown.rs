//! `leaderboard.md`: the same tables as text.

use super::html::seconds;
use super::{Board, Row, Standing};
use crate::spread::Spread;
use crate::words::{percent, points};

/// The columns of the standings.
pub const STANDINGS: [&str; 7] = [
    "Rank",
    "Defense",
    "Mean DER",
    "Worst attack left (%)",
    "CA lost unattacked (points)",
    "CA regained (points)",
    "Cost (s)",
];
/// The columns of the rows.
pub const ROWS: [&str; 9] = ["Attack", "Defense", "n", "CA (%)", "Success (%)", "DER", "AUROC", "Cost (s)", "Config"];

/// What the columns mean.
pub fn preamble() -> &'static str {
    "Defenses are ranked by the mean of their defense effectiveness (DER: 0.5 is no effect, 1 is perfect) over those attacks of a\n\
     setting that have a success to prevent. Worst attack left is the success of the attack that still succeeds best. CA is clean\n\
     accuracy: lost where nothing is attacked, regained in the mean over attacks on accuracy. Cost is seconds beyond those of the\n\
     undefended victim, summed over steps as the run computed them; for an undefended row it is the making of the poison. Controls\n\
     have no rank. Brackets are 95 % Student intervals over seeds. Every row links to the config that gives it again, bit by bit."
}

/// The whole page.
pub fn page(boards: &[Board]) -> String {
    let mut out = format!("# Leaderboard\n\n{}\n", preamble());
    for board in boards {
        out.push_str(&format!(
            "\n## {}\n\n{}. Seconds are from {}.\n\n### Defenses, ranked over {} attacks\n\n",
            board.title, board.setting.label, board.machine, board.ranked_over
        ));
        head(&mut out, &STANDINGS);
        board.standings.iter().for_each(|row| line(&mut out, &standing(row)));
        out.push_str("\n### Every attack against every defense\n\n");
        head(&mut out, &ROWS);
        board.rows.iter().for_each(|each| line(&mut out, &row(each)));
    }
    out
}

fn head(out: &mut String, columns: &[&str]) {
    line(out, &columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
    line(out, &vec!["---".to_owned(); columns.len()]);
}

fn line(out: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    out.push_str(&format!("| {} |\n", cells.join(" | ")));
}

fn standing(row: &Standing) -> Vec<String> {
    vec![
        row.rank.map_or("-".to_owned(), |rank| rank.to_string()),
        row.defense.clone(),
        number(row.der, |value| format!("{value:.3}")),
        row.worst
            .as_ref()
            .map_or("-".to_owned(), |(attack, spread)| format!("{}, {attack}", number(Some(*spread), percent))),
        number(row.lost, points),
        number(row.regained, points),
        number(row.cost, seconds),
    ]
}

fn row(row: &Row) -> Vec<String> {
    let gone = if row.gone.is_empty() { String::new() } else { format!(" ({})", row.gone.join("; ")) };
    vec![
        row.attack.clone(),
        format!("{}{gone}", row.defense),
        row.n.to_string(),
        number(row.accuracy, percent),
        row.success
            .map_or("-".to_owned(), |(kind, spread)| format!("{} {}", number(Some(spread), percent), kind.short())),
        number(row.der, |value| format!("{value:.3}")),
        number(row.auroc, |value| format!("{value:.3}")),
        number(row.cost, seconds),
        format!("[config]({})", row.config),
    ]
}

fn number(spread: Option<Spread>, write: impl Fn(f64) -> String) -> String {
    let Some(spread) = spread else { return "-".to_owned() };
    let interval = spread.interval.map(|(low, high)| format!(" [{}, {}]", write(low), write(high)));
    format!("{}{}", write(spread.mean), interval.unwrap_or_default())
}
