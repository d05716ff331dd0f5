"""Golden data for `wanet`: fields and bent images by PyTorch.

    python -m venv venv
    venv/bin/pip install torch==2.15 numpy
    venv/bin/python scripts/verify/wanet.py crates/theriac-attacks/tests/golden

Writes wanet.csv into the folder that is its argument. Five lines a case: height, width, channels, control points a side,
strength; the control points [axis x first][row][column]; an image [channel][row][column]; the field as pairs (x, y),
row by row; the bent image. Written from the paper: control points divided by the mean of their absolute values,
bicubic upsampling with the outermost points on the edges, strength over the height, bilinear reading.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F


def case(generator, height, width, channels, grid, strength):
    points = (torch.rand(1, 2, grid, grid, generator=generator, dtype=torch.float64) * 2 - 1).mul(1e4).round().div(1e4)
    image = torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64).mul(1e3).round().div(1e3)
    flow = F.interpolate(points / points.abs().mean(), size=(height, width), mode="bicubic", align_corners=True)
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.float64), torch.linspace(-1, 1, width, dtype=torch.float64), indexing="ij"
    )
    identity = torch.stack([x, y], dim=-1)[None]
    field = (identity + strength * flow.permute(0, 2, 3, 1) / height).clamp(-1, 1)
    bent = F.grid_sample(image, field, mode="bilinear", align_corners=True)
    settings = [height, width, channels, grid, strength]
    return [settings, points.flatten(), image.flatten(), field.flatten(), bent.flatten()]


def main():
    generator = torch.Generator().manual_seed(1)
    cases = [(12, 12, 1, 4, 0.5), (8, 10, 3, 4, 0.5), (9, 9, 1, 3, 2.0)]
    lines = [line for settings in cases for line in case(generator, *settings)]
    text = "\n".join(",".join(f"{float(value):.7g}" for value in line) for line in lines)
    (Path(sys.argv[1]) / "wanet.csv").write_text(text + "\n")


main()
