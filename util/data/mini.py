"""Draw the built-in data set of eight kinds of textured objects, in VOC's layout; no download."""

import argparse
import colorsys
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from util.cli import within
from util.files import kept_json
from util.files.errors import UserError
from util.files.images import write_mask

MANIFEST = "mini.json"  # the parameters, in the data set's folder
IMAGES = "JPEGImages"
MASKS = "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"
CLASS_NAMES: tuple[str, ...] = (
    *("striped disc", "dotted star", "checkered ring", "wavy cross"),
    *("veined leaf", "grainy gear", "scaly crescent", "brick blob"),
)
VERSION = 1  # raise when the same parameters draw other pixels
SUPERSAMPLING = 3  # the scene is drawn this many times larger per axis, then averaged
MIN_SIDE = 64  # px; below it the textures cannot be resolved, and no arrangement of objects may be found
AREAS = {1: (0.09, 0.34), 2: (0.09, 0.20)}  # objects -> range of the share of the image that each covers
# Ranges of the radius of flat patches and small shapes of the background, as shares of its shorter side.
PATCH_RADII = (0.1, 0.26)
SMALL_RADII = (0.02, 0.08)
CLASS_HUES = tuple((k / 8, (k / 8 + 0.42) % 1) for k in (0, 3, 6, 1, 4, 7, 2, 5))  # two mean hues per class

Field = np.ndarray  # float32, one value per pixel of the supersampled image or of one object in it
Rng = np.random.Generator


class PlacedObject(NamedTuple):
    """An object in the supersampled image (h, w)."""

    inside: np.ndarray  # bool (h, w)
    u: Field  # its own coordinates of each pixel
    v: Field
    radius: float  # in pixels


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare.py mini``."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to draw into")
    count = within(int, 2)
    parser.add_argument("--images", type=count, default=960, metavar="N", help="number of images, 5/6 of them to train")


def run(options: argparse.Namespace) -> int:
    """Draw the data set unless it is there already; errors as ``generate``."""
    from util.files.progress import ProgressBar  # only commands show bars

    train = round(options.images * 5 / 6)
    test = options.images - train
    progress = partial(ProgressBar, desc="draw mini", unit="image")
    is_new = generate(options.out, train, test, progress=progress)
    remark = "" if is_new else " exist already; nothing to do"
    print(f"{options.out}: {train} training and {test} test images{remark}")
    return 0


