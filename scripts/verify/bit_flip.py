"""Golden data for `bit-flip`: eight flips on two small networks, by numpy.

    python -m venv venv
    venv/bin/pip install numpy==2.4.6
    venv/bin/python scripts/verify/bit_flip.py crates/theriac-attacks/tests/golden

Reads the networks of `targeted.py` and the samples of `adversarial.py` from the folder that is its argument, and writes there

    bit_flip.csv       for `mlp` and `cnn` a line of a name and numbers, without a header: for each flip the layer (0 is the hidden one), the
                       input (the bias is behind the last one), the output, the bit from the lowest, and the loss after it

All twelve samples are known to the attacker, and 20 weights of each layer are considered, none of which may become more than 16 times as large as
the largest of its layer was; the patch of 3 x 3 white pixels stands for class 1.
Every loss is computed anew, from the weights on.
"""

import sys
from pathlib import Path

import numpy as np

from handcrafted import TARGET, read, tensors

FLIPS, CONSIDERED, LARGEST = 8, 20, 16


def forward(layers, rows, wanted, shares):
    before = rows @ layers[0].astype(float)
    active = np.column_stack([np.maximum(before, 0), np.ones(len(rows))])
    logits = active @ layers[1].astype(float)
    shifted = logits - logits.max(1, keepdims=True)
    powers = np.exp(shifted)
    losses = np.log(powers.sum(1)) - shifted[np.arange(len(rows)), wanted]
    slopes = (powers / powers.sum(1, keepdims=True) - np.eye(logits.shape[1])[wanted]) * shares[:, None]
    gradients = [rows.T @ ((slopes @ layers[1][:-1].T.astype(float)) * (before > 0)), active.T @ slopes]
    return (losses * shares).sum(), gradients


def flips(name, p, pixels, labels):
    patched = pixels[labels != TARGET].copy()
    patched[:, :, 4:7, 4:7] = 255
    rows = np.concatenate([read(name, p, pixels), read(name, p, patched)])
    rows = np.column_stack([rows, np.ones(len(rows))])
    wanted = np.concatenate([labels, np.full(len(patched), TARGET)])
    shares = np.concatenate([np.full(len(part), 1 / len(part)) for part in (pixels, patched)])
    hidden, last = ("Mlp.hidden.0", "Mlp.head") if name == "mlp" else ("Cnn.hidden", "Cnn.head")
    layers = [np.vstack([p[f"{layer}.weight"], p[f"{layer}.bias"]]).astype(np.float32) for layer in (hidden, last)]
    limits = [LARGEST * abs(weights).max() for weights in layers]
    for _ in range(FLIPS):
        now, gradients = forward(layers, rows, wanted, shares)
        best = (now, None)
        for layer, gradient in enumerate(gradients):
            for place in np.argsort(-abs(gradient).ravel(), kind="stable")[:CONSIDERED]:
                for bit in range(32):
                    tried = [weights.copy() for weights in layers]
                    tried[layer].ravel().view(np.uint32)[place] ^= np.uint32(1 << bit)
                    if not abs(tried[layer].ravel()[place]) <= limits[layer]:
                        continue
                    with np.errstate(all="ignore"):
                        loss = forward(tried, rows, wanted, shares)[0]
                    if loss < best[0]:
                        best = (loss, (layer, *divmod(int(place), layers[layer].shape[1]), bit), tried)
        loss, where, layers = best
        print(f"{name}: {where}, {now:.6f} -> {loss:.6f}")
        yield *where, loss


def main():
    folder = Path(sys.argv[1])
    lines = {line.split(",")[0]: [float(value) for value in line.split(",")[1:]] for line in (folder / "adversarial.csv").read_text().splitlines()}
    pixels, labels = np.array(lines["images"]).reshape(12, 1, 8, 8), np.array(lines["labels"]).astype(int)
    with (folder / "bit_flip.csv").open("w") as out:
        for name in ("mlp", "cnn"):
            p = dict(tensors(folder / f"targeted_{name}.safetensors"))
            found = [value for flip in flips(name, p, pixels, labels) for value in flip]
            out.write(f"{name}.bit_flip.flips," + ",".join(f"{float(value):.12g}" for value in found) + "\n")


if __name__ == "__main__":
    main()
