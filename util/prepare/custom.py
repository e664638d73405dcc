"""Make a data set from your own annotated photos.

The annotations are masks (PNGs of class indices named like the photos; names.txt has one class per line, the first is
id 1), masks of one class in folders that have the classes' names, or what predict.py --supports reads (names.txt then
selects classes by name). The command creates data/<name> (links to the photos, masks, lists) and
config/<name>/<name>.yaml, a commented config for all folds and methods, and beside it symnet.yaml, a recipe. Then
`sh train.sh split0 <name> 1` and `sh test.sh split0 <name> 1` can be run.
"""

import argparse
import hashlib
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from util.cli import within, words
from util.config.folds import LISTS, Fold, problem
from util.config.settings import DataSettings
from util.config.tree import flow
from util.data.lists.image_list import rare_classes
from util.data.lists.index import Index, load_index
from util.errors import UserError
from util.files import files_below, fingerprint, kept_json, made_aside, write_atomically
from util.formats import recognise
from util.prepare.commands import OPTIONS
from util.prepare.custom_sources import ALL, from_annotations, from_masks, names_of
from util.prepare.datasets.recipe import config_text
from util.prepare.lists import MAKERS
from util.prepare.make import EMPTY, STAMP, add_out, refuse_other, run_jobs

CONFIG = Path(__file__).with_suffix(".yaml")  # a data set's, with its values in braces
SYMNET = Path(__file__).with_name("custom_symnet.yaml")  # Sym-Net's recipe on it
RESERVED = sorted({*OPTIONS, "beyondvoc", "calibration", "crossdomain", "encoder", "model", "voc"})  # in config/
ALL_IMAGES = f"lists/{ALL}.txt"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--name", required=True, help="name of the data set: lower-case letters, digits, _")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    marked = parser.add_mutually_exclusive_group(required=True)
    marked.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks, or of a folder for each class")
    what = "file or folder of COCO, labelme, Label Studio, YOLO, or of results of predict.py"
    marked.add_argument("--annotations", metavar="PATH", help=what)
    parser.add_argument("--white-is-object", action="store_true", help="255 is the object in masks of 0 and 255")
    parser.add_argument("--classes", type=Path, metavar="names.txt", help="class names, one per line")
    parser.add_argument("--folds", type=within(int, 2), help="number of folds (default: at most 4, or that of --fold)")
    novel = "novel classes of a fold: cat,dog; repeat"
    parser.add_argument("--fold", type=words, action="append", default=[], metavar="NAMES", help=novel)
    share = within(float, 0.01, 0.99)
    parser.add_argument("--test-share", type=share, default=0.25, help="of the images (default 0.25)")
    rare = "leave out classes that fewer than N photos show"
    parser.add_argument("--skip-rare", type=within(int, 1), default=1, metavar="N", help=rare)
    add_out(parser, "data/<name>")


def run(options: argparse.Namespace) -> int:
    """Make the data set, its folds and its config; print the next commands.

    UserError: a file or class does not fit; the message names it and the remedy. No config is written then.
    """
    out = Path(str(options.out).replace("<name>", options.name))
    folder = Path("config", options.name)
    made_from = _checked(options, out)
    with made_aside(out, STAMP) as aside:
        data = replace(_make_data(options, aside), root=str(out), cache=DataSettings.cache)
        lists = {"classes": data.classes} | ({"fold_classes": data.fold_classes} if data.fold_classes else {})
        configs = {
            folder / f"{data.name}.yaml": config_text(CONFIG, lists, {k: flow(v) for k, v in vars(data).items()})
        }
        if data.train_list:
            configs[folder / "symnet.yaml"] = config_text(SYMNET, {}, {"name": data.name})
        for path, text in configs.items():
            refuse_other(path, text)
        write_atomically(aside / STAMP, json.dumps({"made_from": made_from}) + "\n")
    for path, text in configs.items():
        write_atomically(path, text)
    images = len({line.split()[-1] for line in (out / ALL_IMAGES).read_text(encoding="utf-8").splitlines()})
    print(f"{out}: {images} images, {len(data.classes)} classes, {data.folds} folds")
    print(f"  min_pixels {data.min_pixels}, exclude_novel {str(data.exclude_novel).lower()}")
    for number, names in enumerate(data.fold_classes or []):
        print(f"  fold {number} tests: {', '.join(names)}")
    print(f"config: {folder / data.name}.yaml, for all folds and methods")
    train = f"sh train.sh split0 {data.name} 1 &&" if data.train_list else "MODEL=multiprototype"
    print(f"now: {train} sh test.sh split0 {data.name} 1   (0 in place of 1: CPU)")
    return 0


