"""Make a data set from your own annotated photos.

Annotations are of one of three kinds: PNGs of class ids with the photos' names (names.txt has one class per line, of
which the first has id 1); masks of one class in folders named after the classes; or files that predict.py --supports
reads (names.txt then selects classes). The command creates data/<name> (links to the photos, masks, lists) and two
configs in config/<name>: <name>.yaml for all folds and methods, and symnet.yaml, a recipe. Then run
`sh train.sh split0 <name> 1` and `sh test.sh split0 <name> 1`.
"""

import argparse
import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotations import recognise
from datasets.copies import leave_out_copies, photo_groups, print_versions
from datasets.custom_annotations import from_annotations
from datasets.custom_masks import from_masks, names_of
from datasets.custom_plan import ALL, with_background
from datasets.division import LEAST_PHOTOS, TEST_SHARE, assign_folds, given_parts, part_of_job, split
from datasets.look import write_look
from datasets.make import EMPTY, STAMP, add_out, refuse_others, run_jobs, write_configs, write_list
from datasets.recipes import recipes
from datasets.recipes.recipe import Plan, config_text
from util.cli import comma_separated, within
from util.config.folds import LISTS, Fold, problems
from util.config.settings import DataSettings
from util.config.tree import flow
from util.data.lists.image_list import rare_classes
from util.data.lists.index import Index, load_index
from util.data.lists.published_sizes import MAKERS
from util.files import files_below, fingerprint, kept_json, whole_digest, write_atomically
from util.files.errors import UserError, note
from util.files.made import made_aside

CONFIG = Path(__file__).with_suffix(".yaml")  # a data set's, with its values in braces
SYMNET = Path(__file__).with_name("custom_symnet.yaml")  # Sym-Net's recipe on it
IN_CONFIG = {"beyondvoc", "calibration", "crossdomain", "encoder", "mini", "model", "voc"}  # folders of this project
RESERVED = sorted({*recipes(), *IN_CONFIG})
LISTS_FOLDER = "lists"
LOOK = "look.jpg"
ALL_IMAGES = f"{LISTS_FOLDER}/{ALL}.txt"
MAKERS_WITH_VALIDATION = {**MAKERS, "validation": MAKERS["test"]}  # validations are on novel classes too


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--name", required=True, help="name of the data set: lower-case letters, digits, _")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    marked = parser.add_mutually_exclusive_group(required=True)
    marked.add_argument("--masks", type=Path, metavar="DIR", help="folder of masks, or of one folder for each class")
    what = "file or folder of COCO, labelme, Label Studio or YOLO, or results of predict.py"
    marked.add_argument("--annotations", metavar="PATH", help=what)
    of_network = "take masks of predict.py that no person has confirmed, too"
    parser.add_argument("--unconfirmed", action="store_true", help=of_network)
    parser.add_argument("--white-is-object", action="store_true", help="255 is the object in masks of 0 and 255")
    ground = "pixels of 255 are background, in masks in which 255 surrounds the objects"
    parser.add_argument("--unknown-is-background", action="store_true", help=ground)
    parser.add_argument(
        "--classes", type=Path, metavar="NAMES", help="class names: cat,dog or names.txt with a name per line"
    )
    parser.add_argument("--folds", type=within(int, 2), help="number of folds (default: at most 4, or that of --fold)")
    novel = "a fold's novel classes, such as cat,dog; repeat it for each fold"
    parser.add_argument("--fold", type=comma_separated, action="append", default=[], metavar="NAMES", help=novel)
    rare = "leave out classes with fewer than N photos"
    parser.add_argument("--skip-rare", type=within(int, 1), default=1, metavar="N", help=rare)
    add_out(parser, "data/<name>")


def run(options: argparse.Namespace) -> int:
    """Make the data set, its folds and its config; print the next commands.

    UserError: a file or class does not fit; the message names it and the remedy. No config is written then.
    """
    out = Path(str(options.out).replace("<name>", options.name))
    _refuse_options(options, out)
    made_from = _source_fingerprint(options)
    _refuse_other_sources(options.name, out, made_from)
    _refuse_edited_lists(out)
    with made_aside(out, STAMP) as aside:
        data = replace(_make_data(options, aside), root=str(out), cache=DataSettings.cache)
        configs = _config_texts(data)
        refuse_others(configs)
        stamp = {"made_from": made_from, "lists": _digests_of_lists(aside)}
        write_atomically(aside / STAMP, json.dumps(stamp) + "\n")
    write_configs(configs)
    _print_next(data, out)
    return 0


