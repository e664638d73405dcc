"""Draw a small data set of VOC-sized photos, in VOC's folder layout: coloured ellipses on cloud-like noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from model.episode import IGNORE
from util.data.images import write_mask

LONGER, SHORTER = 500, 375  # sides of a VOC photo
PORTRAIT_EVERY = 4  # photos, of which one is higher than wide
OCTAVES = ((4, 110), (16, 60), (64, 40), (256, 24))  # (cells along the longer side, amplitude in grey levels)
GRAIN = 7  # standard deviation of the pixel noise; it makes files as large as VOC's, about 110 kB
JPEG_QUALITY = 95
RADII = (0.15, 0.35)  # of the shorter side
CENTRES = (0.3, 0.7)  # of each side
MIDDLE, TINT = 128, 60  # grey level of the background, and largest deviation of an object's colour
BORDER = 5  # width in pixels of the ignored border of an object
FULL_CIRCLE = 360  # degrees


def draw(root: Path, images: int, classes: list[int], list_file: str, folders: tuple[str, str]) -> None:
    """Draw photos and masks and write their list; the photos show the ``classes`` in turn.

    Args:
        list_file: the list to write, relative to ``root``.
        folders: of photos and of masks, relative to ``root``.
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
    """Return a photo (H, W, 3) uint8 and its map of class ids (H, W) uint8."""
    random = np.random.default_rng(number)
    height, width = (LONGER, SHORTER) if number % PORTRAIT_EVERY == 0 else (SHORTER, LONGER)
    photo = np.full((height, width, 3), MIDDLE, np.float32)
    for cells, levels in OCTAVES:
        grid = random.uniform(-levels, levels, (max(cells * height // LONGER, 2), max(cells * width // LONGER, 2), 3))
        photo += cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    inside = np.zeros((height, width), np.uint8)
    centre = (random.uniform(*CENTRES, 2) * (width, height)).astype(int).tolist()
    axes = (random.uniform(*RADII, 2) * SHORTER).astype(int).tolist()
    angle, colour = random.uniform(0, FULL_CIRCLE), random.uniform(-TINT, TINT, 3)
    cv2.ellipse(inside, centre, axes, angle, 0, FULL_CIRCLE, 1, cv2.FILLED)
    mask = inside * np.uint8(class_id)
    cv2.ellipse(mask, centre, axes, angle, 0, FULL_CIRCLE, IGNORE, BORDER)
    photo += colour * inside[..., None] + random.normal(0, GRAIN, photo.shape)
    return np.clip(photo, 0, 255).astype(np.uint8), mask