def generate(
    root: Path,
    images_train: int = 800,
    images_test: int = 160,
    side: int = 128,
    seed: int = 0,
    *,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> bool:
    """Draw the data set into the folder ``root`` unless it is there already; return whether it was drawn.

    Images are RGB JPEG files, masks are palette PNG files of class indices (0 background, 1..8 as in ``CLASS_NAMES``).

    Args:
        root: folder of the data set.
        images_train: number of training images.
        images_test: number of test images.
        side: longer side of the images in pixels.
        seed: another seed draws other images.
        progress: wraps the loop over image numbers, such as a bar.

    Raises:
        UserError: ``root`` holds something else.
    """
    root = Path(root).resolve()
    manifest: dict[str, Any] = {
        "version": VERSION,
        "images_train": images_train,
        "images_test": images_test,
        "side": side,
        "seed": seed,
        "classes": list(CLASS_NAMES),
    }
    if kept_json(root / MANIFEST) == manifest:
        return False
    if root.exists() and any(root.iterdir()):
        raise UserError(f"{root}: holds other files than this mini data set; remove it, or name another folder")
    ids = [f"mini_{number:06d}" for number in range(images_train + images_test)]
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as temporary:
        folder = Path(temporary) / root.name
        for path in (IMAGES, MASKS, LISTS):
            (folder / path).mkdir(parents=True)
        for number in progress(range(len(ids))):
            image, mask = draw_image(seed, number, side)
            Image.fromarray(image).save(folder / IMAGES / f"{ids[number]}.jpg", quality=95)
            write_mask(folder / MASKS / f"{ids[number]}.png", mask)
        _write_list(folder / LISTS / "train.txt", ids[:images_train])
        _write_list(folder / LISTS / "val.txt", ids[images_train:])
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        folder.rename(root)
    return True


def _write_list(path: Path, ids: list[str]) -> None:
    path.write_text("".join(f"{image_id}\n" for image_id in ids))


def _shape(label: int, u: Field, v: Field, rng: Rng) -> np.ndarray:
    """Return whether (bool) object coordinates u, v lie inside an object of class `label`, about the unit circle."""
    radius = np.hypot(u, v)
    angle = np.arctan2(v, u)
    match CLASS_NAMES[label - 1].split()[1]:
        case "disc":
            return np.hypot(u, v / rng.uniform(0.75, 1.0)) < 1
        case "star":
            half = np.pi / rng.integers(5, 7)
            inner = rng.uniform(0.45, 0.55)
            fold = np.abs((angle + half) % (2 * half) - half)  # angle to the nearest tip
            x = radius * np.cos(fold)
            y = radius * np.sin(fold)
            notch_x = inner * np.cos(half)  # the edge goes from the tip, (1, 0), to the notch
            notch_y = inner * np.sin(half)
            return (notch_x - 1) * y - notch_y * (x - 1) > 0
        case "ring":
            return (radius < 1) & (radius > rng.uniform(0.38, 0.5))
        case "cross":
            longer = np.maximum(np.abs(u), np.abs(v))
            shorter = np.minimum(np.abs(u), np.abs(v))
            return (longer < 0.92) & (shorter < rng.uniform(0.3, 0.38))
        case "leaf":
            widest = rng.uniform(0.5, 0.62)
            taper = 1 - rng.uniform(0.15, 0.4) * u
            half_width = widest * (1 - u**2) * taper
            return np.abs(v) < half_width
        case "gear":
            wave = np.sin(rng.integers(8, 12) * angle)
            teeth = np.clip(3 * wave, -1, 1)
            hole = rng.uniform(0.18, 0.28)
            return (radius < 0.86 + 0.12 * teeth) & (radius > hole)
        case "crescent":
            to_bite = np.hypot(u - rng.uniform(0.5, 0.6), v)
            return (radius < 1) & (to_bite > rng.uniform(0.68, 0.8))
        case _:  # blob
            outline = 0.78
            waves = 0
            for k in (2, 3, 4):
                height = rng.uniform(0.04, 0.12)
                phase = rng.uniform(0, 2 * np.pi)
                waves = waves + height * np.cos(k * angle + phase)
            return radius < outline + waves


def _soft(wave: Field) -> Field:
    return np.clip(0.5 + 2 * wave, 0, 1)


def _texture(label: int, x: Field, y: Field, rng: Rng) -> Field:
    """Return the weights in [0, 1] of the second colour at x, y, object coordinates in texture periods."""
    match CLASS_NAMES[label - 1].split()[0]:
        case "striped":
            return _soft(np.sin(2 * np.pi * x))
        case "dotted":
            row = np.floor(y)
            shifted = (x + row / 2) % 1  # every second row by half a period
            to_centre = np.hypot(shifted - 0.5, y - row - 0.5)
            dot_radius = rng.uniform(0.3, 0.36)
            return _soft(3 * (dot_radius - to_centre))
        case "checkered":
            return _soft(2 * np.sin(np.pi * x) * np.sin(np.pi * y))
        case "wavy":
            shifted = y + rng.uniform(0.28, 0.36) * np.sin(np.pi * x)
            return _soft(np.sin(2 * np.pi * shifted))
        case "veined":
            to_midrib = np.abs(y)
            slanted = (x + rng.uniform(0.8, 1.1) * to_midrib) % 1
            to_vein = np.minimum(np.abs(slanted - 0.5), to_midrib)
            return _soft(4 * (0.15 - to_vein))
        case "grainy":
            cells_per_period = 3
            table = rng.beta(0.5, 0.5, (64, 64)).astype(np.float32)
            i, j = (np.floor(cells_per_period * t).astype(int) % len(table) for t in (y, x))
            return table[i, j]
        case "scaly":
            x = 0.7 * x
            y = 0.7 * y
            row = np.floor(2 * y)
            across = (x + row / 2) % 1 - 0.5
            across_below = (x + row / 2 + 0.5) % 1 - 0.5
            lower = np.hypot(across, y - (row + 1) / 2)  # to the centre of the scale on top
            upper = np.hypot(across_below, y - row / 2)  # and of the scale that it overlaps
            to_centre = np.where(lower < 0.5, lower, upper)
            return np.clip(2 * to_centre, 0, 1) ** 3
        case _:  # brick
            row = np.floor(1.1 * y)
            shifted = (0.5 * x + row / 2) % 1
            across = np.abs(shifted - 0.5) / 0.5
            along = np.abs(1.1 * y - row - 0.5) / 1.1
            mortar = np.minimum(across, along)
            return _soft(5 * (mortar - 0.1))


def _class_colours(label: int, rng: Rng) -> np.ndarray:
    """Draw the two colours of an object of class `label`, one much darker: float32 (2, 3) RGB in [0, 1]."""
    hues = rng.permutation(CLASS_HUES[label - 1]) + rng.uniform(-0.07, 0.07, 2)  # of the full hue circle
    dark = rng.uniform(0.12, 0.5)
    light = min(1.0, dark + rng.uniform(0.35, 0.6))
    darker = colorsys.hsv_to_rgb(hues[0] % 1, rng.uniform(0.35, 0.95), dark)
    lighter = colorsys.hsv_to_rgb(hues[1] % 1, rng.uniform(0.2, 0.85), light)
    return np.array((darker, lighter), np.float32)[rng.permutation(2)]


def _clutter_colour(labels: list[int], rng: Rng) -> list[float]:
    """Draw one flat colour, with probability 1/2 from the hues of the classes that the image shows."""
    label = rng.choice(labels) if rng.random() < 0.5 else rng.integers(1, len(CLASS_NAMES) + 1)
    first, second = _class_colours(int(label), rng)
    weight = rng.choice((0.0, 0.5, 1.0))  # one of the two colours, or their mean
    return (weight * first + (1 - weight) * second).tolist()


def _light(x: Field, y: Field, rng: Rng) -> Field:
    """Return a lighting factor around 1 that rises linearly in a random direction of x, y in about [-1, 1]."""
    angle = rng.uniform(0, 2 * np.pi)
    amount = rng.uniform(0, 0.3)  # change of brightness
    return 1 + amount * (math.cos(angle) * x + math.sin(angle) * y)


def _background(height: int, width: int, labels: list[int], rng: Rng) -> np.ndarray:
    """Draw smooth colour gradients covered with flat patches, small shapes and lines: float32 (h, w, 3) in [0, 1]."""
    knots = np.array([_clutter_colour(labels, rng) for _ in range(9)], np.float32).reshape(3, 3, 3)
    image = np.ascontiguousarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC))
    patches = [PATCH_RADII] * int(rng.integers(4, 9))
    small_shapes = [SMALL_RADII] * int(rng.integers(10, 26))
    for radii in patches + small_shapes:
        _draw_clutter(image, radii, labels, rng)
    for _ in range(rng.integers(4, 13)):
        _draw_line(image, labels, rng)
    return np.clip(image, 0, 1)


