use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::toy::{Toy, config, parse};

/// A study that is right but for the lines given.
fn study(experiment: &str) -> String {
    format!(
        "name = \"s\"\n[data]\nname = \"digits\"\n[model]\nname = \"cnn\"\n[[experiment]]\nname = \"e\"\n{experiment}"
    )
}

/// The rules that `text` breaks, with line and column.
fn faults(text: &str) -> Vec<String> {
    let faults = parse(text).expect_err("the config is wrong");
    let tell = |fault: &Fault| {
        let (line, column) = faults.place(fault.span.start);
        format!("{line}:{column} {}: {}", fault.path, fault.rule)
    };
    faults.faults.iter().map(tell).collect()
}

/// The only rule that an experiment breaks.
fn fault(experiment: &str) -> String {
    let all = faults(&study(experiment));
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0].clone()
}

#[test]
fn a_config_with_many_faults_is_told_all_of_them() {
    let text = r#"nam = "faulty"
seeds = 0
[data]
name = "digts"
[model]
name = "cnn"
widht = 16
[train]
epochs = 0

[[experiment]]
name = "backdoor"
colour = "red"
[[experiment.attack]]
name = "badnet"
[[experiment.attack]]
name = "badnets"
rate = [-0.1, 1.5, nan, 0.05]
target = "zero"
[[experiment.defense]]
name = "spectral"
strength = []
against = ["badnets", "sig"]

[[experiment]]
name = "backdoor"
seeds = [1, 2, 1]
	data = { name = "digits", train = 100 }
[[experiment.attack]]
name = "label-flip"
target = [9, 10]
"#;
    insta::assert_snapshot!(parse(text).unwrap_err());
}

#[test]
fn every_rule_of_a_study_has_its_fault() {
    assert_eq!(faults("name = \"s\""), ["1:1 : there is no experiment; add an [[experiment]]"]);
    assert_eq!(
        faults("name = \"s\"\nexperiment = []")[0],
        "2:14 experiment: the list is empty; expected at least one value"
    );
    assert_eq!(faults("name = \"s\"\nexperiment = 3")[0], "2:14 experiment: expected a table, found 3");
    let name = "expected a name of letters, digits, `-`, `_` and `.` that can name a folder, found";
    for bad in ["../x", "a/b", ".hidden", "dot.", "a b", "con", "NUL.1", "com1.x"] {
        let text = study("").replace("\"s\"", &format!("\"{bad}\""));
        assert_eq!(faults(&text), [format!("1:8 name: {name} \"{bad}\"")]);
    }
    for good in ["store", "console", "com", "com10", "v1.2"] {
        assert_eq!(config(&study("").replace("\"s\"", &format!("\"{good}\""))).name, good);
    }
    let twice = study("[[experiment]]\nname = \"e\"");
    assert_eq!(faults(&twice), ["9:8 experiment[e].name: the experiment \"e\" is listed twice"]);
    let bare = "name = \"s\"\n[[experiment]]\nname = \"e\"";
    let missing = ["2:1 experiment[e]: the key `data` is missing", "2:1 experiment[e]: the key `model` is missing"];
    assert_eq!(faults(bare), missing);
}

#[test]
fn every_rule_of_an_experiment_has_its_fault() {
    let seeds = "expected a number of seeds from 1 to 10000, or a list of seeds, found";
    assert_eq!(fault("seeds = 0"), format!("8:9 experiment[e].seeds: {seeds} 0"));
    assert_eq!(fault("seeds = 1000000000000"), format!("8:9 experiment[e].seeds: {seeds} 1000000000000"));
    assert_eq!(fault("seeds = [4, 4]"), "8:13 experiment[e].seeds: the seed 4 is listed twice");
    assert_eq!(fault("seeds = []"), "8:9 experiment[e].seeds: the list is empty; expected at least one value");
    assert_eq!(fault("seeds = [-1]"), "8:10 experiment[e].seeds: expected a whole number, at least 0, found -1");
    assert_eq!(fault("controls = 1"), "8:12 experiment[e].controls: expected true or false, found 1");
    assert_eq!(fault("atack = 1"), "8:1 experiment[e].atack: unknown key `atack`; did you mean `attack`?");
    assert_eq!(
        fault("[experiment.model]\nname = 3"),
        "9:8 experiment[e].model.name: expected the name of a model, found 3"
    );
    let lost = "failed to find the data set `lost`; fetch it first";
    assert_eq!(fault("[experiment.data]\nname = \"lost\""), format!("9:8 experiment[e].data: {lost}"));
    let twice = "[[experiment.data]]\nname = \"digits\"\n[[experiment.data]]\nname = \"digits\"\ntrain = 4000";
    let repeated = "\"digits\" with the same parameters is listed twice";
    assert_eq!(fault(twice), format!("11:8 experiment[e].data[digits]: {repeated}"));
    assert_eq!(
        fault("[experiment.train]\nepochs = [4, 900]"),
        "9:14 experiment[e].train.epochs: 900 epochs over 4000 samples are too many"
    );
    let filter = "[[experiment.defense]]\nname = \"random-filter\"\nmatches = \"spectra\"";
    let known = "there is no filter in this experiment \"spectra\"";
    assert_eq!(
        fault(filter),
        format!("10:11 experiment[e].defense[random-filter].matches: {known}; none is known here")
    );
    let near = format!("{filter}\n[[experiment.defense]]\nname = \"spectral\"");
    assert!(fault(&near).ends_with(&format!("{known}; did you mean `spectral`?")));
}

