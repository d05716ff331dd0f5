"""`witches-brew` and `bullseye-polytope` in PyTorch, in the settings of experiments/one-image: how often is the image misread?

    python -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6
    THERIAC_DATA=~/data venv/bin/python scripts/pytorch_targeted.py bullseye-polytope --epsilon 26 --steps 300
    THERIAC_DATA=~/data venv/bin/python scripts/pytorch_targeted.py witches-brew --epsilon 32 --surrogates 4
    THERIAC_DATA=~/data venv/bin/python scripts/pytorch_targeted.py witches-brew --epsilon 32 --train 10000 --width 16 \
        --hidden 64 --epochs 15 --poisons 100 --restarts 2 --augment

Network, recipe and attacks are written anew from the papers and from the pages of the methods. The images are a random part of CIFAR-10
of the same size, or of `fashion-12k`, the same for all targets. Each target has its own draw of the image, of its wanted class, of the
poisons' bases and of all weights.
`bullseye-polytope` is tried on a last layer that is trained on the features of its surrogate, `witches-brew` on training from scratch.
"""

import argparse
import copy
import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

EMBEDDED = Path(__file__).parent.parent / "crates" / "theriac-data" / "embedded"


def fashion(part):
    def read(kind, header):
        return np.frombuffer(gzip.decompress((EMBEDDED / f"fashion12k-{part}-{kind}-ubyte.gz").read_bytes()), np.uint8)[header:]

    return read("images-idx3", 16).reshape(-1, 1, 28, 28), torch.from_numpy(read("labels-idx1", 8).astype(np.int64))


def cifar10(part):
    folder = Path(os.environ["THERIAC_DATA"]) / "cifar10"
    names = ["test_batch.bin"] if part == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]
    raw = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, 3073) for name in names])
    images = raw[:, 1:].reshape(-1, 3, 32, 32)
    return images, torch.from_numpy(raw[:, 0].astype(np.int64))


def part_of(images, labels, count):
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    return torch.from_numpy(images[chosen].astype(np.float32) / 255), labels[chosen]


