"""Golden data for the attacks that need no gradients, and for the controls.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 blake3==1.0.11
    venv/bin/python scripts/verify/selections.py crates/theriac-attacks/tests/golden crates/theriac-defenses/tests/golden

Writes into the first folder

    selections.csv   attack; shape as channels x height x width; parameters; edits, in the order of the samples: `7=2` (a
                     label), `7:hex` (pixels, [channel, row, column]), `7-` (removed), `+2:hex` (inserted with label 2)

for 48 images that the tests of `theriac-attacks` know too, and into the second one

    controls.csv           filter; number that the matched filter removed, or `alone`; removed samples, of 300 of which
                           every seventh is poisoned
    poisoned_removed.csv   number of poisoned samples among 47 of 300 drawn at random; its probability by scipy

What is drawn is drawn anew, by `streams.py`. `draws.py` tests by the same functions, and by statistics, what the program
exports of a real data set.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy import stats
from streams import Stream
from triggers import SHAPES, formula

SAMPLES, CLASSES = 48, 4


def images(shape):
    """Some are equal, so that there are ties in brightness."""
    return np.array([formula(shape, number % 11) for number in range(SAMPLES)])


LABELS = np.array([(number * number + number // 3) % CLASSES for number in range(SAMPLES)])


def whole(share, of):
    return int(np.floor(share * of + 0.5))


tied = []  # whether equal brightness decided


# The attacks. `draw` gives a stream by its name below the attack's.


def hamilton(row, samples):
    """Hamilton's apportionment in fractions: the whole part of each quota, then the largest remainders."""
    shares = [Fraction(str(share)) for share in row]
    quotas = [share / sum(shares) * samples for share in shares]
    counts = [quota.numerator // quota.denominator for quota in quotas]
    by_remainder = sorted(range(len(row)), key=lambda at: counts[at] - quotas[at])
    for at in by_remainder[: samples - sum(counts)]:
        counts[at] += 1
    return counts


def label_flip(draw, images, labels, classes, ids, rate=0.1, mode="symmetric", matrix=None, **given):
    """Angluin and Laird 1988, and the other three: {sample: label}."""
    flipped = {}
    if mode == "matrix":
        stream = draw("select")
        for label, row in enumerate(matrix):
            members = stream.shuffle(np.flatnonzero(labels == label))
            flipped.update(zip(members, np.repeat(np.arange(classes), hamilton(row, len(members)))))
        return {at: label for at, label in flipped.items() if label != labels[at]}
    start, to = given.get("from"), given.get("to")
    eligible = np.arange(len(labels)) if start is None else np.flatnonzero(labels == start)
    chosen, wrong = draw("select").choose(eligible, whole(rate, len(labels))), draw("labels")
    for at in chosen:
        if to is not None:
            flipped[at] = to
        elif mode == "pair":
            flipped[at] = (labels[at] + 1) % classes
        else:
            flipped[at] = np.delete(np.arange(classes), labels[at])[wrong.below(classes - 1)[0]]
    return flipped


def cut(image):
    """16 blocks of an image, without what is left over at the right and at the bottom."""
    _, height, width = image.shape
    high, wide = height // 4, width // 4
    return [np.s_[:, high * row : high * (row + 1), wide * column : wide * (column + 1)]
            for row in range(4) for column in range(4)]


def inject(draw, images, labels, _, ids, rate=0.1, kind="mislabelled-copies", source=1, target=0, epsilon=8, images_="noise"):
    """[(label, image)]."""
    outside = kind == "out-of-distribution"
    originals = draw("select").shuffle(np.arange(len(labels)) if outside else np.flatnonzero(labels == source))
    noise, inserted = draw("noise"), []
    for number in range(whole(rate, len(labels))):
        image = images[originals[number % len(originals)]].astype(int)
        if kind == "near-duplicates":
            image = np.clip(image + noise.below(2 * epsilon + 1, image.size).reshape(image.shape) - epsilon, 0, 255)
        elif outside and images_ == "noise":
            image = noise.below(256, image.size).reshape(image.shape)
        elif outside and images_ == "inverted":
            image = 255 - image
        elif outside:
            before, image, blocks = image, image.copy(), cut(image)
            for to, start in zip(blocks, noise.shuffle(blocks)):
                image[to] = before[start]
        inserted.append((target, image))
    return inserted


def remove(draw, images, labels, _, ids, mode="class", fraction=0.5, **given):
    """The removed samples."""
    members = np.arange(len(labels)) if mode == "random" else np.flatnonzero(labels == given.get("class", 0))
    count = whole(fraction, len(members))
    if mode != "subgroup":
        return draw("select").choose(members, count)
    brightness = images[members].astype(float).mean(axis=(1, 2, 3))
    sign = -1 if given.get("subgroup", "brightest") == "brightest" else 1
    order = np.argsort(sign * brightness, kind="stable")
    tied.append(brightness[order[count - 1]] == brightness[order[count]])
    return sorted(members[order[:count]])


def damage(stream, image, kind, strength):
    image = image.astype(int)
    if kind == "gaussian":
        return np.clip(np.rint(image + strength * stream.normal(image.size).reshape(image.shape)), 0, 255).astype(int)
    if kind == "uniform":
        moved = image + stream.below(2 * int(strength) + 1, image.size).reshape(image.shape) - int(strength)
        return np.clip(moved, 0, 255)
    if kind == "pure-noise":
        return stream.below(256, image.size).reshape(image.shape)
    channels, height, width = image.shape
    for place in stream.choose(range(height * width), whole(strength, height * width)):
        row, column = divmod(place, width)
        if kind == "salt-and-pepper":
            image[:, row, column] = 255 if stream.uniform()[0] < 0.5 else 0
        else:
            image[:, row, column] = stream.below(256, channels)
    return image


def random_noise(draw, images, labels, _, ids, rate=0.1, kind="random-pixels", strength=None):
    """{sample: image}."""
    if strength is None:
        strength = 128 if kind in ("gaussian", "uniform") else 0.9
    damaged = {}
    for at in draw("select").choose(np.arange(len(labels)), whole(rate, len(labels))):
        stream = draw(f"noise/{ids[at]}")
        damaged[at] = images[at]
        while np.array_equal(damaged[at], images[at]):
            damaged[at] = damage(stream, images[at], kind, strength)
    return damaged


MATRIX = [[0.7, 0.1, 0.1, 0.1], [0, 0.5, 0.25, 0.25], [0.21, 0.33, 0.02, 0.44], [1 / 3, 0, 0, 2 / 3]]
VARIANTS = [
    ("label-flip", dict(rate=0.25)),
    ("label-flip", dict(mode="pair", rate=0.25)),
    ("label-flip", {"mode": "pair", "from": 2, "to": 0, "rate": 0.05}),
    ("label-flip", {"mode": "one-class", "from": 1, "rate": 0.125}),
    ("label-flip", {"mode": "one-class", "from": 1, "to": 3, "rate": 0.125}),
    ("label-flip", dict(mode="matrix", matrix=MATRIX)),
    ("inject", dict(rate=0.1)),
    ("inject", dict(kind="near-duplicates", source=2, target=3, epsilon=30, rate=0.1)),
    *[("inject", dict(kind="out-of-distribution", target=1, images=images, rate=0.1))
      for images in ("noise", "inverted", "patch-shuffled")],
    ("remove", {"class": 1, "fraction": 0.3}),
    ("remove", dict(mode="random", fraction=0.3)),
    *[("remove", {"mode": "subgroup", "class": label, "subgroup": end, "fraction": 0.4})
      for label in (0, 1) for end in ("brightest", "darkest")],
    *[("random-noise", dict(kind=kind, strength=strength, rate=0.06))
      for kind, strength in [("gaussian", 20.0), ("uniform", 60.0), ("salt-and-pepper", 0.3), ("random-pixels", 0.4)]],
    ("random-noise", dict(kind="pure-noise", rate=0.06)),
    ("random-noise", dict(kind="gaussian", rate=0.06)),
]
ATTACKS = {"label-flip": label_flip, "inject": inject, "remove": remove, "random-noise": random_noise}


def poison(attack, params, root, images, labels, classes, ids):
    params = {"images_" if key == "images" else key: value for key, value in params.items()}
    return ATTACKS[attack](lambda name: Stream(f"{root}/{name}"), images, labels, classes, ids, **params)


def written(attack, edits):
    pixels = lambda image: np.asarray(image, dtype=np.uint8).tobytes().hex()
    if attack == "inject":
        return [f"+{label}:{pixels(image)}" for label, image in edits]
    if attack == "remove":
        return [f"{at}-" for at in sorted(edits)]
    return [f"{at}={edits[at]}" if attack == "label-flip" else f"{at}:{pixels(edits[at])}" for at in sorted(edits)]


def random_filter(count, total=300):
    """Scores are uniform; the highest go."""
    scores = Stream("theriac/1/defense/random-filter/scores").uniform(total)
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def perfect_filter(poisoned, matched):
    """All poison first, in an order of chance; clean samples only if as many go as another filter removed."""
    order = Stream("theriac/1/defense/perfect-filter/ties").uniform(len(poisoned))
    count = min(whole(0.1, len(poisoned)), poisoned.sum()) if matched is None else matched
    return np.sort(np.lexsort((-order, ~poisoned))[:count])


def goldens(attacks, defenses):
    lines = ["attack;shape;parameters;edits"]
    for attack, params in VARIANTS:
        for shape in SHAPES if attack in ("inject", "random-noise") else SHAPES[:1]:
            edits = poison(attack, params, "theriac/1", images(shape), LABELS, CLASSES, range(SAMPLES))
            assert edits, params
            row = [attack, "x".join(map(str, shape)), json.dumps(params), " ".join(written(attack, edits))]
            lines.append(";".join(row))
    assert any(tied) and not all(tied)
    (attacks / "selections.csv").write_text("\n".join(lines) + "\n")
    poisoned = np.arange(300) % 7 == 0
    lines = ["filter;matched;removed"]
    row = lambda name, matched, removed: f"{name};{'alone' if matched is None else matched};{' '.join(map(str, removed))}"
    for matched in (1, 47, 299, None):
        lines.append(row("random-filter", matched, random_filter(whole(0.1, 300) if matched is None else matched)))
    for matched in (5, 43, 60, 299, None):
        lines.append(row("perfect-filter", matched, perfect_filter(poisoned, matched)))
    (defenses / "controls.csv").write_text("\n".join(lines) + "\n")
    law = stats.hypergeom(300, poisoned.sum(), 47)
    rows = [f"{count},{law.pmf(count):.12g}" for count in range(poisoned.sum() + 1)]
    (defenses / "poisoned_removed.csv").write_text("\n".join(["poisoned,probability", *rows]) + "\n")


if __name__ == "__main__":
    goldens(Path(sys.argv[1]), Path(sys.argv[2]))
