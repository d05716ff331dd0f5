//! The leaderboard: every defense against every attack with its interval, its cost and the config that gives it again.
//!
//! Defenses are ranked within a setting (one data set, network and recipe), over the attacks that all of them met and that have a
//! success to prevent: by the mean of the defense effectiveness rate over these attacks, seed by seed, so that its interval is one
//! over seeds. Beside it stand what is left of the worst attack, what the defense costs where nothing is wrong, and the seconds that
//! it takes beyond those of the undefended victim. Controls are shown, but have no rank: nobody can deploy them.

mod config;
mod cost;
mod html;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use theriac_core::files::{create_folder, write_atomically};
use theriac_core::record::MethodRecord;

use crate::ReportError;
use crate::group::{CLEAN_MODEL, Group, NONE, is_reference, slug};
use crate::input::Results;
use crate::setting::{Setting, settings};
use crate::spread::Spread;
use crate::words::Success;
use cost::Costs;

/// One setting: its standings and all that they are made from.
struct Board<'a> {
    /// The study, and the experiment where the study has several.
    title: String,
    /// Data set, network and recipe, with what differs within the study.
    setting: &'a Setting<'a>,
    /// A short name for anchors and files, unique on the page.
    anchor: String,
    /// How many attacks the rank is over.
    ranked_over: usize,
    /// The defenses, best first; those without a rank last.
    standings: Vec<Standing>,
    /// One row an attack and defense, in the order of the report.
    rows: Vec<Row>,
    /// The hardware that the seconds are from.
    machine: String,
}

/// One defense over all attacks.
struct Standing {
    /// The defense.
    defense: String,
    /// Counted from 1; absent for controls, and for defenses that were not measured on all ranked attacks.
    rank: Option<usize>,
    /// Mean defense effectiveness rate over the ranked attacks.
    der: Option<Spread>,
    /// The attack that succeeds best in spite of the defense, and how well.
    worst: Option<(String, Spread)>,
    /// Clean accuracy lost where nothing is attacked.
    lost: Option<Spread>,
    /// Clean accuracy regained, in the mean over the attacks on accuracy.
    regained: Option<Spread>,
    /// Seconds beyond those of the undefended victim, in the mean over attacks.
    cost: Option<Spread>,
}

/// One attack against one defense.
struct Row {
    attack: String,
    defense: String,
    /// Seeds that were measured.
    n: usize,
    accuracy: Option<Spread>,
    success: Option<(Success, Spread)>,
    der: Option<Spread>,
    auroc: Option<Spread>,
    /// Seconds beyond those of the undefended victim; of the undefended one, those of making the poison.
    cost: Option<Spread>,
    /// The config that gives this row again, relative to the leaderboard.
    config: String,
    /// Why seeds are missing, each reason once.
    gone: Vec<String>,
}

/// Reads the results in `folders` and writes `leaderboard.html`, `leaderboard.md` and `configs/*.toml` into the folder `out`.
/// Answers with the files.
///
/// # Errors
/// When results cannot be read or a file cannot be written.
pub fn leaderboard(folders: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let results = folders.iter().map(|folder| Results::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let grids: Vec<Vec<Setting>> = results.iter().map(|results| settings(&results.cells)).collect();
    let mut configs = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let boards: Vec<Board> = results
        .iter()
        .zip(&grids)
        .flat_map(|(results, grid)| grid.iter().map(move |setting| (results, grid.len(), setting)))
        .map(|(results, peers, setting)| board(results, peers, setting, &mut taken, &mut configs))
        .collect();

    create_folder(&out.join("configs"))?;
    let texts = configs.into_iter().chain([
        ("leaderboard.html".to_owned(), html::page(&boards)),
        ("leaderboard.md".to_owned(), markdown::page(&boards)),
    ]);
    let write = |(name, text): (String, String)| {
        let path = out.join(name);
        write_atomically(&path, text.as_bytes())?;
        Ok(path)
    };
    texts.map(write).collect()
}

fn board<'a>(
    results: &Results,
    peers: usize,
    setting: &'a Setting<'a>,
    taken: &mut BTreeSet<String>,
    configs: &mut BTreeMap<String, String>,
) -> Board<'a> {
    let study = &results.manifest.name;
    let title = if peers > 1 { format!("{study}: {}", setting.experiment) } else { study.clone() };
    let mut anchor = if peers > 1 { slug(&format!("{study} {}", setting.slug)) } else { slug(study) };
    while !taken.insert(anchor.clone()) {
        anchor.push('_');
    }
    let costs = Costs::new(&results.manifest.steps);
    let mut rows = Vec::new();
    for attack in setting.attacks() {
        for defense in setting.defenses() {
            let Some(group) = setting.find(attack, defense) else { continue };
            let (attack, defense) = (setting.attack_label(attack), setting.defense_label(defense));
            let mut name = format!("configs/{anchor}--{}--{}", slug(&attack), slug(&defense));
            while configs.contains_key(&format!("{name}.toml")) {
                name.push('_');
            }
            let file = format!("{name}.toml");
            configs.insert(file.clone(), config::of(group, setting, name.trim_start_matches("configs/")));
            rows.push(row(group, setting, attack, defense, &costs, file));
        }
    }
    let ranked = ranked(setting);
    let machine = &results.manifest.machine;
    let fact = |name: &str| machine.get(name).map_or("unknown", String::as_str);
    Board {
        title,
        setting,
        anchor,
        ranked_over: ranked.len(),
        standings: standings(setting, &ranked, &costs),
        rows,
        machine: format!("{} cores of {}, device {}", fact("cores"), fact("processor"), results.manifest.device),
    }
}

