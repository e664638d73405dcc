"""The options of ``predict.py`` in groups: how each is declared, and what a command line makes of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from annotations import recognise
from annotations.mask_images import check_header
from annotations.masks import names_in
from annotations.region import classes_in
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import Example, parse_example
from photos.photo_files import MIN_TILE
from photos.prediction import Decision
from photos.results import FORMATS, PICTURES, Results
from photos.segmenter import Segmenter
from util.cli import comma_separated, within
from util.engine import MAX_SIDE
from util.files.errors import UserError
from util.files.palette import IGNORE

RLE, POLYGONS = "rle", "polygons"  # of --outlines


def refuse_option(name: str, needed: str) -> NoReturn:
    """Raise the UserError of an option that has no effect without another."""
    raise UserError(f"--{name.replace('_', '-')}: has no effect without {needed}; leave it out")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the network."""
    add = parser.add_argument
    checkpoint = "weights by this project or by a method's authors; default: Pocket's, or those that --config states"
    add("--checkpoint", help=checkpoint)
    config = "a YAML file, or words such as 'split0 pascal --model insid3'; default: the config in the checkpoint"
    add("--config", help=config)
    method = (
        "a method instead of --config: insid3, multiprototype, probe and prototype need no training, nor gfsam, which "
    )
    method += "downloads 3.8 GB; python train.py --list prints all"
    add("--model", help=method)
    add("--net", help="encoder of --model, such as dinov2_vits14; default lite0, whose weights are installed")
    setting = "change a setting of the config, such as run.precision=bf16; repeat it for more"
    add("--set", dest="overrides", action="append", default=[], metavar="section.key=value", help=setting)
    add("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
    side = "side of the network's square input in pixels; default as trained"
    add("--resize", type=within(int, 1, MAX_SIDE), metavar="SIDE", help=side)
    add("--vectors", type=Path, metavar="FILE", help="word vectors for classes that the data set lacks")


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Declare the options of how masks are decided."""
    add = parser.add_argument
    score = "show no mask of a class whose presence score (0 to 1) is lower; default: the calibration's threshold"
    add("--min-presence", type=within(float, 0, 1), metavar="P", help=score)
    refine = "keep the network's mask edges instead of moving them to the photo's edges"
    add("--no-refine", dest="refine", action="store_false", help=refine)
    add("--tile", type=within(int, MIN_TILE), metavar="SIDE", help="split large photos into overlapping tiles")


def config_of(options: argparse.Namespace) -> str | None:
    """Return the config that a command line names: --config, or one of --model and --net; UserError: it names both."""
    words = [f"--{name} {getattr(options, name)}" for name in ("model", "net") if getattr(options, name)]
    if options.net and not options.model:
        refuse_option("net", "--model")
    if words and options.config:
        raise UserError(f"--config: cannot be used with {words[0]}; leave one of them out")
    return " ".join(["split0 pascal", *words]) if words else options.config


def segmenter_of(options: argparse.Namespace, examples: Sequence[Example], device: str | None = None) -> Segmenter:
    """Return the segmenter of examples, on a device where one is named; UserError: as it, or of --vectors."""
    segmenter = Segmenter(
        options.checkpoint,
        examples,
        config=config_of(options),
        overrides=options.overrides,
        side=options.resize,
        tile=options.tile,
        device=device or options.device,
        vectors=options.vectors,
        decision=Decision(options.min_presence, refine=options.refine),
    )
    if options.vectors and not segmenter.model.reads_vectors:
        refuse_option("vectors", "a model that reads text")
    if segmenter.model.note:
        print(segmenter.model.note)
    return segmenter


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Declare the options of examples."""
    add = parser.add_argument
    example = "an example, which is a photo and its annotation: mask.png, outlines.json (labelme, COCO), or "
    example += "box=x0,y0,x1,y1;... points=x,y;... scribble=x,y;... not=x,y;... with spaces between them; repeat it "
    example += "for more examples and classes"
    add("--support", dest="supports", action="append", default=[], metavar="[CLASS=]PHOTO:ANNOTATION", help=example)
    files = "annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of YOLO, "
    files += f"folder of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more"
    add("--supports", dest="support_files", action="append", default=[], metavar="[FORMAT:]PATH", help=files)
    add("--photos", type=Path, metavar="DIR", help="folder of the photos of --supports, if they are elsewhere")
    add(
        "--classes",
        type=_class_names,
        default=(),
        metavar="NAMES",
        help="use only these classes of --supports: cat,dog or names.txt with a name per line",
    )
    shots = "use at most K examples of a class from each --supports"
    add("--max-shots", type=within(int, 1, MAX_SHOTS), metavar="K", help=shots)
    value = "the object's value in masks; default: every value but 0 and black"
    add("--mask-value", type=within(int, 1, IGNORE), metavar="V", help=value)


def _class_names(text: str) -> tuple[str, ...]:
    return tuple(names_in(Path(text)).classes.values())


def examples_of(options: argparse.Namespace) -> tuple[list[Example], dict[int, str]]:
    """Return all examples, and the first file's categories.

    UserError: as ``parse_example`` and ``read_examples``, or nothing reads an option.
    """
    examples = [parse_example(text, options.mask_value) for text in options.supports]
    masks = [example.mask for example in examples if example.mask is not None]
    for mask in masks:
        check_header(mask)
    of_files, categories = read_examples(
        options.support_files,
        options.photos,
        classes=options.classes,
        shots=options.max_shots,
        mask_value=options.mask_value,
    )
    examples += of_files
    _refuse_without_effect(options, has_mask=any(example.mask is not None for example in examples))
    for mask in masks if options.mask_value is None else ():
        _note_several_values(mask)
    return examples, categories


def _refuse_without_effect(options: argparse.Namespace, has_mask: bool) -> None:
    """Refuse (UserError) an option of examples that nothing reads; ``has_mask``: one of the examples is a mask."""
    needed_by = {"photos": "--supports", "classes": "--supports", "max_shots": "--supports"}
    for name, needed in needed_by.items():
        if getattr(options, name) and not options.support_files:
            refuse_option(name, needed)
    if options.mask_value is not None and not has_mask:
        refuse_option("mask_value", "a mask among the examples")


def _note_several_values(mask: Path) -> None:
    """Print a line on a mask whose values may be of several classes."""
    values = classes_in(mask)
    if len(values) > 1:
        print(f"{mask}: the object is all of its values, {sorted(values)[:5]}; --mask-value V takes one of them")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Declare the options of results."""
    add = parser.add_argument
    formats = f"formats of results, separated by commas: {', '.join(FORMATS)}; default {PICTURES}"
    add("--format", dest="formats", type=comma_separated, default=(PICTURES,), metavar="NAMES", help=formats)
    add("--instances", action="store_true", help="list the connected parts of a class as objects")
    add(
        "--outlines", choices=(RLE, POLYGONS), default=RLE, help=f"form of masks in coco and labelstudio; default {RLE}"
    )


def results_of(options: argparse.Namespace, names: Sequence[str], categories: dict[int, str]) -> Results:
    """Return the folder of the results of classes; UserError: none is named, or as ``Results``."""
    if not options.out:
        raise UserError("--out FOLDER is missing: where the results go")
    return Results(
        options.out,
        names,
        options.formats,
        declared=categories,
        polygons=options.outlines == POLYGONS,
        instances=options.instances,
    )
