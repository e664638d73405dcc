"""``predict.py``: its command line, and the results that it writes."""

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
from photos.prediction import percent
from photos.results import Results
from photos.segmenter import Segmenter
from photos.share import share as write_shared
from util.cli import Parser
from util.engine import OUTLOOK, load_method
from util.files.errors import EXIT_USER_ERROR, UserError
from util.files.progress import ProgressBar
from util.loop.processes import explained_memory_errors

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
NO_EXAMPLE = "no example: add --support photo.jpg:mask.png or --supports annotations.json"
MEMORY = "--set test.batch=1, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"
BETTER = "--model gfsam is better on classes without training, by its paper (3.8 GB to download)"
PROGRAM = "predict.py"
PREDICT = (
    "Segment objects in photos, given a few annotated photos. Instead: --serve (a web page to annotate, segment and "
    "correct), --calibrate CONFIG (fit presence scores and probabilities of weights on their base classes, and write "
    "them beside them) or share (write a checkpoint as a folder); each has a --help."
)
SERVE = "Serve a web page to annotate, segment and correct; it saves its work in --out, default runs/page."
CALIBRATE = "Fit presence scores and probabilities of weights on their base classes, and write them beside them."


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code; what a command alone needs is imported for it."""
    if arguments[:1] == ["share"]:
        return share(arguments[1:])
    modes = Parser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    one = modes.add_mutually_exclusive_group()
    one.add_argument("--serve", action="store_true")
    one.add_argument("--calibrate", metavar="CONFIG")
    mode, others = modes.parse_known_args(arguments)
    network, examples = options.NetworkOptions, options.ExampleOptions
    if mode.calibrate:
        program = f"{PROGRAM} --calibrate CONFIG"
        return calibrate(mode.calibrate, *options.parsed(program, CALIBRATE, others, options.WeightsOptions))
    if mode.serve:
        from photos.page.server import serve

        program = f"{PROGRAM} --serve"
        return serve(*options.parsed(program, SERVE, others, network, examples, options.PageOptions))
    return predict(*options.parsed(PROGRAM, PREDICT, others, network, examples, options.OutputOptions))


def calibrate(config: str, weights: options.WeightsOptions) -> int:
    """Fit a calibration of weights on a config's data, and return the exit code 0."""
    from photos.calibrate import calibrate as fit  # whose packages take a second

    method = load_method(
        weights.checkpoint, config, overrides=weights.overrides, side=weights.side, device=weights.device
    )
    with explained_memory_errors("test.batch, data.size or data.workers"):
        fit(method)
    return 0


def predict(network: options.NetworkOptions, examples: options.ExampleOptions, output: options.OutputOptions) -> int:
    """Write the results of every query, after all checks that need no network; return the exit code."""
    annotated, categories = examples.read()
    if not output.queries:
        raise UserError("--query PHOTO ... is missing: the photos to segment, or their folders")
    if not annotated:
        raise UserError(NO_EXAMPLE)
    names = [name or UNNAMED for name in by_class(annotated)]  # in the order of their values in masks
    if not output.out:
        raise UserError("--out FOLDER is missing: where the results go")
    results = Results(
        output.out,
        names,
        output.formats,
        declared=categories,
        polygons=output.outlines == options.POLYGONS,
        instances=output.instances,
    )
    queries = Queries(output.found(), results)
    queries.check_named(output.queries)
    results.check(queries.readable, again=output.overwrite or output.resume)
    with explained_memory_errors(MEMORY):
        segmenter = network.segmenter(annotated)
        results.take_classes([known.name for known in segmenter.classes])
        print(*_first_lines(segmenter, annotated), sep="\n")
        return _write_results(segmenter, results, queries, keep=output.resume)


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
