"""Writes the built-in data set, eight classes of textured objects, in the folder layout of PASCAL VOC."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from util.data.images.read import write_mask
from util.data.mini_drawing import CLASS_NAMES, MAX_SIDE, MIN_SIDE, VERSION, draw_image
from util.errors import UserError
from util.files import kept_json

MANIFEST = "mini.json"  # the parameters, in the data set's folder
IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"
JPEG_QUALITY = 95


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

    Images are RGB JPEG files whose longer side is ``side`` pixels; masks are palette PNG files of class indices
    (0 background, 1..8 as in ``CLASS_NAMES``).

    Args:
        progress: wraps the loop over image numbers, such as tqdm.

    Raises:
        UserError: impossible sizes, or ``root`` holds something else.
    """
    if min(images_train, images_test) < 1 or not MIN_SIDE <= side <= MAX_SIDE or seed < 0:
        raise UserError(
            f"mini: needs an image for each split, a side of {MIN_SIDE} to {MAX_SIDE} and a seed of 0 or more"
        )
    root = Path(root).resolve()
    manifest: dict[str, Any] = {"version": VERSION, "images_train": images_train, "images_test": images_test}
    manifest |= {"side": side, "seed": seed, "classes": list(CLASS_NAMES)}
    ids = [f"mini_{number:06d}" for number in range(images_train + images_test)]
    if _is_complete(root, manifest, ids):
        return False
    refusal = f"{root} exists but does not hold the mini data set of these parameters; remove it or name another folder"
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UserError(refusal)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as temporary:
        folder = Path(temporary) / root.name
        _write(folder, manifest, ids, progress)
        try:
            folder.rename(root)
        except OSError as error:  # another process was faster
            if not _is_complete(root, manifest, ids):
                raise UserError(refusal) from error
    return True


def _is_complete(root: Path, manifest: dict[str, Any], ids: list[str]) -> bool:
    """Return whether ``root`` holds the complete data set that ``manifest`` describes."""
    if kept_json(root / MANIFEST) != manifest:
        return False
    found = ({p.stem for p in (root / name).glob("mini_*")} for name in (IMAGES, MASKS))
    return all(names == set(ids) for names in found)


def _write(
    folder: Path, manifest: dict[str, Any], ids: list[str], progress: Callable[[Iterable[int]], Iterable[int]]
) -> None:
    """Write the whole data set into the new ``folder``, the manifest last."""
    for path in (IMAGES, MASKS, LISTS):
        (folder / path).mkdir(parents=True)
    for number in progress(range(len(ids))):
        image, mask = draw_image(manifest["seed"], number, manifest["side"])
        Image.fromarray(image).save(folder / IMAGES / f"{ids[number]}.jpg", quality=JPEG_QUALITY)
        write_mask(folder / MASKS / f"{ids[number]}.png", mask)
    split = manifest["images_train"]
    for name, part in (("train", ids[:split]), ("val", ids[split:])):
        (folder / LISTS / f"{name}.txt").write_text("".join(f"{key}\n" for key in part))
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
