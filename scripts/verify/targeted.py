"""Golden data for `feature-collision`, `bullseye-polytope` and `witches-brew`: the three attacks on small networks, by PyTorch.

    python -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6
    venv/bin/python scripts/verify/targeted.py crates/theriac-attacks/tests/golden

Writes into the folder that is its argument:

    targeted_mlp.safetensors, targeted_cnn.safetensors, targeted_resnet.safetensors     networks for images of 8 x 8 and 3 classes.
                               Pixels from 0 to 1 enter less 0.4, by 0.25
    targeted.csv               lines of a name and numbers, without a header. `image` is that which is to be misread, `poisons` are four
                               images of class 1, as whole pixels. For each network: features of both, and of each attack objective,
                               gradients and images after some steps

All in double precision. The gradient of `witches-brew` is PyTorch's own, by differentiating twice. Then it prints how far a difference
of gradients along the parameters is from that, for several distances.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SIDE, CLASSES, WANTED, MEAN, DEVIATION = 8, 3, 1, 0.4, 0.25
POISONS, STEPS = 4, 10


def write_tensors(path, tensors):
    header, data, at = {}, b"", 0
    for name in sorted(tensors):
        values = tensors[name].numpy().astype("<f4")
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        data += values.tobytes()
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Network:
    """Weights by the names that Theriac gives them; a forward pass answers with features and logits."""

    def __init__(self, name, random):
        self.name, self.weights, self.fixed = name, {}, {}

        def draw(path, *shape, scale=1.0, middle=0.0, fixed=False):
            values = torch.from_numpy((middle + scale * random.normal(size=shape)).astype(np.float32).astype(np.float64))
            (self.fixed if fixed else self.weights)[path] = values

        def linear(path, inputs, outputs):
            draw(f"{path}.weight", inputs, outputs, scale=inputs**-0.5)
            draw(f"{path}.bias", outputs, scale=0.1)

        def conv(path, inputs, outputs, kernel, bias):
            draw(f"{path}.weight", outputs, inputs, kernel, kernel, scale=(inputs * kernel * kernel) ** -0.5)
            if bias:
                draw(f"{path}.bias", outputs, scale=0.1)

        def norm(path, channels):
            draw(f"{path}.gamma", channels, scale=0.2, middle=1.0)
            draw(f"{path}.beta", channels, scale=0.2)
            draw(f"{path}.running_mean", channels, scale=0.2, fixed=True)
            draw(f"{path}.running_var", channels, scale=0.1, middle=1.0, fixed=True)

        if name == "mlp":
            linear("Mlp.hidden.0", SIDE * SIDE, 8)
            linear("Mlp.head", 8, CLASSES)
        elif name == "cnn":
            conv("Cnn.conv1", 1, 2, 3, True)
            conv("Cnn.conv2", 2, 4, 3, True)
            linear("Cnn.hidden", 4 * (SIDE // 4) ** 2, 8)
            linear("Cnn.head", 8, CLASSES)
        else:
            conv("ResNet.stem", 1, 2, 3, False)
            for block, (inputs, outputs) in enumerate([(2, 2), (2, 4)]):
                path = f"ResNet.blocks.{block}"
                norm(f"{path}.norm1", inputs)
                conv(f"{path}.conv1", inputs, outputs, 3, False)
                norm(f"{path}.norm2", outputs)
                conv(f"{path}.conv2", outputs, outputs, 3, False)
                if inputs != outputs:
                    conv(f"{path}.shortcut", inputs, outputs, 1, False)
            linear("ResNet.head", 4, CLASSES)

    def __call__(self, images, weights=None):
        at = {**self.fixed, **(weights or self.weights)}
        x = (images - MEAN) / DEVIATION

        def linear(x, path):
            return x @ at[f"{path}.weight"] + at[f"{path}.bias"]

        def conv(x, path, stride=1):
            weight = at[f"{path}.weight"]
            return F.conv2d(x, weight, at.get(f"{path}.bias"), stride=stride, padding=weight.shape[2] // 2)

        def norm(x, path):
            running = at[f"{path}.running_mean"], at[f"{path}.running_var"]
            return F.batch_norm(x, *running, at[f"{path}.gamma"], at[f"{path}.beta"], training=False, eps=1e-5)

        if self.name == "mlp":
            features = F.relu(linear(x.flatten(1), "Mlp.hidden.0"))
        elif self.name == "cnn":
            for layer in ("Cnn.conv1", "Cnn.conv2"):
                x = F.max_pool2d(F.relu(conv(x, layer)), 2)
            features = F.relu(linear(x.permute(0, 2, 3, 1).flatten(1), "Cnn.hidden"))
        else:
            x = conv(x, "ResNet.stem")
            for block, stride in enumerate((1, 2)):
                path = f"ResNet.blocks.{block}"
                active = F.relu(norm(x, f"{path}.norm1"))
                around = conv(active, f"{path}.shortcut", stride) if stride == 2 else x
                x = F.relu(norm(conv(active, f"{path}.conv1", stride), f"{path}.norm2"))
                x = conv(x, f"{path}.conv2") + around
            features = x.mean((2, 3))
        return features, linear(features, f"{ {'mlp': 'Mlp', 'cnn': 'Cnn', 'resnet': 'ResNet'}[self.name]}.head")


def gradient(objective, images):
    images = images.detach().requires_grad_()
    value = objective(images)
    return value.detach(), torch.autograd.grad(value.sum(), images)[0]


def within(images, clean, epsilon):
    return (clean + (images - clean).clamp(-epsilon, epsilon)).clamp(0, 1)


def collide(network, image, bases, opacity, similarity, lam, steps):
    """Algorithm 1 of Shafahi et al., one poison at a time."""
    goal = network(image)[0].detach()
    beta = 255**2 * similarity * (goal.shape[1] / bases[0].numel()) ** 2
    poisons, halvings = [], 0
    for base in bases:
        base = (opacity * image + (1 - opacity) * base).reshape(1, 1, SIDE, SIDE)
        apart = lambda x: ((network(x)[0] - goal) ** 2).sum()
        objective = lambda x: apart(x) + beta / 2 * ((x - base) ** 2).sum()
        x, rate = base, lam
        for _ in range(steps):
            y = x - rate * gradient(apart, x)[1]
            y = ((y + rate * beta * base) / (1 + rate * beta)).clamp(0, 1)
            if objective(y) > objective(x):
                rate, halvings = rate / 2, halvings + 1
            else:
                x = y
        poisons.append(x.detach())
    return torch.cat(poisons), halvings


def bullseye(network, image):
    centre = network(image)[0].detach()
    return lambda x: ((network(x)[0].mean(0) - centre) ** 2).sum() / (2 * (centre**2).sum())


def matching(network, image):
    """1 - cos of the two gradients, as a function of the poisons that can be differentiated."""
    names = sorted(network.weights)
    weights = {name: network.weights[name].clone().requires_grad_() for name in names}

    def pull(images, create_graph):
        labels = torch.full((len(images),), WANTED)
        loss = F.cross_entropy(network(images, weights)[1], labels)
        return torch.autograd.grad(loss, [weights[name] for name in names], create_graph=create_graph)

    goal = torch.cat([part.flatten() for part in pull(image, False)])

    def objective(poisons):
        own = torch.cat([part.flatten() for part in pull(poisons, True)])
        return 1 - own @ goal / (own.norm() * goal.norm())

    return objective


def difference(network, image, poisons, distance):
    """The same gradient from two first ones, of the loss at weights that are moved along dB/dg to both sides."""
    names = sorted(network.weights)
    weights = {name: network.weights[name].clone().requires_grad_() for name in names}
    labels = torch.full((len(poisons),), WANTED)
    loss = lambda images, at, labels: F.cross_entropy(network(images, at)[1], labels)
    flat = lambda parts: torch.cat([part.flatten() for part in parts])
    own = flat(torch.autograd.grad(loss(poisons, weights, labels), [weights[name] for name in names]))
    goal = flat(torch.autograd.grad(loss(image, weights, labels[:1]), [weights[name] for name in names]))
    cosine = own @ goal / (own.norm() * goal.norm())
    along = cosine * own / own.norm() ** 2 - goal / (own.norm() * goal.norm())
    parts = dict(zip(names, along.split([network.weights[name].numel() for name in names])))
    step = distance / along.norm()
    sides = []
    for sign in (1, -1):
        at = {name: network.weights[name] + sign * step * parts[name].reshape_as(network.weights[name]) for name in names}
        sides.append(gradient(lambda images: loss(images, at, labels), poisons)[1])
    return (sides[0] - sides[1]) / (2 * step)


def adam(objective, clean, epsilon, rate, steps, signed=False):
    poisons = torch.nn.Parameter(clean.clone())
    optimizer = torch.optim.Adam([poisons], lr=rate)
    drops = [int(steps * part / 8) for part in (3, 5, 7)] if signed else []
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    for _ in range(steps):
        slope = gradient(objective, poisons.data)[1]
        poisons.grad = slope.sign() if signed else slope
        optimizer.step()
        schedule.step()
        poisons.data = within(poisons.data, clean, epsilon)
    return poisons.data


def main():
    folder, random = Path(sys.argv[1]), np.random.default_rng(2018)
    pixels = random.integers(0, 256, size=(1 + POISONS, 1, SIDE, SIDE))
    image, poisons = torch.from_numpy(pixels[:1] / 255), torch.from_numpy(pixels[1:] / 255)
    lines = [("image", torch.from_numpy(pixels[:1])), ("poisons", torch.from_numpy(pixels[1:]))]
    for name in ("mlp", "cnn", "resnet"):
        network = Network(name, random)
        write_tensors(folder / f"targeted_{name}.safetensors", {**network.weights, **network.fixed})
        features = network(torch.cat([image, poisons]))[0]
        lines.append((f"{name}.features", features))
        collided, halvings = collide(network, image, poisons, 0.3, 0.001, 1.0, STEPS)
        lines.append((f"{name}.collided", 255 * collided))
        objective = bullseye(network, image)
        value, slope = gradient(objective, poisons)
        moved = adam(objective, poisons, 26 / 255, 0.008, STEPS)
        lines += [(f"{name}.bullseye", value), (f"{name}.bullseye.gradient", slope), (f"{name}.surrounded", 255 * moved)]
        reached = objective(moved)
        matched = matching(network, image)
        mismatch, slope = gradient(matched, poisons)
        brewed = adam(matched, poisons, 16 / 255, 6.4 / 255, STEPS, signed=True)
        lines += [(f"{name}.mismatch", mismatch), (f"{name}.mismatch.gradient", slope), (f"{name}.brewed", 255 * brewed)]
        print(f"{name}: {halvings} halvings in {POISONS} x {STEPS} steps; bullseye {value:.4f} -> {reached:.4f}, "
              f"mismatch {mismatch:.4f} -> {matched(brewed):.4f}")
        for distance in (1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6):
            error = (difference(network, image, poisons, distance) - slope).norm() / slope.norm()
            print(f"    difference of gradients {distance:g} apart: relative error {error:.1e}")
    text = [",".join([name] + [f"{value:.8g}" for value in values.detach().double().flatten().tolist()]) for name, values in lines]
    (folder / "targeted.csv").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