def _config_texts(data: DataSettings) -> dict[Path, str]:
    """Return the texts of the configs by path: the data set's and, where it can be trained on, Sym-Net's recipe."""
    folder = Path("config", data.name)
    lists: dict[str, Any] = {"classes": data.classes}
    if data.fold_classes:
        lists["fold_classes"] = data.fold_classes
    values = {key: flow(value) for key, value in vars(data).items()}
    configs = {folder / f"{data.name}.yaml": config_text(CONFIG, lists, values)}
    if data.train_list:
        configs[folder / "symnet.yaml"] = config_text(SYMNET, {}, {"name": data.name})
    return configs


def _print_next(data: DataSettings, out: Path) -> None:
    """Print what was made, and the commands that use it."""
    images = _image_count(out / ALL_IMAGES)
    print(f"{out}: {images} images, {len(data.classes)} classes, {data.folds} folds")
    for name in filter(None, (data.train_list, data.validation_list, data.test_list)):
        print(f"  {name}: {_image_count(out / name)} images")
    print(f"  min_pixels {data.min_pixels}, exclude_novel {str(data.exclude_novel).lower()}")
    for number, names in enumerate(data.fold_classes or []):
        print(f"  fold {number} tests: {', '.join(names)}")
    print(f"config: config/{data.name}/{data.name}.yaml, for all folds and methods")
    train = f"sh train.sh split0 {data.name} 1 &&" if data.train_list else "MODEL=multiprototype"
    print(f"now: {train} sh test.sh split0 {data.name} 1   (on a CPU: 0 instead of 1)")
    print(f"look first: {out / LOOK} shows photos with their masks as they were read")


def _image_count(file: Path) -> int:
    """Return the number of images of a list, which may have a line for each of their masks."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return len({line.split()[-1] for line in lines})


def _refuse_options(options: argparse.Namespace, out: Path) -> None:
    """Refuse (UserError) a name that cannot be used, and options that do not go together."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name) or options.name in RESERVED:
        raise UserError(f"--name {options.name}: use lower-case letters, digits and _; reserved: {', '.join(RESERVED)}")
    if options.fold and options.folds not in (None, len(options.fold)):
        raise UserError(f"--folds {options.folds}: --fold is given {len(options.fold)} times; leave out --folds")
    for option, folder in (("--images", options.images), ("--masks", options.masks)):
        if folder is None:
            continue
        path = folder.resolve()
        if out.resolve() in (path, *path.parents):
            raise UserError(f"{option} {folder}: lies in --out {out}; name another --out")


def _source_fingerprint(options: argparse.Namespace) -> str:
    """Return the fingerprint of the content of the files that decide the class ids, and of the options."""
    files = []
    if options.classes is not None:
        files.append(options.classes)
    if options.annotations is not None:
        _, path = recognise.recognise(options.annotations)
        files += files_below(path) if path.is_dir() else [path]
    elif options.masks.is_dir() and (names := names_of(options)) is not None:
        files = [names.path]
    contents = (f"{path.name} {whole_digest(path)}" for path in files if path.is_file())
    sources = (options.images, options.masks, options.annotations)
    folds = (options.folds, options.fold)
    words = ["unknown is background"] if options.unknown_is_background else []
    words += ["unconfirmed"] if options.unconfirmed else []
    if options.classes is not None and not options.classes.is_file():
        words.append(str(options.classes))
    return fingerprint(contents, *sources, *folds, TEST_SHARE, options.skip_rare, *words)


def _refuse_other_sources(name: str, out: Path, made_from: str) -> None:
    """Refuse (UserError) the name of a data set that was made from other sources.

    Class ids could differ then, so that configs and checkpoints of that name would silently refer to other classes.
    """
    config = Path("config", name)
    stamp = out / STAMP
    if not config.exists() or not stamp.exists():
        return
    if kept_json(stamp).get("made_from") != made_from:
        fix = f"remove that folder and {out}, or choose another --name"
        raise UserError(f"{config}: '{name}' was made from other files or options, or by an earlier version; {fix}")


