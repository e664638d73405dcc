"""Draw the built-in data set of eight kinds of textured objects, in VOC's layout; no download."""

import argparse
import colorsys
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from util.cli import within
from util.data.images.read import write_mask
from util.errors import UserError
from util.files import kept_json

MANIFEST = "mini.json"  # the parameters, in the data set's folder
IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"
CLASS_NAMES: tuple[str, ...] = (
    *("striped disc", "dotted star", "checkered ring", "wavy cross"),
    *("veined leaf", "grainy gear", "scaly crescent", "brick blob"),
)
VERSION = 1  # raise when the same parameters draw other pixels
SUPERSAMPLING = 3  # the scene is drawn this many times larger per axis, then averaged
MIN_SIDE = 64  # px; below it the textures cannot be resolved, and no arrangement of objects may be found
AREAS = {1: (0.09, 0.34), 2: (0.09, 0.20)}  # objects -> range of the share of the image that each covers
CLASS_HUES = tuple((k / 8, (k / 8 + 0.42) % 1) for k in (0, 3, 6, 1, 4, 7, 2, 5))  # two mean hues per class

Field = np.ndarray  # float32, one value per pixel of the supersampled image or of one object in it
Rng = np.random.Generator
PlacedObject = tuple[np.ndarray, Field, Field, float]  # bool (h, w): inside; coordinates u, v; radius in pixels


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare.py mini``."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to draw into")
    count, side, seed = within(int, 2), within(int, MIN_SIDE, 4096), within(int, 0)
    parser.add_argument("--images", type=count, default=960, metavar="N", help="number of images, 5/6 of them to train")
    parser.add_argument("--size", type=side, default=128, metavar="S", help="longer side in pixels")
    parser.add_argument("--seed", type=seed, default=0, metavar="K", help="another seed draws other images")


