"""Golden data for `adversarial-poison`, `unlearnable` and `adversarial-training`: whole runs on small networks, by PyTorch.

    python -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 blake3==1.0.11 adversarial-robustness-toolbox==1.20.1 scikit-learn==1.9.1
    venv/bin/python scripts/verify/adversarial.py crates

Reads the networks of `targeted.py` and `repairs.py` from the golden folders below its argument, and writes there

    theriac-attacks/tests/golden/adversarial.csv      lines of a name and numbers, without a header: `labels` and `images` of twelve samples,
                               as whole pixels. For `cnn` and `resnet` the poisons of `adversarial-poison` with both objectives; for both
                               modes of `unlearnable` the noise (of 255) after three rounds, the images with it, and the share of the
                               samples that is misread after each round
    theriac-defenses/tests/golden/adversarial_training_cnn.csv, adversarial_training_resnet.csv, and adversarial_flagging_*.csv where
                               certainty is to fade     the first adversarial batch; then, one tensor a row, the weights after three epochs

All in double precision; starts and orders are drawn from Theriac's streams, written anew in `streams.py`. It tells how close the smallest
slope that decided a sign was to zero, and compares descent with the Adversarial Robustness Toolbox (ART).
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from repairs import SGD, Cnn, ResNet
from streams import Stream

SIDE, CLASSES, SAMPLES, SEED = 8, 3, 12, "theriac/1"
torch.set_default_dtype(torch.float64)


class Net:
    """A network of `repairs.py` with weights of its own, for images in [0, 1]."""

    def __init__(self, layers, weights, mean, deviation):
        self.layers, self.p, self.mean, self.deviation = layers, weights, mean, deviation
        self.trained = [name for name in weights if "running" not in name]
        self.optimizer = torch.optim.SGD([weights[name].requires_grad_() for name in self.trained], **SGD)
        self.smallest = np.inf

    def logits(self, images, training=False):
        return self.layers.forward(self.p, (images - self.mean) / self.deviation, training)[0]

    def learn(self, images, labels, lr):
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        F.cross_entropy(self.logits(images, True), labels).backward()
        self.optimizer.step()

    def sign(self, images, labels):
        """Of the gradient of the loss with respect to each pixel."""
        images = images.detach().requires_grad_()
        slope = torch.autograd.grad(F.cross_entropy(self.logits(images), labels, reduction="sum"), images)[0]
        self.smallest = min(self.smallest, (slope[slope != 0].abs().min() / slope.abs().max()).item())
        return slope.sign()

    def walk(self, clean, start, labels, epsilon, step, steps):
        """Up the loss for a positive step, down for a negative one."""
        moved = start
        for _ in range(steps):
            moved = torch.clamp(moved + step * self.sign(moved, labels), clean - epsilon, clean + epsilon).clamp(0, 1)
        return moved


def tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8 : 8 + size]).items():
        first, last = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + first : 8 + size + last], "<f4").reshape(entry["shape"])
        yield name.split(".", 1)[1], torch.from_numpy(values.astype(np.float64))


def table(path):
    return [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()[1:]]


def started(clean, epsilon, stream):
    noise = list((2 * stream.uniform(clean.numel()) - 1) * epsilon)
    return (clean + torch.tensor(noise).reshape(clean.shape)).clamp(0, 1)


def adversarial_poison(net, images, labels, epsilon, steps, targeted):
    """Fowl et al. 2021: towards the next class, or away from the own one, from a random start."""
    start = started(images, epsilon / 255, Stream(f"{SEED}/perturb/0"))
    wanted, sign = ((labels + 1) % CLASSES, -1) if targeted else (labels, 1)
    return 255 * net.walk(images, start, wanted, epsilon / 255, sign * 2.5 * epsilon / 255 / steps, steps)


def rounded(moved, clean, epsilon):
    return (moved + 0.5).floor().clamp(clean - epsilon, clean + epsilon).clamp(0, 255)


def unlearnable(net, images, labels, rows, epsilon, noise_steps, train_steps, batch, rounds, lr):
    """Huang et al. 2021. Samples of one row share their noise; batch by batch it moves to the mean of theirs."""
    noise, epsilon = torch.zeros(int(rows.max()) + 1, 1, SIDE, SIDE), epsilon / 255
    perturbed = lambda which: (images[which] + noise[rows[which]]).clamp(0, 1)
    order, due, errors = list(range(SAMPLES)), [], []
    for number in range(rounds):
        stream = Stream(f"{SEED}/order/{number}")
        for _ in range(train_steps):
            if not due:
                order = stream.shuffle(order)
                due = [order[first : first + batch] for first in range(0, SAMPLES, batch)]
            which = due.pop()
            net.learn(perturbed(which), labels[which], lr)
        for which in torch.arange(SAMPLES).split(batch):
            moved = net.walk(images[which], perturbed(which), labels[which], epsilon, -epsilon / 10, noise_steps) - images[which]
            for row in rows[which].unique():
                noise[row] = moved[rows[which] == row].mean(0)
        misread = net.logits(perturbed(torch.arange(SAMPLES))).argmax(1) != labels
        errors.append(misread.double().mean())
    return 255 * noise, torch.stack(errors)


def adversarial_training(net, images, labels, epochs, batch, share, epsilon, steps, lr, rho=None):
    """Madry et al. 2018, on a share of each batch, or with `rho` Stutz et al. 2020. The first of them as it was trained on, and all weights in
    the end."""
    first = None
    for epoch in range(epochs):
        order = list(range(SAMPLES))
        order = Stream(f"{SEED}/train/order/{epoch}").shuffle(order)
        stream = Stream(f"{SEED}/train/hook/{epoch}")
        for at in range(0, SAMPLES, batch):
            which = order[at : at + batch]
            part = which[: round(share * len(which))]
            start = started(images[part], epsilon / 255, stream)
            attacked = net.walk(images[part], start, labels[part], epsilon / 255, 2.5 * epsilon / 255 / steps, steps)
            trained_on = torch.cat([attacked, images[which[len(part) :]]])
            first = trained_on if first is None else first
            targets = F.one_hot(labels[which], CLASSES).double()
            if rho is not None:
                way = (trained_on - images[which]).abs().amax((1, 2, 3)) / (epsilon / 255)
                certainty = ((1 - way.clamp(max=1)) ** rho)[:, None].detach()
                targets = certainty * targets + (1 - certainty) / CLASSES
            net.learn(trained_on, targets, lr)
    return [first] + [net.p[name] for name in sorted(net.p)]


def compare_with_art(net, images, labels, epsilon, steps):
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    class Module(torch.nn.Module):
        def forward(self, images):
            return net.logits(images.double())

    classifier = PyTorchClassifier(Module(), torch.nn.CrossEntropyLoss(), (1, SIDE, SIDE), CLASSES, clip_values=(0, 1))
    settings = {"eps": epsilon / 255, "eps_step": 2.5 * epsilon / 255 / steps, "max_iter": steps, "num_random_init": 0}
    for targeted in (True, False):
        attack = ProjectedGradientDescent(classifier, targeted=targeted, verbose=False, **settings)
        wanted = (labels + 1) % CLASSES if targeted else labels
        theirs = attack.generate(images.numpy().astype(np.float32), np.eye(CLASSES)[wanted.numpy()])
        step = (-1 if targeted else 1) * settings["eps_step"]
        ours = net.walk(images, images, wanted, settings["eps"], step, steps)
        apart = (ours - torch.from_numpy(theirs).double()).abs()
        print(f"  ART, {'targeted' if targeted else 'untargeted'}: largest difference of a pixel {255 * apart.max():.1e} of 255")


def main():
    attacks, defenses = (Path(sys.argv[1]) / f"theriac-{kind}/tests/golden" for kind in ("attacks", "defenses"))
    random = np.random.default_rng(2106)
    # Some pixels are black or white, where noise is cut off.
    pixels = torch.from_numpy(random.integers(-40, 296, size=(SAMPLES, 1, SIDE, SIDE)).clip(0, 255)).double()
    images, labels = pixels / 255, torch.from_numpy(random.integers(0, CLASSES, size=SAMPLES))
    lines = [("labels", labels), ("images", pixels)]
    for name, layers in [("cnn", Cnn), ("resnet", ResNet)]:
        print(name)
        weights = dict(tensors(attacks / f"targeted_{name}.safetensors"))
        fresh = lambda: Net(layers, {path: values.clone() for path, values in weights.items()}, 0.4, 0.25)
        for objective in ("class-targeted", "error-maximising"):
            net = fresh()
            moved = adversarial_poison(net, images, labels, 16, 10, objective == "class-targeted")
            lines.append((f"{name}.{objective}", rounded(moved, pixels, 16)))
            print(f"  {objective}: smallest slope {net.smallest:.1e} of the largest")
        for mode, steps in [("sample-wise", 4), ("class-wise", 1)]:
            net = fresh()
            rows = labels if mode == "class-wise" else torch.arange(SAMPLES)
            noise, errors = unlearnable(net, images, labels, rows, 16, steps, 2, 5, 3, 0.05)
            lines += [(f"{name}.{mode}", noise), (f"{name}.{mode}.rounded", rounded(pixels + noise[rows], pixels, 16)),
                      (f"{name}.{mode}.errors", errors)]
            print(f"  {mode}: misread {errors.numpy().round(3)}, smallest slope {net.smallest:.1e} of the largest")
        compare_with_art(fresh(), images, labels, 16, 10)
        data = np.array(table(defenses / "repair_data.csv"))
        trusted = torch.from_numpy(data[:, 1:].reshape(SAMPLES, 1, SIDE, SIDE) / 255)
        names = sorted(layers.shapes)
        weights = {path: torch.tensor(row).reshape(layers.shapes[path])
                   for path, row in zip(names, table(defenses / f"repair_{name}.csv"), strict=True)}
        for variant, rho in [("training", None), ("flagging", 10)]:
            net = Net(layers, {path: values.clone().detach() for path, values in weights.items()}, 0.35, 0.25)
            rows = adversarial_training(net, trusted, torch.from_numpy(data[:, 0].astype(int)), 3, 5, 0.8, 8, 7, 0.05, rho)
            print(f"  adversarial {variant}: smallest slope {net.smallest:.1e} of the largest")
            text = "\n".join(["values"] + [",".join(f"{value:.9g}" for value in row.detach().flatten().tolist()) for row in rows])
            (defenses / f"adversarial_{variant}_{name}.csv").write_text(text + "\n")
    text = [",".join([name] + [f"{value:.8g}" for value in values.detach().double().flatten().tolist()]) for name, values in lines]
    (attacks / "adversarial.csv").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
