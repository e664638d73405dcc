"""The options of ``predict.py`` in groups, and the segmenter and the examples that they give."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from annotations import recognise
from annotations.mask_formats import opened_mask
from annotations.mask_names import names_in
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import Example, parse_example
from photos.prediction import Decision
from photos.results_folder import FORMATS, PICTURES
from photos.segmenter import Segmenter
from util.cli import add_import, comma_separated, within
from util.engine import MAX_SIDE, import_by_option
from util.files.errors import UserError
from util.files.palette import IGNORE


def add_weights(parser: ArgumentParser) -> None:
    """Declare the weights, and how the network computes."""
    add_import(parser, import_by_option)
    parser.add_argument(
        "--checkpoint", help="weights by this project or by a method's authors; default: Pocket's, or --config's"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="change a setting of the config, such as run.precision=bf16; repeat it for more",
    )
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
    parser.add_argument(
        "--resize",
        dest="side",
        type=within(int, 1, MAX_SIDE),
        metavar="SIDE",
        help="side of the network's square input in pixels; default as trained",
    )


def add_network(parser: ArgumentParser) -> None:
    """Declare the network that segments, and how its masks are decided."""
    add_weights(parser)
    method = parser.add_mutually_exclusive_group()
    method.add_argument(
        "--config",
        help="a YAML file, or words such as 'split0 pascal --model insid3'; default: the config in the checkpoint",
    )
    method.add_argument(
        "--model",
        help="a method instead of --config: insid3, multiprototype, probe and prototype need no training, nor gfsam, "
        "which downloads 3.8 GB; python train.py --list prints all",
    )
    parser.add_argument(
        "--net", help="encoder of --model, such as dinov2_vits14; default the method's: lite0, or resnet50 of prototype"
    )
    parser.add_argument(
        "--min-presence",
        type=float,
        metavar="P",
        help="show no mask of a class whose presence score (0 to 1) is lower; default: the calibration's threshold",
    )
    parser.add_argument(
        "--no-refine",
        dest="refine",
        action="store_false",
        help="keep the network's mask edges instead of moving them to the photo's edges",
    )


def add_examples(parser: ArgumentParser) -> None:
    """Declare the annotated photos."""
    parser.add_argument(
        "--support",
        dest="supports",
        action="append",
        default=[],
        metavar="[CLASS=]PHOTO:ANNOTATION",
        help="an example, which is a photo and its annotation: mask.png, or "
        "box=x0,y0,x1,y1;... points=x,y;... scribble=x,y;... not=x,y;... with spaces between them; repeat it for more "
        "examples and classes",
    )
    parser.add_argument(
        "--mask-value", type=within(int, 1, IGNORE), metavar="V", help="the object's value in the masks of --support"
    )
    parser.add_argument(
        "--supports",
        dest="files",
        action="append",
        default=[],
        metavar="[FORMAT:]PATH",
        help="annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of YOLO, folder "
        f"of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more",
    )
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="folder of the photos of --supports, if they are elsewhere"
    )
    parser.add_argument(
        "--classes",
        type=_class_names,
        default=(),
        metavar="NAMES",
        help="use only these classes of --supports: cat,dog or names.txt with a name per line",
    )
    parser.add_argument(
        "--max-shots",
        type=within(int, 1, MAX_SHOTS),
        metavar="K",
        help="use at most K examples of a class from each --supports",
    )
    parser.add_argument("--unconfirmed", action="store_true", help="also take masks of --supports that no person made")


def _class_names(text: str) -> tuple[str, ...]:
    return tuple(names_in(Path(text)).classes.values())


def add_photos(parser: ArgumentParser, required: bool) -> None:
    """Declare the photos to segment, and the folder of their results."""
    parser.add_argument(
        "--query",
        dest="queries",
        nargs="+",
        type=Path,
        default=[],
        required=required,
        metavar="PHOTO",
        help="photos to segment, or folders of photos",
    )
    parser.add_argument("--recursive", action="store_true", help="also take photos in subfolders")
    parser.add_argument("--out", type=Path, required=required, help="folder for results, or for the page's work")


def add_results(parser: ArgumentParser) -> None:
    """Declare what is written."""
    parser.add_argument(
        "--resume", action="store_true", help="keep complete results of the same command, make the others"
    )
    parser.add_argument(
        "--format",
        dest="formats",
        type=comma_separated,
        default=(PICTURES,),
        metavar="NAMES",
        help=f"formats of results, separated by commas: {', '.join(FORMATS)}; default {PICTURES}",
    )
    parser.add_argument("--instances", action="store_true", help="list the connected parts of a class as objects")


def add_page(parser: ArgumentParser) -> None:
    """Declare the page."""
    parser.add_argument(
        "--port", type=within(int, 1, 2**16 - 1), default=7860, help="port of the page; default %(default)s"
    )
    parser.set_defaults(out=Path("runs/page"))


def add_data(parser: ArgumentParser) -> None:
    """Declare the config whose data a calibration is fitted on."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or words of an experiment")


def add_shared(parser: ArgumentParser) -> None:
    """Declare the weights that are shared, and their folder."""
    parser.add_argument("--checkpoint", required=True, help="weights of this project")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_import(parser, import_by_option)


def segmenter_of(asked: Namespace, examples: Sequence[Example]) -> Segmenter:
    """Return the segmenter of examples by the options of ``add_network``; UserError: as it, or no --model for --net."""
    config = asked.config
    if asked.model:
        config = f"split0 pascal --model {asked.model}" + (f" --net {asked.net}" if asked.net else "")
    elif asked.net:
        raise UserError("--net: has no effect without --model; leave it out")
    segmenter = Segmenter(
        examples,
        checkpoint=asked.checkpoint,
        config=config,
        overrides=asked.overrides,
        side=asked.side,
        device=asked.device,
        decision=Decision(asked.min_presence, refine=asked.refine),
    )
    if segmenter.engine.choice:
        print(segmenter.engine.choice)
    return segmenter


def examples_of(asked: Namespace, absences: bool = False) -> tuple[list[Example], dict[int, str]]:
    """Return all examples by the options of ``add_examples``, and the first file's categories.

    ``absences``: as ``read_examples``.

    UserError: as ``parse_example`` and ``read_examples``.
    """
    examples = [parse_example(text, asked.mask_value) for text in asked.supports]
    for example in examples:
        if not example.is_drawn:
            with opened_mask(Path(example.annotation)):
                pass  # refused before any work, or said to be read in an unusual way
    of_files, categories = read_examples(
        asked.files,
        asked.photos,
        classes=asked.classes,
        shots=asked.max_shots,
        unconfirmed=asked.unconfirmed,
        absences=absences,
    )
    return examples + of_files, categories
