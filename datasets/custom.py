"""Make a data set from your own annotated photos.

Annotations are of one of three kinds: PNGs of class ids with the photos' names (names.txt has one class per line, of
which the first has id 1); masks of one class in folders named after the classes; or files that predict.py --supports
reads (names.txt then selects classes). The command creates data/<name> (links to the photos, masks, lists) and two
configs in config/<name>: <name>.yaml for all folds and methods, and symnet.yaml, a recipe. Then run
`sh train.sh split0 <name> 1` and `sh test.sh split0 <name> 1`.
"""

import argparse
import itertools
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets.copies import leave_out_copies, note_alike_classes, note_inverted, photo_groups, print_groups
from datasets.custom_annotations import from_annotations
from datasets.custom_masks import from_masks
from datasets.custom_plan import ALL, CustomOptions, counted, with_background
from datasets.division import LEAST_PHOTOS, assign_folds, given_parts, part_of_job, split
from datasets.look import write_look
from datasets.make import EMPTY, STAMP, refuse_others, run_jobs, write_configs, write_list
from datasets.recipes import recipes
from datasets.recipes.recipe import Plan, config_text
from util.config.folds import LISTS, Fold, problems
from util.config.settings import DataSettings
from util.config.tree import flow
from util.data.lists.image_list import rare_classes, test_list, train_list
from util.data.lists.index import Index, load_index
from util.files.errors import UserError, as_user_error, note
from util.files.output_folders import made_aside
from util.files.parallel import result_or_error
from util.files.writing import write_atomically

CONFIG = Path(__file__).with_suffix(".yaml")  # a data set's, with its values in braces
SYMNET = Path(__file__).with_name("custom_symnet.yaml")  # Sym-Net's recipe on it
IN_CONFIG = {
    "beyondvoc",
    "calibration",
    "crossdomain",
    "encoder",
    "laptop",
    "mini",
    "model",
    "voc",
}  # folders of this project
RESERVED = sorted({*recipes(), *IN_CONFIG})
LISTS_FOLDER = "lists"
MORE = (  # the remedy of too few photos
    f"add photos (a class needs {2 * LEAST_PHOTOS}), confirm masks or take --unconfirmed ones, leave classes out by "
    "--skip-rare N or --classes, or change --folds"
)
LOOK = "look.jpg"
SIDE = 353  # of the square input, 16k + 1
ALL_IMAGES = f"{LISTS_FOLDER}/{ALL}.txt"
MAKERS = {"train": train_list, "test": test_list, "validation": test_list}  # validations are on novel classes too


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    CustomOptions.declare(parser)


def run(parsed: argparse.Namespace) -> int:
    """Make the data set, its folds and its config; print the next commands.

    UserError: a file or class does not fit; the message names it and the remedy. No config is written then.
    """
    options = CustomOptions.of(parsed)
    out = options.out
    _refuse_options(options)
    with made_aside(out, STAMP) as aside:
        data = replace(_make_data(options, aside), root=str(out), cache=DataSettings.cache)
        configs = _config_texts(data)
        refuse_others(configs)
        write_atomically(aside / STAMP, json.dumps({"options": str(options)}) + "\n")
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
    print(f"{out}: {_image_count(out / ALL_IMAGES)} images, {len(data.classes)} classes, {data.folds} folds")
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


def _refuse_options(options: CustomOptions) -> None:
    """Refuse (UserError) a name or folder that cannot be used, and options that do not go together."""
    out = options.out
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name) or options.name in RESERVED:
        raise UserError(f"--name {options.name}: use lower-case letters, digits and _; reserved: {', '.join(RESERVED)}")
    if options.fold and options.folds not in (None, len(options.fold)):
        raise UserError(f"--folds {options.folds}: --fold is given {len(options.fold)} times; leave out --folds")
    with as_user_error(re.error, before=f"--group {options.group}: is no regular expression (", after=")"):
        re.compile(options.group or "")
    for option, folder in (("--images", options.images), ("--masks", options.masks)):
        if folder is not None and folder.resolve().is_relative_to(out.resolve()):
            raise UserError(f"{option} {folder}: lies in --out {out}; name another --out")
    if (out / STAMP).exists():
        raise UserError(
            f"{out}: is made already",
            fix=f"remove {out} and config/{options.name} to make it anew, or take another --name",
        )


def _make_data(options: CustomOptions, out: Path) -> DataSettings:
    """Make images, masks and lists; return the settings with folds and ``min_pixels``."""
    plan = from_masks(options) if options.masks else from_annotations(options)
    if options.unknown_is_background:
        plan = with_background(plan)
    data = _settings(options, plan, out)
    _refuse_folds(data, options)
    _make_images(plan, out, options)
    leave_out_copies(load_index(data, "train"), out / ALL_IMAGES)
    index = load_index(data, "train")
    _refuse_absent_classes(data, index, options)
    groups = photo_groups(index, options.group)
    print_groups(index, groups)
    note_alike_classes(index, data.classes, options.masks)
    note_inverted(index, data.classes, options.masks or options.annotations)
    write_look(out / LOOK, index, data.classes)
    data = _divided(data, plan, index, groups, options)
    _note_vanishing(data, index)
    shutil.rmtree(data.cache)
    return data


