"""Golden data for `targeted-label-flip`, and the paper's attack on support vector machines.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1
    venv/bin/python scripts/verify/label_flips.py crates/theriac-attacks/tests/golden

Writes label_flips.csv into the folder that is its argument: label, four logits of a surrogate, four logits of a tainted
network, then place in the ranking (from 0) and new label for

    furthest    the samples furthest from the boundary first, to the second choice
    nearest     the samples nearest to the boundary first, to the second choice
    loss        all (sample, label) pairs by the cross-entropy that they add, the best pair of each sample
    alfa        the same less what the pair adds to the tainted network's cross-entropy

and checks that the first ones of `alfa` are the solution of the linear program of Xiao et al., as HiGHS finds it. Then it
attacks linear support vector machines on two Gaussian classes, to see that this reading of the paper hurts as it says.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import linprog
from scipy.special import log_softmax
from scipy.stats import t as student
from sklearn.svm import SVC

SAMPLES, CLASSES = 48, 4


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def places(order):
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    return place


def linear_program(gain, labels, budget):
    """That of Xiao et al. for any number of classes: one label a sample, at most `budget` wrong ones."""
    count, classes = gain.shape
    one_label = np.kron(np.eye(count), np.ones(classes))
    wrong = (np.arange(classes) != labels[:, None]).astype(float).ravel()
    found = linprog(-gain.ravel(), A_ub=[wrong], b_ub=[budget], A_eq=one_label, b_eq=np.ones(count), bounds=(0, 1))
    assert found.status == 0
    chosen = found.x.reshape(count, classes)
    assert np.allclose(chosen, chosen.round(), atol=1e-6), "the solution is not whole"
    return chosen.argmax(axis=1)


def goldens(folder):
    random = np.random.default_rng(2012)
    labels = random.integers(CLASSES, size=SAMPLES)
    logits = random.normal(scale=2, size=(SAMPLES, CLASSES))
    logits[np.arange(SAMPLES), labels] += 3
    tainted = logits + random.normal(scale=3, size=(SAMPLES, CLASSES))
    # Single precision, and few digits.
    logits, tainted = (values.round(5).astype(np.float32).astype(np.float64) for values in (logits, tainted))
    everyone, own = np.arange(SAMPLES), np.eye(CLASSES, dtype=bool)[labels]
    losses = [-log_softmax(values, axis=1) for values in (logits, tainted)]
    added = [loss - loss[everyone, labels][:, None] for loss in losses]
    margins = np.where(own, np.inf, logits[everyone, labels][:, None] - logits).min(axis=1)
    second = np.where(own, -np.inf, logits).argmax(axis=1)
    columns = [places(np.argsort(-margins, kind="stable")), second, places(np.argsort(np.abs(margins), kind="stable")), second]
    for gain in (added[0], added[0] - added[1]):
        pairs = np.where(own, -np.inf, gain)
        best = pairs.argmax(axis=1)
        order = places(np.argsort(-pairs.max(axis=1), kind="stable"))
        columns += [order, best]
        for budget in (1, 5, 12, 20):
            by_program = linear_program(gain, labels, budget)
            by_rank = np.where(order < budget, best, labels)
            assert (by_program == by_rank).all(), (by_program, by_rank)
    print(f"linear program: the same {(1, 5, 12, 20)} flips of {SAMPLES} samples, with and without a tainted network")
    header = ["label"] + [f"logit{at}" for at in range(CLASSES)] + [f"tainted{at}" for at in range(CLASSES)]
    header += [f"{name}_{what}" for name in ("furthest", "nearest", "loss", "alfa") for what in ("place", "label")]
    write(folder / "label_flips.csv", header, np.column_stack([labels, logits.round(5), tainted.round(5), *columns]))


def hinge(machine, points, signs):
    return np.maximum(0, 1 - signs * machine.decision_function(points))


def support_vector_machines(repeats=30, count=200, share=0.2):
    """Test error of a linear machine after a fifth of the labels was flipped: Student's 95 % interval over data sets."""
    budget = round(share * count)
    errors = {name: [] for name in ("clean", "random", "nearest", "furthest", "alfa, 1 step", "alfa, 10 rounds")}
    for seed in range(repeats):
        random = np.random.default_rng(seed)
        draw = lambda size: (np.repeat([1, -1], size // 2), random.normal(size=(size, 2)))
        (signs, points), (test_signs, test_points) = draw(count), draw(2000)
        points, test_points = points + signs[:, None] * 1.2, test_points + test_signs[:, None] * 1.2
        fit = lambda labels: SVC(kernel="linear", C=1).fit(points, labels)
        clean = fit(signs)

        def flipped(order):
            labels = signs.copy()
            labels[order[:budget]] *= -1
            return labels

        added = lambda machine: hinge(machine, points, -signs) - hinge(machine, points, signs)
        distance = signs * clean.decision_function(points)
        alfa = flipped(np.argsort(-added(clean), kind="stable"))
        machines = {"clean": clean, "random": fit(flipped(random.permutation(count))),
                    "nearest": fit(flipped(np.argsort(np.abs(distance)))), "furthest": fit(flipped(np.argsort(-distance)))}
        machines["alfa, 1 step"] = fit(alfa)
        for _ in range(10):
            alfa = flipped(np.argsort(-(added(clean) - added(fit(alfa))), kind="stable"))
        machines["alfa, 10 rounds"] = fit(alfa)
        for name, machine in machines.items():
            errors[name].append(1 - machine.score(test_points, test_signs))
    for name, values in errors.items():
        half = student.ppf(0.975, repeats - 1) * np.std(values, ddof=1) / np.sqrt(repeats)
        print(f"linear machine, {count} samples, {budget} flips, {name}: test error {np.mean(values):.3f} +- {half:.3f}")


if __name__ == "__main__":
    goldens(Path(sys.argv[1]))
    support_vector_machines()
