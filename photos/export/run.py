"""Segment photos with the graph beside this file: ``python run.py photo.jpg ... --out found``.

It needs numpy, pillow, and torch or, for a graph of onnx, onnxruntime; no other file of the project that wrote it.
``mask, presence = Exported()(image)`` is the same in Python.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FACTS = "export.json"
MAX_PIXELS = 2**26  # of a photo
COLUMNS = ("photo", "class", "shown", "pixels", "presence", "precision")


def graph(path: Path) -> Callable[..., list[np.ndarray]]:
    """Return a file of a graph as a function of arrays."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))  # 0: a thread for each core
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays)))
    import torch

    module = torch.export.load(path).module()

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [x.numpy() for x in module(*map(torch.from_numpy, arrays))]

    return run


def read(path: Path) -> np.ndarray:
    """Return an upright photo as RGB, (H, W, 3) uint8; ValueError: why the file cannot be read, on one line."""
    try:
        return _read(path)
    except UnidentifiedImageError:
        reason = "is no photo; convert it to JPEG or PNG, or leave it out"
    except Exception as error:  # a damaged file can raise any exception
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error}); replace it or leave it out"
    raise ValueError(f"{path}: {reason}")


def _read(path: Path) -> np.ndarray:
    """Return a photo as ``read``, or raise what the decoder raises."""
    with path.open("rb") as file, Image.open(file) as photo:  # of a path Pillow reads sideways TIFFs in a wrong order
        if photo.width * photo.height > MAX_PIXELS or photo.mode in ("I", "F"):
            raise ValueError(f"{photo.width} x {photo.height} pixels, of {MAX_PIXELS} allowed, or 32-bit values")
        upright = ImageOps.exif_transpose(photo)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) // 256).astype(np.uint8))
        if upright.has_transparency_data:  # as a white page shows it
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return np.array(upright.convert("RGB"))


def resized(values: np.ndarray, size: Sequence[int], corners: bool = False) -> np.ndarray:
    """Return a map (H, W) at another size, float32, bilinear; pixels have half-pixel centres, or aligned corners."""
    for axis in (1, 0):
        length, wanted = values.shape[axis], size[axis]
        step = (length - 1) / max(wanted - 1, 1) if corners else length / wanted
        start = 0 if corners else step / 2 - 0.5
        places = (np.arange(wanted) * step + start).astype(np.float32).clip(0, length - 1)
        before = places.astype(int)
        after = np.minimum(before + 1, length - 1)
        share = np.expand_dims(places - before, 1 - axis)
        values = values.take(before, axis) * (1 - share) + values.take(after, axis) * share
    return values


class Exported:
    """The graph in the folder that the export wrote."""

    def __init__(self, folder: Path = Path(__file__).parent):
        self.facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self.query = graph(folder / self.facts["file"])

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, list[float] | None]:
        """Return the mask (H, W) uint8 of a photo (H, W, 3) uint8, and the presence score of each class if it has any.

        In the mask 0 is background, then come the classes in their order.
        """
        size = image.shape[:2]
        query, rows, columns = self._canvas(image)
        _, (class_margins,), *presence_features = self.query(query)
        margins = np.stack([resized(margin[:rows, :columns], size) for margin in class_margins])
        presence = None
        if self.facts["calibration"] is not None:
            features = presence_features[0][0] if presence_features else [[]] * len(margins)
            presence = [self._presence(margin, of_class) for margin, of_class in zip(margins, features)]
            margins[np.array(presence) < self.facts["calibration"]["threshold"]] = -np.inf
        mask = np.where(margins.max(0) > 0, margins.argmax(0) + 1, 0)
        return mask.astype(np.uint8), presence

    def _canvas(self, image: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Return a query (1, 3, S, S) float32 with a photo at its top left, and the photo's height and width there."""
        side, block = self.facts["canvas"]["side"], self.facts["canvas"]["multiple"]
        size = image.shape[:2]
        rows, columns = (max(int(length * side / max(size)) // block * block, block) for length in size)
        query = np.zeros((1, 3, side, side), np.float32)
        for channel in range(3):
            query[0, channel, :rows, :columns] = resized(image[:, :, channel], (rows, columns))
        return query, rows, columns

    def _presence(self, margin: np.ndarray, features: Sequence[float]) -> float:
        """Return the presence score of a class from its margin (H, W) and the network's numbers on its presence."""
        calibration = self.facts["calibration"]
        shrink = min(calibration["grid"] / max(margin.shape), 1)
        values = resized(margin, [max(round(length * shrink), 1) for length in margin.shape], corners=True)
        quantiles = np.quantile(values, calibration["quantiles"])
        inputs = [*quantiles, values.mean(), values.std(), (values > 0).mean(), *features]
        return 1 / (1 + np.exp(-np.dot(calibration["weights"], inputs) - calibration["bias"]))

    def rows(self, photo: Path, mask: np.ndarray, presence: list[float] | None) -> Iterator[tuple[Any, ...]]:
        """Yield the row of each class in the table; the columns are ``COLUMNS``."""
        for value, known in enumerate(self.facts["classes"], 1):
            pixels = int((mask == value).sum())
            score = "" if presence is None else round(presence[value - 1], 6)
            yield photo, known["name"], pixels > 0, pixels, score, self.facts["precision"]


def voc_palette() -> list[int]:
    """Return red, green and blue of VOC's 256 class colours, in a row."""
    palette = []
    for value in range(256):
        for channel in range(3):
            bits = [value >> (3 * place + channel) & 1 for place in range(3)]
            palette.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return palette


def segment(network: Exported, photos: Sequence[Path], out: Path) -> int:
    """Write the masks of photos and their table, name those that cannot be read; return the exit code of ``main``."""
    code = 0
    palette = voc_palette()
    for photo in photos:
        try:
            image = read(photo)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
            continue
        mask, presence = network(image)
        out.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask)
        picture.putpalette(palette)
        path = out / f"{photo.stem}_mask.png"
        picture.save(path)
        add_to_table(out / "summary.csv", network.rows(photo, mask, presence))
        print(path, flush=True)
    return code


def add_to_table(path: Path, rows: Iterator[tuple[Any, ...]]) -> None:
    """Add rows to a table, which is written with its head if there is none."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if is_new:
            table.writerow(COLUMNS)
        table.writerows(rows)


def main() -> int:
    """Write a mask of each photo and a table of all; return the exit code, 2 if a photo could not be read."""
    parser = argparse.ArgumentParser(description="Segment photos with the graph beside this file.")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new folder of masks and summary.csv")
    options = parser.parse_args()
    if len({photo.stem for photo in options.photos}) < len(options.photos):
        parser.error("two photos have the same name, and so would their masks")
    if options.out.exists():
        parser.error(f"--out {options.out}: exists already; name a new folder")
    try:
        return segment(Exported(), options.photos, options.out)
    except (ImportError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