def _make_images(plan: Plan, out: Path, options: CustomOptions) -> None:
    """Make images and masks; lines say what has no pixel, and which objects others cover wholly, as of two labels."""
    facts = run_jobs(plan, out, options.skip_bad)
    if facts["empty"]:
        print(f"  {facts['empty']} {EMPTY}")
    if facts["covered"]:
        counts = counted({plan.classes[class_id - 1]: count for class_id, count in sorted(facts["covered"].items())})
        problem = f"left out, wholly covered by objects of other classes: {counts}"
        fix = "a pixel has one class in these masks; masks of one class each, masks/<class>/photo.png, keep both"
        note(f"{options.annotations}: {problem}; {fix}")


def _refuse_absent_classes(data: DataSettings, index: Index, options: CustomOptions) -> None:
    """Refuse (UserError) a class that no photo shows."""
    selects = options.annotations and options.classes  # else the order of the names says what values are
    fix = f"take it out of {options.classes}" if selects else "annotate it"
    for class_id, name in enumerate(data.classes, 1):
        if not index.areas[:, class_id].any():
            raise UserError(f"{options.masks or options.annotations}: class '{name}' occurs in no image; {fix}")


def _note_vanishing(data: DataSettings, index: Index) -> None:
    """Say how many objects, of enough pixels to count, cover less than one at the network's side."""
    pixels = index.areas[:, 1:]
    scale = data.size / index.sizes.max(1, keepdims=True)
    vanishing = ((pixels >= data.min_pixels) & (pixels * scale**2 < 1)).sum(0).tolist()
    if any(vanishing):
        counts = counted({name: count for name, count in zip(data.classes, vanishing) if count})
        note(
            f"{data.size} x {data.size} pixels are too few for some objects, which vanish: {counts}; crop their photos"
        )


def _settings(options: CustomOptions, plan: Plan, out: Path) -> DataSettings:
    """Return the settings of a prepared folder, with the list of all images for training and test."""
    return DataSettings(
        name=options.name,
        root=str(out),
        train_list=ALL_IMAGES,
        test_list=ALL_IMAGES,
        classes=list(plan.classes),
        text="names",
        images=plan.images,
        masks=plan.masks,
        image_suffix=plan.suffix,
        size=SIDE,
        mask_form="indices" if plan.suffix else "binary",
        folds=options.folds or len(options.fold) or min(4, len(plan.classes)),
        fold_rule="given" if len(plan.classes) > 1 else "lists",
        cache=str(out / ".cache"),
    )


def _refuse_folds(data: DataSettings, options: CustomOptions) -> None:
    """Refuse (UserError) folds that the classes cannot make, before a photo is converted."""
    if data.folds > len(data.classes):
        raise UserError(
            f"--folds, --fold: {data.folds} folds need as many classes; there is only {', '.join(data.classes)}",
            fix="annotate another class, or leave out the folds; a data set of one class is only tested",
        )
    if data.fold_rule == LISTS:
        return
    fold_classes = options.fold or [data.classes[number :: data.folds] for number in range(data.folds)]
    for key, error in problems(replace(data, fold_classes=fold_classes)):
        raise UserError(f"--folds, --fold: {key} {error}")


def _divided(
    data: DataSettings, plan: Plan, index: Index, groups: Sequence[Sequence[int]], options: CustomOptions
) -> DataSettings:
    """Return settings with folds, lists and presence: of the parts that folders name, if these have enough photos."""
    if data.fold_rule == LISTS:
        print("one class: all images are for tests, since no other class is left to train on")
        return _with_presence(replace(data, train_list=None))
    fold_classes = [list(names) for names in options.fold] or assign_folds(index, data.classes, data.folds)
    data = replace(data, fold_classes=fold_classes)
    out = Path(data.root)
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
        if not rows:
            raise UserError(f"{len(lines)} annotated photos: too few for a list of training and one of tests", fix=MORE)
        lists[f"{part}_list"] = f"{LISTS_FOLDER}/{part}.txt"
        write_list(out / LISTS_FOLDER / f"{part}.txt", [lines[row] for row in rows])
    return replace(data, **lists)


def _with_presence(data: DataSettings) -> DataSettings:
    """Return settings of presence with which each fold has enough images for 1-shot training and testing.

    The published values come first, then fewer pixels, then training images that show novel classes.
    """
    indices = {part: load_index(data, part) for part in MAKERS if getattr(data, f"{part}_list")}
    for exclude_novel, min_pixels in itertools.product((True, False), (2048, 1024, 512, 256, 128, 64)):
        candidate = replace(data, min_pixels=min_pixels, exclude_novel=exclude_novel)
        shortage = result_or_error(partial(_rare_classes, indices=indices), candidate)
        if not shortage:
            return candidate
    raise UserError(str(shortage), fix=MORE)


def _rare_classes(data: DataSettings, indices: dict[str, Index]) -> str:
    """Return a line that names the classes of which a list of some fold has too few images; empty: none."""
    shortages = []
    for part, index in indices.items():
        fewest: dict[str, int] = {}  # of a rare class, images in the list of the fold that has fewest
        for fold in range(data.folds):
            fold_data = replace(data, fold=fold)
            images = MAKERS[part](index, Fold.of(fold_data), fold_data)
            for class_id, count in rare_classes(images, data.shot).items():
                name = data.classes[class_id - 1]
                fewest[name] = min(count, fewest.get(name, count))
        if fewest:
            shortages.append(f"{getattr(data, f'{part}_list')} has too few of {counted(fewest)}")
    if not shortages:
        return ""
    return f"{data.shot}-shot needs {data.shot + 1} images of a class: {'; '.join(shortages)}"
