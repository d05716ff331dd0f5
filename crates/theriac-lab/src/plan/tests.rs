use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::*;
use crate::toy::{SMALL, Toy, config, plan};

fn count(plan: &Plan, kind: StepKind) -> usize {
    plan.steps.iter().filter(|planned| planned.step.kind == kind).count()
}

fn cell<'a>(plan: &'a Plan, attack: &str, defense: &str) -> &'a Cell {
    plan.cells.iter().find(|cell| cell.attack.name == attack && cell.defense.name == defense).unwrap()
}

/// The names of a step's inputs, sorted.
fn inputs(plan: &Plan, index: usize) -> Vec<&str> {
    plan.inputs(index).map(|(name, _)| name).collect()
}

fn input(plan: &Plan, index: usize, name: &str) -> usize {
    plan.inputs(index).find(|(other, _)| *other == name).unwrap().1
}

fn study(experiment: &str) -> String {
    format!(
        "name = \"s\"\nseeds = 1\n[data]\nname = \"digits\"\n[model]\nname = \"cnn\"\n[[experiment]]\nname = \"e\"\n{experiment}"
    )
}

fn one(attack: &str, defense: &str) -> Plan {
    plan(&study(&format!("[[experiment.attack]]\nname = \"{attack}\"\n[[experiment.defense]]\nname = \"{defense}\"")))
}

#[test]
fn six_attacks_and_six_defenses_train_each_victim_once() {
    let text = study(
        "seeds = 3\n[[experiment.attack]]\nname = \"badnets\"\nrate = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]\n\
         [[experiment.defense]]\nname = \"prune\"\nstrength = [1, 2, 3, 4, 5, 6]",
    );
    let plan = plan(&text);
    assert_eq!(count(&plan, StepKind::Train), (6 + 1) * 3);
    assert_eq!(count(&plan, StepKind::Poison), 6 * 3);
    assert_eq!(count(&plan, StepKind::Repair), (6 + 1) * 6 * 3);
    assert_eq!(plan.cells.len(), (6 + 1) * (6 + 1) * 3);
    assert!(plan.unshared > 2 * plan.steps.len());
}

#[test]
fn steps_stand_after_their_inputs_and_each_once() {
    let plan = one("witches-brew", "all-in-one");
    for (index, planned) in plan.steps.iter().enumerate() {
        assert!(planned.inputs.iter().all(|&input| input < index));
        assert_eq!(plan.inputs(index).count(), planned.inputs.len());
    }
    assert_eq!(plan.steps.iter().map(|planned| planned.address).collect::<BTreeSet<_>>().len(), plan.steps.len());
}

#[test]
fn the_victim_does_not_depend_on_defenses_that_come_after_training() {
    let victim = |plan: &Plan| plan.steps[cell(plan, "badnets", "none").trained.unwrap()].address;
    let reference = victim(&one("badnets", "prune"));
    for defense in ["spectral", "robust", "strip", "all-in-one"] {
        assert_eq!(victim(&one("badnets", defense)), reference);
    }
    let robust = one("badnets", "robust");
    let trained = cell(&robust, "badnets", "robust").trained.unwrap();
    assert_ne!(robust.steps[trained].address, reference);
    assert_eq!(robust.steps[trained].step.defense.as_ref().unwrap().name, "robust");
}

#[test]
fn a_defense_with_all_hooks_passes_through_them_in_order() {
    let plan = one("badnets", "all-in-one");
    let all = cell(&plan, "badnets", "all-in-one");
    assert_eq!(inputs(&plan, all.evaluate), ["model", "poison"]);
    assert!(plan.steps[all.evaluate].step.defense.is_some());
    let repair = input(&plan, all.evaluate, "model");
    assert_eq!(
        (plan.steps[repair].step.kind, inputs(&plan, repair)),
        (StepKind::Repair, vec!["inspect", "model", "poison", "vet"])
    );
    let inspect = input(&plan, repair, "inspect");
    assert_eq!((Some(inspect), inputs(&plan, inspect)), (all.inspect, vec!["model", "poison"]));
    let trained = input(&plan, repair, "model");
    assert_eq!((trained, inputs(&plan, trained)), (all.trained.unwrap(), vec!["poison", "vet"]));
    assert!(plan.steps[trained].step.defense.is_some());
    let vet = input(&plan, trained, "vet");
    assert_eq!((Some(vet), inputs(&plan, vet)), (all.vet, vec!["features", "poison", "victim"]));
    let features = input(&plan, vet, "features");
    assert_eq!(input(&plan, features, "model"), input(&plan, vet, "victim"));
    assert_eq!(input(&plan, vet, "victim"), cell(&plan, "badnets", "none").trained.unwrap());
}

#[test]
fn filters_share_what_the_victim_sees() {
    let text = study(
        "[[experiment.attack]]\nname = \"badnets\"\n\
         [[experiment.defense]]\nname = [\"spectral\", \"clustering\"]",
    );
    let plan = plan(&text);
    // Two filters on two victims; controls beside them on the poisoned one only.
    assert_eq!((count(&plan, StepKind::Features), count(&plan, StepKind::Vet)), (2, 6 + 2));
}

