"""A reader of Label Studio's brush strokes, bit by bit, as its format is defined."""

from __future__ import annotations

import numpy as np


def unpacked(content: list[int]) -> np.ndarray:
    """Return the values of a stroke, uint8."""
    bits = "".join(f"{byte:08b}" for byte in content)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated, count = take(1), take(sizes[take(2)]) + 1
        out += [take(word)] * count if repeated else [take(word) for _ in range(count)]
    return np.array(out, np.uint8)
