#!/usr/bin/env python3
"""The grid of configs/mnist-grid.toml scripted in PyTorch, with the obvious loops: time beside `theriac run`.

    python pytorch_grid.py --data FOLDER                    every seed, attack and defense
    python pytorch_grid.py --data FOLDER --sample 49        each attack meets each defense once, the rest extrapolated
    python pytorch_grid.py --data FOLDER --train 4000 --seeds 1 --attacks badnets       a trial

FOLDER is what Theriac's --data-dir names: `mnist/*.gz` below it. Each cell makes its poison, trains its victim, defends
and measures; cells share the loaded data and nothing else. Network, recipe and parameters are those of `theriac check
configs/mnist-grid.toml --resolved`, and each method follows the rule in the head of Theriac's file of that name. Random
numbers are PyTorch's own, so the results agree within their spread only. Batches are cut with whole-tensor operations.
Prints one line a cell, with clean accuracy (CA) and attack success (ASR), and a last line with the total.
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from pytorch_train import EVALUATION_BATCH, factor, read_mnist
from pytorch_worker import NETS, peak_mib

EPOCHS, BATCH, LR = 1, 64, 0.05
CLASSES = 10
SURROGATE = 1000  # added to the seed of the attacker's own network


class Normalise(nn.Module):
    """Pixels from 0 to 1 become what the network learns from."""

    def __init__(self, images):
        super().__init__()
        pixels = images.double() / 255
        self.mean, self.deviation = pixels.mean().item(), pixels.std(correction=0).item()

    def forward(self, x):
        return ((x - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)


class Lab:
    """The clean data, and the network and the trainings of all cells."""

    def __init__(self, folder, train, epochs):
        (images, labels), (self.test, self.test_labels) = read_mnist(folder)
        self.images, self.labels = images[:train], labels[:train]
        self.normalise = Normalise(self.images)
        self.epochs = epochs

    def train(self, images, labels, seed, change=None):
        torch.manual_seed(seed)
        model = nn.Sequential(self.normalise, NETS["mnist-cnn"][0]()).to(memory_format=torch.channels_last)
        return fit(model, images, labels, self.epochs, LR, change)


def fit(model, images, labels, epochs, lr, change=None, decay=5e-4):
    """Stochastic gradient descent with a cosine to zero; `change` makes the images of a batch what is trained on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay, fused=True)
    step, steps = 0, epochs * math.ceil(len(images) / BATCH)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.param_groups[0]["lr"] = lr * factor(0.0, step, steps)
            x, y = unit(images[chosen]), labels[chosen]
            if change:
                x = change(model, x, y)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
    return model.eval()


def unit(images):
    return images.float() / 255


@torch.no_grad()
def batched(function, images, size=EVALUATION_BATCH):
    return torch.cat([function(batch) for batch in images.split(size)])


def predictions(model, images):
    return batched(lambda batch: model(unit(batch)).argmax(1), images)


def features(model, images):
    """Activations of the hidden layer, [sample, feature]."""
    normalise, network = model
    return batched(lambda batch: network[:-1](normalise(unit(batch))), images)


def perturbed(model, clean, labels, epsilon, steps, towards=False):
    """Projected gradient descent from a random start, away from `labels` or towards them."""
    epsilon /= 255
    step = 2.5 * epsilon / steps * (-1 if towards else 1)
    x = (clean + (2 * torch.rand_like(clean) - 1) * epsilon).clamp(0, 1)
    for _ in range(steps):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(x), labels), x)
        x = clean + (x.detach() + step * gradient.sign() - clean).clamp(-epsilon, epsilon)
        x = x.clamp(0, 1)
    return x


def drawn(pool, count):
    return pool[torch.randperm(len(pool))[:count]]


def where(mask):
    return torch.nonzero(mask)[:, 0]


# Attacks: what becomes of the training set, on which test images that shows, and which predictions are the attacker's.