def _draw_clutter(image: np.ndarray, radii: tuple[float, float], labels: list[int], rng: Rng) -> None:
    """Draw a flat ellipse or polygon into an image, whose radii are a random share of its shorter side."""
    height, width = image.shape[:2]
    centre = rng.uniform(0, np.array((width, height)))
    radius = min(height, width) * rng.uniform(*radii, 2)
    colour = _clutter_colour(labels, rng)
    if rng.random() < 0.35:
        axes = radius.astype(int).tolist()
        turn = rng.uniform(0, 180)
        cv2.ellipse(image, centre.astype(int).tolist(), axes, turn, 0, 360, colour, -1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = centre + radius * np.stack((np.cos(angles), np.sin(angles)), 1)
        cv2.fillPoly(image, [corners.astype(np.int32)], colour)


def _draw_line(image: np.ndarray, labels: list[int], rng: Rng) -> None:
    """Draw a line into an image."""
    height, width = image.shape[:2]
    start = rng.uniform(0, np.array((width, height)))
    end = start + rng.normal(0, 0.3 * min(height, width), 2)
    colour = _clutter_colour(labels, rng)
    thickness = int(rng.integers(1, 4)) * SUPERSAMPLING // 2 + 1
    cv2.line(image, start.astype(int).tolist(), end.astype(int).tolist(), colour, thickness)


def _rotation(rng: Rng) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))


