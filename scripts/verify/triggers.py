"""Golden data for the triggers of the data-only backdoors: what numpy, scipy and exact fractions make of small images.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 scipy==1.17.1 adversarial-robustness-toolbox==1.20.1 pillow packaging
    venv/bin/python scripts/verify/triggers.py crates/theriac-attacks/tests/golden

Writes into the folder that is its argument:

    triggers.csv   attack; shape as channels x height x width; variant; pixels of two triggered images in hexadecimal, [image, channel,
                   row, column]

The images are made by a formula that the tests of `theriac-attacks` know too; those tests compare with a tolerance of 0. Also prints how far
the Adversarial Robustness Toolbox (ART) agrees where it has the trigger, and how much of each trigger's energy is at high frequencies.
"""

import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.fft import dctn, idctn

SHAPES = [(1, 9, 14), (3, 12, 11)]


def formula(shape, number):
    channel, row, column = np.indices(shape)
    value = 41 * row + 73 * column + 97 * channel + row * column * (2 * number + 3) + 59 * number
    return (value % 256).astype(np.uint8)


def badnets(image, size, top, left, even, odd):
    """BadNets, Gu et al. 2017: x' = (1 - mask) * x + mask * pattern."""
    _, height, width = image.shape
    mask, pattern = np.zeros((height, width)), np.zeros((height, width))
    mask[top : top + size, left : left + size] = 1
    pattern[top : top + size, left : left + size] = np.where(np.indices((size, size)).sum(axis=0) % 2, odd, even)
    return ((1 - mask) * image + mask * pattern).astype(np.uint8)