def _checked(options: argparse.Namespace, out: Path) -> str:
    """Return the fingerprint of the sources; refuse options that do not go together, and a name of other sources.

    Class ids could differ then, so that configs and checkpoints of that name would silently refer to other classes.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name) or options.name in RESERVED:
        raise UserError(f"--name {options.name}: use lower-case letters, digits and _; reserved: {', '.join(RESERVED)}")
    if options.fold and options.folds not in (None, len(options.fold)):
        raise UserError(f"--folds {options.folds}: --fold is given {len(options.fold)} times; leave out --folds")
    for option, folder in (("--images", options.images), ("--masks", options.masks)):
        if folder is not None and out.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise UserError(f"{option} {folder}: lies in --out {out}; name another --out")
    files = [path for path in [options.classes] if path is not None]
    if options.annotations is not None:
        path = recognise.recognise(options.annotations)[1]
        files += files_below(path) if path.is_dir() else [path]
    elif options.masks.is_dir() and (known := names_of(options)) is not None:
        files = [known.path]
    files = [path for path in files if path.is_file()]
    given = (options.images, options.masks, options.annotations, options.folds, options.fold, options.test_share)
    made_from = fingerprint(files, *given, options.skip_rare)
    config, stamp = Path("config", options.name), out / STAMP
    if config.exists() and stamp.exists() and kept_json(stamp).get("made_from") != made_from:
        fix = f"remove that folder and {out}, or choose another --name"
        raise UserError(f"{config}: '{options.name}' was made from other files or options; {fix}")
    return made_from


def _make_data(options: argparse.Namespace, out: Path) -> DataSettings:
    """Make images, masks and lists; return the settings with folds and ``min_pixels``."""
    plan = from_masks(options) if options.masks else from_annotations(options)
    if empty := run_jobs(plan, out, options.skip_bad)["counts"][EMPTY]:
        print(f"  {empty} {EMPTY}")
    data = DataSettings(options.name, str(out), ALL_IMAGES, ALL_IMAGES, list(plan.classes), text="names")
    data = replace(data, images=plan.images, masks=plan.masks, image_suffix=plan.suffix, cache=str(out / ".cache"))
    data = replace(data, mask_form="indices" if plan.suffix else "binary")
    data = replace(data, fold_rule="given" if len(data.classes) > 1 else "lists")
    leave_out_copies(load_index(data, "train"), out)
    index = load_index(data, "train")
    if absent := [name for c, name in enumerate(data.classes, 1) if not index.areas[:, c].any()]:
        fix = "mark it" if options.classes is None else f"take it out of {options.classes}"
        raise UserError(f"class '{absent[0]}' occurs in no image; {fix}")
    if data.fold_rule == LISTS:
        print("one class: all images are for tests, since no other class is left to train on")
        data = replace(data, folds=options.folds or len(options.fold) or 1, train_list=None)
    else:
        number = options.folds or len(options.fold) or min(4, len(data.classes))
        novel = [list(fold) for fold in options.fold] or assign_folds(index, data.classes, number)
        lines = (out / ALL_IMAGES).read_text(encoding="utf-8").splitlines()
        for part, rows in split(index, options.test_share).items():
            write_atomically(out / f"lists/{part}.txt", "".join(f"{lines[r]}\n" for r in rows))
        data = replace(data, train_list="lists/train.txt", test_list="lists/test.txt", folds=number, fold_classes=novel)
    if wrong := problem(data):
        raise UserError(f"--folds, --fold: {wrong[0]} {wrong[1]}")
    indices = {part: load_index(data, part) for part in MAKERS if getattr(data, f"{part}_list") is not None}
    data = _with_presence(data, indices)
    if rare := _rare_classes(replace(data, shot=5), indices):
        print(f"{rare}; --set data.rare_classes=skip omits them")
    shutil.rmtree(data.cache)
    return data


def assign_folds(index: Index, classes: list[str], folds: int) -> list[list[str]]:
    """Return the classes of each fold, assigned so that each fold gets frequent and rare classes."""
    images = (index.areas[:, 1:] > 0).sum(0)
    order = sorted(range(len(classes)), key=lambda c: (-images[c], c))
    turns = itertools.cycle((*range(folds), *reversed(range(folds))))  # every second round goes backwards
    assigned = list(zip(turns, order))
    return [[classes[c] for fold, c in assigned if fold == number] for number in range(folds)]


def split(index: Index, test_share: float) -> dict[str, list[int]]:
    """Return the rows of the training and test images; each class is split in about the same proportion.

    Photos, with all their masks and all files of the same content, are grouped by the rarest class that they show;
    their order in a group depends on their names alone.
    """
    images = (index.areas[:, 1:] > 0).sum(0)  # per class
    of_content: dict[bytes, list[int]] = {}
    for row, content in enumerate(index.photo_digests):
        of_content.setdefault(content, []).append(row)
    photos = list(of_content.values())
    shown = [np.flatnonzero((index.areas[rows, 1:] > 0).any(0)) for rows in photos]
    rarest = [min(s, key=lambda c: (images[c], c), default=-1) for s in shown]
    digest = [hashlib.sha256(Path(index.names[rows[0]]).name.encode()).hexdigest() for rows in photos]
    order = sorted(range(len(photos)), key=lambda p: (rarest[p], digest[p]))
    chosen = (p for place, p in enumerate(order) if int((place + 1) * test_share) > int(place * test_share))
    test = {row for p in chosen for row in photos[p]}
    return {"train": [r for r in range(len(index)) if r not in test], "test": sorted(test)}


def leave_out_copies(index: Index, out: Path) -> None:
    """Take photos out of the list of all that are copies of others with equal masks: they would support themselves.

    Lines say how many, and how many copies have masks of their own, which stay.
    """
    lines = (out / ALL_IMAGES).read_text(encoding="utf-8").splitlines()
    photos, contents = dict[bytes, int](), dict[str, int]()  # digest -> its first row
    equal, other = dict[int, int](), dict[int, int]()  # row of a copy -> that of the photo that it is a copy of
    for row in sorted(range(len(index)), key=lambda row: len(index.names[row])):  # a copy has the longer name
        first = photos.setdefault(index.photo_digests[row], row)
        twin = contents.setdefault(index.content(row), row)
        if index.images[row] == index.images[first]:  # the photo itself, or another mask of it
            continue
        if twin != row:
            equal[row] = twin
        else:
            other[row] = first
    for rows, what in ((equal, "left out"), (other, "note, in one list together, with other masks")):
        for row, first in [*rows.items()][:1]:
            print(f"{what}: {len(rows)} copies of photos, such as {index.names[row]} of {index.names[first]}")
    if equal:
        write_atomically(out / ALL_IMAGES, "".join(f"{line}\n" for row, line in enumerate(lines) if row not in equal))
        for row in equal:
            index.images[row].unlink()
            index.masks[row].unlink()


def _with_presence(data: DataSettings, indices: dict[str, Index]) -> DataSettings:
    """Return settings of presence with which each fold has enough images for 1-shot training and testing.

    The published values come first, then fewer pixels, then training images that show novel classes.
    """
    for exclude, pixels in itertools.product((True, False), (2048, 1024, 512, 256, 128, 64)):
        chosen = replace(data, min_pixels=pixels, exclude_novel=exclude)
        try:
            if not (few := _rare_classes(chosen, indices)):
                return chosen
        except UserError as error:
            few = str(error)
    fix = "add photos, leave classes out by --skip-rare N or --classes, or change --folds or --test-share"
    raise UserError(f"{few}; {fix}")


def _rare_classes(data: DataSettings, indices: dict[str, Index]) -> str:
    """Return a line that names the classes of which a list of some fold has too few images; empty: none."""
    few = []
    for part, index in indices.items():
        rare: dict[str, int] = {}
        for of_fold in (replace(data, fold=number) for number in range(data.folds)):
            for c, have in rare_classes(MAKERS[part](index, Fold.of(of_fold), of_fold), data.shot).items():
                rare[data.classes[c - 1]] = min(have, rare.get(data.classes[c - 1], have))
        if rare:
            named = ", ".join(f"{name} ({have})" for name, have in rare.items())
            few.append(f"{getattr(data, f'{part}_list')} has too few of {named}")
    return f"{data.shot}-shot needs {data.shot + 1} images of a class: {'; '.join(few)}" if few else ""
