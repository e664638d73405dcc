"""Pictures for the browser: reduced photos, masks as transparent layers, thumbnails."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from util.data.marks import RADIUS_SHARE, UNKNOWN
from util.page.marks import TOOLS
from util.report.overlay import class_colour, overlay

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
