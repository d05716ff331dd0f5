"""Golden data for `outliers`: what scikit-learn and numpy answer on the features of the other vetting defenses.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1
    venv/bin/python scripts/verify/outliers.py crates/theriac-defenses/tests/golden

Reads features.csv from the folder that is its argument (see `vetting.py`) and writes beside it

    outliers.csv    for each sample the distance to its 20th neighbour, within its class and among all; its local outlier
                    factor, within its class and among all; its distance from the mean of its class, and the Mahalanobis
                    distance by the Ledoit-Wolf covariance of all deviations from class means
    duplicates.csv  the same samples and 24 copies, each a little off, half of them with another label: the score, and
                    whether a twin within a fifth of the median distance condemns the sample

The versions above made the committed files; the tests of `theriac-defenses` read them.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

NEIGHBOURS, NEAR, COPIES = 20, 0.2, 24


def write(path, header, rows):
    lines = [header] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def kth_distance(points):
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(points)
    return search.kneighbors()[0][:, -1]


def factor(points):
    return -LocalOutlierFactor(n_neighbors=NEIGHBOURS, algorithm="brute").fit(points).negative_outlier_factor_


def by_class(score, points, labels):
    scores = np.zeros(len(points))
    for label in np.unique(labels):
        scores[labels == label] = score(points[labels == label])
    return scores


def twins(points, labels):
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points).kneighbors()[0][:, 0]
    median = np.sort(nearest)[len(nearest) // 2]
    # Distances by differences: products would lose what is small.
    away = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    close = (away <= NEAR * median) & ~np.eye(len(points), dtype=bool)
    earlier = np.arange(len(points))[None, :] < np.arange(len(points))[:, None]
    foreign = labels[:, None] != labels[None, :]
    removed = (close & (foreign | earlier)).any(axis=1)
    np.fill_diagonal(away, np.inf)
    print(f"largest difference of the two nearest distances: {np.abs(away.min(axis=1) - nearest).max():.1e}")
    print(f"twins: {close.any(axis=1).sum()}, at most {close.sum(axis=1).max()} of one; removed: {removed.sum()}")
    return median / (median + away.min(axis=1)), removed


def main():
    folder = Path(sys.argv[1])
    table = np.genfromtxt(folder / "features.csv", delimiter=",", skip_header=1)
    labels, poisoned = table[:, 0].astype(int), table[:, 1]
    features = table[:, 2:].astype(np.float32).astype(np.float64)

    deviations = by_class_deviations(features, labels)
    covariance = LedoitWolf(assume_centered=True).fit(deviations)
    columns = [
        by_class(kth_distance, features, labels),
        kth_distance(features),
        by_class(factor, features, labels),
        factor(features),
        np.linalg.norm(deviations, axis=1),
        np.sqrt(covariance.mahalanobis(deviations)),
    ]
    write(folder / "outliers.csv", "knn_class,knn_data,lof_class,lof_data,centroid,mahalanobis", zip(*columns))
    print(f"shrinkage {covariance.shrinkage_:.4f}")
    for name, values in zip(["knn", "knn, all", "lof", "lof, all", "centroid", "mahalanobis"], columns):
        top = np.argsort(-values)[: len(values) // 10]
        print(f"{name}: {poisoned[top].sum():.0f} of {poisoned.sum():.0f} poisoned among the top tenth")

    shifts = (np.arange(COPIES, dtype=np.float32) + 1) / np.float32(64)
    copies = table[:COPIES, 2:].astype(np.float32) + shifts[:, None]
    points = np.concatenate([features, copies.astype(np.float64)])
    again = np.concatenate([labels, (labels[:COPIES] + np.arange(COPIES) % 2) % 3])
    write(folder / "duplicates.csv", "score,removed", zip(*twins(points, again)))


def by_class_deviations(points, labels):
    deviations = points.copy()
    for label in np.unique(labels):
        deviations[labels == label] -= points[labels == label].mean(axis=0)
    return deviations


if __name__ == "__main__":
    main()
