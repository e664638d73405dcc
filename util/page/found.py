"""One segmented photo of a visitor: probabilities on the disk, shown at any threshold without the network.

The threshold is the share of the best class in the sum of its own and the background's probability above which a pixel
belongs to the class; for one class, its probability. At ``FoundPhoto.own_threshold`` the mask is the network's own.
Networks differ in how far their probabilities lie apart, so the slider's unit is the standard deviation of the
logarithm of best class over background. A class whose presence score is too low has no pixel at any threshold."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from util.data.marks import RADIUS_SHARE, UNKNOWN
from util.evaluate.calibration import sigmoid
from util.page.marks import CORRECTING, TOOLS, Mark, corrected
from util.predict.photos import read_photo
from util.predict.prediction import Prediction
from util.report.overlay import class_colour, class_map, overlay

PREVIEW, THUMBNAIL = 1024, 256  # pixels of the longer side, at most
MAX_CLASSES = 8  # of one visitor, whose colours differ
QUALITY = 88  # of JPEG


@dataclass(frozen=True)
class Scene:
    """A photo that the visitor marks in the browser.

    Attributes:
        key: identifies the photo.
        shape: (height, width) of the photo, whose pixels are the unit of marks.
        photo: the reduced photo as JPEG.
        layer: a mask to draw over the photo, (h, w) uint8; None for none.
        tools: the tools to offer.
    """

    key: int
    shape: tuple[int, int]
    photo: bytes
    layer: np.ndarray | None = None
    tools: Sequence[str] = TOOLS

    def text(self) -> str:
        """Return the scene as JSON for ``canvas.js``."""
        layer = None if self.layer is None else data_url(layer_png(self.layer), "png")
        content = {
            "key": self.key,
            "height": self.shape[0],
            "width": self.shape[1],
            "photo": data_url(self.photo, "jpeg"),
            "layer": layer,
            "tools": list(self.tools),
            "colours": [hex_colour(value) for value in range(1, MAX_CLASSES + 1)],
            "radius": RADIUS_SHARE,
            "unknown": UNKNOWN,
        }
        return json.dumps(content)


def hex_colour(value: int) -> str:
    """Return the colour of a class, counted from 1, as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(value))


