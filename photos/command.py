"""``predict.py``: its command line, and the results that it writes."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path
from typing import Any

from annotations.pictures import header_of
from photos import options
from photos.examples import UNNAMED, Example, by_class
from photos.photo_files import photos_in
from photos.prediction import percent
from photos.results import Results
from photos.segmenter import Segmenter
from photos.share import share as write_shared
from util.cli import Parser, within
from util.engine import OUTLOOK, load_method
from util.files.errors import EXIT_USER_ERROR, UserError
from util.files.progress import ProgressBar
from util.loop.processes import explained_memory_errors

PORT = 7860  # of the page, which this machine alone reaches
SESSION = Path("runs/page")  # the folder of its work
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
NO_EXAMPLE = "no example: add --support photo.jpg:mask.png or --supports annotations.json"
MEMORY = "--set test.batch=1, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"
BETTER = "--model gfsam is better on classes without training, by its paper (3.8 GB to download)"
MANY_CLASSES = 20  # whose examples take a while
RESULT_OPTIONS = (
    *("supports", "support_files", "photos", "classes", "mask_value", "queries", "recursive"),
    *("overwrite", "resume", "formats", "instances", "outlines"),
)
UNREAD = {  # mode -> options that it does not read
    "": ("port",),
    "--serve": ("overwrite", "resume", "formats", "instances", "outlines"),
    "--calibrate": (
        *(*RESULT_OPTIONS, "max_shots", "config", "model", "net", "vectors", "tile", "min_presence", "refine"),
        *("out", "serve", "port"),
    ),
}
GONE = {  # words of earlier versions -> what to use
    "publish": "share writes a checkpoint as a folder",
    "export": "share writes the weights; docs/service.md shows a service by Segmenter",
    "--adapt": "--model probe is for materials, such as grass; the examples are looked at without an option",
    "--label-studio": "--format labelstudio writes predictions to import; --supports reads its JSON export",
    "--host": "forward the port from your machine: ssh -L 7860:localhost:7860 SERVER",
    "--token": "--format labelstudio writes predictions for an import",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of predictions, of the page and of calibrations."""
    description = "Segment objects in photos, given a few annotated photos. 'predict.py share --help' shows how to "
    description += "share a network."
    out = Parser(prog="predict.py", description=description)
    options.add_network(out)
    options.add_examples(out)
    add = out.add_argument
    add(
        "--query",
        dest="queries",
        nargs="+",
        type=Path,
        default=[],
        metavar="PHOTO",
        help="photos to segment, or folders of photos",
    )
    add("--recursive", action="store_true", help="also take photos in subfolders")
    add("--out", type=Path, help="folder for results, or for the page's work")
    existing = out.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="overwrite existing results")
    existing.add_argument(
        "--resume", action="store_true", help="keep complete results of the same command, make the others"
    )
    options.add_results(out)
    options.add_rules(out)
    serve = f"serve a web page to annotate, segment and correct; it saves its work in --out, default {SESSION}"
    add("--serve", action="store_true", help=serve)
    add("--port", type=within(int, 1, 2**16 - 1), help=f"port of the page; default {PORT}")
    calibrate = "fit presence scores and probabilities of weights on their base classes, and write them beside them"
    add("--calibrate", metavar="CONFIG", help=calibrate)
    return out


def parsed_from(arguments: Sequence[str]) -> argparse.Namespace:
    """Return a parsed command line; UserError: as the parser, or the mode does not read an option, or it has gone."""
    _refuse_gone(arguments)
    known = parser()
    parsed = known.parse_args(arguments)
    mode = "--calibrate" if parsed.calibrate else "--serve" if parsed.serve else ""
    for action in known._actions:
        name = action.dest
        if name in UNREAD[mode] and getattr(parsed, name) != action.default:
            where = f"with {mode}" if mode else "without --serve"
            raise UserError(f"{action.option_strings[0]}: has no effect {where}; leave it out")
    return parsed


