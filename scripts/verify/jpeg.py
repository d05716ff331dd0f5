"""Golden data for `jpeg-gray`: what Pillow leaves of images after JPEG compression or conversion to gray.

    python -m venv venv
    venv/bin/pip install numpy==2.1.3 pillow==13.0.0
    venv/bin/python scripts/verify/jpeg.py crates/theriac-defenses/tests/golden

Writes into the folder that is its argument:

    jpeg.csv        kind, seed, channels, height, width, quality (0: convert to gray) of an image that the test draws
                    as well, and the FNV-1a checksum of all bytes that Pillow leaves, channel by channel
    jpeg_image.csv  one colour image of 16 x 16, byte by byte: before, after JPEG-10 in colour, after JPEG-10 of its
                    first channel alone (repeated for the others)

Pillow 13.0.0 with libjpeg-turbo 3.2.0 made the committed files.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, features

SIZES = [(32, 32), (28, 28), (64, 48), (17, 23), (16, 16), (8, 8), (9, 5), (5, 9), (4, 4), (3, 7), (2, 2), (1, 1),
         (40, 6), (33, 31)]
QUALITIES = [1, 5, 10, 25, 49, 50, 75, 90, 100]


def drawn(kind, seed, channels, height, width):
    """Noise, cells of four by four, or ramps that wrap around; from a generator of 64 bits."""
    state = seed

    def draw(count):
        nonlocal state
        values = []
        for _ in range(count):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            values.append(state >> 56)
        return np.array(values)

    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    planes = []
    for _ in range(channels):
        if kind == 0:
            plane = draw(height * width).reshape(height, width)
        elif kind == 1:
            cells = draw(-(-height // 4) * -(-width // 4)).reshape(-(-height // 4), -(-width // 4))
            plane = cells[rows // 4, columns // 4]
        else:
            first, down, right = draw(3)
            plane = first + (down * rows + right * columns) // 16
        planes.append(plane % 256)
    return np.stack(planes).astype(np.uint8)


def picture(image):
    return Image.fromarray(image[0]) if len(image) == 1 else Image.fromarray(image.transpose(1, 2, 0))


def planes(picture):
    values = np.asarray(picture)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def compressed(image, quality):
    file = io.BytesIO()
    picture(image).save(file, "JPEG", quality=quality)
    file.seek(0)
    return planes(Image.open(file))


def checksum(values):
    total = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(values).tobytes():
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return f"{total:016x}"


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["kind,seed,channels,height,width,quality,checksum"]
    seed = 1
    for height, width in SIZES:
        for channels in (1, 3):
            for number, quality in enumerate([0, *QUALITIES]):
                for kind in (0, 1, 2) if quality in (0, 10, 75) else (number % 3,):
                    if quality == 0 and channels == 1:
                        continue
                    seed += 1
                    image = drawn(kind, seed, channels, height, width)
                    left = planes(picture(image).convert("L")) if quality == 0 else compressed(image, quality)
                    lines.append(f"{kind},{seed},{channels},{height},{width},{quality},{checksum(left)}")
    (folder / "jpeg.csv").write_text("\n".join(lines) + "\n")

    # Smooth colour with a dark edge and noise of a few units, as photographs have.
    rows, columns = np.mgrid[:16, :16]
    smooth = [90 + 8 * rows + 2 * columns, 200 - 6 * columns - rows, 120 + 5 * np.abs(rows - columns)]
    noise = np.random.default_rng(7).integers(-9, 10, size=(3, 16, 16))
    image = np.clip(np.stack(smooth) * np.where(columns > 10, 0.3, 1.0) + noise, 0, 255).astype(np.uint8)
    gray = compressed(image[:1], 10).ravel()
    table = np.stack([image.ravel(), compressed(image, 10).ravel(), np.tile(gray, 3)], axis=1)
    rows = [",".join(map(str, row)) for row in table.tolist()]
    (folder / "jpeg_image.csv").write_text("\n".join(["before,colour,first_channel", *rows]) + "\n")
    print(f"{len(lines) - 1} results; libjpeg-turbo {features.version('libjpeg_turbo')}")


if __name__ == "__main__":
    main()
