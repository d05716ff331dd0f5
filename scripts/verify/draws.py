"""Tests of what the program draws, on its embedded digits: which samples, labels and pixels the attacks that need no
gradients choose, and what the controls remove.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 blake3==1.0.11 cleanlab==2.9.0
    venv/bin/python scripts/verify/draws.py target/release/theriac

The program poisons 4000 digits with each attack, seed 1. Every exported data set is compared bit by bit with what
`selections.py` makes of streams that `streams.py` draws anew, and its distribution with the one that scipy says it has.
Counts of `label-flip`'s matrices are compared with cleanlab's, too. The controls run beside a filter with seeds 1 to 40.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cleanlab.benchmarking.noise_generation import generate_noise_matrix_from_trace, generate_noisy_labels
from scipy import stats
from selections import hamilton, poison, whole
from streams import Stream

SAMPLES, CLASSES = 4000, 10
HEAD = """
question = "What is drawn?"

[data]
name = "mnist-10k"
train = SAMPLES
test = 200

[model]
name = "mlp"
hidden = 16

[train]
epochs = 1
batch = 50
curve = false

[[experiment]]
name = "draws"
"""


def matrices():
    """cleanlab's noise matrices of three traces, as the probability of each label (column) for each class (row)."""
    shares = np.full(CLASSES, 1 / CLASSES)
    draw = lambda trace: generate_noise_matrix_from_trace(CLASSES, trace, py=shares, valid_noise_matrix=True, seed=1)
    return [draw(trace).T.tolist() for trace in (5, 7, 9)]


ATTACKS = [
    ("remove", dict(mode="random", fraction=0.0)),  # the clean data
    ("label-flip", dict(mode="symmetric", rate=0.4)),
    ("label-flip", dict(mode="pair", rate=0.4)),
    ("label-flip", {"mode": "one-class", "from": 3, "rate": 0.08}),
    *[("label-flip", dict(mode="matrix", matrix=matrix)) for matrix in matrices()],
    ("inject", dict(kind="mislabelled-copies", rate=0.25)),
    ("inject", dict(kind="near-duplicates", epsilon=8, rate=0.25)),
    *[("inject", dict(kind="out-of-distribution", images=images, rate=0.25))
      for images in ("noise", "inverted", "patch-shuffled")],
    ("remove", {"mode": "class", "class": 4, "fraction": 0.5}),
    ("remove", dict(mode="random", fraction=0.3)),
    *[("remove", {"mode": "subgroup", "class": 7, "subgroup": end, "fraction": 0.25}) for end in ("brightest", "darkest")],
    *[("random-noise", dict(kind=kind, strength=strength, rate=0.25))
      for kind, strength in [("gaussian", 1.0), ("gaussian", 128.0), ("uniform", 60.0), ("salt-and-pepper", 0.3),
                             ("random-pixels", 0.4)]],
    ("random-noise", dict(kind="pure-noise", rate=0.25)),
]


def run(program, command, folder, text):
    (folder / "config.toml").write_text(text)
    subprocess.run([program, *command, "--results" if command[0] == "poison" else "--out", folder / "results",
                    folder / "config.toml"], check=True, capture_output=True)


def exported(program):
    """[(attack, parameters, images, labels, ids)]."""
    lines = lambda given: "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
    tables = [f'\n[[experiment.attack]]\nname = "{name}"\n{lines(given)}' for name, given in ATTACKS]
    text = 'name = "draws"\nseeds = [1]' + HEAD.replace("SAMPLES", str(SAMPLES)) + "controls = false\n" + "".join(tables)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run(program, ["poison", "--out", folder / "out"], folder, text)
        found = []
        for path in folder.glob("out/*"):
            attack = json.loads((path / "attack.json").read_text())["attack"]
            arrays = np.load(path / "data.npz")
            found.append((attack["name"], attack["params"], *(arrays[name] for name in ("images", "labels", "ids"))))
        of = lambda name, given: [row[2:] for row in found if row[0] == name and given.items() <= row[1].items()]
        assert all(len(of(*attack)) == 1 for attack in ATTACKS)
        return [(name, given, *of(name, given)[0]) for name, given in ATTACKS]


ps = {}


def test(name, p):
    ps[name] = float(p)
    print(f"  {name}: p {p:.3f}")


def chi_square(found, expected, lost=1):
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return stats.chi2.sf(((found - expected) ** 2 / expected).sum(), found.size - lost)


