//! Numbers, metrics and parameters as people read them.

use theriac_core::Unit;
use theriac_core::param::Value;
use theriac_core::record::Outcome;

use crate::spread::Spread;

/// Which metric tells whether an attack succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Triggered inputs answered with the target class: high is a success.
    Asr,
    /// Chosen inputs answered as the attacker wants: high is a success.
    Targeted,
    /// Recall of the attacked class: low is a success.
    Recall,
}

impl Success {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 3] = [Self::Asr, Self::Targeted, Self::Recall];

    /// The metric's standard name.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Asr => "asr",
            Self::Targeted => "targeted_success",
            Self::Recall => "class_recall",
        }
    }

    /// A few letters for tables.
    pub fn short(self) -> &'static str {
        match self {
            Self::Asr => "ASR",
            Self::Targeted => "targeted",
            Self::Recall => "recall",
        }
    }

    /// In a sentence, without an article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asr => "attack success rate (ASR)",
            Self::Targeted => "targeted success",
            Self::Recall => "recall of the attacked class",
        }
    }

    /// In a sentence, with an article.
    pub fn with_article(self) -> String {
        format!("{} {}", if self == Self::Asr { "an" } else { "a" }, self.name())
    }

    /// `1` where the attacker wants a high value, `-1` where it wants a low one.
    pub fn sign(self) -> f64 {
        if self == Self::Recall { -1.0 } else { 1.0 }
    }
}

/// What a metric is called and how it is measured.
pub struct MetricWords {
    /// The standard name in results.
    pub metric: &'static str,
    /// The heading of a column.
    pub title: &'static str,
    /// How it is measured.
    pub definition: &'static str,
}

