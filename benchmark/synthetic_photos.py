"""Draw a small data set of VOC-sized photos in VOC's folder layout: grounds of cloud-like noise, coloured ellipses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from model.contract import IGNORE
from util.data.images import write_mask

LONGER, SHORTER = 500, 375  # sides of a VOC photo
PORTRAITS = 4  # every so many-th photo stands upright
OCTAVES = ((4, 110), (16, 60), (64, 40), (256, 24))  # (cells along the longer side, grey levels either way)
GRAIN = 7  # deviation of the sensor-like noise; with it files are as large as VOC's, about 110 kB
JPEG_QUALITY = 95
RADII = (0.15, 0.35)  # of the shorter side
CENTRES = (0.3, 0.7)  # of each side
MIDDLE, TINT = 128, 60  # grey level, and by how much an object's colour differs
BORDER = 5  # pixels round an object that are neither right nor wrong
ROUND = 360  # degrees


def draw(root: Path, images: int, classes: list[int], list_file: str, folders: tuple[str, str]) -> None:
    """Draw photos, masks and the list of them; photo i shows an object of class i of ``classes``, taken in turn.

    Args:
        list_file: the list to write, from ``root``.
        folders: of photos and of masks.
    """
    names = [f"drawn_{number:06d}" for number in range(images)]
    for folder in (*folders, Path(list_file).parent):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        photo, mask = _photo(number, classes[number % len(classes)])
        cv2.imwrite(str(root / folders[0] / f"{name}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        write_mask(root / folders[1] / f"{name}.png", mask)
    (root / list_file).write_text("".join(f"{name}\n" for name in names))


def _photo(number: int, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo (H, W, 3) uint8 and its map of class ids."""
    random = np.random.default_rng(number)
    height, width = (LONGER, SHORTER) if number % PORTRAITS == 0 else (SHORTER, LONGER)
    photo = np.full((height, width, 3), MIDDLE, np.float32)
    for cells, levels in OCTAVES:
        grid = random.uniform(-levels, levels, (max(cells * height // LONGER, 2), max(cells * width // LONGER, 2), 3))
        photo += cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    inside = np.zeros((height, width), np.uint8)
    centre = (random.uniform(*CENTRES, 2) * (width, height)).astype(int).tolist()
    axes = (random.uniform(*RADII, 2) * SHORTER).astype(int).tolist()
    angle, colour = random.uniform(0, ROUND), random.uniform(-TINT, TINT, 3)
    cv2.ellipse(inside, centre, axes, angle, 0, ROUND, 1, cv2.FILLED)
    mask = inside * np.uint8(class_id)
    cv2.ellipse(mask, centre, axes, angle, 0, ROUND, IGNORE, BORDER)
    photo += colour * inside[..., None] + random.normal(0, GRAIN, photo.shape)
    return np.clip(photo, 0, 255).astype(np.uint8), mask