#[test]
fn every_rule_of_a_method_has_its_fault() {
    let attack = |lines: &str| fault(&format!("[[experiment.attack]]\nname = \"badnets\"\n{lines}"));
    let at = "experiment[e].attack[badnets]";
    let rate = "expected a number from 0 to 1, found";
    for bad in ["-0.1", "1.5", "nan", "inf", "-inf", "true", "\"much\""] {
        assert_eq!(attack(&format!("rate = {bad}")), format!("10:8 {at}.rate: {rate} {bad}"));
    }
    assert_eq!(attack("rate = [0.1, -1]"), format!("10:14 {at}.rate[1]: {rate} -1"));
    assert_eq!(attack("rate = { of = 1 }"), format!("10:8 {at}.rate: {rate} a table"));
    assert_eq!(attack("rate = 2020-01-01"), format!("10:8 {at}.rate: {rate} the date 2020-01-01"));
    assert_eq!(attack("rate = [0.1, 0.2, 0.1]"), format!("10:19 {at}.rate[2]: 0.1 is listed twice"));
    assert_eq!(attack("rate = []"), format!("10:8 {at}.rate: the list is empty; expected at least one value"));
    assert_eq!(
        attack("target = [3, 10]"),
        format!("10:14 {at}.target: class 10 of 10 classes; they are counted from 0")
    );
    assert_eq!(attack("rtae = 1"), format!("10:1 {at}.rtae: unknown key `rtae`; did you mean `rate`?"));
    let again = "[[experiment.attack]]\nname = \"badnets\"\nrate = [0.2, 0.1]";
    assert_eq!(attack(again), format!("11:8 {at}: \"badnets\" with the same parameters is listed twice"));
    let many: Vec<String> = (0..101).map(|index| format!("0.{index:03}")).collect();
    let many = format!(
        "rate = [{}]\ntarget = [{}]",
        many.join(", "),
        (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    );
    assert_eq!(attack(&many), format!("9:8 {at}: the lists make 10100 combinations; at most 10000 are possible"));
    assert_eq!(fault("[[experiment.attack]]\nrate = 0.1"), "8:1 experiment[e].attack[0]: the key `name` is missing");
    assert_eq!(fault("attack = [\"badnets\"]"), "8:11 experiment[e].attack: expected a table, found \"badnets\"");
    let against = "[[experiment.defense]]\nname = \"prune\"\nagainst = \"badnets\"";
    let expected = "there is no attack in this experiment \"badnets\"; none is known here";
    assert_eq!(fault(against), format!("10:11 experiment[e].defense[prune].against: {expected}"));
}

#[test]
fn comparisons_name_methods_of_the_experiment() {
    let methods = "[[experiment.attack]]\nname = \"badnets\"\n[[experiment.defense]]\nname = [\"prune\", \"strip\"]\n";
    let compare = |lines: &str| format!("{methods}[[experiment.compare]]\n{lines}");
    let experiment =
        config(&study(&compare("defenses = [\"prune\", \"none\"]\nmetrics = \"asr\""))).experiments.remove(0);
    let expected = Compare {
        of: Kind::Defense,
        names: ["prune", "none"].map(str::to_owned).to_vec(),
        metrics: vec!["asr".to_owned()],
    };
    assert_eq!(experiment.compares, [expected]);
    let text = config(&study(&compare("attacks = [\"badnets\", \"none\"]"))).to_toml();
    assert!(text.contains("metrics = [\"clean_accuracy\", \"asr\", \"targeted_success\"]"), "{text}");
    assert_eq!(config(&text).to_toml(), text);
    let fails = |lines: &str, expected: &str| {
        let found = fault(&compare(lines));
        assert!(found.contains(expected), "{found}");
    };
    fails(
        "defenses = [\"prune\", \"stripe\"]",
        "there is no defense in this experiment \"stripe\"; did you mean `strip`?",
    );
    fails("defenses = \"prune\"", "expected at least two names, found \"prune\"");
    fails("defenses = [\"prune\", \"prune\"]", "\"prune\" is listed twice");
    fails("defenses = [\"prune\", \"strip\"]\nmetrics = \"arc\"", "there is no metric \"arc\"; did you mean `asr`?");
    fails("metrics = \"asr\"", "expected one list of names: `attacks`, `defenses` or `models`, found 0");
    fails("defenses = [\"prune\", \"strip\"]\nseeds = 3", "unknown key `seeds`");
}

#[test]
fn syntax_errors_have_a_place() {
    let text = parse("name = \"s\"\nseeds = = 3\n").unwrap_err().to_string();
    assert!(text.contains("toy.toml:2:9:") && text.contains(" 2 | seeds = = 3\n   |         ^"), "{text}");
    let text = parse("name = \"s\"\n[data").unwrap_err().to_string();
    assert!(text.contains("toy.toml:2:"), "{text}");
    assert!(parse("name = \"a\"\nname = \"b\"").unwrap_err().to_string().contains("duplicate key"));
}

#[test]
fn an_unreadable_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::read(&folder.path().join("no.toml"), &Toy::default()).unwrap_err();
    assert!(error.to_string().starts_with("failed to read the config `") && error.to_string().contains("no.toml`: "));
}

