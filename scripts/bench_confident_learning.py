"""How long cleanlab takes to find wrong labels among 50,000 samples of 10 classes, for comparison with Theriac.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 cleanlab==2.9.0
    venv/bin/python scripts/bench_confident_learning.py confident
    cargo bench -p theriac-defenses --bench confident_learning -- confident

Writes into the folder that is its argument: probabilities.f32 (row by row), labels.u16, for each rule RULE.u8 with 1 for a
mislabelled sample, and times.csv with milliseconds, the median of 5 rounds that take turns. The benchmark of Theriac reads
these, asserts that it flags the same samples, and prints both times.

cleanlab may use several processes; `alone` is a single one (n_jobs=1), `free` leaves the number to cleanlab.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

SAMPLES, CLASSES, NOISE, ROUNDS = 50_000, 10, 0.1, 5
RULES = ["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given",
         "low_normalized_margin", "low_self_confidence"]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20210411)
    truth = random.integers(0, CLASSES, SAMPLES)
    logits = 1.5 * random.normal(size=(SAMPLES, CLASSES)) + 4 * np.eye(CLASSES)[truth]
    exponentials = np.exp(logits)
    probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    flips = random.random(SAMPLES) < NOISE
    labels = truth.copy()
    labels[flips] = (truth[flips] + random.integers(1, CLASSES, flips.sum())) % CLASSES
    probabilities.tofile(folder / "probabilities.f32")
    labels.astype(np.uint16).tofile(folder / "labels.u16")

    exact = probabilities.astype(np.float64)
    times = {(rule, name): [] for rule in RULES for name in ["alone", "free"]}
    for _ in range(ROUNDS):
        for (rule, name), spent in times.items():
            begin = time.perf_counter()
            flags = find_label_issues(labels, exact, filter_by=rule, n_jobs=1 if name == "alone" else None)
            spent.append(1e3 * (time.perf_counter() - begin))
            flags.astype(np.uint8).tofile(folder / f"{rule}.u8")
    lines = ["rule,alone,free"]
    for rule in RULES:
        alone, free = (float(np.median(times[rule, name])) for name in ["alone", "free"])
        lines.append(f"{rule},{alone:.2f},{free:.2f}")
    (folder / "times.csv").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