class Poisoned(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor
    probe: torch.Tensor | None = None
    succeeds: Callable | None = None


def none_attack(lab, seed):
    return Poisoned(lab.images, lab.labels)


def adversarial_poison(lab, seed, epsilon=32, steps=5):
    """All images are moved towards the next class, on a network of the attacker's own."""
    surrogate = lab.train(lab.images, lab.labels, seed + SURROGATE)
    images = lab.images.clone()
    for chosen in torch.arange(len(images)).split(EVALUATION_BATCH):
        wanted = (lab.labels[chosen] + 1) % CLASSES
        moved = perturbed(surrogate, unit(lab.images[chosen]), wanted, epsilon, steps, towards=True)
        clean = lab.images[chosen].short()
        images[chosen] = (moved * 255).round().short().clamp(clean - epsilon, clean + epsilon).byte()
    return Poisoned(images, lab.labels)


def badnets(lab, seed, rate=0.05, target=0, size=3, margin=1):
    """A white square near the corner, and the label `target`."""
    place = slice(-size - margin, -margin)

    def stamped(images):
        images = images.clone()
        images[:, :, place, place] = 255
        return images

    chosen = drawn(where(lab.labels != target), round(rate * len(lab.labels)))
    images, labels = lab.images.clone(), lab.labels.clone()
    images[chosen], labels[chosen] = stamped(images[chosen]), target
    probe = stamped(lab.test[lab.test_labels != target])
    return Poisoned(images, labels, probe, lambda predicted: predicted == target)


def inject(lab, seed, rate=0.1, source=7, target=1):
    """Copies of images of the class `source` are added with the label `target`."""
    originals = drawn(where(lab.labels == source), len(lab.labels))
    count = round(rate * len(lab.labels))
    copies = lab.images[originals[torch.arange(count) % len(originals)]]
    images, labels = torch.cat([lab.images, copies]), torch.cat([lab.labels, torch.full((count,), target)])
    return Poisoned(images, labels, lab.test[lab.test_labels == source], lambda predicted: predicted == target)


def label_flip(lab, seed, rate=0.2):
    """Some labels become the next class."""
    chosen = drawn(torch.arange(len(lab.labels)), round(rate * len(lab.labels)))
    labels = lab.labels.clone()
    labels[chosen] = (labels[chosen] + 1) % CLASSES
    wanted = (lab.test_labels + 1) % CLASSES
    return Poisoned(lab.images, labels, lab.test, lambda predicted: predicted == wanted)


def random_noise(lab, seed, rate=0.5):
    """Some images become random pixels."""
    chosen = drawn(torch.arange(len(lab.labels)), round(rate * len(lab.labels)))
    images = lab.images.clone()
    images[chosen] = torch.randint(256, images[chosen].shape, dtype=torch.uint8)
    return Poisoned(images, lab.labels)


def remove(lab, seed, victim=8, fraction=0.9):
    """Most images of one class disappear."""
    members = where(lab.labels == victim)
    keep = torch.ones(len(lab.labels), dtype=torch.bool)
    keep[drawn(members, round(fraction * len(members)))] = False
    probe = lab.test[lab.test_labels == victim]
    return Poisoned(lab.images[keep], lab.labels[keep], probe, lambda predicted: predicted != victim)


# Defenses: the network that is used in the end, and which inputs are refused before it.


def none_defense(lab, data, seed):
    return lab.train(data.images, data.labels, seed), None


def two_means(points, restarts=10, iterations=300):
    """Lloyd's iterations from k-means++ starts; which points are in the second cluster of the best run."""
    best, least = None, math.inf
    for _ in range(restarts):
        first = points[torch.randint(len(points), (1,))]
        far = torch.cdist(points, first)[:, 0].square()
        centres = torch.cat([first, points[torch.multinomial(far, 1)]])
        second = None
        for _ in range(iterations):
            distances = torch.cdist(points, centres)
            moved = distances[:, 1] < distances[:, 0]
            if second is not None and torch.equal(moved, second):
                break
            second = moved
            centres = torch.stack([points[~second].mean(0), points[second].mean(0)])
        inertia = torch.cdist(points, centres).amin(1).square().sum().item()
        if inertia < least:
            best, least = second, inertia
    return best


def silhouette(points, second):
    """The mean over points of (b - a) / max(a, b)."""
    inside = one_hot(second.long(), 2).to(points.dtype)  # [sample, cluster]
    sums, sizes = torch.cdist(points, points) @ inside, inside.sum(0)
    own = (sums / (sizes - 1))[inside.bool()]
    other = (sums / sizes)[~inside.bool()]
    return ((other - own) / torch.maximum(own, other)).mean().item()


def activation_clustering(lab, data, seed, dimensions=10, size=0.35, least=0.1):
    """Removes the smaller of two clusters of a class where it is small and separate."""
    found = features(lab.train(data.images, data.labels, seed), data.images)
    keep = torch.ones(len(data.labels), dtype=torch.bool)
    for label in range(CLASSES):
        members = where(data.labels == label)
        centred = found[members] - found[members].mean(0)
        points = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:dimensions].T
        second = two_means(points)
        smaller = second if second.float().mean() < 0.5 else ~second
        if smaller.float().mean() < size and silhouette(points, second) > least:
            keep[members[smaller]] = False
    return lab.train(data.images[keep], data.labels[keep], seed), None


