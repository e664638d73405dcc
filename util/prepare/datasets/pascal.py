"""Prepare PASCAL VOC 2012 with SBD's masks for PASCAL-5i.

Creates a folder in VOC's layout: JPEGImages (links), SegmentationClassAug (palette PNGs: links to VOC's, converted from
SBD's) and ImageSets/Segmentation with

  train.txt     VOC's train and SBD's train without VOC's val   (5953 images when complete; PFENet, BAM, Sym-Net, ...)
  trainaug.txt  the same and SBD's val                          (10582 images; HSNet, DCAMA)
  val.txt       VOC's val                                       (1449 images, for testing)

If both annotate an image, VOC's mask is used. An archive in place of a folder is first unpacked beside --out. After an
interruption, run the command again: it continues.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from PIL import Image
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from util.data.images.orientation import fitted_mask
from util.data.images.read import header_of, read_image, write_mask
from util.data.lists.index import count_classes
from util.errors import UserError
from util.files import link
from util.prepare.common import add_common_options, unpack_once
from util.prepare.datasets.recipe import Made, Plan, make
from util.prepare.datasets.voc_sources import LISTS, MASK_FOLDERS, Source, find_sbd, find_voc, read_source_mask
from util.prepare.download import fetch

CLASSES = 20
PUBLISHED = {"train": 5953, "trainaug": 10582, "val": 1449}
PALETTE = "P"
RAW = "raw"  # folder beside --out for downloads and unpacked archives
VOC_PARTS = ("/JPEGImages/", "/SegmentationClass/", "/ImageSets/Segmentation/")
SBD_PARTS = ("/cls/", "/img/", "/train.txt", "/val.txt")
VOC_YEAR = DATASET_YEAR_DICT["2012"]  # torchvision's address and checksum


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--voc", type=Path, help="VOC2012 folder, or the official tar")
    parser.add_argument("--sbd", type=Path, help="SBD folder in any form, or the official tgz; default VOC alone")
    parser.add_argument("--download", action="store_true", help="download both from the official addresses (3.4 GB)")
    add_common_options(parser, "data/VOC2012")


def run(options: argparse.Namespace) -> int:
    """Prepare PASCAL-5i's data and print the sizes of its sets.

    Raises:
        UserError: a file is missing or damaged, or files do not fit together; no incomplete image is listed then.
    """
    raw = options.out.parent / RAW
    voc_path, sbd_path = _download(raw) if options.download else (options.voc, options.sbd)
    if voc_path is None:
        raise UserError("prepare.py pascal: give --voc VOCdevkit/VOC2012 (and --sbd), or --download")
    voc = find_voc(_unpacked(voc_path, raw, VOC_PARTS))
    sbd = find_sbd(_unpacked(sbd_path, raw, SBD_PARTS)) if sbd_path is not None else None
    _check_out(options.out, voc)
    plan = plan_of(voc, sbd)
    make(plan, options.out, options.skip_bad)
    for part in PUBLISHED.keys() - set(plan.parts):  # from an earlier preparation
        (options.out / LISTS / f"{part}.txt").unlink(missing_ok=True)
    return 0


def plan_of(voc: Source, sbd: Source | None) -> Plan:
    """Return the plan: an image's photo and mask are VOC's if it has them, else SBD's."""
    assert voc.photos is not None
    sets = make_sets(voc, sbd)
    order = [name for part in ("trainaug", "train", "val") for name in sets.get(part, ())]  # keeps that of each set
    jobs = []
    for name in dict.fromkeys(order):
        photo, mask = voc.photos / f"{name}.jpg", voc.mask(name)
        if sbd is not None and not photo.exists() and sbd.photos is not None:
            photo = sbd.photos / photo.name
        if sbd is not None and not mask.exists():
            mask = sbd.mask(name)
        jobs.append((name, photo, mask))
    notes = []
    if sbd is None:
        notes.append("without --sbd the training sets hold only VOC's own images; published results use SBD as well")
    elif "train" not in sbd.lists:
        notes.append(
            f"no train.txt: {sbd.masks} holds masks but not SBD's own train.txt and val.txt; put them beside it and "
            "repeat, or train on data.train_list: ImageSets/Segmentation/trainaug.txt"
        )
    return Plan(
        lambda: jobs,
        partial(prepare, sets={part: frozenset(names) for part, names in sets.items()}),
        [path for job in jobs for path in job[1:]],
        map(sorted, sets.values()),
        notes,
        tuple(sets),
        {part: PUBLISHED[part] for part in sets},
        _outputs,
        LISTS,
    )