class Cnn(nn.Module):
    def __init__(self, images, width=8, hidden=64):
        super().__init__()
        self.mean = images.mean((0, 2, 3)).view(-1, 1, 1)
        self.deviation = images.std((0, 2, 3), unbiased=False).view(-1, 1, 1)
        self.body = nn.Sequential(
            nn.Conv2d(images.shape[1], width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * (images.shape[2] // 4) ** 2, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 10)

    def features(self, images):
        return self.body((images - self.mean) / self.deviation)

    def forward(self, images):
        return self.head(self.features(images))


def moved(images, generator, padding=4):
    """Each image shifted by up to `padding` pixels, black where nothing is, and mirrored half of the time."""
    count, channels, height, width = images.shape
    shifts = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = shifts[0] + torch.arange(height), shifts[1] + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    places = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return F.pad(images, 4 * (padding,))[*places, rows[:, None, :, None], columns[:, None, None, :]]


def train(network, parameters, images, labels, args, generator):
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    steps = -(-len(images) // args.batch) * args.epochs
    warm = 0.3 * steps
    cosine = lambda part: 0.5 * (1 + np.cos(np.pi * part))
    cycle = lambda step: (step + 1) / warm if step < warm else cosine((step - warm) / (steps - warm))
    plain = lambda step: cosine(step / steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cycle if args.augment else plain)
    for _ in range(args.epochs):
        for part in torch.randperm(len(images), generator=generator).split(args.batch):
            optimizer.zero_grad()
            batch = moved(images[part], generator) if args.augment else images[part]
            F.cross_entropy(network(batch), labels[part]).backward()
            optimizer.step()
            schedule.step()
    return network


def within(poisons, bases, epsilon):
    return (bases + (poisons - bases).clamp(-epsilon / 255, epsilon / 255)).clamp(0, 1)


def brew(networks, image, bases, wanted, args, generator):
    """The poisons of the best restart, and 1 - cos of their gradient and the image's, averaged over the attacker's networks."""
    labels = torch.full((len(bases),), wanted)

    def pull(network, images, labels, create_graph=False):
        loss = F.cross_entropy(network(images), labels)
        parts = torch.autograd.grad(loss, list(network.parameters()), create_graph=create_graph)
        return torch.cat([part.flatten() for part in parts])

    goals = [pull(network, image, labels[:1]) for network in networks]

    def mismatch(images, create_graph=False):
        pulls = [pull(network, images, labels, create_graph) for network in networks]
        return sum(1 - F.cosine_similarity(goal, mine, dim=0) for goal, mine in zip(goals, pulls)) / len(networks)

    best = (np.inf, None)
    for _ in range(args.restarts):
        noise = (2 * torch.rand(bases.shape, generator=generator) - 1) * args.epsilon / 255
        poisons = nn.Parameter(within(bases + noise, bases, args.epsilon))
        optimizer = torch.optim.Adam([poisons], lr=6.4 / 255)
        drops = [args.steps * part // 8 for part in (3, 5, 7)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
        for _ in range(args.steps):
            placed = moved(poisons, generator) if args.augment else poisons
            poisons.grad = torch.autograd.grad(mismatch(placed, True), poisons)[0].sign()
            optimizer.step()
            schedule.step()
            poisons.data = within(poisons.data, bases, args.epsilon)
        value = float(mismatch(poisons.detach()))
        if value < best[0]:
            best = (value, poisons.detach())
    return best


def surround(network, image, bases, args):
    """The poisons, and how far the mean of their features is from the image's."""
    centre = network.features(image).detach()
    poisons = nn.Parameter(bases.clone())
    optimizer = torch.optim.Adam([poisons], lr=0.008)
    for _ in range(args.steps):
        distance = ((network.features(poisons).mean(0) - centre) ** 2).sum() / (2 * (centre**2).sum())
        poisons.grad = torch.autograd.grad(distance, poisons)[0]
        optimizer.step()
        poisons.data = within(poisons.data, bases, args.epsilon)
    return float(distance.detach()), poisons.detach()


def wilson(hits, count, z=1.959964):
    share, square = hits / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * np.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return f"{hits} of {count}, Wilson 95 % from {100 * (middle - half):.0f} to {100 * (middle + half):.0f} %"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("attack", choices=["witches-brew", "bullseye-polytope"])
    defaults = {"targets": 30, "first": 0, "train": 2500, "test": 1000, "width": 8, "hidden": 128, "epochs": 20, "batch": 64, "epsilon": 16, "steps": 250, "restarts": 1, "poisons": 25, "surrogates": 1}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--data", choices=["fashion-12k", "cifar10"], default="cifar10")
    parser.add_argument("--augment", action="store_true", help="random shifts and mirrors, and a one-cycle schedule")
    args = parser.parse_args()
    read = {"fashion-12k": fashion, "cifar10": cifar10}[args.data]
    (images, labels), (test, answers) = part_of(*read("train"), args.train), part_of(*read("test"), args.test)
    hits = clean_hits = 0
    for number in range(args.first, args.first + args.targets):
        begin = time.time()
        torch.manual_seed(1000 + number)
        generator, random = torch.Generator().manual_seed(number), np.random.default_rng(number)
        at = int(random.integers(len(test)))
        wanted = int(random.choice([label for label in range(10) if label != answers[at]]))
        bases = np.sort(random.choice(np.flatnonzero(labels.numpy() == wanted), args.poisons, replace=False))
        image = test[at : at + 1]
        surrogates = [Cnn(images, args.width, args.hidden) for _ in range(args.surrogates)]
        for surrogate in surrogates:
            train(surrogate, surrogate.parameters(), images, labels, args, generator)
        surrogate = surrogates[0]
        if args.attack == "witches-brew":
            value, poisons = brew(surrogates, image, images[bases], wanted, args, generator)
        else:
            value, poisons = surround(surrogate, image, images[bases], args)
        poisoned = images.clone()
        poisoned[bases] = (255 * poisons).round() / 255
        found, accuracy = [], []
        for data in (poisoned, images):
            victim = Cnn(images, args.width, args.hidden)
            parameters = victim.parameters()
            if args.attack == "bullseye-polytope":
                victim.body = copy.deepcopy(surrogate.body).requires_grad_(False)
                parameters = victim.head.parameters()
            train(victim, parameters, data, labels, args, generator)
            with torch.no_grad():
                found.append(int(victim(image).argmax()) == wanted)
                accuracy.append(float((victim(test).argmax(1) == answers).float().mean()))
        hits, clean_hits = hits + found[0], clean_hits + found[1]
        print(f"{number}: {int(answers[at])} -> {wanted}, objective {value:.3f}, poisoned {found[0]}, clean {found[1]}; "
              f"accuracy {accuracy[0]:.3f} and {accuracy[1]:.3f}; {time.time() - begin:.0f} s", flush=True)
    print(f"{args.attack} {vars(args)}: {wilson(hits, args.targets)}; clean victims {wilson(clean_hits, args.targets)}")


if __name__ == "__main__":
    main()
