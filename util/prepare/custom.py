"""Make a data set from your own annotated photos.

The annotations are masks (PNGs of class indices named like the photos; names.txt has one class per line, the first is
id 1) or files of COCO, labelme or YOLO (names.txt then selects classes by name). The command creates data/<name>
(links to the photos, masks, lists), config/<name> (commented YAML files for each fold) and, from --vectors, the text
vectors of the class names. Then `sh train.sh split0 <name> 1` and `sh test.sh split0 <name> 1` can be run.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from util.cli import within
from util.config import folds
from util.config.folds import Fold
from util.config.settings import DataSettings
from util.config.tree import flow
from util.data.lists.image_list import check_shots, test_list, train_list
from util.data.lists.index import PREPARE, Index, load_index
from util.data.words.text import write_vectors
from util.data.words.vectors import build_vectors
from util.errors import UserError, nearest
from util.files import fingerprint, write_atomically
from util.prepare import custom_sources
from util.prepare.common import STAMP, add_common_options, already_done, mark_done
from util.prepare.custom_sources import Imported
from util.prepare.staging import alone, check_apart, made_aside

WIDTH = 110  # of a line of YAML

DATA = """\
# {name}: made by `python prepare.py custom`. Edit freely; config/default.yaml explains every key.
net: lite0                # the encoder where none is named (NET=resnet50 sh train.sh ...)

data:
  name: {name}
  root: {root}
  images: {images}
  masks: {masks}
  image_suffix: {image_suffix}
  train_list: {train_list}
  test_list: {test_list}
  size: 353               # side of the square input, 16k + 1 (8k + 1 at output stride 8); smaller is faster
  min_pixels: {min_pixels}        # least number of pixels of a class that is present in an image
  exclude_novel: {exclude_novel}     # omit training images that show a novel class
  text: {text}             # `names`: vectors from the names alone, without meaning; others: prepare.py embeddings
  folds: {folds}
  fold_rule: given        # fold_classes lists the novel classes of each fold; all others are its base classes
  fold: 0
{lists}
protocols:
  symnet: {{episodes: 1000}}

for:
  # Sym-Net: a frozen encoder with ImageNet weights, and short stages for a first result on a CPU. Two views of each
  # image are encoded once and their maps kept; views: null draws new ones all the time, as published.
  symnet:
    model: {{base: {{frozen_stages: 5}}}}
    base_stage: {{epochs: 20, optimizers: {{main: {{lr: 2.5e-3}}}}}}
    meta_stage:
      epochs: 20
      batch_per: run
      views: 2
      cache_gib: 12
      optimizers: {{main: {{kind: adamw, lr: 5.0e-4}}}}