fn row(group: &Group, setting: &Setting, attack: String, defense: String, costs: &Costs, config: String) -> Row {
    let undefended = setting.undefended(group.attack());
    let cost = match undefended {
        Some(undefended) if group.defense().name != NONE => costs.beyond(group, undefended),
        _ => costs.poison(group),
    };
    let mut gone: Vec<String> = Vec::new();
    for (cell, word, reason) in group.unmeasured() {
        let text = format!("{word}: {reason}");
        match gone.iter_mut().find(|known| known.ends_with(&text)) {
            Some(known) => *known = format!("seed {}, {known}", cell.seed),
            None => gone.push(format!("seed {}: {text}", cell.seed)),
        }
    }
    Row {
        attack,
        defense,
        n: group.ok().count(),
        accuracy: group.spread("clean_accuracy").map(clipped),
        success: group.success().zip(group.success_spread().map(clipped)),
        der: group.spread("der").map(clipped),
        auroc: group.spread("auroc").map(clipped),
        cost,
        config,
        gone,
    }
}

/// The attacks that defenses are ranked over: those that have a success, met by every defense that could be deployed.
fn ranked<'a>(setting: &Setting<'a>) -> Vec<&'a MethodRecord> {
    let defenses: Vec<_> = setting.defenses().into_iter().filter(|defense| !is_reference(defense)).collect();
    let met = |attack: &&MethodRecord| {
        let own: Vec<_> = defenses.iter().filter_map(|defense| setting.find(attack, defense)).collect();
        // Where one diverged it has no number, which takes its rank and not the attack's place.
        own.len() == defenses.len() && own.iter().any(|group| group.spread("der").is_some())
    };
    setting.attacks().into_iter().filter(met).collect()
}

fn standings(setting: &Setting, ranked: &[&MethodRecord], costs: &Costs) -> Vec<Standing> {
    let mut standings: Vec<(bool, Standing)> = Vec::new();
    for defense in setting.defenses() {
        if [NONE, CLEAN_MODEL].contains(&defense.name.as_str()) {
            continue;
        }
        let met: Vec<&Group> = setting.groups.iter().filter(|group| group.defense() == defense).collect();
        let of = |attack: &MethodRecord| met.iter().copied().find(|group| group.attack() == attack);
        let own: Vec<&Group> = ranked.iter().filter_map(|attack| of(attack)).collect();
        let all = own.len() == ranked.len() && own.iter().all(|group| group.spread("der").is_some());
        let against_undefended = |group: &&Group| {
            let undefended = setting.undefended(group.attack())?;
            group.difference("clean_accuracy", undefended, "clean_accuracy")
        };
        let nothing = met.iter().copied().find(|group| group.attack().name == NONE);
        let on_accuracy: Vec<&Group> = met
            .iter()
            .copied()
            .filter(|group| group.attack().name != NONE && group.success().is_none() && group.ok().next().is_some())
            .collect();
        let worst = own.iter().filter_map(|group| Some((group, group.success()?, group.success_spread()?)));
        let worst =
            worst.max_by(|(_, kind, a), (_, other, b)| (kind.sign() * a.mean).total_cmp(&(other.sign() * b.mean)));
        standings.push((
            all && !ranked.is_empty() && !is_reference(defense),
            Standing {
                defense: setting.defense_label(defense),
                rank: None,
                der: all.then(|| over(&own, |group| group.values("der"))).flatten().map(clipped),
                worst: worst.map(|(group, _, spread)| (setting.attack_label(group.attack()), clipped(spread))),
                lost: nothing.and_then(|group| against_undefended(&group)).map(negated),
                regained: over(&on_accuracy, |group| {
                    let Some(undefended) = setting.undefended(group.attack()) else { return BTreeMap::new() };
                    let before = undefended.values("clean_accuracy");
                    let after = group.values("clean_accuracy");
                    after.into_iter().filter_map(|(seed, value)| Some((seed, value - before.get(&seed)?))).collect()
                }),
                cost: over(&met, |group| {
                    let undefended = setting.undefended(group.attack());
                    undefended.map(|undefended| costs.by_seed(group, undefended)).unwrap_or_default()
                }),
            },
        ));
    }
    let mean = |standing: &Standing| standing.der.map_or(f64::NEG_INFINITY, |spread| spread.mean);
    standings.sort_by(|(ranked, a), (other, b)| other.cmp(ranked).then(mean(b).total_cmp(&mean(a))));
    let mut place = 0;
    for (ranked, standing) in &mut standings {
        if *ranked {
            place += 1;
            standing.rank = Some(place);
        }
    }
    standings.into_iter().map(|(_, standing)| standing).collect()
}

