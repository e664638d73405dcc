"""The command-line options of ``predict.py``, and the segmenter that they describe."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.episode import IGNORE
from util.cli import within, words
from util.data.marks import POINTS, SCRIBBLE
from util.errors import UserError
from util.evaluate.evaluate import FINAL
from util.export import formats as export_formats
from util.formats import recognise
from util.predict.adapt import MIN_SUPPORTS, adapted
from util.predict.load_model import MAX_SIDE
from util.predict.outlines import SUFFIX
from util.predict.prediction import Decision
from util.predict.regions import DRAWN_KINDS, Marking
from util.predict.segmenter import BATCH, Segmenter
from util.predict.support_files import MAX_SHOTS, supports_in
from util.predict.supports import UNNAMED, group_by_class, parse_support
from util.predict.tiles import MIN_TILE
from util.predict.write_formats import FORMATS, OUTLINES, PICTURES, RLE

HOST, PORT = "127.0.0.1", 7860  # of the page; the address is reachable from this machine alone
OVERWRITE = "--overwrite"
LEAST_RADIUS = 0.5  # pixels
DEFAULT_FORMAT = "pt2"  # needs no package beside torch


def add_model_options(out: argparse.ArgumentParser) -> None:
    """Add the options of the network: weights, config, device, input size."""
    out.add_argument(
        "--checkpoint",
        help="weights, of this project or of a method's authors; default: the method of --config, else Pocket "
        "with the weights of this repository",
    )
    out.add_argument("--config", help="YAML file of the checkpoint; default: the config in the checkpoint")
    out.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    out.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
    out.add_argument(
        "--resize",
        type=within(int, 1, MAX_SIDE),
        metavar="SIDE",
        help="side of the network's input; default as trained",
    )
    out.add_argument(
        "--vectors", type=Path, metavar="FILE", help="word vectors, for names that are not classes of the data set"
    )
    out.add_argument("--output", default=FINAL, help=f"name of the model's output to use; default {FINAL}")


def add_support_options(out: argparse.ArgumentParser) -> None:
    """Add the options of the supports: photos, marks, class names."""
    out.add_argument(
        "--support",
        dest="supports",
        action="append",
        default=[],
        metavar="[CLASS=]PHOTO:MARKS",
        help="a photo and a mask.png, an outlines.json (labelme, COCO), box=x0,y0,x1,y1, points=x,y;x,y or "
        "scribble=x,y;x,y; repeat it for more shots and classes",
    )
    out.add_argument(
        "--supports",
        dest="support_files",
        action="append",
        default=[],
        metavar="[FORMAT:]PATH",
        help="annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of "
        f"YOLO, folder of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more",
    )
    out.add_argument("--photos", type=Path, metavar="DIR", help="the photos of --supports, where they lie elsewhere")
    out.add_argument("--classes", default="", metavar="NAMES", help="classes of --supports to take, with commas")
    out.add_argument(
        "--max-shots",
        type=within(int, 1, MAX_SHOTS),
        metavar="K",
        help="supports of each class to take of each of --supports",
    )
    out.add_argument("--name", help="the class of supports that name none")
    out.add_argument(
        "--mask-value",
        type=within(int, 1, IGNORE),
        metavar="V",
        help="the object's value in masks; default every value but 0",
    )
    out.add_argument(
        "--radius",
        type=within(float, LEAST_RADIUS),
        metavar="PIXELS",
        help="of points; default 2 %% of the photo's longer side",
    )


def add_query_options(out: argparse.ArgumentParser) -> None:
    """Add the options of the queries: photos, results, tiles, batch."""
    out.add_argument(
        "--query",
        dest="queries",
        nargs="+",
        type=Path,
        default=[],
        metavar="PHOTO",
        help="photos to segment, or folders of photos",
    )
    out.add_argument("--recursive", action="store_true", help="take photos in the sub-folders of such folders too")
    out.add_argument("--out", type=Path, help="folder of results")
    again = out.add_mutually_exclusive_group()
    again.add_argument(OVERWRITE, action="store_true", help="overwrite existing results")
    again.add_argument(
        "--resume", action="store_true", help="keep the results that are complete and of this command, make the others"
    )
    out.add_argument(
        "--format",
        dest="formats",
        default=PICTURES,
        metavar="NAMES",
        help=f"results to write, with commas: {', '.join(FORMATS)}; default {PICTURES}",
    )
    out.add_argument("--instances", action="store_true", help="list the connected parts of a class as objects")
    out.add_argument(
        "--outlines", choices=OUTLINES, default=RLE, help=f"of objects in coco and labelstudio; default {RLE}"
    )
    out.add_argument(
        "--min-score",
        type=within(float, 0, 1),
        metavar="P",
        help="least presence score of a class that is shown; default the calibration's threshold",
    )
    out.add_argument(
        "--threshold",
        type=within(float, 0, 1),
        metavar="P",
        help="least probability of a class's pixels; default the method's own rule",
    )
    out.add_argument(
        "--min-pixels", type=within(int, 0), default=0, metavar="N", help="show no class with fewer pixels; default 0"
    )
    out.add_argument(
        "--tile",
        type=within(int, MIN_TILE),
        metavar="SIDE",
        help="split large photos into overlapping tiles of this side",
    )
    out.add_argument(
        "--adapt",
        action="store_true",
        help=f"with {MIN_SUPPORTS} or more supports of each class: fit a linear probe to them, and use it where "
        "cross-validation says that it is better",
    )
    out.add_argument("--batch", type=within(int, 1), default=BATCH, help=f"views in one forward pass; default {BATCH}")


def add_page_options(out: argparse.ArgumentParser) -> None:
    """Add the options of the page."""
    out.add_argument("--serve", action="store_true", help="serve a web page to try the model on")
    out.add_argument("--host", help=f"address of the page; default {HOST}, this machine alone")
    out.add_argument("--port", type=within(int, 1, 2**16 - 1), help=f"default {PORT}")


def add_export_options(out: argparse.ArgumentParser) -> None:
    """Add the options of the exported files."""
    out.add_argument("--out", type=Path, required=True, help="folder to write")
    out.add_argument(
        "--format", choices=list(export_formats.FORMATS), default=DEFAULT_FORMAT, help=f"default {DEFAULT_FORMAT}"
    )
    out.add_argument(
        "--shots",
        type=within(int, 1),
        metavar="K",
        help="supports of a class; default the number given, else as trained, else 1",
    )
    out.add_argument(OVERWRITE, action="store_true", help="overwrite an earlier export in this folder")


def read_support_files(options: argparse.Namespace) -> None:
    """Add the supports of ``--supports`` to those of ``--support``, and set ``options.categories``.

    Raises:
        UserError: as ``supports_in``; or an option is given that has no effect here.
    """
    marking = Marking(options.mask_value, options.radius)
    marks = [parse_support(text).marks for text in options.supports]
    kinds = {kind for kind in DRAWN_KINDS for text in marks if text.startswith(f"{kind}=")}
    masks = any(recognise.recognise(text, options.photos)[0] == recognise.MASKS for text in options.support_files)
    masks |= any(not text.startswith(DRAWN_KINDS) and Path(text).suffix.lower() != SUFFIX for text in marks)
    for option, needed, there in (
        ("photos", "--supports PATH", options.support_files),
        ("classes", "--supports PATH", options.support_files),
        ("max_shots", "--supports PATH", options.support_files),
        ("mask_value", "a mask among the supports", masks),
        ("radius", "points=... or scribble=... among the supports", kinds & {POINTS, SCRIBBLE}),
        ("host", "--serve", False),
        ("port", "--serve", False),
    ):
        if getattr(options, option, None) and not there:
            raise UserError(f"--{option.replace('_', '-')}: has no effect without {needed}; add that, or omit it")
    listed, options.categories = supports_in(
        options.support_files, options.photos, words(options.classes), options.max_shots, marking
    )
    options.supports = [*options.supports, *listed]


def segmenter_of(options: argparse.Namespace) -> Segmenter:
    """Return the segmenter that a command line describes; a model that it does not name is printed.

    Raises:
        UserError: as ``Segmenter``.
    """
    segmenter = Segmenter(
        options.checkpoint,
        options.supports,
        options.name,
        config=options.config,
        overrides=options.overrides,
        side=options.resize,
        tile=getattr(options, "tile", None),
        device=options.device,
        vectors=options.vectors,
        output=options.output,
        marking=Marking(options.mask_value, options.radius),
        decision=_decision(options),
    )
    if segmenter.model.note:
        print(segmenter.model.note)
    return adapted(segmenter) if getattr(options, "adapt", False) else segmenter


def _decision(options: argparse.Namespace) -> Decision:
    """Return the decision of a command line; an export has none of its options."""
    names = ("min_score", "threshold", "min_pixels")
    return Decision(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def class_names_of(options: argparse.Namespace) -> list[str]:
    """Return the names of the classes that a command line describes.

    Raises:
        UserError: there are no supports, or one has another form.
    """
    if not options.supports:
        raise UserError(
            "no supports: add --support photo.jpg:mask.png, one for each marked photo, or --supports annotations.json"
        )
    return [name or UNNAMED for name in group_by_class(options.supports, options.name)]