def make_sets(voc: Source, sbd: Source | None) -> dict[str, list[str]]:
    """Return the image names of each set; without SBD's train list there is no ``train``."""
    held_out = set(voc.lists["val"])
    own = [n for n in voc.lists["train"] if n not in held_out]

    def with_sbd(names: tuple[str, ...]) -> list[str]:
        return list(dict.fromkeys([*own, *(n for n in sorted(names) if n not in held_out)]))

    if sbd is None:
        return {"train": own, "val": list(voc.lists["val"])}
    if "train" in sbd.lists:
        everything = sbd.lists["train"] + sbd.lists.get("val", ())
        sets = {"train": with_sbd(sbd.lists["train"]), "trainaug": with_sbd(everything)}
    else:
        sets = {"trainaug": with_sbd(tuple(p.stem for p in sbd.masks.glob(f"*{sbd.suffix}")))}
    return {**sets, "val": list(voc.lists["val"])}


def prepare(job: tuple[str, Path, Path], out: Path, since: int, sets: dict[str, frozenset[str]]) -> Made:
    """Check one photo and its mask and write both, unless they are up to date.

    Raises:
        UserError: one of them is missing or damaged, or they do not belong together.
    """
    name, photo, mask_path = job
    photo_target, target = (out / path for path in _outputs(name))
    if not (target.exists() and photo_target.exists() and target.lstat().st_mtime_ns >= since):
        read_image(photo)
        mask = fitted_mask(read_source_mask(mask_path), False, *header_of(photo), mask_path)
        count_classes(mask, mask_path, CLASSES)
        link(photo, photo_target)
        target.unlink(missing_ok=True)  # from an earlier preparation
        if _is_palette(mask_path):
            link(mask_path, target)
        else:
            write_mask(target, mask)
    return Made(tuple((part, name) for part, names in sets.items() if name in names))


def _outputs(name: str) -> tuple[str, str]:
    return f"JPEGImages/{name}.jpg", f"{MASK_FOLDERS[1]}/{name}.png"


def _is_palette(path: Path) -> bool:
    if path.suffix != ".png":
        return False
    with Image.open(path) as image:
        return image.mode == PALETTE


def _check_out(out: Path, voc: Source) -> None:
    """Refuse to write into the download itself, because that would overwrite its lists."""
    assert voc.photos is not None
    if out.exists() and out.resolve() == voc.photos.parent.resolve():
        raise UserError(
            f"{out}: is the download itself, its lists would be lost; give another --out, or move the download"
        )


def _unpacked(path: Path, raw: Path, parts: tuple[str, ...]) -> Path:
    """Return a folder as it is; unpack the needed parts of an archive into ``raw`` and return that."""
    if not path.exists():
        raise UserError(f"{path}: does not exist; give the folder or the official archive")
    if path.is_dir():
        return path
    unpack_once(path, raw, lambda name: any(p in f"/{name}" for p in parts))
    return raw


def _download(raw: Path) -> tuple[Path, Path]:
    voc = fetch(VOC_YEAR["url"], raw / VOC_YEAR["filename"], f"md5:{VOC_YEAR['md5']}")
    return voc, fetch(SBDataset.url, raw / SBDataset.filename, f"md5:{SBDataset.md5}")