def reduced(image: np.ndarray, step: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 at 1 / ``step`` of its size."""
    if step == 1:
        return image
    size = tuple(math.ceil(side / step) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def jpeg(image: np.ndarray) -> bytes:
    """Return an RGB image (H, W, 3) uint8 as JPEG."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def layer_png(mask: np.ndarray) -> bytes:
    """Return a mask (h, w) uint8 as a PNG with the classes in their colours and a transparent background."""
    image = Image.fromarray(mask)
    colours = [(0, 0, 0), *(class_colour(value) for value in range(1, MAX_CLASSES + 1))]
    image.putpalette([channel for colour in colours for channel in colour])
    content = io.BytesIO()
    image.save(content, "PNG", transparency=0)
    return content.getvalue()


def data_url(content: bytes, kind: str) -> str:
    """Return an image file as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a small picture of a photo, (h, w, 3) uint8."""
    return reduced(image, math.ceil(max(image.shape[:2]) / THUMBNAIL))


def support_thumbnail(image: np.ndarray, label: np.ndarray, value: int) -> np.ndarray:
    """Return a small picture of a marked photo, (h, w, 3) uint8, its object in the colour of its class."""
    step = math.ceil(max(label.shape) / THUMBNAIL)
    return overlay(thumbnail(image), np.ascontiguousarray(label[::step, ::step]), class_colour(value))


LEVELS = (-3.0, 3.0)  # the ends of the slider; 0 is the network's own threshold
TINY = 1e-9  # a probability that is as good as 0
NOTHING = np.zeros((0, 0), np.uint8)  # in place of arrays that lie on the disk


class FoundPhoto:
    """A photo, what the network found on it, and the visitor's corrections.

    Attributes:
        key: identifies the photo among those that a visitor has marked.
        query: the photo's file.
        marks: the corrections.
        spread: standard deviation over the pixels of log(best class / background).
    """

    def __init__(self, key: int, query: Path, prediction: Prediction, folder: Path):
        """Write the arrays of the prediction into the folder.

        Raises:
            OSError: the disk is full.
        """
        self.key, self.query, self.marks = key, query, list[Mark]()
        self.shape = (prediction.mask.shape[0], prediction.mask.shape[1])
        self._probability, self._mask = folder / f"{key}_probability.npy", folder / f"{key}_mask.npy"
        np.save(self._probability, prediction.probability)
        np.save(self._mask, prediction.mask)
        best, background = best_and_background(
            prediction.probability[:, :: self.step(THUMBNAIL), :: self.step(THUMBNAIL)]
        )
        self.spread = float(np.log((best + TINY) / (background + TINY)).std())
        self._preview = jpeg(reduced(prediction.image, self.step(PREVIEW)))
        self._rest = replace(prediction, image=NOTHING, mask=NOTHING, probability=NOTHING)

    @property
    def names(self) -> list[str]:
        """The classes; class i has the value i + 1 in the mask."""
        return self._rest.names

    def rename(self, old: str, new: str) -> None:
        """Rename a class."""
        self._rest = replace(self._rest, names=[new if name == old else name for name in self.names])

    def take_corrections(self, earlier: FoundPhoto) -> None:
        """Take over the corrections of the same photo, found before; those of classes that are gone are dropped."""
        value = {name: i for i, name in enumerate(self.names, 1)}
        named = [(mark, earlier.names[mark.value - 1]) for mark in earlier.marks]
        self.marks = [replace(mark, value=value[name]) for mark, name in named if name in value]

    @property
    def own_threshold(self) -> float:
        """The threshold of the network's own mask."""
        return self._rest.own_threshold

    def step(self, side: int) -> int:
        """Return n where every n-th pixel is shown, so that the longer side is at most ``side``."""
        return math.ceil(max(self.shape) / side)

    def mask(self, threshold: float, step: int = 1) -> np.ndarray:
        """Return the corrected mask of every ``step``-th pixel, (H, W) uint8."""
        return corrected(self._found(threshold, step), self.marks, 1 / step)

    def _found(self, threshold: float, step: int) -> np.ndarray:
        """Return the mask without corrections."""
        if threshold == self.own_threshold:
            return np.ascontiguousarray(np.load(self._mask, mmap_mode="r")[::step, ::step])
        return mask_at(np.load(self._probability, mmap_mode="r")[:, ::step, ::step], threshold, self._rest.shown)

    def summary(self, threshold: float) -> list[dict[str, Any]]:
        """Return what ``Prediction.summary`` does, of the corrected mask."""
        probability = np.load(self._probability, mmap_mode="r")
        return replace(self._rest, mask=self.mask(threshold), probability=probability).summary()

    def prediction(self, threshold: float) -> Prediction:
        """Return the prediction with the corrected mask.

        Raises:
            UserError: the photo cannot be read.
        """
        probability = np.load(self._probability)
        return replace(self._rest, image=read_photo(self.query), mask=self.mask(threshold), probability=probability)

    def thumbnail(self, threshold: float) -> np.ndarray:
        """Return a small picture of photo and mask, (h, w, 3) uint8."""
        mask = self.mask(threshold, self.step(THUMBNAIL))
        preview = np.asarray(Image.open(io.BytesIO(self._preview)))
        return class_map(cv2.resize(preview, mask.shape[::-1], interpolation=cv2.INTER_AREA), mask)

    def scene(self, threshold: float) -> Scene:
        """Return the photo and the mask before the corrections, which the browser draws itself."""
        return Scene(self.key, self.shape, self._preview, self._found(threshold, self.step(PREVIEW)), CORRECTING)


def best_and_background(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest probability of a class and that of the background, (H, W) float32 each."""
    return probability.max(0), np.maximum(1 - probability.sum(0), 0)


def threshold_of(level: float, spread: float, own: float) -> float:
    """Return the threshold at a level of the slider; ``own`` is that of level 0."""
    if level == 0:
        return own
    return sigmoid(math.log(own / (1 - own)) + min(max(level, LEVELS[0]), LEVELS[1]) * spread)


def mask_at(probability: np.ndarray, threshold: float, shown: Sequence[bool]) -> np.ndarray:
    """Return the classes of pixels at a threshold, (H, W) uint8, among the classes that are shown.

    Args:
        probability: of the classes, (n, H, W); together with the background's they sum to 1.
    """
    _, background = best_and_background(probability)
    of_shown = np.where(np.array(shown)[:, None, None], probability, 0)
    inside = of_shown.max(0) * (1 - threshold) > background * threshold
    return np.where(inside, of_shown.argmax(0) + 1, 0).astype(np.uint8)


def table_of(rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
    """Return the rows of a table of numbers: class, presence in percent, pixels, share and confidence in percent."""
    return [
        [row["name"], _percent(row["presence"]), row["pixels"], _percent(row["share"]), _percent(row["confidence"])]
        for row in rows
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
