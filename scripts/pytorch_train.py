#!/usr/bin/env python3
"""Trains a benchmark network in PyTorch on real data, by the recipe of a Theriac config: accuracy, wall time and memory.

    python pytorch_train.py cifar10 --data FOLDER --seed 1      beside `theriac run configs/cifar10-reference.toml`
    python pytorch_train.py mnist --data FOLDER --seed 1        beside `theriac run configs/mnist-reference.toml`

FOLDER is what Theriac's --data-dir names: `mnist/*.gz` or `cifar10/*.bin` below it. Batches are cut and augmented with
whole-tensor operations, which is faster than a loader. Prints one line an epoch and a last line with the totals.
"""

import argparse
import gzip
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from pytorch_worker import NETS, peak_mib

EVALUATION_BATCH = 250
# Mean and deviation of the training set, by channel, are computed from the data, as Theriac does.
RECIPES = {
    "mnist": dict(net="mnist-cnn", epochs=3, batch=64, lr=0.05, nesterov=False, warm=0.0, augment=False),
    "cifar10": dict(net="resnet-w16", epochs=15, batch=128, lr=0.2, nesterov=True, warm=0.3, augment=True),
}


def read_mnist(folder):
    def idx(name, head, *shape):
        content = gzip.decompress((folder / "mnist" / name).read_bytes())
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=head).reshape(-1, *shape).copy())

    def part(name):
        return idx(f"{name}-images-idx3-ubyte.gz", 16, 1, 28, 28), idx(f"{name}-labels-idx1-ubyte.gz", 8).long()

    return part("train"), part("t10k")


def read_cifar10(folder):
    def part(names):
        rows = np.concatenate([np.fromfile(folder / "cifar10" / name, np.uint8).reshape(-1, 3073) for name in names])
        return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(np.int64))

    return part([f"data_batch_{number}.bin" for number in range(1, 6)]), part(["test_batch.bin"])


def augmented(images, generator, padding=4):
    """Shifts and mirrors every image by draws of its own; what a shift uncovers is zero."""
    batch, channels, height, width = images.shape
    down, right = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator)
    mirror = torch.rand(batch, 1, generator=generator) < 0.5
    columns = torch.arange(width).expand(batch, width)
    columns = torch.where(mirror, width - 1 - columns, columns) + right
    rows = torch.arange(height) + down
    padded = pad(images, [padding] * 4)
    return padded[torch.arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def factor(warm, step, steps):
    """Of the learning rate: a linear warm-up over a part of the steps, then a cosine to zero; as in Theriac."""
    done = step / steps
    if done < warm:
        return min((step + 1) / (warm * steps), 1)
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, help="(those of the recipe)")
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="channels-last")
    args = parser.parse_args()
    recipe = RECIPES[args.data_set]
    epochs = args.epochs or recipe["epochs"]
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    layout = torch.channels_last if args.layout == "channels-last" else torch.contiguous_format
    (train, labels), (test, wanted) = (read_mnist if args.data_set == "mnist" else read_cifar10)(args.data)
    pixels = train.double() / 255
    mean, deviation = (pixels.mean((0, 2, 3)).float(), pixels.std((0, 2, 3), correction=0).float())
    del pixels

    def tensor(images):
        images = (images.float() / 255 - mean[:, None, None]) / deviation[:, None, None]
        return images.to(memory_format=layout)

    begin = time.perf_counter()
    model = NETS[recipe["net"]][0]().to(memory_format=layout)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe["lr"], momentum=0.9, nesterov=recipe["nesterov"], weight_decay=5e-4, fused=True
    )
    batches = math.ceil(len(train) / recipe["batch"])
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(train), generator=generator)
        for number, chosen in enumerate(order.split(recipe["batch"])):
            lr = recipe["lr"] * factor(recipe["warm"], epoch * batches + number, epochs * batches)
            optimizer.param_groups[0]["lr"] = lr
            images = augmented(train[chosen], generator) if recipe["augment"] else train[chosen]
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(tensor(images)), labels[chosen]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            predicted = torch.cat([model(tensor(images)).argmax(1) for images in test.split(EVALUATION_BATCH)])
        accuracy = (predicted == wanted).double().mean().item()
        print(f"epoch {epoch + 1}: accuracy {accuracy:.4f} after {time.perf_counter() - begin:.1f} s", flush=True)
    print(f"seed {args.seed}: {accuracy:.4f} in {time.perf_counter() - begin:.1f} s, peak memory {peak_mib():.0f} MiB, {args.threads} threads")


if __name__ == "__main__":
    main()
