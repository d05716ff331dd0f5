//! Every attack does what it is for, and every kind of defense helps somewhere, on real digits. One seed and small networks: the
//! margins are wide, the studies in `configs/` measure. The defenses' settings were chosen so that they work at this small size. Of the
//! 17 points of accuracy that adversarial poison takes, fine-tuning gives back 13 with a trusted set of a fifth and its other defaults
//! (50 epochs, learning rate 0.1, weight decay 0.01), but none with its default of 5 %, which are 125 samples; adversarial training
//! gives back 8 with its defaults; activation clustering finds nothing here. At an epsilon of 32 adversarial poison took 7 to 15 points
//! (six seeds), about the margin, so that the processor decided; at 40 it takes 16 to 20.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;

use common::Desk;
use serde_json::Value;

const STUDY: &str = r#"
name = "effects"
seeds = [1]
[data]
name = "mnist-10k"
train = 2500
test = 800
[model]
name = "mlp"
hidden = 64
[train]
epochs = 10
batch = 32

[[experiment]]
name = "all"

[[experiment.attack]]
name = "badnets"
rate = 0.1
[[experiment.attack]]
name = "label-flip"
mode = "pair"
rate = 0.4
[[experiment.attack]]
name = "inject"
source = 7
target = 1
rate = 0.2
[[experiment.attack]]
name = "remove"
mode = "class"
class = 8
fraction = 0.99
[[experiment.attack]]
name = "adversarial-poison"
epsilon = 40
[[experiment.attack]]
name = "random-noise"
kind = "pure-noise"
rate = 0.98

[[experiment.defense]]
name = "clean-model"
[[experiment.defense]]
name = "spectral-signatures"
against = ["label-flip"]
[[experiment.defense]]
name = "deep-knn"
against = ["label-flip"]
[[experiment.defense]]
name = "adversarial-training"
against = ["adversarial-poison"]
epsilon = 16
steps = 3
[[experiment.defense]]
name = "fine-tuning"
against = ["adversarial-poison"]
trusted = 0.2
[[experiment.defense]]
name = "strip"
against = ["badnets"]
overlays = 8
calibration = 150

# Whatever weights the victim begins with, its own hostile code builds the network.
[[experiment]]
name = "published"
controls = false
[experiment.train]
start = ["published", "fine-tuned"]
epochs = 2
[[experiment.attack]]
name = "architectural"
"#;

struct Cells(Vec<Value>);

impl Cells {
    fn metric(&self, attack: &str, defense: &str, metric: &str) -> f64 {
        let found = self.0.iter().find(|cell| cell["attack"]["name"] == attack && cell["defense"]["name"] == defense);
        let cell = found.unwrap_or_else(|| panic!("no cell {attack} x {defense}"));
        assert_eq!(cell["outcome"]["status"], "ok", "{cell}");
        cell["metrics"][metric]
            .as_f64()
            .unwrap_or_else(|| panic!("no {metric} in {attack} x {defense}: {}", cell["metrics"]))
    }
}

#[test]
fn every_attack_reaches_its_goal_and_every_defense_helps_on_real_digits() {
    let desk = Desk::new();
    desk.write("study.toml", STUDY);
    desk.succeed(&["run", "study.toml", "--out", "results", "--quiet"]);
    let text = String::from_utf8(desk.read("results/effects/cells.jsonl")).unwrap();
    let cells = Cells(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    let clean = cells.metric("none", "none", "clean_accuracy");
    assert!(clean > 0.88, "clean accuracy {clean}");
    let accuracy = |attack: &str, defense: &str| cells.metric(attack, defense, "clean_accuracy");

    assert!(cells.metric("badnets", "none", "asr") > 0.9);
    assert!(cells.metric("badnets", "clean-model", "asr") < 0.05);
    assert!(accuracy("badnets", "none") > clean - 0.04);
    assert!(accuracy("label-flip", "none") < clean - 0.1);
    assert!(cells.metric("inject", "none", "targeted_success") > 0.5);
    assert!(cells.metric("inject", "clean-model", "targeted_success") < 0.1);
    assert!(
        cells.metric("remove", "none", "class_recall") < cells.metric("remove", "clean-model", "class_recall") - 0.3
    );
    assert!(accuracy("adversarial-poison", "none") < clean - 0.1);
    assert!(accuracy("random-noise", "none") < clean - 0.05);

    // Activation clustering needs a convolutional victim to see a patch; configs/quickstart.toml has one.
    for (filter, attack) in [("spectral-signatures", "label-flip"), ("deep-knn", "label-flip")] {
        // A random filter flags poison and clean samples alike.
        let gain = cells.metric(attack, filter, "tpr") - cells.metric(attack, filter, "fpr");
        assert!(gain > 0.08, "{filter} on {attack}: {gain}");
    }
    assert!(accuracy("label-flip", "deep-knn") > accuracy("label-flip", "none") + 0.05);
    assert!(accuracy("adversarial-poison", "adversarial-training") > accuracy("adversarial-poison", "none") + 0.05);
    assert!(accuracy("adversarial-poison", "fine-tuning") > accuracy("adversarial-poison", "none") + 0.05);
    assert!(cells.metric("badnets", "strip", "auroc") > 0.7);

    let built = cells.0.iter().filter(|cell| cell["attack"]["name"] == "architectural");
    let success: Vec<f64> = built.map(|cell| cell["metrics"]["asr"].as_f64().unwrap()).collect();
    assert!(success.len() == 2 && success.iter().all(|success| *success > 0.95), "{success:?}");
}