def _refuse_gone(arguments: Sequence[str]) -> None:
    """Refuse (UserError) a command or an option that earlier versions had."""
    for word in arguments:
        name = word.partition("=")[0]
        if name in GONE and (name.startswith("-") or word is arguments[0]):
            raise UserError(f"{name}: is no longer there; {GONE[name]}")


def calibrate(parsed: argparse.Namespace) -> int:
    """Fit a calibration as a command line says, and return the exit code 0."""
    from photos.calibrate import calibrate as fit  # whose packages take a second

    method = load_method(
        parsed.checkpoint, parsed.calibrate, overrides=parsed.overrides, side=parsed.resize, device=parsed.device
    )
    with explained_memory_errors("test.batch, data.size or data.workers"):
        fit(method)
    return 0


def predict(parsed: argparse.Namespace) -> int:
    """Write the results of every query, after all checks that need no network; return the exit code."""
    examples, categories = options.examples_of(parsed)
    if not parsed.queries:
        raise UserError("--query PHOTO ... is missing: the photos to segment, or their folders")
    if not examples:
        raise UserError(NO_EXAMPLE)
    names = [name or UNNAMED for name in by_class(examples)]  # in the order of their values in masks
    if len(names) > MANY_CLASSES and not parsed.classes:
        print(f"{len(names)} classes, {len(examples)} examples; --classes and --max-shots take fewer")
    results = options.results_of(parsed, names, categories)
    queries = Queries(photos_in(parsed.queries, parsed.recursive), results)
    queries.check_named(parsed.queries)
    results.check(queries.readable, again=parsed.overwrite or parsed.resume)
    with explained_memory_errors(MEMORY):
        segmenter = options.segmenter_of(parsed, examples)
        results.take_classes([known.name for known in segmenter.classes])
        print(*_first_lines(segmenter, examples), sep="\n")
        return _write_results(segmenter, results, queries, keep=parsed.resume)


class Queries:
    """The photos to segment: those that can be read and have results, and the errors of the others."""

    def __init__(self, paths: Sequence[Path], results: Results):
        self.readable: list[Path] = []
        self.failed: dict[Path, str] = {}
        for path in ProgressBar(paths, desc="check photos", unit="photo", leave=False, delay=1):
            try:
                header_of(path)
                results.check_length(path)
                self.readable.append(path)
            except UserError as error:
                self.failed[path] = str(error)

    def check_named(self, named: Sequence[Path]) -> None:
        """Raise the UserError of a photo that is named, or of the first one if all have one."""
        for path, error in self.failed.items():
            if path in named or not self.readable:
                raise UserError(error)


def _write_results(segmenter: Segmenter, results: Results, queries: Queries, keep: bool) -> int:
    """Write the results of queries, ``keep`` those that are complete; return the exit code."""
    facts = {**segmenter.facts, "instances": results.instances, "inputs": segmenter.digest()}
    waiting = _waiting(results, queries.readable, facts) if keep else queries.readable
    asked = len(waiting) + len(queries.failed)
    kept = len(queries.readable) - len(waiting)
    absent = _segment(segmenter, results, queries, waiting, facts)
    segmented = len(results.made.intersection(waiting))
    complete = [query for query in queries.readable if query not in queries.failed]
    if complete:
        results.write_formats(complete, keep=keep)
    remarks = [*_not_found(absent, segmenter.min_presence)]
    if OUTLOOK in segmenter.notes:
        remarks.append(BETTER)
    print(*remarks, _last_line(segmenter, results.out, (segmented, asked), len(queries.failed), kept), sep="\n")
    return EXIT_USER_ERROR if queries.failed else 0


def _last_line(segmenter: Segmenter, out: Path, segmented: tuple[int, int], failed: int, kept: int) -> str:
    """Return the line on how many photos were segmented, of how many asked, failed, and had results that stay."""
    problem = f"; {failed} could not be segmented" if failed else ""
    stay = f"; {kept} results stay" if kept else ""
    done = f"{segmented[0]} of {segmented[1]} photos segmented on {segmenter.model.place}"
    return f"{out}: {done}{stay}{problem}"


