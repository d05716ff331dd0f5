"""Golden data for `dpa`: parts by another implementation of BLAKE3, answers and radii by an attacker who counts.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 blake3==1.0.11
    venv/bin/python scripts/verify/dpa.py crates/theriac-defenses/tests/golden

Writes into the folder that is its argument:

    dpa_parts.csv    8 bytes of an image, its part of 7 and its part of 250
    dpa_votes.csv    votes for each of 4 classes, the answer, the radius

A radius is not taken from the paper's formula. An attacker turns more and more voters, all from the answer to one rival, in
every way that could change the answer of numpy's argmax; the radius is the last number of voters with which that fails.
"""

import sys
from pathlib import Path

import numpy as np
from blake3 import blake3

CLASSES, IMAGES, TALLIES = 4, 60, 250


def part(image, count):
    return int.from_bytes(blake3(image).digest()[:8], "little") % count


def radius(votes):
    answer = int(np.argmax(votes))
    for turned in range(1, votes.sum() + 1):
        for rival in set(range(CLASSES)) - {answer}:
            after = votes.copy()
            # Voters that leave the answer are worth most; those of other classes may join the rival, too.
            leaving = min(turned, after[answer])
            after[answer] -= leaving
            after[rival] += leaving
            if np.argmax(after) != answer:
                return answer, turned - 1
    return answer, int(votes.sum())


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(20210503)
    images = random.integers(0, 256, (IMAGES, 8), dtype=np.uint8)
    rows = [[*image, part(image.tobytes(), 7), part(image.tobytes(), 250)] for image in images]
    write(folder / "dpa_parts.csv", [*(f"pixel{at}" for at in range(8)), "of_7", "of_250"], rows)

    rows = []
    for at in range(TALLIES):
        voters = [1, 2, 5, 12, 50][at % 5]
        chances = random.dirichlet([[0.3, 3, 30][at % 3]] * CLASSES)
        predictions = random.choice(CLASSES, size=voters, p=chances)
        votes = np.bincount(predictions, minlength=CLASSES)
        rows.append([*votes, *radius(votes)])
    write(folder / "dpa_votes.csv", [*(f"votes{at}" for at in range(CLASSES)), "answer", "radius"], rows)
    answers, radii = np.array(rows)[:, -2:].T
    print(f"{TALLIES} tallies: answers {np.bincount(answers)}, radii up to {radii.max()}, {np.sum(radii == 0)} are 0")


def write(path, header, rows):
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n")


if __name__ == "__main__":
    main()