def run(options: argparse.Namespace) -> int:
    """Draw the data set unless it is there already; errors as ``generate``."""
    from util.progress import ProgressBar  # only commands show bars

    train = round(options.images * 5 / 6)
    test, progress = options.images - train, partial(ProgressBar, desc="draw mini", unit="image")
    drawn = generate(options.out, train, test, options.size, options.seed, progress=progress)
    there = "" if drawn else " exist already; nothing to do"
    print(f"{options.out}: {train} training and {test} test images{there}")
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

    Images are RGB JPEG files whose longer side is ``side`` pixels; masks are palette PNG files of class indices (0
    background, 1..8 as in ``CLASS_NAMES``). ``progress`` wraps the loop over image numbers, such as a bar. UserError:
    ``root`` holds something else.
    """
    root = Path(root).resolve()
    manifest: dict[str, Any] = {"version": VERSION, "images_train": images_train, "images_test": images_test}
    manifest |= {"side": side, "seed": seed, "classes": list(CLASS_NAMES)}
    if kept_json(root / MANIFEST) == manifest:
        return False
    if root.exists() and any(root.iterdir()):
        raise UserError(f"{root} does not hold the mini data set of these parameters; remove it or name another folder")
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
        for name, part in (("train", ids[:images_train]), ("val", ids[images_train:])):
            (folder / LISTS / f"{name}.txt").write_text("".join(f"{key}\n" for key in part))
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        folder.rename(root)
    return True


def _shape(label: int, u: Field, v: Field, rng: Rng) -> np.ndarray:
    """Return whether (bool) object coordinates u, v lie inside an object of class `label`, about the unit circle."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    match CLASS_NAMES[label - 1].split()[1]:
        case "disc":
            return np.hypot(u, v / rng.uniform(0.75, 1.0)) < 1
        case "star":
            half, inner = np.pi / rng.integers(5, 7), rng.uniform(0.45, 0.55)
            fold = np.abs((angle + half) % (2 * half) - half)  # angle to the nearest tip
            x, y = radius * np.cos(fold), radius * np.sin(fold)
            return (inner * np.cos(half) - 1) * y - inner * np.sin(half) * (x - 1) > 0
        case "ring":
            return (radius < 1) & (radius > rng.uniform(0.38, 0.5))
        case "cross":
            a, b = np.abs(u), np.abs(v)
            return (np.maximum(a, b) < 0.92) & (np.minimum(a, b) < rng.uniform(0.3, 0.38))
        case "leaf":
            return np.abs(v) < rng.uniform(0.5, 0.62) * (1 - u**2) * (1 - rng.uniform(0.15, 0.4) * u)
        case "gear":
            teeth = np.clip(3 * np.sin(rng.integers(8, 12) * angle), -1, 1)
            return (radius < 0.86 + 0.12 * teeth) & (radius > rng.uniform(0.18, 0.28))
        case "crescent":
            return (radius < 1) & (np.hypot(u - rng.uniform(0.5, 0.6), v) > rng.uniform(0.68, 0.8))
        case _:  # blob
            waves = (rng.uniform(0.04, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
            return radius < 0.78 + sum(waves)


def _soft(wave: Field) -> Field:
    return np.clip(0.5 + 2 * wave, 0, 1)


def _texture(label: int, x: Field, y: Field, rng: Rng) -> Field:
    """Return the weights in [0, 1] of the second colour at x, y, object coordinates in texture periods."""
    match CLASS_NAMES[label - 1].split()[0]:
        case "striped":
            return _soft(np.sin(2 * np.pi * x))
        case "dotted":
            row = np.floor(y)
            return _soft(3 * (rng.uniform(0.3, 0.36) - np.hypot((x + row / 2) % 1 - 0.5, y - row - 0.5)))
        case "checkered":
            return _soft(2 * np.sin(np.pi * x) * np.sin(np.pi * y))
        case "wavy":
            return _soft(np.sin(2 * np.pi * (y + rng.uniform(0.28, 0.36) * np.sin(np.pi * x))))
        case "veined":
            side = np.abs((x + rng.uniform(0.8, 1.1) * np.abs(y)) % 1 - 0.5)
            return _soft(4 * (0.15 - np.minimum(side, np.abs(y))))
        case "grainy":
            cells_per_period, table = 3, rng.beta(0.5, 0.5, (64, 64)).astype(np.float32)
            i, j = (np.floor(cells_per_period * t).astype(int) % len(table) for t in (y, x))
            return table[i, j]
        case "scaly":
            x, y = 0.7 * x, 0.7 * y
            row = np.floor(2 * y)
            lower = np.hypot((x + row / 2) % 1 - 0.5, y - (row + 1) / 2)  # to the centre of the scale on top
            upper = np.hypot((x + row / 2 + 0.5) % 1 - 0.5, y - row / 2)  # and of the scale that it overlaps
            return np.clip(2 * np.where(lower < 0.5, lower, upper), 0, 1) ** 3
        case _:  # brick
            row = np.floor(1.1 * y)
            mortar = np.minimum(np.abs((0.5 * x + row / 2) % 1 - 0.5) / 0.5, np.abs(1.1 * y - row - 0.5) / 1.1)
            return _soft(5 * (mortar - 0.1))


def _class_colours(label: int, rng: Rng) -> np.ndarray:
    """Draw the two colours of an object of class `label`, one much darker: float32 (2, 3) RGB in [0, 1]."""
    hues = rng.permutation(CLASS_HUES[label - 1]) + rng.uniform(-0.07, 0.07, 2)  # of the full hue circle
    dark = rng.uniform(0.12, 0.5)
    light = min(1.0, dark + rng.uniform(0.35, 0.6))
    saturations = rng.uniform(0.35, 0.95), rng.uniform(0.2, 0.85)
    pair = [colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hues, saturations, (dark, light), strict=True)]
    return np.array(pair, np.float32)[rng.permutation(2)]


def _clutter_colour(labels: list[int], rng: Rng) -> list[float]:
    """Draw one flat colour, with probability 1/2 from the hues of the classes that the image shows."""
    label = int(rng.choice(labels)) if rng.random() < 0.5 else int(rng.integers(1, len(CLASS_NAMES) + 1))
    colours = _class_colours(label, rng)
    weight = rng.choice((0.0, 0.5, 1.0))  # one of the two colours, or their mean
    return (weight * colours[0] + (1 - weight) * colours[1]).tolist()


def _light(x: Field, y: Field, rng: Rng) -> Field:
    """Return a lighting factor around 1 that rises linearly in a random direction of x, y in about [-1, 1]."""
    angle, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)  # change of brightness
    return 1 + amount * (math.cos(angle) * x + math.sin(angle) * y)


def _background(height: int, width: int, labels: list[int], rng: Rng) -> np.ndarray:
    """Draw smooth colour gradients covered with flat patches, small shapes and lines: float32 (h, w, 3) in [0, 1]."""
    knots = np.array([_clutter_colour(labels, rng) for _ in range(9)], np.float32).reshape(3, 3, 3)
    image = np.ascontiguousarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC))
    extent, size = min(height, width), np.array((width, height))
    large, small = (0.1, 0.26), (0.02, 0.08)
    for low, high in [large] * int(rng.integers(4, 9)) + [small] * int(rng.integers(10, 26)):
        centre, radius = rng.uniform(0, size), extent * rng.uniform(low, high, 2)
        colour = _clutter_colour(labels, rng)
        if rng.random() < 0.35:
            axes = radius.astype(int).tolist()
            cv2.ellipse(image, centre.astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, colour, -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            corners = centre + radius * np.stack((np.cos(angles), np.sin(angles)), 1)
            cv2.fillPoly(image, [corners.astype(np.int32)], colour)
    for _ in range(rng.integers(4, 13)):
        origin, step = rng.uniform(0, size), rng.normal(0, 0.3 * extent, 2)
        start, end = (point.astype(int).tolist() for point in (origin, origin + step))
        cv2.line(image, start, end, _clutter_colour(labels, rng), int(rng.integers(1, 4)) * SUPERSAMPLING // 2 + 1)
    return np.clip(image, 0, 1)


def _rotation(rng: Rng) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))