#[test]
fn lists_are_axes_and_defaults_are_written_out() {
    let config = config(&study(
        "seeds = [7, 3]\n[experiment.train]\nepochs = [1, 2]\nmilestones = [[0.5, 0.75], [0.9]]\n\
         [[experiment.attack]]\nname = [\"badnets\", \"sig\"]\nrate = [0.1, 0.2]\n[[experiment.attack]]\nname = \"none\"",
    ));
    let experiment = &config.experiments[0];
    assert_eq!(experiment.seeds, [7, 3]);
    assert_eq!(experiment.trains.len(), 4);
    assert_eq!(json!(experiment.trains[0].params), json!({"epochs": 1, "milestones": [0.5, 0.75]}));
    let attacks: Vec<_> =
        experiment.attacks.iter().map(|one| (one.name.as_str(), one.params["rate"].as_f64())).collect();
    let expected = [("badnets", 0.1), ("badnets", 0.2), ("sig", 0.1), ("sig", 0.2)];
    assert_eq!(attacks, expected.map(|(name, rate)| (name, Some(rate))));
    assert_eq!(json!(experiment.attacks[0].params["target"]), json!(0));
}

#[test]
fn one_list_of_numbers_is_one_value_where_a_list_is_meant() {
    let config = config(&study("[experiment.train]\nmilestones = [0.5, 0.75]"));
    assert_eq!(config.experiments[0].trains.len(), 1);
}

#[test]
fn experiments_change_shared_tables_of_the_same_name_and_replace_others() {
    let text = "name = \"s\"\nseeds = 2\n[data]\nname = \"digits\"\ntrain = 500\n[model]\nname = \"cnn\"\nwidth = 4\n\
        [[experiment]]\nname = \"a\"\n[experiment.model]\nwidth = 16\n\
        [[experiment]]\nname = \"b\"\nseeds = 5\n[experiment.model]\nname = \"mlp\"\n\
        [[experiment]]\nname = \"c\"\n[[experiment.model]]\nname = \"cnn\"\n[[experiment.model]]\nname = \"mlp\"\nwidth = 2";
    let config = config(text);
    let models = |index: usize| json!(config.experiments[index].models);
    assert_eq!(models(0), json!([{"name": "cnn", "params": {"width": 16}}]));
    assert_eq!(models(1), json!([{"name": "mlp", "params": {"width": 8}}]));
    assert_eq!(models(2), json!([{"name": "cnn", "params": {"width": 4}}, {"name": "mlp", "params": {"width": 2}}]));
    assert_eq!(config.experiments.iter().map(|one| one.seeds.len()).collect::<Vec<_>>(), [2, 5, 2]);
    assert_eq!(json!(config.experiments[0].datasets[0].0.params), json!({"train": 500}));
}

#[test]
fn the_resolved_config_reads_back_as_the_same_config() {
    let text = study(
        "question = \"Why \\\"so\\\"?\"\nseeds = [3, 1]\ncontrols = false\n[experiment.train]\nepochs = [1, 2]\n\
         [experiment.data]\ntrain = [10, 20]\n[[experiment.attack]]\nname = \"badnets\"\nrate = [0.1, 1]\n\
         [[experiment.defense]]\nname = [\"prune\", \"clean-model\"]\nagainst = [\"badnets\", \"none\"]",
    );
    let first = config(&text);
    let resolved = first.to_toml();
    let second = config(&resolved);
    assert_eq!(first, second);
    assert_eq!(resolved, second.to_toml());
    insta::assert_snapshot!(resolved);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_the_checker_panic(cut in 0_usize..700, junk in "[\\[\\]=\"a-z0-9.,{}\n\t\u{e9}-]{0,12}") {
        let text = crate::toy::SMALL;
        let at = (0..=cut.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        let broken = format!("{}{junk}{}", &text[..at], &text[at..]);
        if let Err(faults) = parse(&broken) {
            prop_assert!(faults.to_string().starts_with("failed to accept the config"));
        }
    }
}
