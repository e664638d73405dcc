"""Photos and labels drawn from a seed, and a silent change of a file."""

import os
from pathlib import Path

import cv2
import numpy as np

from util.data.augmentation import warp_training

IGNORE = 255


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return seeded(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def drawn_label(height: int, width: int, values: tuple[int, ...] = (0, 3, 7, IGNORE), seed: int = 0) -> np.ndarray:
    """Return a map of rectangles of the values."""
    coarse = np.array(values, np.uint8)[seeded(seed).integers(0, len(values), (6, 5))]
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def warped(image: np.ndarray, label: np.ndarray, *options) -> tuple[np.ndarray, np.ndarray]:
    """Return a random view of an image (H, W, 3) and its label, channels last again."""
    planes, classes, _ = warp_training(np.dstack([image, label]), *options)
    return planes.permute(1, 2, 0).numpy(), classes


def overwrite(path: Path, content: bytes, in_place: bool = True) -> None:
    """Give a file other content of the same size and time, or replace it by such a file."""
    before = path.stat()
    assert len(content) == before.st_size
    other = path if in_place else path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
