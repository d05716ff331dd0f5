"""Golden data for `tampered-recipe`: the losses and a step of `blind` by PyTorch, the orders of `batch-order` by numpy.

    python -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 blake3==1.0.11
    venv/bin/python scripts/verify/tampered_recipe.py crates/theriac-attacks/tests/golden

Reads the networks of `targeted.py` and the samples of `adversarial.py` from the folder that is its argument, and writes there

    blind.csv          lines of a name and numbers, without a header: for the twelve samples and their copies with a white patch of 3 x 3
                       pixels, one from the edges at the bottom right, labelled 1: the share of the second loss and the sum, then all weights
                       after a step of SGD, in the order of their names
    batch_order.csv    25 losses and a drawn order; then for each policy and unit a line of both and the order

In double precision. The balanced share is found by trying 100,001 of them, not by the closed form.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from adversarial import tensors
from repairs import SGD, Cnn

MEAN, DEVIATION, LR = 0.4, 0.25, 0.05
torch.set_default_dtype(torch.float64)


def mlp(p, x):
    return (x.flatten(1) @ p["hidden.0.weight"] + p["hidden.0.bias"]).relu() @ p["head.weight"] + p["head.bias"]


def blind(forward, weights, images, labels, share):
    p = {name: value.clone().requires_grad_() for name, value in sorted(weights.items())}
    copies = images.clone()
    copies[:, :, 4:7, 4:7] = 1
    both = [(images, labels), (copies, torch.ones_like(labels))]
    losses = [F.cross_entropy(forward(p, (x - MEAN) / DEVIATION), y) for x, y in both]
    if share is None:
        slopes = [torch.autograd.grad(loss, p.values(), retain_graph=True) for loss in losses]
        first, second = (torch.cat([part.flatten() for part in slope]) / loss.detach() for slope, loss in zip(slopes, losses))
        tried = torch.linspace(0, 1, 100_001)
        squares = (1 - tried) ** 2 * (first @ first) + 2 * tried * (1 - tried) * (first @ second) + tried**2 * (second @ second)
        best = tried[squares.argmin()].item()
        # The parabola through the best and its neighbours.
        at = lambda s: ((1 - s) * first + s * second).square().sum().item()
        step = 1e-5
        if 0 < best < 1:
            low, middle, high = at(best - step), at(best), at(best + step)
            best += step * (low - high) / (2 * (low - 2 * middle + high))
        share = best
    optimizer = torch.optim.SGD(list(p.values()), lr=LR, **SGD)
    loss = (1 - share) * losses[0] + share * losses[1]
    loss.backward()
    optimizer.step()
    return share, loss.item(), torch.cat([value.detach().flatten() for value in p.values()]), [loss.item() for loss in losses]


def orders():
    random = np.random.default_rng(1)
    losses, drawn = random.uniform(0, 3, 25).round(3), random.permutation(25)
    losses[3] = losses[11]
    yield losses
    yield drawn
    for policy in ["low-high", "high-low", "oscillating-in", "oscillating-out"]:
        for unit in [1, 4, 5]:
            whole = len(drawn) // unit * unit
            units = drawn[:whole].reshape(-1, unit)
            low = units[np.argsort(losses[units].mean(1), kind="stable")]
            if policy == "high-low":
                low = low[::-1]
            if policy.startswith("oscillating"):
                left = list(low) if policy == "oscillating-in" else list(low[len(low) // 2 :]) + list(low[: len(low) // 2])
                taken = []
                while left:
                    taken.append(left.pop(0 if len(taken) % 2 == 0 else -1))
                low = np.array(taken)
            yield [policy, unit]
            yield np.concatenate([low.ravel(), drawn[whole:]])


def main():
    folder = Path(sys.argv[1])
    lines = {line.split(",")[0]: [float(value) for value in line.split(",")[1:]] for line in (folder / "adversarial.csv").read_text().splitlines()}
    images, labels = torch.tensor(lines["images"]).reshape(12, 1, 8, 8) / 255, torch.tensor(lines["labels"]).long()
    with (folder / "blind.csv").open("w") as out:
        for name, forward in [("mlp", mlp), ("cnn", lambda p, x: Cnn.forward(p, x, True)[0])]:
            weights = dict(tensors(folder / f"targeted_{name}.safetensors"))
            for kind, share in [("balanced", None), ("fixed", 0.3)]:
                share, loss, after, losses = blind(forward, weights, images, labels, share)
                print(f"{name} {kind}: losses {losses}, share {share:.6f}, sum {loss:.6f}")
                text = lambda values: ",".join(f"{float(value):.9g}" for value in values)
                out.write(f"{name}.blind.{kind},{text([share, loss])}\n{name}.blind.{kind}.weights,{text(after)}\n")
    (folder / "batch_order.csv").write_text("\n".join(",".join(str(value) for value in line) for line in orders()) + "\n")


if __name__ == "__main__":
    main()