/// The known metrics, in the order in which they are shown.
pub const METRICS: &[MetricWords] = &[
    MetricWords {
        metric: "clean_accuracy",
        title: "Clean accuracy (CA)",
        definition: "Fraction of the untouched test set that the evaluated model answers correctly.",
    },
    MetricWords {
        metric: "asr",
        title: "Attack success rate (ASR)",
        definition: "Fraction of triggered test inputs that are answered with the attacker's target class. Test inputs \
                     whose true class is the target class are left out.",
    },
    MetricWords {
        metric: "targeted_success",
        title: "Targeted success",
        definition: "Fraction of the inputs that the attacker chose which are answered as the attacker wants.",
    },
    MetricWords {
        metric: "class_recall",
        title: "Class recall",
        definition: "Fraction of the test inputs of the attacked class that are still recognised. Low means that the \
                     attack succeeded.",
    },
    MetricWords {
        metric: "robust_accuracy",
        title: "Robust accuracy (RA)",
        definition: "Fraction of triggered test inputs that are answered with their true class.",
    },
    MetricWords {
        metric: "der",
        title: "Defense effectiveness (DER)",
        definition: "(max(0, drop in attack success) - max(0, drop in clean accuracy) + 1) / 2, both drops against the \
                     undefended model. 0.5 is no effect, 1 is a perfect defense.",
    },
    MetricWords {
        metric: "tpr",
        title: "True positive rate (TPR)",
        definition: "Fraction of the poisoned training samples (for a guard: of the triggered inputs) that the defense \
                     flags.",
    },
    MetricWords {
        metric: "fpr",
        title: "False positive rate (FPR)",
        definition: "Fraction of the clean training samples (for a guard: of the clean inputs) that the defense flags.",
    },
    MetricWords {
        metric: "auroc",
        title: "AUROC",
        definition: "Area under the detection curve (TPR over FPR at every threshold). 0.5 is guessing.",
    },
    MetricWords {
        metric: "average_precision",
        title: "Average precision",
        definition: "Precision averaged over recall, at every threshold of the defense's scores. Guessing gives the \
                     poison rate.",
    },
    MetricWords {
        metric: "flagged",
        title: "Flagged",
        definition: "Fraction of the training set that the defense flags: its removal budget.",
    },
    MetricWords {
        metric: "poisoned",
        title: "Poisoned",
        definition: "Fraction of the whole training set that the attack touches.",
    },
    MetricWords {
        metric: "clean_model_accuracy",
        title: "Clean model: CA",
        definition: "Clean accuracy of the model trained on the data before the attack, at the same seed.",
    },
    MetricWords {
        metric: "clean_model_success",
        title: "Clean model: success",
        definition: "The attack's success metric on the model that was never poisoned, on the same inputs: the false \
                     success.",
    },
    MetricWords {
        metric: "undefended_accuracy",
        title: "Undefended: CA",
        definition: "Clean accuracy of the attacked model without a defense, at the same seed.",
    },
    MetricWords {
        metric: "undefended_success",
        title: "Undefended: success",
        definition: "The attack's success on the attacked model without a defense, at the same seed.",
    },
    MetricWords {
        metric: "test_loss",
        title: "Test loss (nats)",
        definition: "Mean cross-entropy on the untouched test set, in nats.",
    },
    MetricWords {
        metric: "backdoor_found",
        title: "Backdoor found",
        definition: "Fraction of the models in which the inspecting defense flags any class; for clean models, its false alarms.",
    },
    MetricWords {
        metric: "target_named",
        title: "Target named",
        definition: "Fraction of the models in which the attacker's target is the most suspicious class, and flagged.",
    },
    MetricWords {
        metric: "anomaly_index",
        title: "Anomaly index",
        definition: "The largest statistic of all classes by which the inspecting defense judges; its own threshold decides.",
    },
    MetricWords {
        metric: "weights_changed",
        title: "Weights changed",
        definition: "Fraction of the numbers of a network that are not those of its record, in any bit.",
    },
    MetricWords {
        metric: "disagreement",
        title: "Disagreement",
        definition: "Fraction of trusted samples that a network and its record answer differently.",
    },
    MetricWords {
        metric: "median_certified_radius",
        title: "Median certified radius",
        definition: "Edits (inserted or deleted samples, or hostile sources, as the defense says) that change no right answer, the median over the test set; a wrong answer counts as less than 0.",
    },
    MetricWords {
        metric: "detected",
        title: "Detected",
        definition: "Fraction of the attacks that the monitor raised an alarm on, after they had begun.",
    },
    MetricWords {
        metric: "detection_delay",
        title: "Detection delay in rounds",
        definition: "Rounds from the first that the attacker reached to the first with an alarm, where there was one; 0 is the same round.",
    },
    MetricWords {
        metric: "false_alarm_rate",
        title: "False alarms",
        definition: "Fraction of the watched rounds before any attack in which the monitor raised an alarm: false alarms in 100 rounds.",
    },
    MetricWords {
        metric: "damage_until_alarm",
        title: "Damage until alarm in rounds",
        definition: "The attack's success above what it was before, or the accuracy lost where nothing is triggered, summed over the rounds until the alarm or the end.",
    },
];

/// Whether a metric is a fraction that reads best in percent.
pub fn in_percent(metric: &str) -> bool {
    let others = ["test_loss", "auroc", "average_precision", "der", "anomaly_index", "median_certified_radius"];
    !others.contains(&metric) && !["detection_delay", "damage_until_alarm"].contains(&metric)
}

/// A fraction in percent with one digit: `99.8`.
pub fn percent(value: f64) -> String {
    positive_zero(format!("{:.1}", value * 100.0))
}

/// A difference of fractions in percentage points, with its sign: `+1.2`.
pub fn points(value: f64) -> String {
    let text = percent(value);
    if text.starts_with('-') || text == "0.0" { text } else { format!("+{text}") }
}

fn positive_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(size) if size.chars().all(|c| c == '0' || c == '.') => size.to_owned(),
        _ => text,
    }
}

/// A fraction over seeds: `99.8 % [99.5, 100.0]`, the interval clipped to 0..100.
pub fn percent_words(spread: &Spread) -> String {
    let interval = spread.interval.map(|(low, high)| (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)));
    format!("{} %{}", percent(spread.mean), bracket(interval, percent))
}

