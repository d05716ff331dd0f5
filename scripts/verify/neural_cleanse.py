"""Golden data for `neural-cleanse`, and comparisons with PyTorch and the Adversarial Robustness Toolbox (ART).

    python -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6
    venv/bin/python scripts/verify/neural_cleanse.py golden crates/theriac-defenses/tests/golden
    venv/bin/python scripts/verify/neural_cleanse.py search WEIGHTS MNIST [SAMPLES]

    python -m venv other
    other/bin/pip install numpy==2.1.3 adversarial-robustness-toolbox==1.20.1 packaging scipy==1.17.1 scikit-learn==1.9.1
    other/bin/python scripts/verify/neural_cleanse.py art

`golden` writes into the folder that is its argument:

    network.csv                one tensor a row: weights (36 x 6) and bias of the hidden layer, weights (6 x 3) and bias of the
                               head. Pixels from 0 to 1 enter less 0.4, by 0.25
    neural_cleanse.csv         the first 8 rows: images of 6 x 6 pixels. Then the search for a trigger of class 2 by torch's
                               autograd and torch's Adam in double precision, every image in every step: step, cost, loss, hits
                               and norm before the step, then mask and pattern as they stand before it
    anomaly.csv                ten norms, and the anomaly index of each by numpy

`search` repeats the whole search for each class on a `cnn` whose weights a study left, with draws of its own, and prints norms
and anomaly indices. `art` compares anomaly indices and the order of pruning with ART's, which it runs on a network of numpy.
"""

import struct
import sys
from pathlib import Path

import numpy as np

SIDE, HIDDEN, CLASSES, TARGET, STEPS, IMAGES = 6, 6, 3, 2, 60, 8
MEAN, DEVIATION = 0.4, 0.25
RATE, BETAS = 0.1, (0.5, 0.9)


