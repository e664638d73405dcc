"""``predict.py``: its command line, the segmenter that it describes (for the page and exports too), and its results."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

from annotations import recognise
from annotations.marks import POINTS, SCRIBBLE
from annotations.region import classes_in
from photos.options import NONE, PredictOptions, SegmenterOptions, options_of
from photos.photo_files import MIN_TILE, check_photo, photos_in
from photos.prediction import percent
from photos.publish import publish as write_published
from photos.results import FORMATS, PICTURES, Results
from photos.segmenter import BATCH, Segmenter
from photos.support_check import check_supports
from photos.supports import MAX_SHOTS, NOT, UNNAMED, MarkedPhoto, by_class, parse_support, read_supports
from util.cli import Parser, within, words
from util.errors import EXIT_USER_ERROR, UserError
from util.files.images import check_header
from util.files.palette import IGNORE
from util.loaded import FINAL, MAX_SIDE, load_method
from util.parallel import attempt
from util.progress import ProgressBar
from util.runtime.processes import as_user_error

HOST, PORT = "127.0.0.1", 7860  # of the page; the address is reachable from this machine alone
MODEL_PORT = 9090  # of the model of a Label Studio server
TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"  # which Label Studio's own programs read
SESSION = Path("runs/page")  # the folder of its work
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
NO_SUPPORTS = "no supports: add --support photo.jpg:mask.png or --supports annotations.json"
MEMORY = "--batch, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"


def parser() -> argparse.ArgumentParser:
    """Return the parser of predictions, of the page and of Label Studio's model."""
    description = "Segment objects in photos, given a few annotated photos. 'predict.py export --help' shows "
    description += "how to export the network, 'predict.py publish --help' how to publish it."
    out = Parser(prog="predict.py", description=description)
    add_model_and_supports(out)
    add = out.add_argument
    add("--query", dest="queries", nargs="+", type=Path, default=[], metavar="PHOTO", help="photos, folders of photos")
    add("--recursive", action="store_true", help="take photos in the sub-folders of such folders too")
    add("--out", type=Path, help="folder of results, or of the page's work")
    existing = out.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="overwrite existing results")
    existing.add_argument(
        "--resume", action="store_true", help="keep complete results of this command, make the others"
    )
    formats = f"results to write, with commas: {', '.join(FORMATS)}; default {PICTURES}"
    add("--format", dest="formats", default=PICTURES, metavar="NAMES", help=formats)
    add("--instances", action="store_true", help="list the connected parts of a class as objects")
    add("--outlines", choices=("rle", "polygons"), default="rle", help="in coco and labelstudio; default rle")
    share: dict[str, Any] = {"type": within(float, 0, 1), "metavar": "P"}
    score = "minimum presence score (0 to 1) of a class that is shown; default the calibration's threshold"
    add("--min-score", **share, help=score)
    add("--threshold", **share, help="minimum probability (0 to 1) of its pixels; default the method's own rule")
    add("--min-pixels", type=within(int, 0), default=0, metavar="N", help="show no class with fewer pixels; default 0")
    add("--no-refine", dest="refine", action="store_false", help="keep the network's edges, not the photo's")
    add("--tile", type=within(int, MIN_TILE), metavar="SIDE", help="split large photos into overlapping tiles")
    adapt = "auto (default): check three or more supports; marks along the border mean a material; none: neither"
    add("--adapt", choices=("auto", NONE), default="auto", help=adapt)
    base = "label the weights' base classes too, in one mask; supports are optional"
    add("--keep-base", action="store_true", help=base)
    add("--batch", type=within(int, 1), default=BATCH, help=f"views in one forward pass; default {BATCH}")
    serve = f"serve a web page to mark, segment and correct; its work is kept in --out, default {SESSION}"
    add("--serve", action="store_true", help=serve)
    studio = "be the model of a Label Studio server: predict its tasks by the annotations finished there"
    add("--label-studio", metavar="URL", help=studio)
    add("--token", help=f"of a user of Label Studio, of both kinds; default the variable {TOKEN_VARIABLE}")
    add("--project", type=within(int, 1), metavar="N", help="of Label Studio; default all that the user can open")
    add("--host", help=f"address of the page or the model; default {HOST}, this machine alone")
    add("--port", type=within(int, 1, 2**16 - 1), help=f"default {PORT}, of the model {MODEL_PORT}")
    return out


