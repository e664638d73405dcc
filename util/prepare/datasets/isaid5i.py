"""Prepare iSAID-5i: patches of aerial photos with masks of 15 classes, in three folds of five.

--root holds the patches and their masks of class indices (0 background, 1 to 15, 255 ignored), in one of these forms:

  img_dir/{train,val}/<name>.png    ann_dir/{train,val}/<name>_instance_color_RGB.png
  {train,val}/images/<name>.png     {train,val}/semantic_png/<name>_instance_color_RGB.png

(masks may also be named as their patches). Creates images and masks (links) and lists/{train,test}.txt.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from util.data.lists.index import measure
from util.errors import UserError
from util.files import fingerprint, link, write_atomically
from util.parallel import attempt, parallel_map
from util.prepare.common import add_root_options, already_done, compare_count, existing, keep_good, mark_done
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import IMAGES, LISTS, MADE_FROM, MASKS

NAME, OUT = "isaid5i", "data/isaid5i"
CLASSES = 15
PARTS = {"train": "train", "test": "val"}  # list -> folder
FORMS = (("img_dir/{}", "ann_dir/{}"), ("{}/images", "{}/semantic_png"))
MASK_ENDS = ("_instance_color_RGB", "")
PUBLISHED = {"test": 6363}  # patches


@dataclass(frozen=True)
class Patch:
    """A patch and its mask, and the name of both in the prepared folder."""

    name: str
    photo: Path
    mask: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of the patches in one of the forms above", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare iSAID-5i and print the number of patches of each part.

    Raises:
        UserError: a patch or a mask is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    patches = {part: find_patches(options.root, folder) for part, folder in PARTS.items()}
    sources = existing(path for of_part in patches.values() for p in of_part for path in (p.photo, p.mask))
    made_from = fingerprint(sources, *map(str, patches.values()))
    stamp = already_done(options.out, made_from, _outputs(options.out))
    if stamp is not None and (options.skip_bad or not stamp["left_out"]):
        print(f"{options.out}: is complete already; nothing to do")
    else:
        stamp = _prepare(patches, options.out, made_from, options.skip_bad)
        print(f"{options.out}: ready")
    for part, count in stamp["sizes"].items():
        print("  " + compare_count(f"{part}: patches", count, PUBLISHED.get(part)))
    if stamp["left_out"]:
        print(f"  {stamp['left_out']} omitted; without --skip-bad they are tried again")
    return 0


def _outputs(out: Path) -> list[Path]:
    """Return the lists, and patch and mask of each of their lines."""
    lists = [out / LISTS / f"{part}.txt" for part in PARTS]
    names = [name for path in lists if path.exists() for name in path.read_text().split()]
    return [*lists, *(out / folder / f"{name}.png" for name in names for folder in (IMAGES, MASKS))]


def find_patches(root: Path, folder: str) -> list[Patch]:
    """Return the patches of a part, by name.

    Raises:
        UserError: there are none.
    """
    for photos, masks in FORMS:
        here = root / photos.format(folder)
        if not here.is_dir():
            continue
        out = []
        for path in sorted(here.glob("*.png")):
            ends = [root / masks.format(folder) / f"{path.stem}{end}.png" for end in MASK_ENDS]
            out.append(Patch(f"{folder}/{path.stem}", path, next((m for m in ends if m.exists()), ends[0])))
        if out:
            return out
    raise UserError(f"{root}: holds no patches of {folder}; name the folder of img_dir and ann_dir")


def _prepare(patches: dict[str, list[Patch]], out: Path, made_from: str, skip_bad: bool) -> dict:
    """Link every patch that is sound, and write the lists and the stamp; return its facts."""
    write_atomically(out / MADE_FROM, made_from)  # the folder is this command's
    sizes, total = {}, 0
    good_of = {part: _checked(part, of_part, skip_bad) for part, of_part in patches.items()}
    for part, of_part in patches.items():
        names = good_of[part]
        for patch in (p for p in of_part if p.name in names):
            link(patch.photo, out / IMAGES / f"{patch.name}.png")
            link(patch.mask, out / MASKS / f"{patch.name}.png")
        write_atomically(out / LISTS / f"{part}.txt", "".join(f"{name}\n" for name in names))
        sizes[part], total = len(names), total + len(of_part)
    facts = {"sizes": sizes, "left_out": total - sum(sizes.values())}
    mark_done(out, made_from, **facts)
    return facts


def _checked(part: str, patches: Sequence[Patch], skip_bad: bool) -> list[str]:
    """Return the names of the patches whose mask fits and holds class ids."""
    check = partial(attempt, partial(measure, classes=CLASSES))
    results = parallel_map(check, [(p.photo, p.mask) for p in patches], f"patches {part}")
    good = list(keep_good([p.name for p in patches], results, skip_bad))
    if not good:
        raise UserError(f"{patches[0].photo.parent}: none of the {len(patches)} patches can be used")
    return good