#[test]
fn what_certifies_answers_by_itself() {
    let plan = one("badnets", "partition");
    let certified = cell(&plan, "badnets", "partition");
    assert_eq!((certified.trained, inputs(&plan, certified.evaluate)), (None, vec!["poison"]));
    let step = &plan.steps[certified.evaluate].step;
    assert!(step.kind == StepKind::Certify && step.train.is_some() && step.model.is_some());
}

#[test]
fn a_monitor_watches_the_trainings_and_decides_which_network_is_in_use() {
    let text = study("[[experiment.attack]]\nname = \"badnets\"\n[[experiment.defense]]\nname = \"watch\"");
    let plan = plan(&text.replace("[[experiment]]", "[train]\nepochs = 78\n[[experiment]]"));
    let watched = cell(&plan, "badnets", "watch");
    let monitor = input(&plan, watched.evaluate, "model");
    assert_eq!((Some(monitor), inputs(&plan, monitor)), (watched.monitor, vec!["model", "poison"]));
    assert_eq!(input(&plan, monitor, "model"), watched.trained.unwrap());
    assert_eq!(watched.trained, cell(&plan, "badnets", "none").trained);
    // When samples arrive is a part of the recipe.
    let poison = |plan: &Plan| plan.steps[cell(plan, "badnets", "none").poison.unwrap()].step.train.is_some();
    assert!(poison(&plan) && !poison(&one("badnets", "prune")));
}

#[test]
fn a_guard_shares_the_model_and_clean_model_is_the_clean_reference() {
    let plan = one("badnets", "strip");
    let (guarded, undefended) = (cell(&plan, "badnets", "strip"), cell(&plan, "badnets", "none"));
    assert_eq!(guarded.trained, undefended.trained);
    assert_ne!(guarded.evaluate, undefended.evaluate);
    assert_eq!(guarded.undefended, undefended.evaluate);
    let plan = one("badnets", "clean-model");
    let control = cell(&plan, "badnets", "clean-model");
    assert_eq!((control.evaluate, control.trained), (control.clean, cell(&plan, "none", "none").trained));
    assert_eq!(inputs(&plan, control.evaluate), ["model", "poison"]);
    assert!(!plan.cells.iter().any(|cell| cell.attack.name == "none" && cell.defense.name == "clean-model"));
}

#[test]
fn a_surrogate_is_trained_on_clean_data_and_is_not_the_clean_model() {
    let plan = one("witches-brew", "prune");
    let poison = cell(&plan, "witches-brew", "none").poison.unwrap();
    let surrogate = &plan.steps[input(&plan, poison, "surrogate")];
    assert_eq!((surrogate.step.role.as_str(), surrogate.inputs.len()), ("surrogate", 0));
    assert_ne!(surrogate.address, plan.steps[cell(&plan, "none", "none").trained.unwrap()].address);
    assert!(plan.steps[poison].step.model.is_some());
}

#[test]
fn a_published_network_is_where_all_victims_begin_and_the_attackers_surrogate() {
    let text = study(
        "[[experiment.attack]]\nname = [\"witches-brew\", \"badnets\"]\n[[experiment.defense]]\nname = [\"robust\", \"spectral\"]",
    );
    let plan = plan(&text.replace("[[experiment]]", "[train]\nepochs = 77\n[[experiment]]"));
    let trained: Vec<&PlannedStep> = plan.steps.iter().filter(|step| step.step.kind == StepKind::Train).collect();
    let (published, victims): (Vec<&&PlannedStep>, Vec<_>) =
        trained.iter().partition(|step| step.step.role == "surrogate");
    assert!(published.iter().all(|step| step.inputs.is_empty()));
    let addresses: Vec<_> = published.iter().map(|step| step.address).collect();
    assert!(victims.len() > 5 && victims.iter().all(|step| addresses.contains(&step.step.inputs["start"])));
    let poison = cell(&plan, "witches-brew", "none").poison.unwrap();
    assert!(addresses.contains(&plan.steps[poison].step.inputs["surrogate"]));
}

#[test]
fn filters_get_controls_that_match_their_budget() {
    let plan = plan(&study(
        "[[experiment.attack]]\nname = [\"badnets\", \"sig\"]\n[[experiment.defense]]\nname = \"spectral\"\nstrength = [1, 2]\n\
         [[experiment.defense]]\nname = \"clustering\"\nagainst = \"sig\"",
    ));
    let controls = |attack: &str, name: &str| -> Vec<String> {
        let cells = plan.cells.iter().filter(|cell| cell.attack.name == attack && cell.defense.name == name);
        cells.map(|cell| cell.defense.params["matches"].as_str().unwrap().to_owned()).collect()
    };
    for name in ["random-filter", "perfect-filter"] {
        assert_eq!(controls("badnets", name), ["spectral strength=1.0", "spectral strength=2.0"]);
        assert_eq!(controls("sig", name), ["spectral strength=1.0", "spectral strength=2.0", "clustering"]);
        assert!(controls("none", name).is_empty());
    }
    let vet = cell(&plan, "badnets", "random-filter").vet.unwrap();
    assert_eq!(inputs(&plan, vet), ["features", "matches", "poison", "victim"]);
    assert_eq!(Some(input(&plan, vet, "matches")), cell(&plan, "badnets", "spectral").vet);
    assert!(!plan.cells.iter().any(|cell| cell.attack.name == "none" && cell.defense.name == "clustering"));
}