def _waiting(results: Results, readable: Sequence[Path], facts: dict[str, Any]) -> list[Path]:
    """Return the queries that are to be segmented again, and print how many results stay and are replaced."""
    waiting = results.waiting(readable, facts)
    print(f"{results.out}: {len(readable) - len(waiting)} of {len(readable)} results are complete and stay")
    others = sum(results.is_of_other_facts(query, facts) for query in waiting)
    if others:
        print(f"{results.out}: {others} results were made with other examples, weights or options, and are replaced")
    return waiting


def _segment(
    segmenter: Segmenter, results: Results, queries: Queries, waiting: Sequence[Path], facts: dict[str, Any]
) -> dict[str, tuple[int, int]]:
    """Write the results of ``waiting``, then their summary, also when it is interrupted; return that of classes."""
    predictions = segmenter.many(waiting, unread=queries.failed)
    bar = ProgressBar(predictions, "predict", len(waiting), unit="photo", bar_format=BAR, disable=not waiting)
    try:
        for prediction in bar:
            results.write(prediction, facts)
    finally:
        absent = results.write_summary(queries.failed)
        for reason in queries.failed.values():
            print(f"error: {reason}", file=sys.stderr)
    return absent


def _first_lines(segmenter: Segmenter, examples: Sequence[Example]) -> Iterator[str]:
    """Yield what a person wants to know before the first photo."""
    least = segmenter.min_presence
    rule = f"photos with a presence score below {percent(least)} get no mask" if least else "every photo gets a mask"
    for known in segmenter.classes:
        yield f"{known.name}: {coverage_of(known.shares)}; {rule}"
    if segmenter.calibration is None:
        yield "no presence scores: these weights have no calibration; python predict.py --calibrate CONFIG makes one"
    typed_names = [example.name for example in examples if example.name and not example.annotated]
    yield from _alike(typed_names)
    yield from segmenter.notes


def coverage_of(shares: Sequence[float]) -> str:
    """Return how many examples a class has, and the shares of their photos that its object covers."""
    lowest, highest = percent(min(shares)), percent(max(shares))
    if len(shares) == 1:
        return f"1 example, the object covers {highest} of it"
    covered = highest if lowest == highest else f"{lowest.removesuffix(' %')} to {highest}"
    return f"{len(shares)} examples, in which the object covers {covered} of the photo"


def _not_found(absent: Mapping[str, tuple[int, int]], least: float | None) -> Iterator[str]:
    """Yield a line for each class that was not found in some of its photos, as ``Results.write_summary`` counts."""
    reason = f" (presence score below {percent(least)})" if least else ""
    for name, (count, photos) in absent.items():
        yield f"{name} was not found in {count} of {photos} photos{reason}"


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Yield a question for each two names that differ little, and not in digits alone."""
    for first, second in combinations(dict.fromkeys(names), 2):
        likeness = SequenceMatcher(None, first.casefold(), second.casefold()).ratio()
        differ_in_digits_alone = re.sub(r"\d", "", first) == re.sub(r"\d", "", second)
        if likeness > 0.85 and not differ_in_digits_alone:
            yield f"'{first}' and '{second}' are two classes; is one of them misspelt?"


def share(arguments: list[str]) -> int:
    """Write a folder that ``Segmenter.from_pretrained`` and ``--checkpoint`` load, and return the exit code 0."""
    out = Parser(prog="predict.py share", description="Write a checkpoint as a folder with a model card.")
    out.add_argument("--checkpoint", required=True, help="weights of this project")
    out.add_argument("--out", type=Path, required=True, help="folder to write")
    out.add_argument("--half", action="store_true", help="write weights in half precision")
    parsed = out.parse_args(arguments)
    write_shared(load_method(parsed.checkpoint, device="cpu").weights, parsed.out, parsed.half)
    print(f"{parsed.out}: {', '.join(sorted(path.name for path in parsed.out.iterdir()))}")
    return 0