def _place(label: int, height: int, width: int, area: float, rng: Rng) -> PlacedObject:
    """Place one object at random in an image of height x width, so that it covers about ``area`` of it."""
    shape_seed = int(rng.integers(2**31))  # the seed fixes the shape's own parameters
    v, u = np.mgrid[-1.1:1.1:64j, -1.1:1.1:64j]
    unit_area = 2.2**2 * _shape(label, u, v, np.random.default_rng(shape_seed)).mean()
    radius = min(np.sqrt(area * height * width / unit_area), 0.56 * min(height, width))
    margin = np.minimum(0.8 * radius, np.array((width, height)) / 2)
    centre = rng.uniform(margin, np.array((width, height)) - margin)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    warp = _rotation(rng) @ np.diag((stretch, 1 / stretch)) @ _rotation(rng) / radius
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = ((row[0] * (x - centre[0]) + row[1] * (y - centre[1])).astype(np.float32) for row in warp)
    return _shape(label, u, v, np.random.default_rng(shape_seed)), u, v, float(radius)


def _downsample(image: np.ndarray) -> np.ndarray:
    """Average blocks of SUPERSAMPLING x SUPERSAMPLING pixels: (S h, S w, ...) to float32 (h, w, ...)."""
    size = image.shape[1] // SUPERSAMPLING, image.shape[0] // SUPERSAMPLING
    return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def _arrange(labels: list[int], height: int, width: int, rng: Rng) -> tuple[np.ndarray, list[PlacedObject]]:
    """Place the objects (the last is nearest) until each is visible enough; return the uint8 mask and the objects."""
    low, high = AREAS[len(labels)]
    while True:
        mask, objects, alone = np.zeros((height, width), np.uint8), list[PlacedObject](), []
        for label in labels:
            area = np.exp(rng.uniform(np.log(low), np.log(high)))
            objects.append(_place(label, height * SUPERSAMPLING, width * SUPERSAMPLING, area, rng))
            covered = _downsample(objects[-1][0]) >= 0.5
            alone.append(covered.mean())
            mask[covered] = label
        seen = [(mask == label).mean() for label in labels]
        # Each covers 5 % of the image or more, and a nearer object hides 45 % of it at most.
        if all(s >= max(0.05, (1 - 0.45) * a) for s, a in zip(seen, alone, strict=True)):
            return mask, objects


def draw_image(seed: int, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image `number`, RGB uint8 (h, w, 3) with longer side ``side``, and its class indices uint8 (h, w)."""
    rng = np.random.default_rng([seed, number])
    height, width = rng.permutation((side, round(side * rng.uniform(0.75, 1.0)))).tolist()
    block, position = divmod(number, len(CLASS_NAMES))  # a block of eight images holds every class equally
    order = 1 + np.random.default_rng([seed, block, 1]).permutation(len(CLASS_NAMES))
    second = (position + 1 + block % (len(CLASS_NAMES) - 1)) % len(CLASS_NAMES)
    chosen = [position, second] if block * 7 % 20 < 7 else [position]  # two objects in 7 of 20 blocks (35 %)
    labels = rng.permutation(order[chosen]).tolist()
    mask, objects = _arrange(labels, height, width, rng)
    scene = _background(height * SUPERSAMPLING, width * SUPERSAMPLING, labels, rng)
    for label, (inside, u, v, radius) in zip(labels, objects, strict=True):  # with their textures and own lighting
        u, v = u[inside], v[inside]
        finest, coarsest = 6 * SUPERSAMPLING, 11 * SUPERSAMPLING  # texture period in supersampled pixels
        scale = radius / float(np.clip(radius * rng.uniform(0.2, 0.28), finest, coarsest))
        shift = (0.0, 0.0) if CLASS_NAMES[label - 1] == "veined leaf" else rng.uniform(0, 8, 2).tolist()
        weight = _texture(label, u * scale + shift[0], v * scale + shift[1], rng)[:, None]
        first, last = _class_colours(label, rng)
        scene[inside] = ((1 - weight) * first + weight * last) * _light(u, v, rng)[:, None]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    image = _downsample(scene) * _light(x, y, rng)[..., None]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    image += rng.normal(0, rng.uniform(0.01, 0.03), image.shape)
    return np.clip(image * 255, 0, 255).round().astype(np.uint8), mask
