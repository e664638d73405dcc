"""Run-length encodings of masks in COCO's two forms, with the check that pycocotools omits."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) bool in COCO's text form: {"size": [H, W], "counts": text}."""
    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def decoded(runs: dict[str, Any]) -> np.ndarray:
    """Return the mask of a run-length encoding, (H, W) bool; its counts are text or an array of numbers.

    Raises:
        ValueError: the encoding is damaged: pycocotools leaves pixels that no run covers to chance.
    """
    (height, width), counts = runs["size"], runs["counts"]
    covered = _covered(counts) if isinstance(counts, str) else int(counts.sum(dtype=np.int64))
    if covered != height * width:
        raise ValueError(f"its runs cover {covered} pixels, the image has {height * width}")
    return rle.decode(runs if isinstance(counts, str) else rle.frPyObjects(runs, height, width)).view(bool)


def _covered(counts: str) -> int:
    """Return the number of pixels that the runs of COCO's text form cover.

    Each character holds five bits of a number, the lowest first, and a bit that says whether more follow. From the
    fourth run on, the numbers are differences from the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode():
        group = character - ord("0")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            sign = (group & 16) << (shift - 4)
            runs.append(value - sign + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs)
