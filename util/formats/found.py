"""Predictions in one form, from which every format is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class FoundObject(NamedTuple):
    """A class found on a photo, or one connected part of it.

    runs: its mask in COCO's text form {"size", "counts"}; box: x0, y0, x1, y1, which covers columns x0 .. x1 - 1 and
    rows y0 .. y1 - 1; score: mean probability over its pixels; area: in pixels.
    """

    name: str
    score: float
    area: int
    box: tuple[int, int, int, int]
    runs: dict[str, Any]


class FoundPhoto(NamedTuple):
    """A photo, its upright size, and the objects found on it."""

    path: Path
    height: int
    width: int
    objects: tuple[FoundObject, ...]