"""


def config_text(folder: Path, data: DataSettings) -> tuple[Path, str]:
    """Return path and content of the config of a data set, ``<folder>/<name>/<name>.yaml``; nothing is written.

    Raises:
        UserError: the file is there with other content.
    """
    lists = yaml.safe_dump(
        {"classes": data.classes, "fold_classes": data.fold_classes}, width=WIDTH, default_flow_style=None
    )
    values = {key: flow(value) for key, value in vars(data).items()}
    values["lists"] = "".join(f"  {line}\n" for line in lists.splitlines())
    path, text = folder / data.name / f"{data.name}.yaml", DATA.format(**values)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: exists with other content; remove the folder or choose another --name")
    return path, text


TEST_SHARE = 0.25
MIN_PIXELS = (2048, 1024, 512, 256, 128, 64)  # tried in this order until every class has enough images
DEFAULT_FOLDS = 4
RESERVED = (*PREPARE, "crossdomain", "model", "encoder")  # folders of config/
ALL_IMAGES = "lists/all.txt"
CACHE = ".cache"  # of the index while the data set is made
VECTORS = "word2vec"  # value of data.text


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--name", required=True, help="name of the data set: lower-case letters, digits, _")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    marked = parser.add_mutually_exclusive_group(required=True)
    marked.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks, PNGs of class indices")
    marked.add_argument("--annotations", metavar="PATH", help="file or folder of COCO, labelme or YOLO")
    parser.add_argument("--classes", type=Path, metavar="names.txt", help="class names, one per line")
    parser.add_argument("--folds", type=int, help=f"number of folds (default {DEFAULT_FOLDS}, or that of --fold)")
    parser.add_argument(
        "--fold", action="append", default=[], metavar="NAMES", help="novel classes of a fold: cat,dog; repeat"
    )
    parser.add_argument(
        "--test-share", type=within(float, 0.01, 0.99), default=TEST_SHARE, help=f"of the images (default {TEST_SHARE})"
    )
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="word vectors for the class names")
    parser.add_argument("--config-dir", type=Path, default=Path("config"), help=argparse.SUPPRESS)
    add_common_options(parser, "data/<name>")


def run(options: argparse.Namespace) -> int:
    """Make the data set, its folds and its config; print the next commands.

    Raises:
        UserError: a file or class does not fit; the message names it and the remedy. No config is written then.
    """
    out = Path(str(options.out).replace("<name>", options.name))
    _check_options(options)
    with alone(out):
        made_from = _check_unchanged(options, out)
        import_files = custom_sources.from_masks if options.masks else custom_sources.from_annotations
        with made_aside(out, STAMP) as aside:
            data, images = _make_data(options, aside, import_files(options, aside))
            data = replace(data, root=str(out), cache=DataSettings.cache)
            table, notes = build_vectors(options.vectors, data.classes) if options.vectors is not None else (None, [])
            data = replace(data, text=data.text if table is None else VECTORS)
            config, text = config_text(options.config_dir, data)
            mark_done(aside, made_from)
        if table is not None:
            write_vectors(Path(data.text_dir) / f"{VECTORS}_{data.name}.npz", table, data.classes)
        write_atomically(config, text)
    for note in notes:
        print(note)
    print(f"{out}: {images} images, {len(data.classes)} classes, {data.folds} folds")
    print(f"  min_pixels {data.min_pixels}, exclude_novel {str(data.exclude_novel).lower()}")
    for number, names in enumerate(data.fold_classes or []):
        print(f"  fold {number} tests: {', '.join(names)}")
    print(f"config: {config}; those of its folds and of all methods are composed of it")
    print(f"now: sh train.sh split0 {data.name} 1 && sh test.sh split0 {data.name} 1   (0 in place of 1: CPU)")
    return 0


def _make_data(options: argparse.Namespace, out: Path, imported: Imported) -> tuple[DataSettings, int]:
    """Write the lists of images; return settings with folds and ``min_pixels``, and the number of images."""
    data = DataSettings(
        name=options.name,
        root=str(out),
        train_list=ALL_IMAGES,
        test_list=ALL_IMAGES,
        classes=imported.classes,
        images="images",
        masks="masks",
        image_suffix=imported.suffix,
        fold_rule="given",
        text="names",
        cache=str(out / CACHE),
    )
    write_atomically(out / ALL_IMAGES, "".join(f"{n}\n" for n in imported.names))
    index = load_index(data, "train")
    _check_shown(index, data.classes, options)
    fold_classes = _given_folds(options.fold, data.classes) or assign_folds(
        index, data.classes, options.folds or DEFAULT_FOLDS
    )
    data = replace(data, fold_classes=fold_classes, folds=len(fold_classes))
    wrong = folds.problem(data)
    if wrong:
        raise UserError(f"--fold: data.{wrong[0]} {wrong[1]}")
    for part, rows in split(index, options.test_share).items():
        write_atomically(out / f"lists/{part}.txt", "".join(f"{index.names[r]}\n" for r in rows))
    data = replace(data, train_list="lists/train.txt", test_list="lists/test.txt")
    min_pixels, exclude_novel = _choose_presence(data)
    shutil.rmtree(out / CACHE)
    return replace(data, min_pixels=min_pixels, exclude_novel=exclude_novel), len(index)


def _check_shown(index: Index, classes: list[str], options: argparse.Namespace) -> None:
    """Refuse a class that no image shows: the ids of the masks may be those of other names."""
    shown: list[bool] = np.any(index.areas[:, 1:] > 0, axis=0).tolist()
    absent = [name for name, is_shown in zip(classes, shown, strict=True) if not is_shown]
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        mend = (
            f"take it out of {options.classes}" if options.classes else "name the other classes in --classes names.txt"
        )
        raise UserError(f"class '{absent[0]}' occurs in no image{more}; {mend}")


def assign_folds(index: Index, classes: list[str], folds: int) -> list[list[str]]:
    """Return the classes of each fold, assigned so that each fold gets frequent and rare classes.

    Raises:
        UserError: fewer than two folds or fewer classes than folds.
    """
    if folds < 2 or len(classes) < folds:
        raise UserError(f"--folds {folds}: needs at least 2 folds and a class for each; there are {len(classes)}")
    images = (index.areas[:, 1:] > 0).sum(0)
    order = sorted(range(len(classes)), key=lambda c: (-images[c], c))
    out: list[list[str]] = [[] for _ in range(folds)]
    for place, c in enumerate(order):
        round_number, position = divmod(place, folds)  # every second round goes backwards
        out[position if round_number % 2 == 0 else folds - 1 - position].append(classes[c])
    return out


def split(index: Index, test_share: float) -> dict[str, list[int]]:
    """Return the rows of the training and test images; each class is split in about the same proportion.

    Images are grouped by the rarest class that they show; their order in a group depends on their names alone.
    """
    images = (index.areas[:, 1:] > 0).sum(0)  # per class
    shown = [np.flatnonzero(index.areas[row, 1:] > 0) for row in range(len(index))]
    rarest = [min(s, key=lambda c: (images[c], c), default=-1) for s in shown]
    digest = [hashlib.sha256(Path(n).name.encode()).hexdigest() for n in index.names]
    order = sorted(range(len(index)), key=lambda r: (rarest[r], digest[r]))
    test = {r for place, r in enumerate(order) if int((place + 1) * test_share) > int(place * test_share)}
    return {"train": [r for r in range(len(index)) if r not in test], "test": sorted(test)}


def _choose_presence(data: DataSettings) -> tuple[int, bool]:
    """Return ``min_pixels`` and ``exclude_novel`` so that each fold has enough images for 1-shot training and testing.

    The published values come first, then fewer pixels, then training images that show novel classes.
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
    raise UserError(f"{problem} (or omit the class, or change --folds or --test-share)")


def _check_unchanged(options: argparse.Namespace, out: Path) -> str:
    """Return the fingerprint of the data set's sources; refuse a name whose data were made from other sources.

    Class ids could differ then, so that configs and checkpoints of that name would silently refer to other classes.
    """
    files = [options.classes] if options.classes is not None and options.classes.is_file() else []
    files += custom_sources.annotation_files(options)
    sources = options.images, options.masks, options.annotations
    words = (*sources, options.folds, options.fold, options.test_share, options.vectors)
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
    """Refuse options that do not go together."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name) or options.name in RESERVED:
        raise UserError(f"--name {options.name}: use lower-case letters, digits and _; reserved: {', '.join(RESERVED)}")
    if options.masks is not None and options.classes is None:
        raise UserError("prepare.py custom: --masks needs --classes names.txt, one class per line, the first is id 1")
    for option, folder in (("--images", options.images), ("--masks", options.masks)):
        check_apart(option, folder, Path(str(options.out).replace("<name>", options.name)))
    if options.fold and options.folds not in (None, len(options.fold)):
        raise UserError(f"--folds {options.folds}, but --fold is given {len(options.fold)} times; omit --folds")