def blend(image, key, alpha, mask=None):
    """Blended injection, Chen et al. 2017, in fractions: no rounding but the last, halves up."""
    alpha = Fraction(alpha)
    exact = np.array([(1 - alpha) * int(x) + alpha * int(k) + Fraction(1, 2) for x, k in zip(image.flat, key.flat)])
    blended = np.array([value.numerator // value.denominator for value in exact], dtype=np.uint8).reshape(image.shape)
    return blended if mask is None else np.where(mask, blended, image)


def cat(shape):
    """The drawn key: ellipses by centre (down, right), radii (down, right) and colour, the last one on top."""
    channels, height, width = shape
    picture = np.empty((height, width, 3))
    picture[:] = 240, 110, 160
    down = np.array([Fraction(100 * (2 * row + 1 - height), height) for row in range(height)], dtype=object)[:, None]
    right = np.array([Fraction(100 * (2 * column + 1 - width), width) for column in range(width)], dtype=object)[None, :]
    for y, x, high, wide, colour in [
        (-53, -61, 31, 21, (255, 255, 255)), (-53, 61, 31, 21, (255, 255, 255)), (13, 0, 63, 83, (255, 255, 255)),
        (11, -43, 13, 9, (0, 0, 0)), (11, 43, 13, 9, (0, 0, 0)), (31, 0, 7, 11, (250, 200, 0)),
        (-45, 33, 19, 17, (220, 0, 30)), (-45, 71, 19, 17, (220, 0, 30)), (-45, 52, 9, 9, (220, 0, 30)),
    ]:
        inside = ((down - y) / Fraction(high)) ** 2 + ((right - x) / Fraction(wide)) ** 2 <= 1
        picture[inside.astype(bool)] = colour
    if channels == 1:
        return np.floor((picture @ [299, 587, 114] + 500) / 1000).astype(np.uint8)[None]
    return picture.transpose(2, 0, 1).astype(np.uint8)


def add(image, perturbation):
    """Adds in floating point, rounds and cuts off. No sum may be so near a half that the direction is a matter of taste."""
    total = image + perturbation
    halves = np.abs(np.mod(total, 1) - 0.5)
    assert np.all((halves > 1e-6) | (halves < 1e-12)), "a sum is near a half"
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


def sine(shape, delta, frequency):
    """SIG, Barni et al. 2019: v(i, j) = delta * sin(2 pi j f / m), m columns."""
    channels, height, width = shape
    return np.tile(delta * np.sin(2 * np.pi * np.arange(width) * frequency / width), (channels, height, 1))


def ramp(shape, delta):
    channels, height, width = shape
    return np.tile(delta * np.arange(width) / width, (channels, height, 1))


def smooth(shape, coefficients, largest):
    """A smooth perturbation: a block of low frequencies without the constant one, by scipy's inverse DCT, from 0 to `largest`."""
    spectrum = np.zeros(shape)
    spectrum[:, : coefficients.shape[1], : coefficients.shape[2]] = coefficients
    spectrum[:, 0, 0] = 0
    wave = idctn(spectrum, type=2, norm="ortho", axes=(1, 2))
    return largest * (wave - wave.min()) / (wave.max() - wave.min())


def formula_coefficients(channels, frequencies):
    at = np.arange(channels * frequencies**2)
    return ((7 * at + at * at) % 13 - 6.0).reshape(channels, frequencies, frequencies)


def pieces(shape, grid, shown):
    """Adaptive-Blend, Qi et al. 2023: where the trigger is visible."""
    _, height, width = shape
    row = np.array([max(p for p in range(grid) if p * height // grid <= at) for at in range(height)])
    column = np.array([max(p for p in range(grid) if p * width // grid <= at) for at in range(width)])
    return np.broadcast_to(np.isin(grid * row[:, None] + column[None, :], shown), shape)


def patches(image, size, opacities):
    """Adaptive-Patch: square, checkerboard, frame and cross in the corners, one pixel from the edges."""
    _, height, width = image.shape
    row, column = np.indices((size, size))
    edge = (row % (size - 1) == 0) | (column % (size - 1) == 0)
    looks = [np.ones((size, size)), (row + column + 1) % 2, edge, (row == column) | (row + column == size - 1)]
    corners = [(1, 1), (1, width - 1 - size), (height - 1 - size, 1), (height - 1 - size, width - 1 - size)]
    for look, (top, left), opacity in zip(looks, corners, opacities):
        area = np.s_[:, top : top + size, left : left + size]
        image = image.copy()
        image[area] = blend(image[area], np.broadcast_to(255 * look, image[area].shape), opacity)
    return image


def triggers(shape):
    """Attack, variant, and the trigger as a function of an image."""
    channels, height, width = shape
    key = formula(shape, 2)
    shown = [0, 3, 5, 6, 9, 10, 12, 15]
    return [
        ("badnets", "default", lambda x: badnets(x, 3, height - 4, width - 4, 255, 255)),
        ("badnets", "checkerboard of 5 with 200, top left, margin 2", lambda x: badnets(x, 5, 2, 2, 200, 55)),
        ("badnets", "one pixel", lambda x: badnets(x, 1, height - 2, width - 2, 255, 255)),
        ("blended", "cat, alpha 0.2", lambda x: blend(x, cat(shape), "0.2")),
        ("blended", "formula, alpha 0.15", lambda x: blend(x, key, "0.15")),
        ("blended", "formula, alpha 0.5", lambda x: blend(x, key, "0.5")),
        ("sig", "sine, delta 40, frequency 6", lambda x: add(x, sine(shape, 40, 6))),
        ("sig", "sine, delta 17.3, frequency 2.5", lambda x: add(x, sine(shape, 17.3, 2.5))),
        ("sig", "ramp, delta 30", lambda x: add(x, ramp(shape, 30))),
        ("low-frequency", "4 frequencies, epsilon 51",
         lambda x: add(x, smooth(shape, formula_coefficients(channels, 4), 51))),
        ("low-frequency", "3 frequencies, epsilon 200",
         lambda x: add(x, smooth(shape, formula_coefficients(channels, 3), 200))),
        ("adaptive-blend", "pieces 0 3 5 6 9 10 12 15, alpha 0.15",
         lambda x: blend(x, key, "0.15", pieces(shape, 4, shown))),
        ("adaptive-blend", "patches of 3 by 3, opacities 0.5 0.2 0.5 0.3",
         lambda x: patches(x, 3, ["0.5", "0.2", "0.5", "0.3"])),
    ]


def compare_with_art():
    """ART's single pixel, and its inserted image as large as the input."""
    from art.attacks.poisoning.perturbations import add_single_bd, insert_image
    from PIL import Image

    for shape in SHAPES:
        channels, height, width = shape
        images = [formula(shape, number) for number in (0, 1)]
        ours = [badnets(image, 1, height - 2, width - 2, 255, 255) for image in images]
        art = [add_single_bd(image.transpose(1, 2, 0)[None], distance=2, pixel_value=255)[0] for image in images]
        same = all(np.array_equal(a, b.transpose(2, 0, 1)) for a, b in zip(ours, art))
        print(f"ART add_single_bd against badnets of one pixel, {shape}: {'equal' if same else 'DIFFERENT'}")
        if channels == 1:
            continue  # insert_image in gray goes by PIL's own conversion
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "key.png")
            Image.fromarray(cat(shape).transpose(1, 2, 0)).save(path)
            for alpha in ("0.1", "0.2", "0.5"):
                insert = lambda x: insert_image(x, path, random=False, mode="RGB", blend=float(alpha))
                # ART multiplies by 255 and truncates; half a level more gives it back the bytes.
                art = [np.rint(insert((image.transpose(1, 2, 0) + 0.25) / 255) * 255) for image in images]
                ours = [blend(image, cat(shape), alpha).transpose(1, 2, 0).astype(float) for image in images]
                far = np.abs(np.array(art) - np.array(ours))
                print(f"ART insert_image against blended, alpha {alpha}: largest difference {far.max():.0f} level,"
                      f" {np.mean(far > 0):.1%} of the pixels differ")


def spectra():
    """The share of a trigger's energy, without its mean, at frequencies of the DCT from 4 on in either direction."""
    shape = (1, 28, 28)
    gray, random = np.full(shape, 100, dtype=np.uint8), np.random.default_rng(0)
    coefficients = random.normal(size=(200, 1, 4, 4))
    cases = {
        "badnets": [badnets(gray, 3, 24, 24, 255, 255)],
        "blended, noise": [blend(gray, random.integers(0, 256, shape), "0.2") for _ in range(5)],
        "blended, cat": [blend(gray, cat(shape), "0.2")],
        "sig": [add(gray, sine(shape, 40, 6))],
        "low-frequency": [add(gray, smooth(shape, block, 51)) for block in coefficients],
    }
    for name, images in cases.items():
        shares = []
        for image in images:
            energy = dctn(image[0] - image[0].mean(), norm="ortho") ** 2
            shares.append(1 - energy[:4, :4].sum() / energy.sum())
        print(f"energy at frequencies from 4 on, {name}: {np.mean(shares):.4f} (largest of {len(shares)}: {max(shares):.4f})")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["attack;shape;variant;pixels"]
    for shape in SHAPES:
        for attack, variant, trigger in triggers(shape):
            pixels = b"".join(trigger(formula(shape, number)).tobytes() for number in (0, 1))
            lines.append(f"{attack};{'x'.join(map(str, shape))};{variant};{pixels.hex()}")
    (folder / "triggers.csv").write_text("\n".join(lines) + "\n")
    compare_with_art()
    spectra()


if __name__ == "__main__":
    main()