def write(path, header, rows):
    lines = [",".join(header)] + [",".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def anomaly(norms):
    middle = np.median(norms)
    return (middle - norms) / (1.4826 * np.median(np.abs(norms - middle)))


def golden(folder):
    import torch

    random = np.random.default_rng(2019)
    shapes = [(SIDE * SIDE, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
    tensors = [(0.3 * random.normal(size=shape)).round(4) for shape in shapes]
    write(folder / "network.csv", ["tensor"], [tensor.ravel() for tensor in tensors])
    first, first_bias, second, second_bias = map(torch.tensor, tensors)
    pixels = random.integers(0, 256, size=(IMAGES, SIDE * SIDE))
    images = torch.tensor(pixels / 255)
    start = random.uniform(0.05, 0.95, size=(2, SIDE * SIDE)).astype(np.float32).round(4)
    free = [torch.tensor(np.arctanh(2.0 * row.astype(np.float64) - 1), requires_grad=True) for row in start]
    optimizer = torch.optim.Adam(free, lr=RATE, betas=BETAS)
    rows = []
    for step in range(STEPS):
        cost = [0.0, 0.01, 0.05][step * 3 // STEPS]
        mask, pattern = ((torch.tanh(part) + 1) / 2 for part in free)
        stamped = (1 - mask) * images + mask * pattern
        logits = torch.relu((stamped - MEAN) / DEVIATION @ first + first_bias) @ second + second_bias
        loss = torch.nn.functional.cross_entropy(logits, torch.full((IMAGES,), TARGET))
        hits = (logits.argmax(1) == TARGET).sum().item()
        seen = torch.cat([mask, pattern]).detach().numpy().round(8)
        if step % 3 == 0 or step + 1 == STEPS:
            rows.append([step, cost, loss.item(), hits, mask.sum().item(), *seen])
        optimizer.zero_grad()
        (loss + cost * mask.abs().sum()).backward()
        optimizer.step()
    print(f"hits {rows[0][3]} -> {rows[-1][3]}, norm {rows[0][4]:.2f} -> {rows[-1][4]:.2f}, {len(rows)} rows")
    header = ["step", "cost", "loss", "hits", "norm"] + [f"{part}{at}" for part in "mp" for at in range(SIDE * SIDE)]
    write(folder / "neural_cleanse.csv", header, [list(row) for row in pixels] + rows)
    lists = random.gamma(9, 2, size=(20, 10)).round(3)
    lists[:10, 3] /= 5
    write(folder / "anomaly.csv", [f"norm{at}" for at in range(10)] + [f"index{at}" for at in range(10)],
          [[*norms, *anomaly(norms)] for norms in lists])


def safetensors(path):
    import json

    data = Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    head.pop("__metadata__", None)
    part = lambda entry: data[8 + size :][slice(*entry["data_offsets"])]
    return {name: np.frombuffer(part(entry), "<f4").reshape(entry["shape"]) for name, entry in head.items()}


def mnist(folder, split, count):
    import gzip

    def bytes_of(kind):
        path = next(path for path in Path(folder).rglob(f"{split}-{kind}*") if path.is_file())
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    images = np.frombuffer(bytes_of("images"), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
    return images, np.frombuffer(bytes_of("labels"), np.uint8, offset=8)[:count]


def search(weights, folder, samples=1000, rounds=200, steps=10, batch=32, success=0.99, initial=1e-3, patience=5):
    """The authors' schedule, written as they do: one counter for each event."""
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(1)
    found = {name.split(".", 1)[-1]: torch.tensor(values.copy()) for name, values in safetensors(weights).items()}
    find = lambda name: next(values for key, values in found.items() if key.endswith(name))
    images, labels = mnist(folder, "train", int(samples))
    mean, deviation = 0.1307, 0.3081

    def network(x):
        functional = torch.nn.functional
        x = (x - mean) / deviation
        for layer in ("conv1", "conv2"):
            x = functional.conv2d(x, find(f"{layer}.weight"), find(f"{layer}.bias"), padding=1)
            x = functional.max_pool2d(torch.relu(x), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the hidden layer knows channels side by side
        x = torch.relu(x @ find("hidden.weight") + find("hidden.bias"))
        return x @ find("head.weight") + find("head.bias")

    with torch.no_grad():
        right = (network(torch.tensor(images / 255, dtype=torch.float32)).argmax(1).numpy() == labels).mean()
    print(f"accuracy on the {len(labels)} images: {right:.4f}")
    norms = []
    for target in range(10):
        pool = torch.tensor(images[labels != target] / 255, dtype=torch.float32)
        free = [torch.atanh((2 * torch.rand(1, 28, 28) - 1) * (1 - 1e-6)).requires_grad_() for _ in range(2)]
        optimizer = torch.optim.Adam(free, lr=RATE, betas=BETAS)
        cost, best, stale, up, down, went_up, went_down = 0.0, np.inf, 0, 0, 0, False, False
        kept = None
        for _ in range(rounds):
            hits, norm = 0, 0.0
            for _ in range(steps):
                x = pool[torch.randint(len(pool), (batch,))]
                mask, pattern = ((torch.tanh(part) + 1) / 2 for part in free)
                logits = network((1 - mask) * x + mask * pattern)
                loss = torch.nn.functional.cross_entropy(logits, torch.full((batch,), target)) + cost * mask.sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                hits += (logits.argmax(1) == target).sum().item()
                norm += mask.sum().item() / steps
            reached = hits >= success * steps * batch
            stale += 1
            if reached and norm < best:
                best, stale = norm, 0
                kept = ((torch.tanh(free[0]) + 1) / 2).sum().item()
            if went_up and went_down and stale >= 5 * patience:
                break
            up, down = (up + 1, 0) if reached else (0, down + 1)
            if up >= patience:
                cost, up, went_up = (initial, 0, went_up) if cost == 0 else (cost * 1.5, 0, True)
            elif down >= patience:
                cost, down, went_down = cost / 1.5**1.5, 0, went_down or cost > 0
        norms.append(kept if kept is not None else ((torch.tanh(free[0]) + 1) / 2).sum().item())
        print(f"class {target}: norm {norms[-1]:.2f}", flush=True)
    print("norms  ", " ".join(f"{norm:.2f}" for norm in norms))
    print("indices", " ".join(f"{index:.2f}" for index in anomaly(np.array(norms))))


def art():
    from art.estimators.poison_mitigation.neural_cleanse.neural_cleanse import NeuralCleanseMixin
    from scipy.stats import median_abs_deviation

    class Base:
        def __init__(self, **_):
            pass

    class Stub(NeuralCleanseMixin, Base):
        """A network of two layers in numpy; its triggers are given."""

        nb_classes = 10

        def __init__(self, masks, random):
            super().__init__(steps=1)
            self.masks, self.pattern, self.pruned = masks, random.uniform(size=16), []
            self.first, self.second = random.normal(size=(16, 20)), random.normal(size=(20, 10))

        def generate_backdoor(self, _images, _labels, target):
            return self.masks[target.argmax()], self.pattern

        def _get_penultimate_layer_activations(self, x):
            return np.maximum(x @ self.first, 0)

        def _predict_classifier(self, x, **_):
            # Never the right answer, so that ART goes on to its limit.
            return np.zeros((len(x), 10))

        def _prune_neuron_at_index(self, index):
            self.pruned.append(int(index))

    random = np.random.default_rng(7)
    agree, flags, gaps, orders, compared, neurons = 0, 0, [], 0, 0, 0
    for _ in range(1000):
        norms = random.gamma(9, 0.2, size=10)
        norms[3] /= random.choice([1, 5])
        masks = [np.full(16, norm / 16) for norm in norms]
        stub = Stub(masks, random)
        images, labels = random.uniform(size=(60, 16)), np.eye(10)[np.arange(60) % 10]
        theirs = [label for label, _, _ in stub.outlier_detection(images, labels)]
        ours = anomaly(norms)
        agree += theirs == list(np.flatnonzero(ours > 2))
        flags += len(theirs)
        scaled = (np.median(norms) - norms) / median_abs_deviation(norms, scale=1 / 1.4826)
        gaps.append(np.abs(scaled / ours - 1)[ours != 0].max())
        if len(theirs) == 1:
            stub.mitigate(images, labels, ["pruning"])
            clean = images[labels.argmax(1) == theirs[0]]
            mask = masks[theirs[0]]
            excited = stub._get_penultimate_layer_activations((1 - mask) * clean + mask * stub.pattern).mean(0)
            gap = excited - stub._get_penultimate_layer_activations(clean).mean(0)
            order = np.argsort(-gap, kind="stable")
            excites = len(order[gap[order] > 0][: len(stub.pruned)])
            compared += 1
            neurons += excites
            orders += stub.pruned[:excites] == list(order[:excites])
    print(f"ART: the same classes flagged in {agree} of 1000 lists of norms, {flags} flags; scipy: indices to {max(gaps):.1e}")
    print(f"ART: the {neurons} neurons that the trigger excites are pruned in the same order in {orders} of {compared} models")


if __name__ == "__main__":
    {"golden": lambda folder: golden(Path(folder)), "search": search, "art": art}[sys.argv[1]](*sys.argv[2:])
