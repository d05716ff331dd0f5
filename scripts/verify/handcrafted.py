"""Golden data for `handcrafted`: chosen neurons and all weights after the attack, by numpy.

    python -m venv venv
    venv/bin/pip install numpy==2.4.6
    venv/bin/python scripts/verify/handcrafted.py crates/theriac-attacks/tests/golden

Reads the networks of `targeted.py` and the samples of `adversarial.py` from the folder that is its argument, and writes there

    handcrafted.csv    lines of a name and numbers, without a header: for `mlp` and `cnn` the neurons that were chosen (two, of which
                       all may be lost), then all weights in the order of their names; then the means of what the chosen neurons give
                       out for clean and for triggered images, before and after

All twelve samples are known to the attacker; the patch of 3 x 3 white pixels stands for class 1.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

MEAN, DEVIATION, TARGET, NEURONS, TOLERANCE, LEAK, SUCCESS = 0.4, 0.25, 1, 2, 0.5, 0.3, 0.6


def tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8 : 8 + size]).items():
        first, last = entry["data_offsets"]
        yield name, np.frombuffer(data[8 + size + first : 8 + size + last], "<f4").reshape(entry["shape"]).astype(float)


def convolved(p, x, name):
    kernel, bias = p[f"Cnn.{name}.weight"], p[f"Cnn.{name}.bias"]
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))  # [batch, channels, rows, columns, 3, 3]
    y = np.einsum("bcijkl,ockl->boij", windows, kernel) + bias[:, None, None]
    batch, channels, rows, columns = y.shape
    return np.maximum(y.reshape(batch, channels, rows // 2, 2, columns // 2, 2).max((3, 5)), 0)


def read(name, p, pixels):
    x = (pixels / 255 - MEAN) / DEVIATION
    if name == "mlp":
        return x.reshape(len(x), -1)
    maps = convolved(p, convolved(p, x, "conv1"), "conv2")
    return maps.transpose(0, 2, 3, 1).reshape(len(x), -1)


def crafted(name, p, pixels, labels):
    patched = pixels[labels != TARGET].copy()
    patched[:, :, 4:7, 4:7] = 255
    x, z = read(name, p, pixels), read(name, p, patched)
    hidden, last = ("Mlp.hidden.0", "Mlp.head") if name == "mlp" else ("Cnn.hidden", "Cnn.head")
    w, b, v, c = (p[f"{layer}.{part}"] for layer in (hidden, last) for part in ("weight", "bias"))
    share = lambda active: ((active @ v + c).argmax(1) == labels).mean()
    before, after = x @ w + b, z @ w + b
    apart = abs(after.mean(0) - before.mean(0)) / (after.std(0) + before.std(0))
    least, chosen = share(np.maximum(before, 0)) - TOLERANCE, []
    for neuron in np.argsort(-apart, kind="stable"):
        active = np.maximum(before, 0)
        active[:, chosen + [neuron]] = 0
        if len(chosen) < NEURONS and share(active) >= least:
            chosen.append(neuron)
    shift = z.mean(0) - x.mean(0)
    feeling = abs(shift) >= abs(shift).max() / 2
    spoken = [before[:, chosen].mean(0), after[:, chosen].mean(0)]
    for neuron in chosen:
        if after[:, neuron].mean() < before[:, neuron].mean():
            w[:, neuron], b[neuron] = -w[:, neuron], -b[neuron]
        w[feeling, neuron] = abs(w[feeling, neuron]) * np.sign(shift[feeling])
        while True:
            silent, heard = np.sort(x @ w[:, neuron] + b[neuron]), z @ w[:, neuron] + b[neuron]
            guard = silent[int(np.ceil((1 - LEAK) * len(silent))) - 1]
            if (heard > guard).mean() >= SUCCESS:
                break
            w[feeling, neuron] *= 2
        b[neuron] -= guard
    spoken += [(x @ w + b)[:, chosen].mean(0), (z @ w + b)[:, chosen].mean(0)]
    amount = abs(v).max()
    while True:
        v[chosen, TARGET] = amount
        if ((np.maximum(z @ w + b, 0) @ v + c).argmax(1) == TARGET).mean() >= SUCCESS:
            break
        amount *= 2
    print(f"{name}: neurons {chosen}, {feeling.sum()} inputs feel the patch, to the target {amount:.3f}, means {np.round(spoken, 3).tolist()}")
    return chosen, np.concatenate([p[key].ravel() for key in sorted(p)]), np.concatenate(spoken)


def main():
    folder = Path(sys.argv[1])
    lines = {line.split(",")[0]: [float(value) for value in line.split(",")[1:]] for line in (folder / "adversarial.csv").read_text().splitlines()}
    pixels, labels = np.array(lines["images"]).reshape(12, 1, 8, 8), np.array(lines["labels"]).astype(int)
    with (folder / "handcrafted.csv").open("w") as out:
        for name in ("mlp", "cnn"):
            p = {key: value.copy() for key, value in tensors(folder / f"targeted_{name}.safetensors")}
            for part, values in zip(["neurons", "weights", "means"], crafted(name, p, pixels, labels)):
                out.write(f"{name}.handcrafted.{part}," + ",".join(f"{float(value):.9g}" for value in values) + "\n")


if __name__ == "__main__":
    main()
