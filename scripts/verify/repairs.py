"""Golden data for the repairing defenses: fine-tuning, fine-pruning, ANP, NAD and ABL on two tiny networks, by PyTorch.

    python -m venv venv
    venv/bin/pip install torch numpy
    venv/bin/python scripts/verify/repairs.py crates/theriac-defenses/tests/golden

Writes into the folder that is its argument:

    repair_data.csv     twelve images of 8 x 8 pixels: the label, the pixels. Pixels from 0 to 1 enter less 0.35, by 0.25
    repair_cnn.csv      `cnn` of width 2 with 5 hidden neurons, and
    repair_resnet.csv   `resnet` of width 3, one block, two stages: one tensor a row, in the order of their names
    repair_*_tuned.csv  the same after 5 steps of fine-tuning
    fine_pruning_*.csv  the mean absolute activations of the last convolution; then, one tensor a row, the weights after the two
                        least active channels were pruned and 5 steps of fine-tuning made
    anp_*.csv           the masks after 6 steps, in the order of the names of their layers
    nad_*.csv           the losses of 5 steps of the student with the tuned network as its teacher; then its weights
    abl_*.csv           the losses of 8 steps of local gradient ascent; the losses of the samples after them; then the weights after
                        3 steps up the loss of the 3 samples of the smallest losses

All steps are on the whole batch, in double precision, with gradients by autograd and updates by torch.optim.SGD.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SIDE, CLASSES, SAMPLES = 8, 3, 12
MEAN, DEVIATION, EPSILON, UPDATE = 0.35, 0.25, 1e-5, 0.1
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
torch.set_default_dtype(torch.float64)


def write(path, rows):
    text = lambda row: ",".join(f"{float(value):.9g}" for value in np.ravel(row))
    path.write_text("\n".join(["values"] + [text(row) for row in rows]) + "\n")


class Cnn:
    shapes = {
        "conv1.weight": (2, 1, 3, 3), "conv1.bias": (2,), "conv2.weight": (4, 2, 3, 3), "conv2.bias": (4,),
        "hidden.weight": (16, 5), "hidden.bias": (5,), "head.weight": (5, CLASSES), "head.bias": (CLASSES,),
    }
    reader, channels = "hidden.weight", 4
    neurons = [("conv1.weight", "conv1.bias"), ("conv2.weight", "conv2.bias"), ("hidden.weight", "hidden.bias")]

    @staticmethod
    def forward(p, x, training):
        maps = []
        for name in ("conv1", "conv2"):
            x = F.max_pool2d(F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1).relu(), 2)
            maps.append(x)
        features = (x.permute(0, 2, 3, 1).flatten(1) @ p["hidden.weight"] + p["hidden.bias"]).relu()
        return features @ p["head.weight"] + p["head.bias"], maps


class ResNet:
    shapes = {"stem.weight": (3, 1, 3, 3), "head.weight": (6, CLASSES), "head.bias": (CLASSES,)}
    for _block, _in, _out in [(0, 3, 3), (1, 3, 6)]:
        shapes |= {f"blocks.{_block}.conv1.weight": (_out, _in, 3, 3), f"blocks.{_block}.conv2.weight": (_out, _out, 3, 3)}
        for _norm, _width in [("norm1", _in), ("norm2", _out)]:
            for _kind in ["gamma", "beta", "running_mean", "running_var"]:
                shapes[f"blocks.{_block}.{_norm}.{_kind}"] = (_width,)
    shapes["blocks.1.shortcut.weight"] = (6, 3, 1, 1)
    reader, channels = "head.weight", 6
    neurons = [(f"blocks.{b}.{n}.gamma", f"blocks.{b}.{n}.beta") for b in (0, 1) for n in ("norm1", "norm2")]

    @staticmethod
    def norm(p, name, x, training):
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
        if training:
            batch_mean, batch_var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            with torch.no_grad():  # The biased variance, as in Burn.
                p[f"{name}.running_mean"] = (1 - UPDATE) * mean + UPDATE * batch_mean
                p[f"{name}.running_var"] = (1 - UPDATE) * var + UPDATE * batch_var
            mean, var = batch_mean, batch_var
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (var.view(shape) + EPSILON).sqrt()
        return x * p[f"{name}.gamma"].view(shape) + p[f"{name}.beta"].view(shape)

    @classmethod
    def forward(cls, p, x, training):
        x, maps = F.conv2d(x, p["stem.weight"], padding=1), []
        for block, stride in [(0, 1), (1, 2)]:
            name = f"blocks.{block}"
            active = cls.norm(p, f"{name}.norm1", x, training).relu()
            around = x if stride == 1 else F.conv2d(active, p[f"{name}.shortcut.weight"], stride=2)
            x = F.conv2d(active, p[f"{name}.conv1.weight"], stride=stride, padding=1)
            x = F.conv2d(cls.norm(p, f"{name}.norm2", x, training).relu(), p[f"{name}.conv2.weight"], padding=1) + around
            maps.append(x)
        return x.mean((2, 3)) @ p["head.weight"] + p["head.bias"], maps


def drawn(net, random):
    p = {}
    for name, shape in net.shapes.items():
        spread = 0.3 if name.endswith("weight") else 0.2
        centre = 1.0 if name.endswith(("gamma", "running_var")) else 0.0
        p[name] = torch.tensor((centre + spread * random.normal(size=shape)).round(4)).abs() if centre else torch.tensor(
            (spread * random.normal(size=shape)).round(4))
    return p


def learn(net, start, images, labels, steps, lr, ascend_below=None, keep=None, penalty=None):
    """The parameters after `steps` steps on the whole batch, and the loss before each."""
    p = {name: value.clone() for name, value in start.items()}
    weights = [name for name in p if "running" not in name]
    for name in weights:
        p[name].requires_grad_()
    optimizer, losses = torch.optim.SGD([p[name] for name in weights], lr=lr, **SGD), []
    for _ in range(steps):
        logits, maps = net.forward(p, images, True)
        loss = F.cross_entropy(logits, labels)
        loss = loss + penalty(maps) if penalty else loss
        losses.append(loss.item())
        optimizer.zero_grad()
        (-loss if ascend_below is not None and losses[-1] < ascend_below else loss).backward()
        optimizer.step()
        for name, mask in (keep or {}).items():
            with torch.no_grad():
                p[name] *= mask
    return {name: value.detach() for name, value in p.items()}, losses


def rows(p):
    return [p[name] for name in sorted(p)]


def pruned(net, p, images, labels):
    activity = net.forward(p, images, False)[1][-1].abs().mean((0, 2, 3))
    mask = torch.ones_like(p[net.reader])
    for channel in activity.argsort()[:2]:
        mask[channel :: net.channels] = 0
    start = p | {net.reader: p[net.reader] * mask}
    return activity, learn(net, start, images, labels, 5, 0.02, keep={net.reader: mask})[0]


def masks(net, p, images, labels, epsilon=0.4, alpha=0.2, lr=0.05, steps=6):
    """Masks and disturbances are tensors of their own here; autograd finds their gradients through the network."""
    wide = lambda factor, weight: factor if weight.dim() <= 2 else factor.view(-1, 1, 1, 1)
    names = sorted(net.neurons)
    count = [p[bias].numel() for _, bias in names]
    mask = [torch.ones(size, requires_grad=True) for size in count]
    optimizer, smallest = torch.optim.SGD(mask, lr=lr, momentum=0.9), np.inf

    def loss(noise, noise_of_biases):
        changed = dict(p)
        for at, (weight, bias) in enumerate(names):
            changed[weight] = p[weight] * wide(mask[at] + noise[at], p[weight])
            changed[bias] = p[bias] * (1 + noise_of_biases[at])
        return F.cross_entropy(net.forward(changed, images, False)[0], labels)

    for _ in range(steps):
        noise = [[torch.zeros(size, requires_grad=True) for size in count] for _ in range(2)]
        slopes = torch.autograd.grad(loss(*noise), noise[0] + noise[1])
        smallest = min([smallest] + [slope[slope != 0].abs().min().item() for slope in slopes if slope.any()])
        noise = [epsilon * slope.sign() for slope in slopes]
        noise = noise[: len(count)], noise[len(count) :]
        still = [[torch.zeros(size) for size in count]] * 2
        optimizer.zero_grad()
        (alpha * loss(*still) + (1 - alpha) * loss(*noise)).backward()
        optimizer.step()
        with torch.no_grad():
            for values in mask:
                values.clamp_(0, 1)
    print(f"  masks {torch.cat(mask).detach().numpy().round(3)}; no slope below {smallest:.1e} decided a sign")
    return torch.cat(mask).detach()


def attention(net, teacher, images, beta=1000):
    def seen(fm):
        summed = fm.abs().pow(2).sum(1).flatten(1)
        return summed / (summed.norm(dim=1, keepdim=True) + 1e-6)

    taught = net.forward(teacher, images, False)[1]
    terms = lambda maps: [F.mse_loss(seen(map), seen(other)) for map, other in zip(maps, taught)]
    return lambda maps: sum(beta * (0.5 if stage == 0 else 1) * term for stage, term in enumerate(terms(maps)))


def main():
    folder, random = Path(sys.argv[1]), np.random.default_rng(2021)
    labels = np.arange(SAMPLES) % CLASSES
    pixels = random.integers(0, 120, size=(SAMPLES, SIDE, SIDE))
    for at, label in enumerate(labels):
        pixels[at, 3 * label : 3 * label + 2] += 100
    write(folder / "repair_data.csv", np.column_stack([labels, pixels.reshape(SAMPLES, -1)]))
    images, labels = torch.tensor((pixels / 255 - MEAN) / DEVIATION)[:, None], torch.tensor(labels)
    for name, net in [("cnn", Cnn), ("resnet", ResNet)]:
        print(name)
        p = drawn(net, random)
        write(folder / f"repair_{name}.csv", rows(p))
        tuned, losses = learn(net, p, images, labels, 5, 0.05)
        print("  fine-tuning", np.round(losses, 3))
        write(folder / f"repair_{name}_tuned.csv", rows(tuned))
        activity, rest = pruned(net, p, images, labels)
        print("  activity", activity.numpy().round(3))
        write(folder / f"fine_pruning_{name}.csv", [activity] + rows(rest))
        write(folder / f"anp_{name}.csv", [masks(net, p, images, labels)])
        student, losses = learn(net, p, images, labels, 5, 0.002, penalty=attention(net, tuned, images))
        print("  distillation", np.round(losses, 3))
        write(folder / f"nad_{name}.csv", [losses] + rows(student))
        isolating, losses = learn(net, p, images, labels, 8, 0.05, ascend_below=1.03)
        print("  local gradient ascent", np.round(losses, 3))
        each = F.cross_entropy(net.forward(isolating, images, False)[0], labels, reduction="none")
        lowest = each.argsort()[:3]
        print("  losses after it", each.numpy().round(3))
        unlearnt, _ = learn(net, isolating, images[lowest], labels[lowest], 3, 0.01, ascend_below=np.inf)
        write(folder / f"abl_{name}.csv", [losses, each] + rows(unlearnt))


if __name__ == "__main__":
    main()
