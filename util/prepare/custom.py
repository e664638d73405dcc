"""Your own annotated pictures as a data set like the built-in ones.

From masks (PNGs of class indices named like the photos; names.txt holds one class a line, the first is id 1) or from a
COCO-style JSON (names.txt then picks categories by name). Makes data/<name> (links to the photos, masks, lists),
config/<name> (a commented YAML for each fold) and, from --vectors, the vectors of the class names. Then
`sh train.sh split0 <name> 1` and `sh test.sh split0 <name> 1` just work.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from util.config.settings import DataSettings
from util.data import folds
from util.data.folds import Fold
from util.data.index import Index, load_index
from util.data.lists import check_shots, test_list, train_list
from util.data.text import write_vectors
from util.data.word_vectors import build_vectors
from util.errors import UserError, nearest
from util.files import fingerprint, write_atomically
from util.prepare import custom_sources
from util.prepare.common import STAMP, add_common_options, already_done, mark_done
from util.prepare.custom_config import write_configs

TEST_SHARE = 0.25
MIN_PIXELS = (2048, 1024, 512, 256, 128, 64)  # tried in turn until every class has enough images
BUILT_IN = ("pascal", "coco", "mini", "model")
EVERYTHING = "lists/all.txt"
VECTORS = "word2vec"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--name", required=True, help="of the data set: small letters, digits, _")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks, PNGs of class indices")
    parser.add_argument(
        "--coco-json", type=Path, metavar="FILE", help="annotations in COCO's form, in place of --masks"
    )
    parser.add_argument("--classes", type=Path, metavar="names.txt", help="class names, one a line")
    parser.add_argument("--folds", type=int, default=None, help="how many folds (default 4, or as many as --fold)")
    parser.add_argument(
        "--fold", action="append", default=[], metavar="NAMES", help="classes of a fold: cat,dog; repeat"
    )
    parser.add_argument("--test-share", type=float, default=TEST_SHARE, help=f"of the images (default {TEST_SHARE})")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="word vectors for the class names (else: by name)")
    parser.add_argument("--config-dir", type=Path, default=Path("config"), help=argparse.SUPPRESS)
    add_common_options(parser, "data/<name>")


def run(options: argparse.Namespace) -> int:
    """Make the data set, its folds and its configs; print what to type next.

    Raises:
        UserError: names the file or class that does not fit and what to change; no config is written then.
    """
    out = Path(str(options.out).replace("<name>", options.name))
    _check_options(options)
    made_from = _check_unchanged(options, out)
    taken = custom_sources.from_json if options.coco_json else custom_sources.from_masks
    source = taken(options, out)
    data = DataSettings(
        name=options.name,
        root=str(out),
        train_list=EVERYTHING,
        test_list=EVERYTHING,
        classes=source.classes,
        images="images",
        masks="masks",
        image_suffix=source.suffix,
        fold_rule="given",
        text="names",
    )
    write_atomically(out / EVERYTHING, "".join(f"{n}\n" for n in source.names))
    index = load_index(data, "train")
    dealt = _given_folds(options.fold, source.classes) or deal(index, source.classes, options.folds or 4)
    data = replace(data, fold_classes=dealt, folds=len(dealt))
    wrong = folds.problem(data)
    if wrong:
        raise UserError(f"--fold: data.{wrong[0]} {wrong[1]}")
    for part, rows in split(index, options.test_share).items():
        write_atomically(out / f"lists/{part}.txt", "".join(f"{index.names[r]}\n" for r in rows))
    data = replace(data, train_list="lists/train.txt", test_list="lists/test.txt")
    min_pixels, exclude_novel = _presence(data)
    data = replace(data, min_pixels=min_pixels, exclude_novel=exclude_novel)
    if options.vectors is not None:
        data = replace(data, text=_vectors(data, options.vectors))
    files = write_configs(options.config_dir, data)
    mark_done(out, made_from)
    print(f"{out}: {len(index)} images, {len(data.classes)} classes, {data.folds} folds")
    print(f"  min_pixels {data.min_pixels}, exclude_novel {str(data.exclude_novel).lower()}")
    for number, names in enumerate(dealt):
        print(f"  fold {number} tests: {', '.join(names)}")
    print(f"configs: {', '.join(str(f) for f in files)}")
    print(f"now: sh train.sh split0 {data.name} 1 && sh test.sh split0 {data.name} 1   (0 in place of 1: CPU)")
    return 0


def _vectors(data: DataSettings, source: Path) -> str:
    """Write the vectors of the class names from a file of word vectors; return what ``data.text`` calls them."""
    table, notes = build_vectors(source, data.classes)
    write_vectors(Path(data.text_dir) / f"{VECTORS}_{data.name}.npz", table, data.classes)
    for note in notes:
        print(note)
    return VECTORS


def deal(index: Index, classes: list[str], folds: int) -> list[list[str]]:
    """Return the classes dealt out to folds, so that each fold gets frequent and rare ones alike.

    Raises:
        UserError: fewer classes than two for each fold, or a class that no image shows.
    """
    if folds < 2 or len(classes) < folds:
        raise UserError(f"--folds {folds}: needs at least 2 folds and a class for each; there are {len(classes)}")
    images = (index.areas[:, 1:] > 0).sum(0)
    order = sorted(range(len(classes)), key=lambda c: (-images[c], c))
    if images[order[-1]] == 0:
        raise UserError(f"class '{classes[order[-1]]}' occurs in no image; leave it out of --classes")
    out: list[list[str]] = [[] for _ in range(folds)]
    for place, c in enumerate(order):
        lap, position = divmod(place, folds)
        out[position if lap % 2 == 0 else folds - 1 - position].append(classes[c])
    return out


def split(index: Index, test_share: float) -> dict[str, list[int]]:
    """Return the rows of the training and test images; every class is split in about the same shares.

    Images are grouped by the rarest class they show and put in an order that depends on their names alone.
    """
    images = (index.areas[:, 1:] > 0).sum(0)  # per class
    shown = [np.flatnonzero(row[1:] > 0) for row in index.areas]
    rarest = [min(s, key=lambda c: (images[c], c), default=-1) for s in shown]
    digest = [hashlib.sha256(Path(n).name.encode()).hexdigest() for n in index.names]
    order = sorted(range(len(index)), key=lambda r: (rarest[r], digest[r]))
    test = {r for place, r in enumerate(order) if int((place + 1) * test_share) > int(place * test_share)}
    return {"train": [r for r in range(len(index)) if r not in test], "test": sorted(test)}


def _presence(data: DataSettings) -> tuple[int, bool]:
    """Return the ``min_pixels`` and ``exclude_novel`` with which every fold can be trained and tested in one shot.

    As published where that is possible, else with fewer pixels, else with images that show novel classes in training.
    """
    indices = load_index(data, "train"), load_index(data, "test")
    problem = None
    for exclude, pixels in itertools.product((True, False), MIN_PIXELS):
        try:
            for number in range(data.folds):
                chosen = replace(data, fold=number, min_pixels=pixels, exclude_novel=exclude)
                for make, index in zip((train_list, test_list), indices, strict=True):
                    check_shots(make(index, Fold.of(chosen), chosen), chosen)
            return pixels, exclude
        except UserError as error:
            problem = error
    raise UserError(f"{problem} (or leave the class out, or change --folds or --test-share)")


def _check_unchanged(options: argparse.Namespace, out: Path) -> str:
    """Return a digest of what the data set is made from; refuse a name whose data were made from something else.

    Class ids may differ then, and configs and checkpoints of that name would silently mean other classes.
    """
    files = [p for p in (options.coco_json, options.classes) if p is not None and p.is_file()]
    words = (options.images, options.masks, options.folds, options.fold, options.test_share, options.vectors)
    made_from = fingerprint(files, *words)
    in_use = (options.config_dir / options.name).exists() and (out / STAMP).exists()
    if in_use and already_done(out, made_from, []) is None:
        raise UserError(
            f"{options.config_dir / options.name}: '{options.name}' was made from other files or options; "
            f"remove that folder and {out}, or choose another --name"
        )
    return made_from


def _given_folds(folds: list[str], classes: list[str]) -> list[list[str]]:
    given = [[name.strip() for name in fold.split(",") if name.strip()] for fold in folds]
    for name in (n for fold in given for n in fold):
        if name not in classes:
            raise UserError(f"--fold: '{name}' is not a class{nearest(name, classes)}")
    return given


def _check_options(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name) or options.name in BUILT_IN:
        raise UserError(f"--name {options.name}: use small letters, digits and _, and none of {', '.join(BUILT_IN)}")
    if (options.masks is None) == (options.coco_json is None):
        raise UserError("prepare.py custom: give either --masks DIR or --coco-json FILE")
    if options.masks is not None and options.classes is None:
        raise UserError("prepare.py custom: --masks needs --classes names.txt, one class a line, the first is id 1")
    if not 0 < options.test_share < 1:
        raise UserError(f"--test-share {options.test_share} must lie between 0 and 1")
    if options.fold and options.folds not in (None, len(options.fold)):
        raise UserError(f"--folds {options.folds}, but --fold is given {len(options.fold)} times; leave --folds out")