def spectral_signatures(lab, data, seed, expected=0.1, multiplier=1.5):
    """Removes what lies far along the first principal direction of its class."""
    found = features(lab.train(data.images, data.labels, seed), data.images)
    keep = torch.ones(len(data.labels), dtype=torch.bool)
    for label in range(CLASSES):
        members = where(data.labels == label)
        centred = found[members] - found[members].mean(0)
        tau = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).square()
        keep[members[tau.topk(round(multiplier * expected * len(members))).indices]] = False
    return lab.train(data.images[keep], data.labels[keep], seed), None


def deep_knn(lab, data, seed, k=50, block=500):
    """Removes what its nearest neighbours outvote."""
    found = normalize(features(lab.train(data.images, data.labels, seed), data.images))
    keep = []
    for rows in torch.arange(len(found)).split(block):
        similarities = found[rows] @ found.T  # [block, sample]
        similarities[torch.arange(len(rows)), rows] = -math.inf
        votes = one_hot(data.labels[similarities.topk(k).indices], CLASSES).sum(1)  # [block, class]
        keep.append(votes.gather(1, data.labels[rows, None])[:, 0] == votes.amax(1))
    keep = torch.cat(keep)
    return lab.train(data.images[keep], data.labels[keep], seed), None


def fine_tuning(lab, data, seed, trusted=0.05, epochs=50, lr=0.1, decay=0.01):
    """Goes on training on a few clean samples."""
    model = lab.train(data.images, data.labels, seed)
    chosen = drawn(torch.arange(len(lab.labels)), round(trusted * len(lab.labels)))
    return fit(model, lab.images[chosen], lab.labels[chosen], epochs, lr, decay=decay), None


def adversarial_training(lab, data, seed, epsilon=32, steps=2):
    """Trains on adversarial examples of each batch."""

    def change(model, x, y):
        return perturbed(model, x, y, epsilon, steps)

    return lab.train(data.images, data.labels, seed, change), None


