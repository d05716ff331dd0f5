"""Golden data for `label-consistent`: projected gradient descent on a small network, by numpy, and the patch.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1 adversarial-robustness-toolbox==1.20.1 packaging
    venv/bin/python scripts/verify/label_consistent.py crates/theriac-attacks/tests/golden

Writes into the folder that is its argument:

    label_consistent_net.csv   one tensor a row: weights (36 x 6) and bias of the hidden layer, weights (6 x 3) and bias of
                               the head. Pixels from 0 to 1 enter less 0.4, by 0.25
    label_consistent.csv       six images of 6 x 6 pixels, all of class 1: the pixels; after 12 steps in an L2 ball of 150 of
                               255 in each direction of the loss; after 12 steps in an L-infinity ball of 23 of 255; the
                               latter rounded, with a patch of amplitude 90 in all corners

The steps start at the image and are 2.5 epsilon / 12 long. Gradients are worked out by hand and in double precision. Then it
compares the same descent on a linear model with the Adversarial Robustness Toolbox (ART): descent alone, and its own
implementation of the whole attack.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax

SIDE, HIDDEN, CLASSES, TARGET, STEPS, AMPLITUDE = 6, 6, 3, 1, 12, 90
MEAN, DEVIATION = 0.4, 0.25
BOUNDS = {"l2": 150 / 255, "linf": 23 / 255}


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


class Network:
    def __init__(self, random):
        shapes = [(SIDE * SIDE, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
        self.tensors = [(0.4 * random.normal(size=shape)).round(4) for shape in shapes]

    def gradient(self, images):
        """Of the cross-entropy of the target with respect to the images, one a row."""
        first, first_bias, second, second_bias = self.tensors
        before = (images - MEAN) / DEVIATION @ first + first_bias
        errors = softmax(np.maximum(before, 0) @ second + second_bias, axis=1)
        errors[:, TARGET] -= 1
        return (errors @ second.T * (before > 0)) @ first.T / DEVIATION


def descend(gradient, clean, norm, epsilon, steps):
    moved = clean.copy()
    for _ in range(steps):
        slope = gradient(moved)
        if norm == "l2":
            change = moved + 2.5 * epsilon / steps * slope / np.linalg.norm(slope, axis=1, keepdims=True) - clean
            change *= np.minimum(1, epsilon / np.maximum(np.linalg.norm(change, axis=1, keepdims=True), 1e-300))
        else:
            change = np.clip(moved + 2.5 * epsilon / steps * np.sign(slope) - clean, -epsilon, epsilon)
        moved = np.clip(clean + change, 0, 1)
    return moved


def patched(images, amplitude):
    """Whole pixels, with the patch of Turner et al. in all corners: bright on the falling diagonal from the outer top, ..."""
    images = images.astype(int).reshape(-1, SIDE, SIDE)
    right = np.array([[-1, -1, 1], [-1, 1, -1], [1, -1, 1]]) * amplitude
    for rows in (slice(0, 3), slice(SIDE - 3, SIDE)):
        images[:, rows, SIDE - 3 :] += right
        images[:, rows, :3] += right[:, ::-1]
    return images.clip(0, 255).reshape(len(images), -1)


def compare_with_art(random):
    from art.attacks.evasion import ProjectedGradientDescentNumpy
    from art.attacks.poisoning import PoisoningAttackBackdoor, PoisoningAttackCleanLabelBackdoor
    from art.estimators.classification import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    # Far from black and white, where the order of the two projections would matter.
    images = random.uniform(0.35, 0.65, size=(60, SIDE * SIDE)).astype(np.float32)
    labels = np.arange(60) % CLASSES
    images[np.arange(60), labels] += 0.2
    model = LogisticRegression(C=100, max_iter=5000).fit(images, labels)
    classifier = SklearnClassifier(model, clip_values=(0, 1))
    victims = images[labels == TARGET]

    def gradient(moved):
        errors = model.predict_proba(moved)
        errors[:, TARGET] -= 1
        return errors @ model.coef_

    for norm, order, epsilon in [("l2", 2, 0.3), ("linf", np.inf, 0.1)]:
        ours = descend(gradient, victims.astype(np.float64), norm, epsilon, STEPS)
        settings = {"norm": order, "eps": epsilon, "eps_step": 2.5 * epsilon / STEPS, "max_iter": STEPS}
        attack = ProjectedGradientDescentNumpy(classifier, num_random_init=0, verbose=False, **settings)
        theirs = attack.generate(victims, np.eye(CLASSES)[labels[labels == TARGET]])
        print(f"ART, {norm}: {len(victims)} images, largest difference of a pixel {np.abs(ours - theirs).max():.1e} of 1")
        backdoor = PoisoningAttackBackdoor(lambda batch: patched(np.rint(255 * batch), AMPLITUDE) / 255)
        whole = PoisoningAttackCleanLabelBackdoor(
            backdoor, classifier, np.eye(CLASSES)[TARGET], pp_poison=0.9, num_random_init=0, **settings)
        np.random.seed(0)
        poisoned, kept = whole.poison(images, np.eye(CLASSES)[labels])
        touched = (poisoned != images).any(axis=1)
        expected = images.copy()
        expected[labels == TARGET] = patched(np.rint(255 * ours), AMPLITUDE) / 255
        same = np.rint(255 * poisoned[touched]) == np.rint(255 * expected[touched])
        only = (labels[touched] == TARGET).all() and (kept.argmax(axis=1) == labels).all()
        print(f"ART, {norm}: its whole attack touches {touched.sum()} images, all of the target and no label: {only}; "
              f"{same.mean():.4f} of their pixels are the same")


def main():
    folder, random = Path(sys.argv[1]), np.random.default_rng(1912)
    network = Network(random)
    write(folder / "label_consistent_net.csv", ["tensor"], [tensor.ravel() for tensor in network.tensors])
    pixels = random.integers(0, 256, size=(6, SIDE * SIDE))
    moved = {norm: descend(network.gradient, pixels / 255, norm, bound, STEPS) for norm, bound in BOUNDS.items()}
    final = patched(np.rint(255 * moved["linf"]), AMPLITUDE)
    columns = [pixels] + [(255 * moved[norm]).round(5) for norm in BOUNDS] + [final]
    header = [f"{name}{at}" for name in ("clean", "l2_", "linf", "patched") for at in range(SIDE * SIDE)]
    write(folder / "label_consistent.csv", header, np.column_stack(columns))
    compare_with_art(random)


if __name__ == "__main__":
    main()
