"""Draw the built-in data set of eight kinds of textured objects, in VOC's layout; no download."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from util.cli import within
from util.files.mask_images import write_mask
from util.files.output_folders import made_aside
from util.files.parallel import parallel_map
from util.files.reading import kept_json

RECORD = "mini.json"  # the parameters, in the data set's folder
IMAGES = "JPEGImages"
MASKS = "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"
CLASS_NAMES = (  # texture and shape; the two of a fold differ in both
    *("striped disc", "dotted star", "checkered ring", "striped star"),
    *("dotted ring", "checkered disc", "striped ring", "dotted disc"),
)
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # of waves across and down
    "striped": lambda across, _: across > 0,
    "dotted": lambda across, down: across + down > 0.8,
    "checkered": lambda across, down: across * down > 0,
}
VERSION = 3  # raise when the same parameters draw other pixels
SUPERSAMPLING = 3  # the scene is drawn this many times larger per axis, then averaged
RADII = {1: (0.3, 0.5), 2: (0.27, 0.36)}  # objects -> range of their radius, as a share of the shorter side
FEWEST_TESTED = 16  # images of a small set that are tested, so that each class has some
LEAST_AREA = 0.08  # share of the image in which each object is visible
CLUTTER_RADII = (0.03, 0.25)  # range of the radius of flat patches, as a share of the shorter side

Coordinates = tuple[np.ndarray, np.ndarray]  # u and v of each pixel in an object's own frame, with the radius as unit
Rng = np.random.Generator


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare.py mini``."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to draw into")
    parser.add_argument(
        "--images", type=within(int, 2), default=960, metavar="N", help="number of images, 1/6 of them to test"
    )


def run(options: argparse.Namespace) -> int:
    """Draw the data set unless it is there already; raises as ``generate`` does."""
    test = max(options.images // 6, min(FEWEST_TESTED, options.images // 2))
    train = options.images - test
    is_new = generate(options.out, train, test, progress=True)
    print(f"{options.out}: {train} training and {test} test images{'' if is_new else ' exist already; nothing to do'}")
    return 0


def generate(
    root: Path,
    images_train: int = 800,
    images_test: int = 160,
    side: int = 128,
    seed: int = 0,
    *,
    progress: bool = False,
) -> bool:
    """Draw the data set into the folder ``root``, in place of another mini; return False if it is there already.

    Images are RGB JPEG files, masks are palette PNG files of class indices (0 background, 1..8 as in ``CLASS_NAMES``).

    Args:
        root: folder of the data set.
        images_train: number of training images.
        images_test: number of test images.
        side: longer side of the images in pixels.
        seed: another seed draws other images.
        progress: whether a bar is shown.

    Raises:
        UserError: ``root`` holds other files.
    """
    root = Path(root).resolve()
    record: dict[str, Any] = {
        "version": VERSION,
        "images_train": images_train,
        "images_test": images_test,
        "side": side,
        "seed": seed,
        "classes": list(CLASS_NAMES),
    }
    if kept_json(root / RECORD) == record:
        return False
    with made_aside(root, RECORD) as folder:
        for path in (IMAGES, MASKS, LISTS):
            (folder / path).mkdir(parents=True)
        draw = partial(_draw_into, folder, seed, side)
        ids = [*parallel_map(draw, range(images_train + images_test), "draw mini", progress=progress)]
        for name, listed in {"train.txt": ids[:images_train], "val.txt": ids[images_train:]}.items():
            (folder / LISTS / name).write_text("".join(f"{image_id}\n" for image_id in listed))
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return True


def _draw_into(folder: Path, seed: int, side: int, number: int) -> str:
    """Write an image and its mask, and return their name."""
    name = f"mini_{number:06d}"
    image, mask = draw_image(seed, number, side)
    Image.fromarray(image).save(folder / IMAGES / f"{name}.jpg", quality=95)
    write_mask(folder / MASKS / f"{name}.png", mask)
    return name


def draw_image(seed: int, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image `number`, RGB uint8 (h, w, 3) with longer side ``side``, and its class indices uint8 (h, w)."""
    rng = np.random.default_rng([seed, number])
    labels = rng.permutation(_classes_of(seed, number)).tolist()
    height, width = rng.permutation((side, round(side * rng.uniform(0.75, 1.0)))).tolist()
    large = height * SUPERSAMPLING, width * SUPERSAMPLING
    mask, objects = _arrange(labels, *large, rng)
    colours = [_two_colours(rng) for _ in labels]
    scene = _background(*large, np.concatenate((*colours, _two_colours(rng))), rng)
    for label, (u, v), (first, second) in zip(labels, objects, colours, strict=True):
        is_first = _texture(CLASS_NAMES[label - 1].split()[0], u, v, rng)
        scene[(mask == label) & is_first] = first
        scene[(mask == label) & ~is_first] = second
    noise = rng.normal(0, 0.02, (height, width, 3))
    image = cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA) + noise
    small_mask = mask[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING]
    return np.clip(image * 255, 0, 255).round().astype(np.uint8), small_mask