#[test]
fn controls_can_be_written_out_or_left_out() {
    let written = "[[experiment.attack]]\nname = \"sig\"\n[[experiment.defense]]\nname = \"perfect-filter\"\nmatches = \"spectral\"\n\
        [[experiment.defense]]\nname = \"spectral\"\n[[experiment.defense]]\nname = \"random-filter\"\nfraction = 0.2";
    let named = |plan: &Plan| {
        let mut names = BTreeMap::new();
        plan.cells.iter().for_each(|cell| *names.entry(cell.defense.name.clone()).or_insert(0) += 1);
        names.into_iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>()
    };
    // Each of the two random filters once against the attack, the written one against the clean model as well.
    assert_eq!(named(&plan(&study(written))), ["none 2", "perfect-filter 1", "random-filter 3", "spectral 2"]);
    let off = format!("controls = false\n{written}");
    assert_eq!(named(&plan(&study(&off))), ["none 2", "perfect-filter 1", "random-filter 2", "spectral 2"]);
}

#[test]
fn addresses_do_not_depend_on_the_order_of_keys_or_on_written_defaults() {
    let addresses = |plan: &Plan| plan.steps.iter().map(|planned| planned.address).collect::<Vec<_>>();
    let head = "[[experiment.attack]]\n";
    let one = plan(&study(&format!("{head}name = \"sig\"\nrate = 0.1\ntarget = 0")));
    let two = plan(&study(&format!("{head}target = 0\nname = \"sig\"")));
    assert_eq!(addresses(&one), addresses(&two));
}

#[test]
fn the_addresses_of_the_small_study_are_pinned() {
    // A change here makes every stored result unreachable: it must be meant.
    let lines = plan(SMALL).steps.into_iter().map(|one| format!("{} {}\n", one.address.short(12), one.label));
    insta::assert_snapshot!(lines.collect::<String>());
}

#[test]
fn only_missing_steps_and_what_they_read_are_due() {
    let plan = plan(SMALL);
    assert_eq!(plan.due(|_| false), vec![true; plan.steps.len()]);
    assert!(!plan.due(|_| true).contains(&true));
    let missing = cell(&plan, "badnets", "prune").evaluate;
    let due = plan.due(|index| index != missing);
    assert_eq!(due.iter().filter(|due| **due).count(), 1);
    let repair = input(&plan, missing, "model");
    let due = plan.due(|index| index != missing && index != repair);
    assert!(due[missing] && due[repair] && !due[cell(&plan, "badnets", "none").trained.unwrap()]);
}

#[test]
fn the_summary_counts_and_estimates() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let plan = plan(SMALL);
    let summary = plan.summary(&store, 2);
    assert_eq!(summary.by_kind.values().sum::<usize>(), summary.steps);
    assert_eq!(
        (summary.steps, summary.in_store, summary.shared),
        (plan.steps.len(), 0, plan.unshared - plan.steps.len())
    );
    let sum: f64 = plan.steps.iter().map(|planned| planned.seconds).sum();
    assert_eq!(summary.seconds, sum / 2.0);
    // Poison, victim, features, vet, control's vet, training, evaluation, one after the other.
    assert_eq!(plan.summary(&store, 1000).seconds, 0.5 + 4.0 + 0.5 + 0.5 + 0.5 + 4.0 + 0.5);
}

#[test]
fn ten_thousand_cells_are_planned_quickly() {
    let rates: Vec<String> = (1..=39).map(|rate| format!("0.{rate:03}")).collect();
    let text = study(&format!(
        "seeds = 10\n[[experiment.attack]]\nname = \"badnets\"\nrate = [{}]\n[[experiment.defense]]\nname = \"prune\"\n\
         strength = [{}]",
        rates.join(", "),
        (1..=25).map(|strength| format!("{:.1}", f64::from(strength) / 10.0)).collect::<Vec<_>>().join(", ")
    ));
    let begin = Instant::now();
    let plan = Plan::new(&config(&text), &Toy::default());
    assert_eq!(plan.cells.len(), 40 * 26 * 10);
    let seconds = begin.elapsed().as_secs_f64();
    println!("{} cells, {} steps in {seconds:.2} s", plan.cells.len(), plan.steps.len());
    assert!(seconds < 5.0, "{seconds}");
}