def _refuse_edited_lists(out: Path) -> None:
    """Refuse (UserError) to make a data set anew whose lists were edited, or beside whose lists others were written."""
    made = kept_json(out / STAMP).get("lists", {})
    for name, digest in _digests_of_lists(out).items():
        if made and made.get(name) != digest:
            problem = "was edited, or written beside the lists of this command, which would replace it"
            raise UserError(f"{out / LISTS_FOLDER / name}: {problem}; move it to another folder, or name another --out")


def _digests_of_lists(out: Path) -> dict[str, str]:
    """Return the digest of each list in a prepared folder by its name."""
    paths = sorted((out / LISTS_FOLDER).glob("*.txt"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _make_data(options: argparse.Namespace, out: Path) -> DataSettings:
    """Make images, masks and lists; return the settings with folds and ``min_pixels``."""
    plan = from_masks(options) if options.masks else from_annotations(options)
    if options.unknown_is_background:
        plan = with_background(plan)
    data = _settings(options.name, plan, out)
    data = replace(data, folds=options.folds or len(options.fold) or min(4, len(data.classes)))
    _refuse_folds(data, options)
    _make_images(plan, out, options)
    leave_out_copies(load_index(data, "train"), out / ALL_IMAGES)
    index = load_index(data, "train")
    _refuse_absent_classes(data, index, options)
    groups = photo_groups(index)
    print_versions(index, groups)
    write_look(out / LOOK, index, data.classes)
    data = _divided(data, plan, index, groups, options)
    if rare := _rare_classes(replace(data, shot=5), _indices(data)):
        print(f"{rare}; --set data.rare_classes=skip leaves them out")
    shutil.rmtree(data.cache)
    return data


def _make_images(plan: Plan, out: Path, options: argparse.Namespace) -> None:
    """Make images and masks; lines say what has no pixel."""
    made = run_jobs(plan, out, options.skip_bad)
    empty = made.facts["counts"][EMPTY]
    if empty:
        print(f"  {empty} {EMPTY}")
    if made.covered:
        _note_covered(made.covered, plan.classes, options)


def _note_covered(covered: Counter[int], classes: Sequence[str], options: argparse.Namespace) -> None:
    """Print how many objects of each class others cover wholly, as where a region has two labels."""
    counts = ", ".join(f"{classes[class_id - 1]} ({count})" for class_id, count in sorted(covered.items()))
    problem = f"left out, wholly covered by objects of other classes: {counts}; a pixel has one class in these masks"
    fix = "masks of one class each, masks/<class>/photo.png, keep both"
    note(f"{options.annotations}: {problem}; {fix}")


def _refuse_absent_classes(data: DataSettings, index: Index, options: argparse.Namespace) -> None:
    """Refuse (UserError) a class that no photo shows."""
    selects = options.annotations and options.classes  # else the order of the names says what values are
    fix = f"take it out of {options.classes}" if selects else "annotate it"
    for class_id, name in enumerate(data.classes, 1):
        if not index.areas[:, class_id].any():
            raise UserError(f"{options.masks or options.annotations}: class '{name}' occurs in no image; {fix}")


def _settings(name: str, plan: Plan, out: Path) -> DataSettings:
    """Return the settings of a prepared folder, with the list of all images for training and test."""
    return DataSettings(
        name=name,
        root=str(out),
        train_list=ALL_IMAGES,
        test_list=ALL_IMAGES,
        classes=list(plan.classes),
        text="names",
        images=plan.images,
        masks=plan.masks,
        image_suffix=plan.suffix,
        mask_form="indices" if plan.suffix else "binary",
        fold_rule="given" if len(plan.classes) > 1 else "lists",
        cache=str(out / ".cache"),
    )


def _refuse_folds(data: DataSettings, options: argparse.Namespace) -> None:
    """Refuse (UserError) folds that the classes cannot make, before a photo is converted."""
    if data.folds > 1 == len(data.classes):
        fix = "annotate another class for training, or leave out the folds for a data set that is only tested"
        raise UserError(f"--folds, --fold: '{data.classes[0]}' is the only class; {fix}")
    if data.fold_rule == LISTS:
        return
    fold_classes = options.fold or [data.classes[number :: data.folds] for number in range(data.folds)]
    if invalid := next(problems(replace(data, fold_classes=fold_classes)), None):
        key, error = invalid
        raise UserError(f"--folds, --fold: {key} {error}")


def _divided(
    data: DataSettings, plan: Plan, index: Index, groups: Sequence[Sequence[int]], options: argparse.Namespace
) -> DataSettings:
    """Return settings with folds, lists and presence: of the parts that folders name, if these have enough photos."""
    if data.fold_rule == LISTS:
        print("one class: all images are for tests, since no other class is left to train on")
        return _with_presence(replace(data, train_list=None))
    fold_classes = [list(names) for names in options.fold] or assign_folds(index, data.classes, data.folds)
    data = replace(data, fold_classes=fold_classes)
    out = Path(data.root)
    assert not callable(plan.jobs)  # which is for recipes alone
    part_of_name = {job.name: part_of_job(job, plan.classes, options) for job in plan.jobs}
    given = given_parts(index, groups, part_of_name)
    if given:
        words = ", ".join(f"{part} {len(rows)}" for part, rows in given.items())
        try:
            kept = _with_presence(_with_lists(data, given, out))
        except UserError as error:
            reason = str(error).replace(f"{out}/", "")
            print(f"note: the parts that folders name ({words}) are not kept, photos are divided anew: {reason}")
            (out / LISTS_FOLDER / "validation.txt").unlink(missing_ok=True)
        else:
            print(f"the parts that folders name are kept: {words}")
            return kept
    return _with_presence(_with_lists(data, split(index, groups), out))


def _with_lists(data: DataSettings, rows_of_part: dict[str, list[int]], out: Path) -> DataSettings:
    """Return settings that name the list of each part, after writing it."""
    lines = (out / ALL_IMAGES).read_text(encoding="utf-8").splitlines()
    lists: dict[str, Any] = {}
    for part, rows in rows_of_part.items():
        lists[f"{part}_list"] = f"{LISTS_FOLDER}/{part}.txt"
        write_list(out / LISTS_FOLDER / f"{part}.txt", [lines[row] for row in rows])
    return replace(data, **lists)


def _indices(data: DataSettings) -> dict[str, Index]:
    """Return the index of each part that has a list."""
    return {part: load_index(data, part) for part in MAKERS_WITH_VALIDATION if getattr(data, f"{part}_list")}


def _with_presence(data: DataSettings) -> DataSettings:
    """Return settings of presence with which each fold has enough images for 1-shot training and testing.

    The published values come first, then fewer pixels, then training images that show novel classes.
    """
    indices = _indices(data)
    for exclude_novel, min_pixels in itertools.product((True, False), (2048, 1024, 512, 256, 128, 64)):
        candidate = replace(data, min_pixels=min_pixels, exclude_novel=exclude_novel)
        try:
            shortage = _rare_classes(candidate, indices)
        except UserError as error:
            shortage = str(error)
        if not shortage:
            return candidate
    remedy = f"add photos (a class needs {2 * LEAST_PHOTOS}), leave classes out by --skip-rare N or --classes"
    fix = f"{remedy}, or change --folds"
    raise UserError(f"{shortage}; {fix}")


def _rare_classes(data: DataSettings, indices: dict[str, Index]) -> str:
    """Return a line that names the classes of which a list of some fold has too few images; empty: none."""
    shortages = []
    for part, index in indices.items():
        fewest: dict[str, int] = {}  # of a rare class, images in the list of the fold that has fewest
        for fold in range(data.folds):
            fold_data = replace(data, fold=fold)
            images = MAKERS_WITH_VALIDATION[part](index, Fold.of(fold_data), fold_data)
            for class_id, count in rare_classes(images, data.shot).items():
                name = data.classes[class_id - 1]
                fewest[name] = min(count, fewest.get(name, count))
        if fewest:
            names = ", ".join(f"{name} ({count})" for name, count in fewest.items())
            shortages.append(f"{getattr(data, f'{part}_list')} has too few of {names}")
    if not shortages:
        return ""
    return f"{data.shot}-shot needs {data.shot + 1} images of a class: {'; '.join(shortages)}"