def _classes_of(seed: int, number: int) -> np.ndarray:
    """Return the classes of an image's objects: a block of eight images holds every class equally."""
    block, position = divmod(number, len(CLASS_NAMES))
    order = 1 + np.random.default_rng([seed, block, 1]).permutation(len(CLASS_NAMES))
    objects = 2 if block % 3 == 0 else 1
    return np.roll(order, -position)[:objects]


def _arrange(labels: list[int], height: int, width: int, rng: Rng) -> tuple[np.ndarray, list[Coordinates]]:
    """Place the objects (the last is nearest) until each is visible enough; return the uint8 mask and the objects."""
    while True:
        mask = np.zeros((height, width), np.uint8)
        objects = [_place(height, width, RADII[len(labels)], rng) for _ in labels]
        for label, (u, v) in zip(labels, objects, strict=True):
            mask[_shape(CLASS_NAMES[label - 1].split()[1], u, v)] = label
        if all((mask == label).mean() >= LEAST_AREA for label in labels):
            return mask, objects


def _place(height: int, width: int, radii: tuple[float, float], rng: Rng) -> Coordinates:
    """Place an object at random and turn it."""
    radius = min(height, width) * rng.uniform(*radii)
    margin = 0.8 * radius
    centre_y, centre_x = rng.uniform(margin, (height - margin, width - margin))
    y, x = np.mgrid[:height, :width]
    down, right = (y - centre_y) / radius, (x - centre_x) / radius
    angle = rng.uniform(0, 2 * np.pi)
    return np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right


def _shape(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return which pixels lie inside a disc, a ring or a star of five rounded points."""
    radius = np.hypot(u, v)
    if kind == "star":
        return radius < 0.72 + 0.28 * np.cos(5 * np.arctan2(v, u))
    return (radius < 1) & (radius > (0.45 if kind == "ring" else 0))


def _texture(kind: str, u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    """Return which pixels of an object have the first of its two colours."""
    half_period = rng.uniform(0.2, 0.28)
    wave_u, wave_v = np.sin(np.pi / half_period * u), np.sin(np.pi / half_period * v)
    return TEXTURES[kind](wave_u, wave_v)


def _two_colours(rng: Rng) -> np.ndarray:
    """Draw a dark and a light RGB colour, in any order: (2, 3) in [0, 1]."""
    dark = rng.uniform(0, 0.45, 3)
    light = dark + rng.uniform(0.25, 0.55, 3)
    return rng.permutation((dark, light))


def _background(height: int, width: int, colours: np.ndarray, rng: Rng) -> np.ndarray:
    """Draw a smooth change of colours covered with flat polygons, in mixtures of ``colours``: (h, w, 3) in [0, 1]."""
    polygons = rng.integers(20, 41)
    mixtures = rng.dirichlet(np.full(len(colours), 0.2), size=9 + polygons) @ colours
    image = cv2.resize(mixtures[:9].reshape(3, 3, 3), (width, height))
    for colour in mixtures[9:].tolist():
        radius = min(height, width) * np.exp(rng.uniform(*np.log(CLUTTER_RADII)))
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = rng.uniform(0, (width, height)) + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
        cv2.fillPoly(image, [corners.astype(np.int32)], colour)
    return image