def evenly(name, chosen, groups):
    """Whether chance decides, and not the group, who is chosen: without repetition, so by a table with fixed margins."""
    table = np.array([np.bincount(groups[chosen == side], minlength=groups.max() + 1) for side in (False, True)])
    test(name, stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue)


tested = set()


def selection(name, chosen, labels):
    if chosen.tobytes() in tested:
        return  # drawn from the same stream
    tested.add(chosen.tobytes())
    evenly(f"{name}, which of 40 parts of the data", chosen, np.arange(len(chosen)) * 40 // len(chosen))
    if len(set(labels)) > 1:
        evenly(f"{name}, which class", chosen, labels)


def cut_off(law, before):
    """Added noise with this distribution function: the probability that the pixel is at most some value."""
    return lambda value: np.where(value >= 255, 1, np.where(value < 0, 0, law(value - before)))


def noise(name, after, below):
    """`below(v)`: the probability of at most v. A uniform number in each value's step makes all of them uniform."""
    steps = below(after - 1), below(after)
    assert (steps[1] > steps[0]).all(), f"{name}: a value that cannot be"
    random = np.random.default_rng(0)
    uniform = steps[0] + random.random(after.shape) * (steps[1] - steps[0])
    test(f"{name}, {after.size} values, distribution", stats.kstest(uniform.ravel(), "uniform").pvalue)
    normal = stats.norm.ppf(np.clip(uniform, 1e-12, 1 - 1e-12)).reshape(len(after), -1)
    squares = lambda axis: (normal.sum(axis=axis) ** 2 / normal.shape[axis]).sum()
    test(f"{name}, the same pixel of different images", stats.chi2.sf(squares(0), normal.shape[1]))
    test(f"{name}, the pixels of one image", stats.chi2.sf(squares(1), normal.shape[0]))
    neighbours = (normal[:, 1:] * normal[:, :-1]).sum() / np.sqrt(normal[:, 1:].size)
    test(f"{name}, neighbours", 2 * stats.norm.sf(abs(neighbours)))


def replaced(name, before, after, share, salt):
    """Pixels that show that they were replaced: gray ones for black and white, changed ones for other values."""
    pixels = before[0].size
    count = whole(share, pixels)
    changed = (after != before).reshape(len(after), -1)
    flat = after.reshape(len(after), -1)
    if salt:
        gray = ((before > 0) & (before < 255)).reshape(len(after), -1)
        shown, visible = changed & gray, gray
        white, gone = int((flat[shown] == 255).sum()), int(shown.sum())
        test(f"{name}, {gone} gray pixels, white or black", stats.binomtest(white, gone).pvalue)
        chance = count / pixels
    else:
        visible, shown, chance = np.ones_like(changed), changed, count / pixels * 255 / 256
        levels = np.bincount(flat[changed & (before.reshape(flat.shape) == 0)], minlength=256)
        test(f"{name}, values of {levels.sum()} pixels that were black", stats.chisquare(levels[1:]).pvalue)
    assert changed.sum(axis=1).max() <= count
    seen = visible.sum(axis=0) >= 40
    trials, hits = visible.sum(axis=0)[seen], shown.sum(axis=0)[seen]
    distance = ((hits - trials * chance) ** 2 / (trials * chance * (1 - chance))).sum()
    test(f"{name}, which of {seen.sum()} places", stats.chi2.sf(distance, seen.sum()))


def label_flip(name, params, clean, found):
    images, labels, ids = clean
    flipped, table = found[1], np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(table, (labels, flipped), 1)
    if params["mode"] == "matrix":
        beside_cleanlab(params["matrix"], labels, table)
        side = np.arange(SAMPLES) * 2 // SAMPLES
        tables = []
        for label in range(CLASSES):  # the new label by the half of the data
            of = [np.bincount(flipped[(labels == label) & (side == half)], minlength=CLASSES) for half in (0, 1)]
            pair = np.array(of)[:, np.sum(of, axis=0) > 0]
            tables.append(stats.chi2_contingency(pair))
        distance, freedom = sum(table.statistic for table in tables), sum(table.dof for table in tables)
        test(f"{name}, which samples of a class get which label", stats.chi2.sf(distance, freedom))
        return
    start = params.get("from")
    eligible = np.ones(SAMPLES, dtype=bool) if start is None else labels == start
    chosen = flipped != labels
    assert chosen.sum() == whole(params["rate"], SAMPLES) and not chosen[~eligible].any()
    selection(name, chosen[eligible], labels[eligible])
    if params["mode"] == "pair":
        assert (flipped[chosen] == (labels[chosen] + 1) % CLASSES).all()
        return
    rows = [np.delete(table[label], label) for label in range(CLASSES) if start in (None, label)]
    expected = [np.full(CLASSES - 1, row.sum() / (CLASSES - 1)) for row in rows]
    test(f"{name}, which wrong label", chi_square(rows, expected, lost=len(rows)))


def beside_cleanlab(matrix, labels, table):
    counts, off = np.bincount(labels, minlength=CLASSES), ~np.eye(CLASSES, dtype=bool)
    assert (table == [hamilton(row, count) for row, count in zip(matrix, counts)]).all()
    theirs, expected = np.zeros_like(table), np.array(matrix) * counts[:, None]
    np.add.at(theirs, (labels, generate_noisy_labels(labels, np.array(matrix).T)), 1)
    far = lambda a, b: f"{abs(a - b)[off].max():.2f}"
    print(f"  farthest from the expectation {far(table, expected)}, cleanlab {far(theirs, expected)};"
          f" {(table == theirs)[off].sum()} of 90 counts equal cleanlab's, farthest {far(table, theirs)}")


def inject(name, params, clean, found):
    images, labels, _ = clean
    added = found[0][SAMPLES:]
    assert np.array_equal(found[0][:SAMPLES], images) and (found[1][SAMPLES:] == 0).all()
    assert len(added) == whole(params["rate"], SAMPLES)
    originals = images if "images" in params else images[labels == 1]
    if params["kind"] == "mislabelled-copies":
        often = lambda images: np.array([(images == image).all(axis=(1, 2, 3)).sum() for image in originals])
        least = len(added) // len(originals)
        assert often(originals).max() == 1 and set(often(added)) == {least, least + 1}
        evenly(f"{name}, which are used once more", often(added) > least, np.arange(len(originals)) * 10 // len(originals))
    elif params["kind"] == "near-duplicates":
        order = Stream("theriac/1/attack/inject/select").shuffle(range(len(originals)))
        law = stats.randint(-params["epsilon"], params["epsilon"] + 1)
        noise(name, added.astype(int), cut_off(law.cdf, originals[np.resize(order, len(added))].astype(int)))
    elif params["images"] == "noise":
        noise(name, added.astype(int), lambda value: (value + 1) / 256)


def remove(name, params, clean, found):
    images, labels, ids = clean
    gone = ~np.isin(ids, found[2])
    members = np.ones(SAMPLES, dtype=bool) if params["mode"] == "random" else labels == params["class"]
    assert gone.sum() == whole(params["fraction"], members.sum()) and not gone[~members].any()
    if params["mode"] != "subgroup":
        selection(name, gone[members], labels[members])
        return
    mean = images.mean(axis=(1, 2, 3))
    lost, kept = mean[gone], mean[members & ~gone]
    assert lost.min() >= kept.max() if params["subgroup"] == "brightest" else lost.max() <= kept.min()


def random_noise(name, params, clean, found):
    images, labels, _ = clean
    touched = (found[0] != images).any(axis=(1, 2, 3))
    assert touched.sum() == whole(params["rate"], SAMPLES) and np.array_equal(found[1], labels)
    selection(name, touched, labels)
    before, after = images[touched].astype(int), found[0][touched].astype(int)
    strength, kind = params.get("strength"), params["kind"]
    if kind == "gaussian":
        noise(name, after, cut_off(lambda change: stats.norm.cdf((change + 0.5) / strength), before))
    elif kind == "uniform":
        noise(name, after, cut_off(stats.randint(-int(strength), int(strength) + 1).cdf, before))
    elif kind == "pure-noise":
        noise(name, after, lambda value: (value + 1) / 256)
    else:
        replaced(name, before, after, strength, kind == "salt-and-pepper")


def apply(attack, edits, clean):
    """The data set after the edits of `selections.py`; inserted samples have no id yet."""
    images, labels, ids = clean[0].astype(int), clean[1].copy(), clean[2]
    if attack == "label-flip":
        labels[list(edits)] = list(edits.values())
    elif attack == "random-noise":
        images[list(edits)] = list(edits.values())
    elif attack == "remove":
        return [np.delete(values, edits, axis=0) for values in (images, labels, ids)]
    else:
        images = np.concatenate([images, [image for _, image in edits]])
        labels = np.concatenate([labels, [label for label, _ in edits]])
    return images, labels, ids


def attacks(program):
    tests = {"label-flip": label_flip, "inject": inject, "remove": remove, "random-noise": random_noise}
    (_, _, *clean), *everything = exported(program)
    assert len(clean[2]) == SAMPLES and (np.diff(clean[2].astype(int)) > 0).all()
    for number, (attack, params, *found) in enumerate(everything, 1):
        name = f"{number} {attack} " + " ".join(str(value) for value in params.values() if not isinstance(value, list))
        edits = poison(attack, params, f"theriac/1/attack/{attack}", clean[0], clean[1], CLASSES, clean[2])
        images, labels, ids = apply(attack, edits, clean)
        assert np.array_equal(found[0], images) and np.array_equal(found[1], labels), name
        assert np.array_equal(found[2][: len(ids)], ids), name
        print(f"{name}: {len(edits)} edits, all values equal")
        tests[attack](name, params, clean, found)
    smallest = min(ps, key=ps.get)
    print(f"{len(everything)} data sets equal bit by bit; {len(ps)} tests, smallest p {ps[smallest]:.4f} ({smallest}); all p"
          f" beside the uniform distribution, p {stats.kstest(list(ps.values()), 'uniform').pvalue:.2f}")


def cells(program, text):
    """{(attack, defense, seed): cell}, each with its model's weights."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run(program, ["run", "--progress", "none"], folder, text)
        lines = next(folder.glob("results/*/cells.jsonl")).read_text().splitlines()
        step = lambda address: folder / "results" / ".store" / address[:2] / address
        found = {}
        for cell in map(json.loads, lines):
            model = json.loads((step(cell["address"]) / "step.json").read_text())["step"]["inputs"]["model"]
            cell["weights"] = (step(model) / "weights.safetensors").read_bytes()
            found[cell["attack"]["name"], cell["defense"]["name"], cell["seed"]] = cell
        return found


def controls(program, seeds=40, train=500, poisoned=40):
    numbers = range(1, seeds + 1)
    head = f'name = "controls"\nseeds = {list(numbers)}' + HEAD.replace("SAMPLES", str(train))
    attack = f'\n[[experiment.attack]]\nname = "badnets"\nrate = {poisoned / train}\n'
    filters = '\n[[experiment.defense]]\nname = "outliers"\nspace = "pixels"\nshare = 0.15\n'
    beside = cells(program, head + attack + filters + '\n[[experiment.defense]]\nname = "clean-model"\n')
    alone = cells(program, head + 'controls = false\n\n[[experiment.attack]]\nname = "none"\n')

    def equal(defense):
        weights = lambda cells, *key: cells[key]["weights"]
        return sum(weights(beside, "badnets", defense, seed) == weights(alone, "none", "none", seed) for seed in numbers)

    print(f"weights of {seeds} seeds that equal those of a run without an attack: {equal('clean-model')} of clean-model,"
          f" {equal('none')} of none")

    def removed(defense, seed):
        metrics = beside["badnets", defense, seed]["metrics"]
        return round(metrics["flagged"] * train), round(metrics["tpr"] * poisoned)

    budgets = [removed("outliers", seed)[0] for seed in numbers]
    for control in ("random-filter", "perfect-filter"):
        same = sum(removed(control, seed)[0] == budget for seed, budget in zip(numbers, budgets))
        print(f"{control}: removes as many as the filter with {same} of {seeds} seeds")
    perfect = sum(removed("perfect-filter", seed)[1] == min(budget, poisoned) for seed, budget in zip(numbers, budgets))
    print(f"perfect-filter: removes all the poison that the budget reaches with {perfect} of {seeds} seeds")
    hits = np.array([removed("random-filter", seed)[1] for seed in numbers])
    laws = [stats.hypergeom(train, poisoned, budget) for budget in budgets]
    expected = sum(law.mean() for law in laws)
    z = (hits.sum() - expected) / np.sqrt(sum(law.var() for law in laws))
    random = np.random.default_rng(0).random(seeds)
    uniform = [law.cdf(hit - 1) + u * law.pmf(hit) for law, hit, u in zip(laws, hits, random)]
    print(f"random-filter: {hits.sum()} poisoned samples removed, {expected:.1f} expected, p {2 * stats.norm.sf(abs(z)):.2f};"
          f" by seed beside the hypergeometric distribution, p {stats.kstest(uniform, 'uniform').pvalue:.2f}")


if __name__ == "__main__":
    program = str(Path(sys.argv[1]).resolve())
    controls(program)
    attacks(program)