/// A difference of fractions over seeds: `+0.1 points [-0.2, +0.4]`.
pub fn points_words(spread: &Spread) -> String {
    format!("{} points{}", points(spread.mean), bracket(spread.interval, points))
}

/// The size of a difference over seeds, where the sentence already tells the direction: `0.1 points [-0.2, 0.4]`.
pub fn size_words(spread: &Spread) -> String {
    format!("{} points{}", percent(spread.mean), bracket(spread.interval, percent))
}

fn bracket(interval: Option<(f64, f64)>, write: impl Fn(f64) -> String) -> String {
    interval.map(|(low, high)| format!(" [{}, {}]", write(low), write(high))).unwrap_or_default()
}

/// The size of a difference in a metric: `0.1 points [-0.2, 0.4]`, or a plain number where the metric is no fraction.
pub fn difference_words(metric: &str, mean: f64, interval: Option<(f64, f64)>) -> String {
    if in_percent(metric) {
        return format!("{} points{}", percent(mean), bracket(interval, percent));
    }
    let write = |value: f64| positive_zero(format!("{value:.4}"));
    format!("{}{}", write(mean), bracket(interval, write))
}

/// A p value, fine enough to see on which side of 0.05 it lies: `p = 0.0502`.
pub fn p_words(p: f64) -> String {
    match p {
        small if small < 0.001 => "p < 0.001".to_owned(),
        small if small < 0.1 => format!("p = {small:.4}"),
        large => format!("p = {large:.2}"),
    }
}

/// What a metric is called in a sentence or at the head of a column; unknown ones by their standard name.
pub fn metric_title(metric: &str) -> &str {
    METRICS.iter().find(|words| words.metric == metric).map_or(metric, |words| words.title)
}

/// What certificates count, which the registry may not know.
pub fn edits_words(unit: Option<Unit>) -> &'static str {
    unit.map_or("edits", Unit::several)
}

/// `n = 3 seeds`.
pub fn seeds_words(n: usize) -> String {
    if n == 1 { "n = 1 seed, no interval".to_owned() } else { format!("n = {n} seeds") }
}

/// How a cell ended, in one word.
pub fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed(_) => "failed",
        Outcome::Diverged(_) => "diverged",
    }
}

/// A parameter's value without quotes and without needless decimals.
pub fn value_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "unset".to_owned(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), plain),
        other => other.to_string(),
    }
}

/// A number as people write it: `0.05`, `3`, `1e-5`.
pub fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-4 { format!("{value:e}") } else { value.to_string() }
}

/// Items in a sentence: `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_words_and_no_other() {
        let mut found: Vec<&str> = METRICS.iter().map(|words| words.metric).collect();
        let mut expected = theriac_core::record::METRICS;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_read_well() {
        let spread = Spread::of(&[0.99, 1.0, 0.995]).unwrap();
        assert_eq!(percent_words(&spread), "99.5 % [98.3, 100.0]");
        assert_eq!(percent_words(&Spread::of(&[0.5]).unwrap()), "50.0 %");
        assert_eq!((points(-0.0001).as_str(), points(0.012).as_str(), points(-0.3).as_str()), ("0.0", "+1.2", "-30.0"));
        assert_eq!((plain(0.05).as_str(), plain(1.0).as_str(), plain(0.00001).as_str()), ("0.05", "1", "1e-5"));
        assert_eq!([0.0, 0.05021, 0.5].map(p_words), ["p < 0.001", "p = 0.0502", "p = 0.50"]);
        assert_eq!(difference_words("asr", 0.012, Some((-0.0001, 0.3))), "1.2 points [0.0, 30.0]");
        assert_eq!(difference_words("test_loss", 0.012, None), "0.0120");
        assert_eq!(difference_words("median_certified_radius", 12.0, None), "12.0000");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
