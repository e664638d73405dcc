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
from util.files.mask_images import write_mask

MANIFEST = "mini.json"  # the parameters, in the data set's folder
IMAGES = "JPEGImages"
MASKS = "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"
CLASS_NAMES: tuple[str, ...] = (
    *("striped disc", "dotted star", "checkered ring", "wavy cross"),
    *("veined leaf", "grainy gear", "scaly crescent", "brick blob"),
)
VERSION = 2  # raise when the same parameters draw other pixels
SUPERSAMPLING = 3  # the scene is drawn this many times larger per axis, then averaged
AREAS = {1: (0.09, 0.34), 2: (0.09, 0.20)}  # objects -> range of the share of the image that each covers
# Ranges of the radius of flat patches and small shapes of the background, as shares of its shorter side.
PATCH_RADII = (0.1, 0.26)
SMALL_RADII = (0.02, 0.08)
CLASS_HUES = tuple((k / 8, (k / 8 + 0.42) % 1) for k in (0, 3, 6, 1, 4, 7, 2, 5))  # two mean hues per class

TILE = 64  # side of a period of a texture in pixels

Field = np.ndarray  # float32, one value per pixel of the image or of one object in it
Rng = np.random.Generator


class PlacedObject(NamedTuple):
    """An object in the supersampled image (h, w)."""

    inside: np.ndarray  # bool (h, w)
    u: Field  # its own coordinates of each pixel inside, about the unit circle
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


def _outlines(kind: str, rng: Rng) -> list[np.ndarray]:
    """Draw the outline of a shape about the unit circle, and that of its hole, if it has one: (n, 2) each."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    match kind:
        case "disc":
            return [_polar(angle, 1) * (1, rng.uniform(0.75, 1))]
        case "star":
            corners = 2 * int(rng.integers(5, 7))
            return [_polar(np.arange(corners) * 2 * np.pi / corners, np.resize((1, rng.uniform(0.45, 0.55)), corners))]
        case "ring":
            return [_polar(angle, 1), _polar(angle, rng.uniform(0.38, 0.5))]
        case "cross":
            narrow, long = rng.uniform(0.3, 0.38), 0.92
            arm = np.array([(narrow, narrow), (long, narrow), (long, -narrow)])
            return [np.concatenate([arm, arm[:, ::-1] * (1, -1), -arm, arm[:, ::-1] * (-1, 1)])]
        case "leaf":
            u, v = _polar(angle, 1).T
            taper = 1 - rng.uniform(0.15, 0.4) * u
            return [np.stack((u, rng.uniform(0.5, 0.62) * v * abs(v) * taper), 1)]
        case "gear":
            teeth = np.clip(3 * np.sin(rng.integers(8, 12) * angle), -1, 1)
            return [_polar(angle, 0.86 + 0.12 * teeth), _polar(angle, rng.uniform(0.18, 0.28))]
        case "crescent":
            bite = _polar(angle, rng.uniform(0.68, 0.8))
            return [_polar(angle, 1), bite + np.array((rng.uniform(0.5, 0.6), 0))]
        case _:  # blob
            waves = [rng.uniform(0.04, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)]
            return [_polar(angle, 0.78 + sum(waves))]


def _polar(angle: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    return np.stack((np.cos(angle), np.sin(angle)), 1) * np.broadcast_to(radius, angle.shape)[:, None]


def _painted(height: int, width: int, outlines: list[np.ndarray]) -> np.ndarray:
    """Return which pixels (height, width) lie inside the first outline and outside the second, in (x, y) each."""
    mask = np.zeros((height, width), np.uint8)
    for value, outline in zip((1, 0), outlines):
        cv2.fillPoly(mask, [outline.round().astype(np.int32)], value)
    return mask > 0


def _tile(kind: str, rng: Rng) -> np.ndarray:
    """Draw one period of a texture, the weights of its second colour: (TILE, TILE) float32 in {0, 1}."""
    half, quarter = TILE // 2, TILE // 4
    y, x = np.mgrid[:TILE, :TILE]
    tile = np.zeros((TILE, TILE), np.float32)
    match kind:
        case "striped":
            tile[:, :half] = 1
        case "dotted":
            for place in (quarter, 3 * quarter):
                cv2.circle(tile, (place, place), int(rng.integers(9, 13)), 1, -1)
        case "checkered":
            tile[:half, :half] = tile[half:, half:] = 1
        case "wavy":
            shifted = y + TILE * rng.uniform(0.15, 0.2) * np.sin(2 * np.pi * x / TILE)
            tile[shifted % TILE < half] = 1
        case "veined":
            to_midrib = np.minimum(y, TILE - y)
            tile[(to_midrib < 4) | ((x - to_midrib) % half < 6)] = 1
        case "grainy":
            tile[:] = np.kron(rng.integers(0, 2, (8, 8)), np.ones((TILE // 8, TILE // 8)))
        case "scaly":
            to_centre = np.hypot(np.abs(x - half), np.minimum(y, half))
            tile[to_centre > half - 6] = 1
        case _:  # brick
            tile[:] = 1
            tile[::half] = tile[1::half] = tile[2::half] = tile[3::half] = 0
            tile[:half, :4] = tile[half:, half : half + 4] = 0
    return tile


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
    outlines = _outlines(CLASS_NAMES[label - 1].split()[1], rng)
    unit_area = _painted(64, 64, [32 + 28 * outline for outline in outlines]).sum() / 28**2
    wanted_radius = np.sqrt(area * height * width / unit_area)
    radius = min(wanted_radius, 0.56 * min(height, width))
    sides = np.array((width, height))
    margin = np.minimum(0.8 * radius, sides / 2)
    centre = rng.uniform(margin, sides - margin)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    warp = radius * _rotation(rng) @ np.diag((stretch, 1 / stretch)) @ _rotation(rng)
    inside = _painted(height, width, [centre + outline @ warp.T for outline in outlines])
    pixels = np.argwhere(inside)[:, ::-1] - centre
    u, v = np.linalg.solve(warp, pixels.T).astype(np.float32)
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
    finest, coarsest = 6 * SUPERSAMPLING, 11 * SUPERSAMPLING  # half a period in supersampled pixels
    period = 2 * float(np.clip(placed.radius * rng.uniform(0.2, 0.28), finest, coarsest))
    tile = _tile(CLASS_NAMES[label - 1].split()[0], rng)
    row, column = (np.floor(x * placed.radius / period * TILE).astype(int) % TILE for x in (placed.v, placed.u))
    weight = tile[row, column][:, None]
    first, last = _class_colours(label, rng)
    return ((1 - weight) * first + weight * last) * _light(placed.u, placed.v, rng)[:, None]