def _place(label: int, height: int, width: int, area: float, rng: Rng) -> PlacedObject:
    """Place one object at random in an image of height x width, so that it covers about ``area`` of it."""
    shape_seed = int(rng.integers(2**31))  # the seed fixes the shape's own parameters
    v, u = np.mgrid[-1.1:1.1:64j, -1.1:1.1:64j]
    unit_area = 2.2**2 * _shape(label, u, v, np.random.default_rng(shape_seed)).mean()
    wanted_radius = np.sqrt(area * height * width / unit_area)
    radius = min(wanted_radius, 0.56 * min(height, width))
    sides = np.array((width, height))
    margin = np.minimum(0.8 * radius, sides / 2)
    centre = rng.uniform(margin, sides - margin)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    warp = _rotation(rng) @ np.diag((stretch, 1 / stretch)) @ _rotation(rng) / radius
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    right = x - centre[0]
    below = y - centre[1]
    u, v = ((a * right + b * below).astype(np.float32) for a, b in warp)
    inside = _shape(label, u, v, np.random.default_rng(shape_seed))
    return PlacedObject(inside, u, v, float(radius))


def _downsample(image: np.ndarray) -> np.ndarray:
    """Average blocks of SUPERSAMPLING x SUPERSAMPLING pixels: (S h, S w, ...) to float32 (h, w, ...)."""
    height, width = (side // SUPERSAMPLING for side in image.shape[:2])
    return cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)


def _arrange(labels: list[int], height: int, width: int, rng: Rng) -> tuple[np.ndarray, list[PlacedObject]]:
    """Place the objects (the last is nearest) until each is visible enough; return the uint8 mask and the objects."""
    low, high = AREAS[len(labels)]
    while True:
        mask = np.zeros((height, width), np.uint8)
        objects: list[PlacedObject] = []
        whole_areas = []
        for label in labels:
            area = np.exp(rng.uniform(np.log(low), np.log(high)))
            placed = _place(label, height * SUPERSAMPLING, width * SUPERSAMPLING, area, rng)
            objects.append(placed)
            covered = _downsample(placed.inside) >= 0.5
            whole_areas.append(covered.mean())
            mask[covered] = label
        visible_areas = [(mask == label).mean() for label in labels]
        # Each covers 5 % of the image or more, and a nearer object hides 45 % of it at most.
        needed_areas = [max(0.05, (1 - 0.45) * area) for area in whole_areas]
        if all(visible >= needed for visible, needed in zip(visible_areas, needed_areas, strict=True)):
            return mask, objects


def draw_image(seed: int, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image `number`, RGB uint8 (h, w, 3) with longer side ``side``, and its class indices uint8 (h, w)."""
    rng = np.random.default_rng([seed, number])
    shorter_side = round(side * rng.uniform(0.75, 1.0))
    height, width = rng.permutation((side, shorter_side)).tolist()
    labels = rng.permutation(_classes_of(seed, number)).tolist()
    mask, objects = _arrange(labels, height, width, rng)
    scene = _background(height * SUPERSAMPLING, width * SUPERSAMPLING, labels, rng)
    for label, placed in zip(labels, objects, strict=True):
        scene[placed.inside] = _object_colours(label, placed, rng)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    image = _downsample(scene) * _light(x, y, rng)[..., None]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    image += rng.normal(0, rng.uniform(0.01, 0.03), image.shape)
    return np.clip(image * 255, 0, 255).round().astype(np.uint8), mask


def _classes_of(seed: int, number: int) -> np.ndarray:
    """Return the classes of an image's objects: a block of eight images holds every class equally."""
    block, position = divmod(number, len(CLASS_NAMES))
    order = 1 + np.random.default_rng([seed, block, 1]).permutation(len(CLASS_NAMES))
    has_two_objects = block * 7 % 20 < 7  # in 7 of 20 blocks (35 %)
    if not has_two_objects:
        return order[[position]]
    second = (position + 1 + block % (len(CLASS_NAMES) - 1)) % len(CLASS_NAMES)
    return order[[position, second]]


def _object_colours(label: int, placed: PlacedObject, rng: Rng) -> np.ndarray:
    """Return the colours (pixels, 3) inside an object with its texture and a lighting of its own."""
    u = placed.u[placed.inside]
    v = placed.v[placed.inside]
    finest, coarsest = 6 * SUPERSAMPLING, 11 * SUPERSAMPLING  # texture period in supersampled pixels
    period = float(np.clip(placed.radius * rng.uniform(0.2, 0.28), finest, coarsest))
    scale = placed.radius / period
    if CLASS_NAMES[label - 1] == "veined leaf":
        shift_u, shift_v = 0.0, 0.0
    else:
        shift_u, shift_v = rng.uniform(0, 8, 2).tolist()
    weight = _texture(label, u * scale + shift_u, v * scale + shift_v, rng)[:, None]
    first, last = _class_colours(label, rng)
    return ((1 - weight) * first + weight * last) * _light(u, v, rng)[:, None]