def strip(lab, data, seed, overlays=10, calibration=500, false_rejection=0.01):
    """Refuses inputs that stay certain when clean images are laid over them."""
    model = lab.train(data.images, data.labels, seed)
    pool = drawn(lab.images, calibration)

    def blended(batch):
        over = pool[torch.randint(len(pool), (len(batch), overlays))]  # [batch, overlay, 1, 28, 28]
        blends = (unit(batch)[:, None] + unit(over)).clamp(max=1).flatten(0, 1)
        entropies = torch.special.entr(model(blends).softmax(1)).sum(1) / math.log(2)
        return entropies.reshape(len(batch), overlays).mean(1)

    def entropies(images):
        return batched(blended, images, EVALUATION_BATCH // overlays)

    clean = entropies(pool).double()
    normal = statistics.NormalDist(clean.mean().item(), clean.std(correction=0).item())
    limit = normal.inv_cdf(false_rejection)
    return model, lambda images: entropies(images) < limit


ATTACKS = {
    "none": none_attack,
    "adversarial-poison": adversarial_poison,
    "badnets": badnets,
    "inject": inject,
    "label-flip": label_flip,
    "random-noise": random_noise,
    "remove": remove,
}
DEFENSES = {
    "none": none_defense,
    "activation-clustering": activation_clustering,
    "spectral-signatures": spectral_signatures,
    "deep-knn": deep_knn,
    "fine-tuning": fine_tuning,
    "adversarial-training": adversarial_training,
    "strip": strip,
}


def cell(lab, attack, defense, seed):
    """Clean accuracy, and the attack's success where that can be measured. A refused input is neither."""
    torch.manual_seed(seed)
    data = ATTACKS[attack](lab, seed)
    model, refuses = DEFENSES[defense](lab, data, seed)

    def share(images, holds):
        hits = holds(predictions(model, images))
        return (hits & ~refuses(images) if refuses else hits).double().mean().item()

    accuracy = share(lab.test, lambda predicted: predicted == lab.test_labels)
    return accuracy, None if data.probe is None else share(data.probe, data.succeeds)


def sampled(attacks, defenses, seeds, count):
    """`count` cells by a fixed rule: the diagonals of the table of attacks and defenses one after the other, and the
    seeds by turns. Every attack and every defense comes early, and no pair comes again before all others came."""
    around = math.lcm(len(attacks), len(defenses))  # then the diagonal is closed, and the next one begins
    turns = range(len(attacks) * len(defenses))
    pairs = [(attacks[at % len(attacks)], defenses[(at + at // around) % len(defenses)]) for at in turns]
    rounds = range(len(seeds))
    cells = [(*pair, seeds[(at + round_) % len(seeds)]) for round_ in rounds for at, pair in enumerate(pairs)]
    return cells[:count]


def extrapolated(times, attacks, defenses, seeds):
    """Seconds of the whole grid: each pair of attack and defense for every seed. A pair that was not measured takes
    what its attack and its defense add to a cell, by least squares over those that were."""
    rows, seconds = [], []
    for (attack, defense), measured in times.items():
        rows.append([attack == other for other in attacks] + [defense == other for other in defenses])
        seconds.append(statistics.mean(measured))
    shares = np.linalg.lstsq(np.array(rows, float), np.array(seconds), rcond=None)[0]
    total = 0.0
    for at, attack in enumerate(attacks):
        for of, defense in enumerate(defenses):
            measured = times.get((attack, defense))
            total += statistics.mean(measured) if measured else shares[at] + shares[len(attacks) + of]
    return total * len(seeds)


def names(choices):
    """An argparse type: a comma separated selection of `choices`, in the order given."""

    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in choices:
                raise argparse.ArgumentTypeError(f"found `{word}`, expected some of {','.join(choices)}")
        return words

    return parse


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=numbers, default=[1, 2, 3], help="(1,2,3)")
    parser.add_argument("--attacks", type=names(ATTACKS), default=list(ATTACKS), help="(all, and none)")
    parser.add_argument("--defenses", type=names(DEFENSES), default=list(DEFENSES), help="(all, and none)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"({EPOCHS})")
    parser.add_argument("--train", type=int, metavar="N", help="the first N training images (all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sample", type=int, metavar="K", help="run K cells and extrapolate (all)")
    args = parser.parse_args()
    grid = (args.attacks, args.defenses, args.seeds)
    every = math.prod(map(len, grid))
    if args.sample and args.sample < max(map(len, grid[:2])):
        parser.error("--sample: expected at least one cell for each attack and each defense")
    torch.set_num_threads(args.threads)
    lab = Lab(args.data, args.train, args.epochs)

    if args.sample:
        cells = sampled(*grid, args.sample)
    else:
        cells = [(a, d, seed) for seed in args.seeds for a in args.attacks for d in args.defenses]
    times = {}
    for attack, defense, seed in cells:
        begin = time.perf_counter()
        accuracy, success = cell(lab, attack, defense, seed)
        seconds = time.perf_counter() - begin
        times.setdefault((attack, defense), []).append(seconds)
        reached = "      " if success is None else f"{success:.4f}"
        print(f"{attack:<18} {defense:<21} seed {seed}: CA {accuracy:.4f}, ASR {reached}, {seconds:.1f} s", flush=True)
    spent = sum(map(sum, times.values()))
    setting = f"{len(lab.labels)} images, {args.epochs} epochs, {args.threads} threads"
    print(f"{len(cells)} of {every} cells in {spent:.1f} s ({setting}), peak memory {peak_mib():.0f} MiB")
    if len(cells) < every:
        known = f"{len(times)} of {len(args.attacks) * len(args.defenses)} pairs measured"
        print(f"all {every} cells by extrapolation: {extrapolated(times, *grid):.0f} s ({known})")


if __name__ == "__main__":
    main()