def add_model_and_supports(out: argparse.ArgumentParser) -> None:
    """Add the options of the network and of the supports."""
    add = out.add_argument
    weights = "weights, of this project or of a method's authors; default Pocket's, or those of --config"
    add("--checkpoint", help=weights)
    add("--config", help="YAML file of the checkpoint; default: the config in the checkpoint")
    add("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    add("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
    add("--resize", type=within(int, 1, MAX_SIDE), metavar="SIDE", help="of the network's input; default as trained")
    add("--vectors", type=Path, metavar="FILE", help="word vectors, for names that are not classes of the data set")
    add("--output", default=FINAL, help=f"name of the model's output to use; default {FINAL}")
    support = "a photo and a mask.png, an outlines.json (labelme, COCO), or marks: box=x0,y0,x1,y1;... points=x,y;... "
    support += "scribble=x,y;... not=x,y;... with spaces between them; repeat it for more shots and classes"
    add("--support", dest="supports", action="append", default=[], metavar="[CLASS=]PHOTO:MARKS", help=support)
    files = "annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of YOLO, folder "
    files += f"of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more"
    add("--supports", dest="support_files", action="append", default=[], metavar="[FORMAT:]PATH", help=files)
    add("--photos", type=Path, metavar="DIR", help="the photos of --supports, where they lie elsewhere")
    add("--classes", default="", metavar="NAMES", help="classes of --supports to take, with commas")
    add("--max-shots", type=within(int, 1, MAX_SHOTS), metavar="K", help="supports of a class, of each of --supports")
    add("--name", help="the class of supports that name none")
    add("--mask-value", type=within(int, 1, IGNORE), metavar="V", help="of the object in masks; default all but black")
    add("--radius", type=within(float, 0.5), metavar="PIXELS", help="of points; default 2 %% of the longer side")


def marked_by(options: SegmenterOptions) -> tuple[list[MarkedPhoto], dict[int, str]]:
    """Return all marked photos, and the first file's categories; errors as ``parse_support`` and ``read_supports``."""
    marked = [parse_support(text, options.mask_value, options.radius) for text in options.supports]
    for support in marked:
        if support.kinds == {"mask"}:
            check_header(Path(support.marks))
    of_files, categories = read_supports(
        options.support_files,
        options.photos,
        classes=words(options.classes),
        shots=options.max_shots,
        mask_value=options.mask_value,
    )
    return [*marked, *of_files], categories


def build_segmenter(options: SegmenterOptions, marked: Sequence[MarkedPhoto]) -> Segmenter:
    """Return the segmenter that a command line describes; UserError: as it, or nothing reads an option."""
    segmenter = Segmenter(
        options.checkpoint,
        marked,
        options.name,
        config=options.config,
        overrides=options.overrides,
        side=options.resize,
        tile=options.tile,
        device=options.device,
        vectors=options.vectors,
        output=options.output,
        decision=options.decision,
        keep_base=options.keep_base,
    )
    for support in marked:
        if support.kinds == {"mask"} and support.mask_value is None:
            _note_several_values(support.marks)
    _refuse_without_effect(options, marked, segmenter)
    if segmenter.model.note:
        print(segmenter.model.note)
    if options.adapt == NONE:
        return segmenter
    return check_supports(segmenter, progress=True)


def _note_several_values(mask: str) -> None:
    """Print a line on a mask whose values may be of several classes."""
    values = classes_in(Path(mask))
    if len(values) > 1:
        print(f"{mask}: its values {sorted(values)[:5]} are all the object; --mask-value takes one of them")


def _refuse_without_effect(options: SegmenterOptions, marked: Sequence[MarkedPhoto], segmenter: Segmenter) -> None:
    """Refuse (UserError) an option of the segmenter that nothing reads."""
    kinds = {kind for support in marked for kind in support.kinds}
    reads_text = segmenter.model.reads_vectors
    for name, has_effect, needed in (
        ("photos", options.support_files, "--supports"),
        ("classes", options.support_files, "--supports"),
        ("max_shots", options.reads_annotations, "--supports or --label-studio"),
        ("mask_value", "mask" in kinds, "a mask among the supports"),
        ("radius", kinds & {POINTS, SCRIBBLE, NOT}, "points=..., scribble=... or not=... among the supports"),
        ("name", any(support.name is None for support in marked), "a support that names no class"),
        ("vectors", reads_text, "a model that reads text"),
    ):
        if getattr(options, name) and not has_effect:
            refuse_option(name, needed)


def refuse_option(name: str, needed: str) -> NoReturn:
    """Raise the UserError of an option that has no effect without another."""
    raise UserError(f"--{name.replace('_', '-')}: has no effect without {needed}; leave it out")


def prediction_options(parsed: argparse.Namespace) -> PredictOptions:
    """Return the options of a prediction from a parsed command line; UserError: one of servers is among them."""
    for name in ("host", "port"):
        if getattr(parsed, name):
            refuse_option(name, "--serve or --label-studio")
    refuse_label_studio(parsed)
    return options_of(PredictOptions, parsed)


def refuse_label_studio(parsed: argparse.Namespace) -> None:
    """Refuse (UserError) options of Label Studio alone."""
    for name in ("token", "project"):
        if getattr(parsed, name):
            refuse_option(name, "--label-studio")


def predict(options: PredictOptions) -> int:
    """Write the results of every query, after all checks that need no decoded photo; return the exit code."""
    marked, categories = marked_by(options)
    out = _results_folder(options, marked)
    names = [name or UNNAMED for name in by_class(marked, options.name)]  # in the order of their values in masks
    segmenter = None
    if options.keep_base:
        segmenter = build_segmenter(options, marked)
        names = [known.name for known in segmenter.classes]
    results = Results(
        out,
        names=names,
        formats=words(options.formats),
        declared=categories,
        polygons=options.outlines == "polygons",
        instances=options.instances,
    )
    queries, failed = _readable_queries(options, results)
    results.check(queries, again=options.overwrite or options.resume)
    with as_user_error(MEMORY):
        segmenter = segmenter or build_segmenter(options, marked)
        print(*_first_lines(segmenter, marked), sep="\n")
        facts = {**segmenter.facts, "instances": options.instances, "inputs": segmenter.digest()}
        waiting = queries
        if options.resume:
            waiting = results.waiting(queries, facts)
            print(f"{out}: {len(queries) - len(waiting)} of {len(queries)} results are complete")
        asked = len(waiting) + len(failed)
        written, absent = _write_predictions(segmenter, results, waiting, failed, facts=facts, batch=options.batch)
    complete = [query for query in queries if query not in failed]
    if complete:
        results.write_formats(complete, keep=options.resume)
    if absent:
        print(f"{out}: not found: {absent}")
    place = segmenter.model.place
    if not failed:
        print(f"{out}: {written} of {asked} photos, on {place}")
        return 0
    print(f"{out}: {written} of {asked} photos, on {place}; {len(failed)} could not be done")
    return EXIT_USER_ERROR


def _results_folder(options: PredictOptions, marked: Sequence[MarkedPhoto]) -> Path:
    """Return the folder of results; UserError: there are none, or no queries or supports."""
    if not options.queries:
        raise UserError("no queries: add --query photo.jpg ...")
    if not options.out:
        raise UserError("no results: add --out FOLDER")
    if not marked and not options.keep_base:
        raise UserError(NO_SUPPORTS)
    return options.out


def _readable_queries(options: PredictOptions, results: Results) -> tuple[list[Path], dict[Path, str]]:
    """Return the queries that can be read and have results, and the errors of the others.

    UserError: that of a photo that is named, or of the first if all have one.
    """

    def check(path: Path) -> None:
        check_photo(path)
        results.check_length(path)

    paths = photos_in(options.queries, options.recursive)
    errors = dict[Path, UserError]()
    for path in ProgressBar(paths, desc="check", unit="photo", leave=False, delay=1):
        error = attempt(check, path)
        if isinstance(error, UserError):
            errors[path] = error
    for path, error in errors.items():
        if path in options.queries or len(errors) == len(paths):
            raise error
    readable = [path for path in paths if path not in errors]
    return readable, {path: str(error) for path, error in errors.items()}


def _write_predictions(
    segmenter: Segmenter,
    results: Results,
    queries: Sequence[Path],
    failed: dict[Path, str],
    *,
    facts: dict[str, Any],
    batch: int,
) -> tuple[int, str]:
    """Write the results of queries, and the summary; return the number of results and where classes were not found.

    The errors of photos that cannot be read join ``failed``.
    """
    predictions = segmenter.many(queries, batch, failed)
    bar = ProgressBar(predictions, "predict", len(queries), unit="photo", bar_format=BAR, disable=not queries)
    written = 0
    try:
        for prediction in bar:
            results.write(prediction, facts)
            written += 1
    finally:  # also when it is interrupted
        absent = results.write_summary(failed)
        for reason in failed.values():
            print(f"error: {reason}", file=sys.stderr)
    return written, absent


def _first_lines(segmenter: Segmenter, marked: Sequence[MarkedPhoto]) -> Iterator[str]:
    """Yield what a person wants to know before the first photo."""
    if segmenter.base is not None:
        yield f"{len(segmenter.base.classes)} base classes of the weights are segmented too"
    least = segmenter.min_score
    rule = f"photos with a presence score below {percent(least)} get no mask" if least else "every photo gets a mask"
    for known in segmenter.new_classes:
        marks = "1 mark" if len(known.sources) == 1 else f"{len(known.sources)} marks"
        yield f"{known.name}: {marks}, {percent(known.share)} of the photo; {rule}"
    if segmenter.calibration is None and not segmenter.fits_new_classes:
        yield "no calibration, so no presence score; python test.py CONFIG --calibrate makes one for these weights"
    typed_names = [support.name for support in marked if support.name and not support.annotated]
    yield from _alike(typed_names)
    yield from segmenter.notes


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Yield a question for each two names that differ little, and not in digits alone."""
    for first, second in combinations(dict.fromkeys(names), 2):
        likeness = SequenceMatcher(None, first.casefold(), second.casefold()).ratio()
        differ_in_digits_alone = re.sub(r"\d", "", first) == re.sub(r"\d", "", second)
        if likeness > 0.85 and not differ_in_digits_alone:
            yield f"'{first}' and '{second}' are two classes; is one of them misspelt?"


def publish(arguments: list[str]) -> int:
    """Write a folder that ``Segmenter.from_pretrained`` and ``--checkpoint`` load, and return the exit code 0."""
    parser = Parser(prog="predict.py publish", description="Write a checkpoint as a folder with a model card.")
    parser.add_argument("--checkpoint", required=True, help="weights of this project")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--half", action="store_true", help="in half precision")
    options = parser.parse_args(arguments)
    write_published(load_method(options.checkpoint, device="cpu").weights, options.out, options.half)
    print(f"{options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")
    return 0
