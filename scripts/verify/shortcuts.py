"""Golden data for `lsp`, and a comparison with scikit-learn's make_classification, from which its authors take their points.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1
    venv/bin/python scripts/verify/shortcuts.py crates/theriac-attacks/tests/golden
    venv/bin/python scripts/verify/shortcuts.py compare POISONED.npz CLEAN.npz

The first form writes into the folder that is its argument:

    lsp_clouds.csv   three classes; for each the corner of the cube, and below it the 6 x 6 matrix that stretches its cloud
    lsp_noise.csv    class; 6 standard normal numbers; the noise of the 6 patches in the L-infinity norm; that of the 5 x 7
                     pixels in the L2 norm. Patches have 3 x 3 pixels, and epsilon is 6

The second form takes two `data.npz` as `theriac poison` writes them, one of `lsp` at its defaults and one of the same data
without noise (`lsp` at rate 0). It makes as much noise by the authors' recipe and prints both beside each other.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

HEIGHT, WIDTH, PATCH, EPSILON, SEPARATION = 5, 7, 3, 6, 10


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def duplicated(points, shape, patch):
    """Points of [sample, row, column, channel] as images, each number repeated over its patch."""
    images = points.repeat(patch, axis=1).repeat(patch, axis=2)
    return images[:, : shape[0], : shape[1]]


def of_length(images, epsilon):
    flat = images.reshape(len(images), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True) * epsilon * np.sqrt(flat.shape[1])


def goldens(folder):
    random = np.random.default_rng(2111)
    corners = random.choice([-SEPARATION, SEPARATION], size=(3, 6))
    stretch = random.uniform(-1, 1, size=(3, 6, 6)).round(4)
    clouds = [row for corner, matrix in zip(corners, stretch) for row in [corner, *matrix]]
    write(folder / "lsp_clouds.csv", [f"value{at}" for at in range(6)], clouds)
    classes = np.arange(3).repeat(3)
    normal = random.normal(size=(9, 6)).round(4)
    points = np.einsum("ij,ijk->ik", normal, stretch[classes]) + corners[classes]
    linf = points / np.abs(points).max(axis=1, keepdims=True) * EPSILON
    l2 = of_length(duplicated(points.reshape(9, 2, 3, 1), (HEIGHT, WIDTH), PATCH), EPSILON)
    header = ["class"] + [f"normal{at}" for at in range(6)] + [f"linf{at}" for at in range(6)]
    header += [f"l2_{at}" for at in range(HEIGHT * WIDTH)]
    write(folder / "lsp_noise.csv", header, np.column_stack([classes, normal, linf.round(12), l2.round(12)]))


def describe(name, noise, labels):
    """Noise of whole values, one image a row."""
    seen = np.unique(noise, axis=0)
    separated = LogisticRegression(max_iter=2000).fit(noise, labels).score(noise, labels)
    held_out = cross_val_score(LogisticRegression(max_iter=2000), noise, labels, cv=5)
    means = np.stack([noise[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = np.sqrt(np.mean((noise - means[np.searchsorted(np.unique(labels), labels)]) ** 2))
    print(f"{name}: {len(noise)} images, {len(seen)} different ones")
    print(f"  root mean square {np.sqrt(np.mean(noise**2, axis=1)).mean():.4f}, within a class {within:.4f}")
    largest = np.abs(noise).max(axis=1)
    print(f"  largest value of an image: mean {largest.mean():.3f}, most {largest.max():.0f}")
    print(f"  logistic regression: {separated:.4f} on the noise it saw, {held_out.mean():.4f} on folds it did not see")


def compare(poisoned_path, clean_path):
    poisoned, clean = np.load(poisoned_path), np.load(clean_path)
    order = np.argsort(poisoned["ids"]), np.argsort(clean["ids"])
    after, before = poisoned["images"][order[0]].astype(int), clean["images"][order[1]].astype(int)
    labels = poisoned["labels"][order[0]]
    assert (labels == clean["labels"][order[1]]).all()
    count, channels, height, width = after.shape
    added = after - before
    # Where nothing was cut off, the change is the noise, and it has one value in a patch.
    whole = (after > 0) & (after < 255)
    rows, columns, patch = -(-height // 8), -(-width // 8), 8
    ours, complete = np.zeros((count, channels, rows, columns)), np.ones(count, dtype=bool)
    for row in range(rows):
        for column in range(columns):
            part = np.s_[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            known, value = whole[part], added[part]
            highest = np.where(known, value, -999).max(axis=(2, 3))
            lowest = np.where(known, value, 999).min(axis=(2, 3))
            complete &= known.any(axis=(2, 3)).all(axis=1)
            assert (highest[complete] == lowest[complete]).all(), "a patch has several values"
            ours[:, :, row, column] = highest
    print(f"{complete.sum()} of {count} images show all of their noise")
    ours, labels = ours[complete], labels[complete]
    image = lambda points: duplicated(points.transpose(0, 2, 3, 1), (height, width), patch).reshape(len(points), -1)
    lengths = np.linalg.norm(image(ours), axis=1) / np.sqrt(channels * height * width)
    print(f"L2 norm by sqrt(d): from {lengths.min():.4f} to {lengths.max():.4f}, bound {EPSILON}")
    features, classes = channels * rows * columns, len(np.unique(labels))
    points, theirs = make_classification(
        n_samples=count, n_features=features, n_informative=features, n_redundant=0, n_repeated=0, n_classes=classes,
        n_clusters_per_class=1, class_sep=SEPARATION, flip_y=0, random_state=0,
    )
    points = points.reshape(count, rows, columns, channels)
    scaled = of_length(duplicated(points, (height, width), patch), EPSILON).reshape(count, height, width, channels)
    noise = scaled[:, ::patch, ::patch].reshape(count, -1)[: complete.sum()]
    describe("theriac", ours.reshape(len(ours), -1), labels)
    describe("make_classification", noise.round(), theirs[: complete.sum()])
    for name, pick in [("values", np.ravel), ("largest of an image", lambda noise: noise.max(axis=1))]:
        both = [pick(np.abs(part)) for part in (ours.reshape(len(ours), -1), noise.round())]
        print(f"Kolmogorov-Smirnov distance of absolute {name}: {ks_2samp(*both).statistic:.4f}")


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(*sys.argv[2:])
    else:
        goldens(Path(sys.argv[1]))
