"""Golden data for `strip`: blends, a network and entropies by numpy, and the blends of the Adversarial Robustness Toolbox (ART).

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 scikit-learn==1.9.1 adversarial-robustness-toolbox==1.20.1 packaging
    venv/bin/python scripts/verify/strip.py crates/theriac-defenses/tests/golden

Reads from the folder that is its argument the network `network.csv` and the first eight rows of `neural_cleanse.csv`, images of
6 x 6 pixels, which `neural_cleanse.py` leaves there, and writes

    strip_blends.csv           for each image, the entropy under all eight as overlays: with full weights, and half and half
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy

MEAN, DEVIATION, IMAGES = 0.4, 0.25, 8


def main():
    folder = Path(sys.argv[1])
    rows = lambda name: [np.array(line.split(","), float) for line in (folder / name).read_text().splitlines()[1:]]
    first, first_bias, second, second_bias = rows("network.csv")
    first, second = first.reshape(36, -1), second.reshape(-1, 3)
    images = np.stack(rows("neural_cleanse.csv")[:IMAGES]) / 255

    def score(blends):
        hidden = np.maximum((blends - MEAN) / DEVIATION @ first + first_bias, 0)
        return entropy(softmax(hidden @ second + second_bias, axis=1), base=2, axis=1).mean()

    lines = ["full,half"]
    for image in images:
        lines.append(f"{score(np.clip(image + images, 0, 1))!r},{score(image / 2 + images / 2)!r}")
    (folder / "strip_blends.csv").write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")

    from art.estimators.poison_mitigation.strip.strip import combine_images

    furthest = max(np.abs(combine_images(a, b) - (a / 2 + b / 2)).max() for a in images for b in images)
    print(f"ART: {IMAGES**2} blends half and half, largest difference {furthest:.1e}")


if __name__ == "__main__":
    main()
