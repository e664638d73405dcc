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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from util.data.images.orientation import fitted_mask
from util.data.images.read import header_of, read_image, write_mask
from util.data.lists.index import count_classes
from util.errors import UserError
from util.files import fingerprint, link, write_atomically
from util.parallel import attempt, parallel_map
from util.prepare.common import (
    add_common_options,
    already_done,
    compare_count,
    existing,
    keep_good,
    mark_done,
    unpack_once,
)
from util.prepare.datasets.voc_sources import LISTS, MASK_FOLDERS, Source, find_sbd, find_voc, read_source_mask
from util.prepare.download import fetch

CLASSES = 20
PUBLISHED = {"train": 5953, "trainaug": 10582, "val": 1449}
PALETTE = "P"
MADE_FROM = "made_from.txt"  # fingerprint in --out; outputs that are older than it are outdated
RAW = "raw"  # folder beside --out for downloads and unpacked archives
VOC_PARTS = ("/JPEGImages/", "/SegmentationClass/", "/ImageSets/Segmentation/")
SBD_PARTS = ("/cls/", "/img/", "/train.txt", "/val.txt")
VOC_YEAR = DATASET_YEAR_DICT["2012"]  # torchvision's address and checksum


@dataclass(frozen=True)
class Job:
    """One image to prepare: paths of its photo and mask, sources and targets."""

    name: str
    photo: Path
    mask: Path
    photo_target: Path
    mask_target: Path


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
    sets = make_sets(voc, sbd)
    names = tuple(dict.fromkeys(n for s in sets.values() for n in s))
    jobs = [_job(name, voc, sbd, options.out) for name in names]
    sources = existing(path for j in jobs for path in (j.photo, j.mask))
    made_from = fingerprint(sources, *map(sorted, sets.values()))
    done = already_done(options.out, made_from, [])
    if done and (options.skip_bad or not done["left_out"]) and _is_complete(options.out, sets):
        print(f"{options.out}: is complete already; nothing to do")
    else:
        done = _prepare_all(jobs, sets, options.out, made_from, options.skip_bad)
        print(f"{options.out}: ready")
    _print_sizes(done, sbd)
    return 0


def _prepare_all(
    jobs: list[Job], sets: dict[str, list[str]], out: Path, made_from: str, skip_bad: bool
) -> dict[str, Any]:
    """Prepare every photo and mask, then write the lists; return the facts of the stamp."""
    marker = out / MADE_FROM
    if not marker.exists() or marker.read_text() != made_from:
        write_atomically(marker, made_from)
    names = [job.name for job in jobs]
    ready = partial(attempt, partial(prepare, since=marker.stat().st_mtime_ns))
    good = set(keep_good(names, parallel_map(ready, jobs, "photos and masks"), skip_bad))
    for name in PUBLISHED:
        path, members = out / LISTS / f"{name}.txt", [n for n in sets.get(name, ()) if n in good]
        if name not in sets:
            path.unlink(missing_ok=True)  # from an earlier preparation
        elif not members:
            raise UserError(f"{out}: none of the {len(sets[name])} images of {name} can be used; check the download")
        else:
            write_atomically(path, "".join(f"{n}\n" for n in members))
    sizes = {s: sum(n in good for n in members) for s, members in sets.items()}
    facts = {"sizes": sizes, "left_out": len(names) - len(good)}
    mark_done(out, made_from, **facts)
    return facts


def _is_complete(out: Path, sets: dict[str, list[str]]) -> bool:
    """Return whether the lists exist, and photo and mask of each of their images."""
    try:
        listed = {n for s in sets for n in (out / LISTS / f"{s}.txt").read_text().split()}
    except OSError:
        return False
    return all(path.exists() for n in listed for path in _targets(out, n))


def _print_sizes(done: dict[str, Any], sbd: Source | None) -> None:
    """Print the sizes of the sets with the published ones, the number of omitted images and missing sources."""
    for name, size in done["sizes"].items():
        print("  " + compare_count(name, size, PUBLISHED[name]))
    if done["left_out"]:
        print(f"  {done['left_out']} images are omitted; without --skip-bad they are tried again")
    if sbd is None:
        print("  without --sbd the training sets hold only VOC's own images; published results use SBD as well")
    elif "train" not in sbd.lists:
        print(
            f"  no train.txt: {sbd.masks} holds masks but not SBD's own train.txt and val.txt; put them beside it and "
            "repeat, or train on data.train_list: ImageSets/Segmentation/trainaug.txt"
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


def prepare(job: Job, since: int) -> bool:
    """Check one photo and its mask and write both targets; return False if they exist already.

    Args:
        since: time in nanoseconds; outputs that are newer are of the same sources and stay.

    Raises:
        UserError: one of them is missing or damaged, or they do not belong together.
    """
    target = job.mask_target
    if target.exists() and job.photo_target.exists() and target.lstat().st_mtime_ns >= since:
        return False
    read_image(job.photo)
    mask = fitted_mask(read_source_mask(job.mask), False, *header_of(job.photo), job.mask)
    count_classes(mask, job.mask, CLASSES)
    link(job.photo, job.photo_target)
    target.unlink(missing_ok=True)  # from an earlier preparation
    if _is_palette(job.mask):
        link(job.mask, target)
    else:
        write_mask(target, mask)
    return True


def _job(name: str, voc: Source, sbd: Source | None, out: Path) -> Job:
    """Return the job of an image: VOC's photo and mask if it has them, else SBD's."""
    assert voc.photos is not None
    photo, mask = voc.photos / f"{name}.jpg", voc.mask(name)
    if sbd is not None and not photo.exists() and sbd.photos is not None:
        photo = sbd.photos / f"{name}.jpg"
    if sbd is not None and not mask.exists():
        mask = sbd.mask(name)
    return Job(name, photo, mask, *_targets(out, name))


def _targets(out: Path, name: str) -> tuple[Path, Path]:
    return out / "JPEGImages" / f"{name}.jpg", out / MASK_FOLDERS[1] / f"{name}.png"


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
