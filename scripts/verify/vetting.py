"""Golden data for the vetting defenses: what numpy, scikit-learn and the Adversarial Robustness Toolbox (ART) answer.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1 adversarial-robustness-toolbox==1.20.1 packaging
    venv/bin/python scripts/verify/vetting.py crates/theriac-defenses/tests/golden

Writes into the folder that is its argument:

    features.csv               label, poisoned, 16 features; three classes with planted backdoor and label-flip poison
    spectral_signatures.csv    tau by numpy's SVD; removed at epsilon 0.1, multiplier 1.5
    wide.csv                   tau of the first 20 of 200 samples with 100 features, which the test draws as well
    activation_clustering.csv  in the smaller cluster (PCA to 10, k-means); mean silhouette of the class; removed by the
                               rules size, silhouette and distance
    deep_knn.csv               share of the 50 neighbours with another label; the new label where outvoted, else -1
    strip.csv                  entropy; threshold by normal fit; threshold by quantile; 5 x 4 probabilities

and prints how far ART agrees with these. The versions above made the committed files; the tests of `theriac-defenses`
read them. ART 1.20.1 needs `packaging` without saying so, and its analyze_by_relative_size fails with numpy from 2.2
on; the files come out the same with numpy 2.4.6.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import entropy as scipy_entropy
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

CLASSES, COLUMNS, PER_CLASS = 3, 16, 90
EXPECTED, MULTIPLIER, DIMENSIONS, NEIGHBOURS = 0.1, 1.5, 10, 50


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def planted(random):
    """Rectified Gaussian features. Class 0 holds 24 backdoor samples, class 1 holds 14 samples of class 2."""
    centres = np.abs(random.normal(size=(CLASSES, COLUMNS))) * 2.5
    trigger = np.abs(random.normal(size=COLUMNS)) * 2.5
    # Clean classes are longer than wide, so that their best split in two is unique.
    axes = random.normal(size=(CLASSES, COLUMNS)) / 2
    features, labels, poisoned = [], [], []

    def add(label, centre, axis, count, poison):
        along = random.uniform(-2, 2, size=(count, 1))
        features.append(np.maximum(centre + along * axis + 0.7 * random.normal(size=(count, COLUMNS)), 0))
        labels.extend([label] * count)
        poisoned.extend([poison] * count)

    for label in range(CLASSES):
        add(label, centres[label], axes[label], PER_CLASS, 0)
    add(0, centres[0] / 3 + trigger, np.zeros(COLUMNS), 24, 1)
    add(1, centres[2], axes[2], 14, 1)
    order = random.permutation(len(labels))
    features = np.concatenate(features)[order].round(4).astype(np.float32)
    return features, np.array(labels)[order], np.array(poisoned)[order]


def spectral(features, labels):
    tau, removed = np.zeros(len(labels)), np.zeros(len(labels))
    for label in range(CLASSES):
        members = np.flatnonzero(labels == label)
        centred = features[members] - features[members].mean(axis=0)
        top = np.linalg.svd(centred, full_matrices=False)[2][0]
        tau[members] = (centred @ top) ** 2
        count = round(MULTIPLIER * EXPECTED * len(members))
        removed[members[np.argsort(-tau[members], kind="stable")[:count]]] = 1
    return tau, removed


def wide():
    """tau of features that a generator of 64 bits draws: bytes, divided by the number of the column."""
    state, rows, columns = 1, 200, 100
    drawn = []
    for _ in range(rows * columns):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        drawn.append(state >> 56)
    features = np.array(drawn, dtype=np.float32).reshape(rows, columns) / np.arange(1, columns + 1, dtype=np.float32)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    return (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2


def clustering(features, labels):
    smaller, silhouettes = np.zeros(len(labels), dtype=int), np.zeros(len(labels))
    rules = np.zeros((len(labels), 3))
    medians = [np.median(features[labels == label], axis=0) for label in range(CLASSES)]
    for label in range(CLASSES):
        members = np.flatnonzero(labels == label)
        reduced = PCA(DIMENSIONS).fit_transform(features[members])
        clusters = KMeans(2, n_init=50, random_state=0).fit_predict(reduced)
        small = clusters == np.argmin(np.bincount(clusters))
        smaller[members], silhouettes[members] = small, silhouette_score(reduced, small)
        few = small.mean() < 0.35
        inner, outer = (np.median(features[members[mask]], axis=0) for mask in (small, ~small))
        nearer = lambda point, other: np.linalg.norm(point - medians[other]) < np.linalg.norm(point - medians[label])
        foreign = any(nearer(inner, k) and not nearer(outer, k) for k in range(CLASSES) if k != label)
        for rule, poisoned in enumerate([few, few and silhouettes[members[0]] > 0.1, foreign]):
            rules[members, rule] = small & poisoned
        share, silhouette = small.mean(), silhouettes[members[0]]
        print(f"class {label}: smaller cluster {share:.3f}, silhouette {silhouette:.3f}, {few=!s}, {foreign=!s}")
    return smaller, silhouettes, rules


def knn(features, labels):
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(units).kneighbors(return_distance=False)
    votes = np.stack([np.bincount(labels[near], minlength=CLASSES) for near in found])
    own = votes[np.arange(len(labels)), labels]
    return 1 - own / NEIGHBOURS, np.where(own < votes.max(axis=1), votes.argmax(axis=1), -1)


def compare_with_art(features, labels, poisoned, tau, smaller, silhouettes, rules):
    from art.defences.detector.poison.activation_defence import cluster_activations
    from art.defences.detector.poison.clustering_analyzer import ClusteringAnalyzer
    from art.defences.detector.poison.spectral_signature_defense import SpectralSignatureDefense

    by_class = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    # ART projects uncentred features; given centred ones, its score is the root of tau.
    centred = [features[members] - features[members].mean(axis=0) for members in by_class]
    scores = [SpectralSignatureDefense.spectral_signature_scores(part)[:, 0] ** 2 for part in centred]
    error = max(np.abs(score / tau[members] - 1).max() for score, members in zip(scores, by_class))
    print(f"ART spectral scores of centred features: largest relative difference {error:.1e}")
    raw = SpectralSignatureDefense.spectral_signature_scores(features[by_class[0]])[:, 0]
    first = poisoned[by_class[0]]
    top = lambda values: first[np.argsort(-values)[: round(MULTIPLIER * EXPECTED * len(values))]].sum()
    centred_hits, raw_hits = top(tau[by_class[0]]), top(raw)
    print(f"poison of class 0 among the removed: centred {centred_hits}, uncentred {raw_hits}, of {first.sum()}")

    np.random.seed(0)
    clusters, reduced = cluster_activations([features[members] for members in by_class], 2, DIMENSIONS, "PCA")
    for label, members in enumerate(by_class):
        index = adjusted_rand_score(clusters[label], smaller[members])
        print(f"ART clusters of class {label}: adjusted Rand index {index:.4f}")
    analyzer = ClusteringAnalyzer()
    unreduced = [features[members] for members in by_class]
    answers = {
        "size": (0, analyzer.analyze_by_relative_size(clusters)[0]),
        "silhouette": (1, analyzer.analyze_by_silhouette_score(clusters, reduced)[0]),
        "distance, unreduced": (2, analyzer.analyze_by_distance(clusters, unreduced)[0]),
        "distance, reduced as by default": (2, analyzer.analyze_by_distance(clusters, reduced)[0]),
    }
    for name, (rule, is_clean) in answers.items():
        removed = [np.asarray(part) == 0 for part in is_clean]
        agree = [np.mean(gone == (rules[members, rule] == 1)) for gone, members in zip(removed, by_class)]
        lost = [f"{gone.sum()} ({poisoned[members][gone].sum()} poisoned)" for gone, members in zip(removed, by_class)]
        print(f"ART decisions, rule {name}: agreement by class {np.round(agree, 4)}, removed {', '.join(lost)}")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20180811)
    rounded, labels, poisoned = planted(random)
    # The decimal form of a single-precision number, so that the files stay small and read back exactly.
    write(folder / "features.csv", ["label", "poisoned"] + [f"f{column}" for column in range(COLUMNS)],
          [[label, mark] + [float(str(value)) for value in row] for label, mark, row in zip(labels, poisoned, rounded)])
    features = rounded.astype(np.float64)

    write(folder / "wide.csv", ["tau"], zip(wide()[:20]))
    tau, removed = spectral(features, labels)
    write(folder / "spectral_signatures.csv", ["tau", "removed"], zip(tau, removed))
    smaller, silhouettes, rules = clustering(features, labels)
    write(folder / "activation_clustering.csv", ["in_smaller", "silhouette", "size", "silhouette_rule", "distance"],
          np.column_stack([smaller, silhouettes, rules]))
    suspicion, new_label = knn(features, labels)
    write(folder / "deep_knn.csv", ["suspicion", "new_label"], zip(suspicion, new_label))
    for name, mask in [("spectral", removed == 1), ("deep k-NN", new_label >= 0)]:
        print(f"{name}: removes {mask.sum()} of {len(labels)}, {poisoned[mask].sum()} of {poisoned.sum()} poisoned")

    probabilities = random.dirichlet([0.3] * 4, size=(40, 5)).astype(np.float32)
    probabilities[0, 0] = [1, 0, 0, 0]
    exact = probabilities.astype(np.float64)
    logarithms = np.log2(exact, where=exact > 0, out=np.zeros_like(exact))
    entropies = -(exact * logarithms).sum(axis=2).mean(axis=1)
    normalised = scipy_entropy(exact, base=2, axis=2).mean(axis=1)
    print(f"scipy's entropy of renormalised rows: largest difference {np.abs(entropies - normalised).max():.1e}")
    thresholds = [norm.ppf(0.01, *norm.fit(entropies)), np.quantile(entropies, 0.01)]
    columns = [f"p{row}_{column}" for row in range(5) for column in range(4)]
    write(folder / "strip.csv", ["entropy", "normal", "quantile"] + columns,
          [[value, *thresholds, *map(float, part.ravel())] for value, part in zip(entropies, exact)])
    compare_with_art(features, labels, poisoned, tau, smaller, silhouettes, rules)


if __name__ == "__main__":
    main()
