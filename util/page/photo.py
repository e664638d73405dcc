"""A photo with marks and what the network found on it, and its pictures for the browser.

The threshold is the share of the best class in the sum of its own and the background's probability above which a pixel
belongs to the class; for one class, its probability. At ``Prediction.own_threshold`` the mask is the network's own. A
class whose presence score is too low has no pixel at any threshold.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.page.marks import Mark, corrected
from util.predict.prediction import Prediction
from util.predict.supports import read_photo
from util.report.overlay import class_colour, class_map

MAX_CLASSES = 8  # whose colours differ
PREVIEW, THUMBNAIL = 1024, 256  # pixels of the longer side, at most
QUALITY = 88  # of JPEG
TINY = 1e-9  # a probability that is as good as 0


class Photo:
    """A photo with marks: one that is marked as a support, or one to segment, whose marks correct what was found.

    Attributes:
        key: of the photo and its prediction, for the browser.
        names: the classes of the marks on a prediction.
        prediction: what the network found, its maps on the disk.
        spread: standard deviation of log(best class / background) over the pixels.
    """

    def __init__(self, key: int, path: Path):
        image = read_photo(path)
        self.key, self.path, self.marks, self.names = key, path, list[Mark](), list[str]()
        self.shape, self.preview = (image.shape[0], image.shape[1]), reduced(image, PREVIEW)
        self.prediction: Prediction | None = None
        self.spread = 0.0

    def take(self, key: int, prediction: Prediction, folder: Path) -> None:
        """Take over a prediction; earlier corrections remain, but for those of classes that are gone."""
        value = {name: i for i, name in enumerate(prediction.names, 1)}
        named = [(mark, self.names[mark.value - 1]) for mark in self.marks]
        self.marks = [replace(mark, value=value[name]) for mark, name in named if name in value]
        self.key, self.names = key, prediction.names
        small = prediction.probability[:, :: self._step(THUMBNAIL), :: self._step(THUMBNAIL)]
        self.spread = float(np.log((small.max(0) + TINY) / (background_of(small) + TINY)).std())
        kinds = ("image", "mask", "probability")
        image, mask, probability = (
            _on_disk(getattr(prediction, k), folder / f"{self.path.stem}_{k}.npy") for k in kinds
        )
        self.prediction = replace(prediction, image=image, mask=mask, probability=probability)

    def _step(self, side: int) -> int:
        """Return n where every n-th pixel is shown, so that the longer side is at most ``side``."""
        return math.ceil(max(self.shape) / side)

    def _found(self, threshold: float, step: int) -> np.ndarray:
        """Return the mask of every ``step``-th pixel at a threshold, without corrections."""
        assert self.prediction is not None
        if threshold == self.prediction.own_threshold:
            return np.ascontiguousarray(self.prediction.mask[::step, ::step])
        return mask_at(self.prediction.probability[:, ::step, ::step], threshold, self.prediction.shown)

    def corrected(self, threshold: float) -> Prediction:
        """Return the prediction with its mask at a threshold and with corrections."""
        assert self.prediction is not None
        mask = corrected(self._found(threshold, 1), self.marks)
        return replace(self.prediction, names=self.names, mask=mask)

    def thumbnail(self, threshold: float) -> np.ndarray:
        """Return a small picture of the photo and of what was found, (h, w, 3) uint8."""
        if self.prediction is None:
            return reduced(self.preview, THUMBNAIL)
        step = self._step(THUMBNAIL)
        mask = corrected(self._found(threshold, step), self.marks, 1 / step)
        return class_map(cv2.resize(self.preview, mask.shape[::-1], interpolation=cv2.INTER_AREA), mask)

    def scene(self, threshold: float) -> str:
        """Return the photo as JSON for ``canvas.js``: its marks, and a layer of what was found, without corrections."""
        content = {"key": self.key, "height": self.shape[0], "width": self.shape[1]}
        marks, photo = [asdict(mark) for mark in self.marks], Image.fromarray(self.preview)
        content |= {"marks": marks, "photo": _data_url(photo, "jpeg", quality=QUALITY)}
        if self.prediction is not None:
            layer = Image.fromarray(self._found(threshold, self._step(PREVIEW)))
            layer.putpalette([channel for value in range(MAX_CLASSES + 1) for channel in class_colour(value)])
            content["layer"] = _data_url(layer, "png", transparency=0)
        return json.dumps(content)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 at a whole fraction of its size, with at most ``side`` pixels on a side."""
    step = math.ceil(max(image.shape) / side)
    width, height = (math.ceil(pixels / step) for pixels in image.shape[1::-1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if step > 1 else image


def _data_url(image: Image.Image, kind: str, **options: int) -> str:
    """Return an image as an address that contains it."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _on_disk(array: np.ndarray, path: Path) -> np.ndarray:
    """Return an array that lies in a file, in place of an earlier one."""
    path.unlink(missing_ok=True)
    np.save(path, array)
    return np.asarray(np.load(path, mmap_mode="r"))


def background_of(probability: np.ndarray) -> np.ndarray:
    """Return the probability of the background (H, W) from those of the classes (n, H, W)."""
    return np.maximum(1 - probability.sum(0), 0)


def mask_at(probability: np.ndarray, threshold: float, shown: Sequence[bool]) -> np.ndarray:
    """Return the classes of pixels at a threshold, (H, W) uint8, among the classes that are shown.

    Args:
        probability: of the classes, (n, H, W); together with the background's they sum to 1.
    """
    of_shown = np.where(np.array(shown)[:, None, None], probability, 0)
    inside = of_shown.max(0) * (1 - threshold) > background_of(probability) * threshold
    return np.where(inside, of_shown.argmax(0) + 1, 0).astype(np.uint8)