/// The mean over `groups` at each seed that all of them have, over seeds.
fn over(groups: &[&Group], values: impl Fn(&Group) -> BTreeMap<u64, f64>) -> Option<Spread> {
    let all: Vec<BTreeMap<u64, f64>> = groups.iter().map(|group| values(group)).collect();
    let seeds = all.first()?.keys().filter(|seed| all.iter().all(|one| one.contains_key(seed)));
    let mean = |seed: &u64| all.iter().map(|one| one[seed]).sum::<f64>() / all.len() as f64;
    Spread::of(&seeds.map(mean).collect::<Vec<_>>())
}

/// An interval of fractions holds fractions.
fn clipped(spread: Spread) -> Spread {
    let interval = spread.interval.map(|(low, high)| (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)));
    Spread { interval, ..spread }
}

fn negated(spread: Spread) -> Spread {
    Spread {
        mean: -spread.mean,
        interval: spread.interval.map(|(low, high)| (-high, -low)),
        min: -spread.max,
        max: -spread.min,
        ..spread
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use theriac_core::record::CellRecord;

    use super::*;
    use crate::toy::{cell, method, results};

    /// A clean model and two victims, each with the defenses `good`, `bad` and `partial`, which does not meet the second attack.
    fn cells() -> Vec<CellRecord> {
        let none = method("none", json!({}));
        let attacks = [none.clone(), method("one", json!({})), method("two", json!({}))];
        let mut cells = Vec::new();
        for seed in 1..=2 {
            let shift = seed as f64 / 100.0;
            for attack in &attacks {
                cells.push(cell(attack, &none, seed, &[("clean_accuracy", 0.9 + shift)]));
                for (name, der, asr, accuracy) in
                    [("bad", 0.5, 0.8, 0.8), ("good", 0.9, 0.1, 0.89), ("partial", 1.0, 0.0, 0.9)]
                {
                    let mut metrics = vec![("clean_accuracy", accuracy + shift)];
                    if attack.name != NONE {
                        metrics.extend([
                            ("asr", asr + if attack.name == "two" { 0.1 } else { 0.0 }),
                            ("der", der - shift),
                        ]);
                    }
                    let mut made = cell(attack, &method(name, json!({})), seed, &metrics);
                    if name == "partial" && attack.name == "two" {
                        made.outcome = theriac_core::record::Outcome::Diverged("the loss is not a number".to_owned());
                        made.metrics.clear();
                    }
                    cells.push(made);
                }
            }
        }
        cells
    }

    #[test]
    fn defenses_are_ranked_over_the_attacks_that_all_met_and_the_unmeasured_have_no_rank() {
        let results = results(cells());
        let settings = settings(&results.cells);
        let board = board(&results, 1, &settings[0], &mut BTreeSet::new(), &mut BTreeMap::new());
        let order: Vec<(Option<usize>, &str)> =
            board.standings.iter().map(|row| (row.rank, row.defense.as_str())).collect();
        assert_eq!(order, [(Some(1), "good"), (Some(2), "bad"), (None, "partial")]);
        assert_eq!(board.ranked_over, 2);
        let good = &board.standings[0];
        assert!((good.der.unwrap().mean - 0.885).abs() < 1e-12);
        assert_eq!(good.worst.as_ref().map(|(attack, _)| attack.as_str()), Some("two"));
        assert!((good.lost.unwrap().mean - 0.01).abs() < 1e-12, "positive is a loss");
        let gone = board.rows.iter().find(|row| !row.gone.is_empty()).unwrap();
        assert_eq!(gone.gone, ["seed 2, seed 1: diverged: the loss is not a number"]);
    }
}
