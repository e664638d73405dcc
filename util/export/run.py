"""Segment photos with the graph beside this file: ``python run.py photo.jpg ... --out found``.

It needs numpy, pillow, and torch or, for a graph of onnx, onnxruntime; no other file of the project that wrote it.
``mask, presence = Exported()(image)`` is the same in Python.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FACTS = "export.json"
MAX_PIXELS = 2**26  # of a photo


def graph(path: Path) -> Callable[..., list[np.ndarray]]:
    """Return a file of a graph as a function of arrays."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays)))
    import torch

    module = torch.export.load(path).module()

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [x.numpy() for x in module(*map(torch.from_numpy, arrays))]

    return run


def read(path: Path) -> np.ndarray:
    """Return an upright photo as RGB, (H, W, 3) uint8."""
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
        places = np.arange(wanted) * step + (0 if corners else step / 2 - 0.5)
        places = places.astype(np.float32).clip(0, length - 1)
        before = places.astype(int)
        share = np.expand_dims(places - before, 1 - axis)
        first, second = (values.take(i, axis) for i in (before, np.minimum(before + 1, length - 1)))
        values = first * (1 - share) + second * share
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
        canvas, size, known = self.facts["canvas"], image.shape[:2], self.facts["calibration"]
        side, block = canvas["side"], canvas["multiple"]
        rows, columns = (max(int(length * side / max(size)) // block * block, block) for length in size)
        query = np.zeros((1, 3, side, side), np.float32)
        for channel in range(3):
            query[0, channel, :rows, :columns] = resized(image[:, :, channel], (rows, columns))
        _, (of_classes,), *presence_features = self.query(query)
        margins = np.stack([resized(margin[:rows, :columns], size) for margin in of_classes])
        presence = None
        if known is not None:
            presence = []
            for margin, own in zip(margins, presence_features[0][0] if presence_features else [[]] * len(margins)):
                shrink = min(known["grid"] / max(size), 1)
                values = resized(margin, [max(round(length * shrink), 1) for length in size], corners=True)
                numbers = [*np.quantile(values, known["quantiles"]), values.mean(), values.std(), (values > 0).mean()]
                presence.append(1 / (1 + np.exp(-np.dot(known["weights"], [*numbers, *own]) - known["bias"])))
            margins[np.array(presence) < known["threshold"]] = -np.inf
        return np.where(margins.max(0) > 0, margins.argmax(0) + 1, 0).astype(np.uint8), presence


def main() -> int:
    """Write a mask of each photo and a table of all; return the exit code, 2 if a photo could not be read."""
    parser = argparse.ArgumentParser(description="Segment photos with the graph beside this file.")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new folder of masks and summary.csv")
    options = parser.parse_args()
    if len({photo.stem for photo in options.photos}) < len(options.photos):
        parser.error("two photos have the same name, and so would their masks")
    try:
        network = Exported()
        options.out.mkdir(parents=True)
    except (ImportError, OSError) as error:
        parser.error(str(error))
    failed = 0
    with (options.out / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("photo", "class", "shown", "pixels", "presence", "precision"))
        for number, photo in enumerate(options.photos, 1):
            try:
                mask, presence = network(read(photo))
            except Exception as error:  # a damaged file can raise any exception
                failed = 2
                print(f"error: {photo}: {error}", file=sys.stderr)
                continue
            picture = Image.fromarray(mask)
            colours = [sum((i >> 3 * b + c & 1) << 7 - b for b in range(3)) for i in range(256) for c in range(3)]
            picture.putpalette(colours)  # VOC's
            picture.save(options.out / f"{photo.stem}_mask.png")
            for value, known in enumerate(network.facts["classes"], 1):
                pixels = int((mask == value).sum())
                score = "" if presence is None else round(presence[value - 1], 6)
                table.writerow((photo, known["name"], pixels > 0, pixels, score, network.facts["precision"]))
            print(f"{number} of {len(options.photos)}: {photo}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
