"""Run-length encodings of masks in COCO's two forms, with the checks that pycocotools omits."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle

RLE_ZERO, RLE_BITS, RLE_SIGN, RLE_MORE = 48, 5, 16, 32  # of COCO's text form of run lengths


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) bool in COCO's text form: {"size": [H, W], "counts": text}."""
    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def decoded(runs: dict[str, Any]) -> np.ndarray:
    """Return the mask of a run-length encoding in the text form, (H, W) bool.

    Raises:
        ValueError: the encoding is damaged.
    """
    height, width = runs["size"]
    return rle.decode(checked_runs(runs, height, width)).view(bool)


def checked_runs(shape: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return a run-length encoding in its compressed form after the checks that the decoder omits."""
    counts, size = shape.get("counts"), shape.get("size")
    if size != [height, width]:
        raise ValueError(f"its size is {size}, the image's [{height}, {width}]")
    if isinstance(counts, str):
        covered = sum(_runs(counts))
    elif isinstance(counts, np.ndarray) and counts.ndim == 1:
        covered = int(counts.sum(dtype=np.int64))
    else:
        raise ValueError("its counts are neither text nor a list of numbers")
    if covered != height * width:
        raise ValueError(f"its runs cover {covered} pixels, the image has {height * width}")
    return shape if isinstance(counts, str) else rle.frPyObjects(shape, height, width)


def _runs(counts: str) -> list[int]:
    """Return the runs of COCO's text form.

    Each character holds five bits of a number, the lowest first, and a bit that says whether more follow. From the
    fourth run on, the numbers are differences from the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - RLE_ZERO
        if not 0 <= group < 2 * RLE_MORE:
            raise ValueError(f"its counts hold '{character}'")
        value |= (group & (RLE_MORE - 1)) << shift
        shift += RLE_BITS
        if group & RLE_MORE:
            continue
        if group & RLE_SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise ValueError("one of its runs is negative")
        value = shift = 0
    if shift:
        raise ValueError("its counts end within a number")
    return runs
