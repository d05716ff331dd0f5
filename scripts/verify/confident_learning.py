"""Golden data for `confident-learning`: what cleanlab answers to the same labels and probabilities.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 cleanlab==2.9.0
    venv/bin/python scripts/verify/confident_learning.py crates/theriac-defenses/tests/golden

Writes into the folder that is its argument:

    confident_learning.csv    setting, label, 4 probabilities; mislabelled by each of the seven rules; self-confidence,
                              normalised margin and confidence-weighted entropy
    confident_joint.csv       setting, then the calibrated confident joint row by row

The settings:

    0    240 samples, symmetric flips at 20 %
    1    one class has no samples
    2    two classes, 45 % of one of them flipped into the other
    3    every sample stands there three times, so that every boundary runs through equal probabilities
    4    probabilities of 0 and 1 only, and a class that no network ever names
    5    classes of 150, 12, 3 and 1 samples
    6    underconfident: all probabilities lie near 1/4

cleanlab leaves ties to an unstable sort, in two places. Where remainders of the joint tie, its joint is checked to be one
of the possible ones, and it is given the one that Theriac takes (the later class) before it prunes. Among samples with
equal probabilities and labels it does not matter which is taken; the tests count them.
"""

import sys
from pathlib import Path

import numpy as np
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

CLASSES = 4
RULES = ["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given",
         "low_normalized_margin", "low_self_confidence"]
SCORES = ["self_confidence", "normalized_margin", "confidence_weighted_entropy"]


def judged(random, truth, sharpness):
    """Probabilities of a network that mostly sees the true class."""
    logits = random.normal(size=(len(truth), CLASSES)) + sharpness * np.eye(CLASSES)[truth]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def flipped(random, truth, rate, classes=CLASSES):
    labels = truth.copy()
    flips = random.random(len(truth)) < rate
    labels[flips] = (truth[flips] + random.integers(1, classes, flips.sum())) % classes
    return labels


def settings(random):
    truth = random.integers(0, CLASSES, 240)
    yield flipped(random, truth, 0.2), judged(random, truth, 2.5)

    truth = random.integers(0, 3, 130)
    yield flipped(random, truth, 0.25, 3), judged(random, truth, 2)

    truth = random.integers(0, 2, 150)
    labels = np.where((truth == 1) & (random.random(150) < 0.45), 0, truth)
    probabilities = judged(random, truth, 2)
    probabilities[:, 2:] = 0
    yield labels, probabilities / probabilities.sum(axis=1, keepdims=True)

    truth = random.integers(0, CLASSES, 53)
    labels, probabilities = flipped(random, truth, 0.3), judged(random, truth, 1.5)
    yield np.repeat(labels, 3), np.repeat(probabilities, 3, axis=0)

    truth = random.integers(0, CLASSES, 90)
    probabilities = judged(random, truth, 2)
    probabilities[:, 0] = 0
    yield flipped(random, truth, 0.2), np.eye(CLASSES)[probabilities.argmax(axis=1)]

    truth = np.repeat(np.arange(CLASSES), [150, 12, 3, 1])
    yield flipped(random, truth, 0.1), judged(random, truth, 2)

    truth = random.integers(0, CLASSES, 140)
    yield flipped(random, truth, 0.3), 0.2 + 0.2 * judged(random, truth, 1)


def rounded(setting, joint, counts, theirs):
    """The calibrated joint in whole numbers, by largest remainders, the later class on ties; `theirs` may differ in ties."""
    answer = np.zeros_like(joint)
    for label, row in enumerate(joint):
        shares, remainders = np.divmod(row * counts[label], row.sum())
        up = np.lexsort([-np.arange(CLASSES), -remainders])[: remainders.sum() // row.sum()]
        answer[label] = shares
        answer[label, up] += 1
        if not np.array_equal(answer[label], theirs[label]):
            raised = theirs[label] - shares
            assert set(raised) <= {0, 1} and theirs[label].sum() == counts[label]
            assert remainders[raised == 1].min() >= remainders[raised == 0].max()
            print(f"setting {setting}: remainders of class {label} tie: {answer[label]}, cleanlab {theirs[label]}")
    return answer


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(20210411)
    samples, joints = [], []
    for setting, (labels, probabilities) in enumerate(settings(random)):
        single = probabilities.astype(np.float32)
        exact = single.astype(np.float64)
        counts = np.bincount(labels, minlength=CLASSES)
        raw = compute_confident_joint(labels, exact, calibrate=False)
        joint = rounded(setting, raw, counts, compute_confident_joint(labels, exact))
        joints.append([setting, *joint.ravel()])
        given = lambda rule: {"confident_joint": joint} if rule in RULES[:3] else {}
        rules = [find_label_issues(labels, exact, filter_by=rule, n_jobs=1, **given(rule)) for rule in RULES]
        scores = [get_label_quality_scores(labels, exact, method=score) for score in SCORES]
        print(f"setting {setting}: {len(labels)} samples, mislabelled {[int(rule.sum()) for rule in rules]}")
        for index, label in enumerate(labels):
            row = [setting, label, *(str(value) for value in single[index]), *(int(rule[index]) for rule in rules)]
            samples.append(row + [format(float(score[index]), ".7g") for score in scores])
    header = ["setting", "label", *(f"p{column}" for column in range(CLASSES)), *RULES, *SCORES]
    write(folder / "confident_learning.csv", header, samples)
    header = [f"c{row}{column}" for row in range(CLASSES) for column in range(CLASSES)]
    write(folder / "confident_joint.csv", ["setting", *header], joints)


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(str(value).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
