"""``predict.py``: its command line, and the results that it writes."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from photos import options
from photos.encoded_class import MOST, TINY
from photos.examples import UNNAMED, Example, by_class
from photos.export import write_formats
from photos.prediction import NETWORK, percent
from photos.read_photos import photos_in
from photos.results_folder import Results
from photos.segmenter import Segmenter
from photos.summary import write_summary
from util.cli import Parser
from util.engine import load_engine
from util.files.errors import EXIT_USER_ERROR, UserError, check_known, note
from util.files.progress import ProgressBar
from util.loop.processes import explained_memory_errors

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
DOUBTFUL = 0.4  # a mask's score below which a person had better look at it first
DOUBT = "too little or too much to learn from: mark an object beside background, or crop to it"
SEGMENT = "segment"  # the command where none is named
OTHERS = (
    "Commands: segment, where none is named; serve, a web page to annotate, segment and correct; calibrate, to fit "
    "presence scores; share, to publish weights. predict.py COMMAND --help has the options of each."
)


def command(arguments: list[str]) -> int | None:
    """Run a command line and return the exit code, None for 0; each command imports what it alone needs."""
    words = [SEGMENT, *arguments] if not arguments or arguments[0].startswith("-") else arguments
    check_known(words[0], COMMANDS, f"{words[0]}: no such command")
    parser = Parser(prog="predict.py")
    commands = parser.add_subparsers()
    for name, (description, groups, run) in COMMANDS.items():
        of_command = commands.add_parser(name, description=f"{description} {OTHERS}")
        of_command.set_defaults(run=run)
        for declare in groups:
            declare(of_command)
    asked = parser.parse_args(words)
    return asked.run(asked)


def calibrate(asked: Namespace) -> None:
    """Fit a calibration of weights on a config's data."""
    from photos.calibrate import calibrate as fit  # whose packages take a second

    engine = load_engine(
        asked.checkpoint, asked.config, overrides=asked.overrides, side=asked.side, device=asked.device
    )
    with explained_memory_errors("test.batch, data.size or data.workers"):
        fit(engine)


def serve(asked: Namespace) -> None:
    """Serve the page until it is interrupted."""
    from photos.page.server import serve as serve_page

    examples, _ = options.examples_of(asked, absences=True)
    segmenter = options.segmenter_of(asked, [])
    serve_page(segmenter, asked.out, asked.port, photos=_queries(asked, examples), examples=examples)


def predict(asked: Namespace) -> int:
    """Write the results of every query, after all checks that need no network; return the exit code."""
    examples, categories = options.examples_of(asked)
    if not examples:
        raise UserError("no example: add --support photo.jpg:mask.png or --supports annotations.json")
    results = Results(
        asked.out,
        [name or UNNAMED for name in by_class(examples)],  # in the order of their values in masks
        asked.formats,
        declared=categories,
        instances=asked.instances,
    )
    queries = _queries(asked, examples)
    if not queries:
        raise UserError("--query: names no photo but masks of the examples; name the photos to segment")
    _note_unusual(asked.out, queries, examples)
    if asked.resume:
        results.continue_formats()
    results.check(queries, again=asked.resume)
    results.check_classes()
    with explained_memory_errors(
        "--set test.batch=1, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"
    ):
        segmenter = options.segmenter_of(asked, examples)
        print(*_first_lines(segmenter), sep="\n")
        failed = _write_results(segmenter, results, queries, keep=asked.resume)
    return EXIT_USER_ERROR if failed else 0


def _queries(asked: Namespace, examples: Sequence[Example]) -> list[Path]:
    """Return the photos to segment; raises as ``photos_in`` does."""
    return photos_in(asked.queries, asked.recursive, (example.source for example in examples))


def _note_unusual(out: Path, queries: Sequence[Path], examples: Sequence[Example]) -> None:
    """Say that photos lie where results do, and that some are examples, too."""
    if out.resolve() in {query.resolve().parent for query in queries}:
        note(f"{out}: holds photos to segment; results are written among them")
    photos = {example.photo.resolve() for example in examples}
    if both := [query for query in queries if query.resolve() in photos]:
        note(
            f"{len(both)} of the photos are also examples, such as {both[0]}; results are the network's but for masks "
            "that a person made in this folder"
        )


def _write_results(segmenter: Segmenter, results: Results, queries: Sequence[Path], keep: bool) -> dict[Path, str]:
    """Write the results of queries, ``keep`` those that are complete; return why photos could not be read."""
    facts = {**segmenter.facts, "instances": results.instances, "inputs": segmenter.digest()}
    failed: dict[Path, str] = {}
    waiting = results.waiting(queries, facts, failed)
    asked = len(waiting) + len(failed)
    kept = len(queries) - asked
    if keep:
        print(f"{results.out}: {kept} of {len(queries)} results are complete and stay")
    bar = ProgressBar(
        segmenter.many(waiting, unread=failed),
        "predict",
        len(waiting),
        unit="photo",
        bar_format=BAR,
        disable=not waiting,
    )
    try:
        for prediction in bar:
            results.write(prediction, facts)
    except KeyboardInterrupt:
        written = len(results.made.intersection(waiting))
        print(f"{results.out}: {written} of {len(waiting)} photos are done; --resume goes on", file=sys.stderr)
        raise
    finally:  # also when it is interrupted
        entries = write_summary(results.out, failed)
        for reason in failed.values():
            print(f"error: {reason}", file=sys.stderr)
    complete = [query for query in queries if query not in failed]
    if complete:
        write_formats(results, complete, facts)
    print(*_last_lines(results, segmenter, entries, asked=asked, kept=kept, failed=len(failed)), sep="\n")
    return failed


def _last_lines(
    results: Results, segmenter: Segmenter, entries: Sequence[dict[str, Any]], *, asked: int, kept: int, failed: int
) -> Iterator[str]:
    """Yield what was not found, what is doubtful, and how many photos were to be segmented, were kept, and failed."""
    yield from _not_found(entries, segmenter.decision.min_presence)
    if segmenter.calibration:
        yield from _doubtful(entries)
    done = f"{asked - failed} of {asked} photos segmented on {segmenter.engine.place}"
    stay = f"; {kept} results stay" if kept else ""
    problem = f"; {failed} could not be segmented" if failed else ""
    yield f"{results.out}: {done if asked else 'nothing was left to segment'}{stay}{problem}"


def _first_lines(segmenter: Segmenter) -> Iterator[str]:
    """Yield what a person wants to know before the first photo."""
    least = segmenter.decision.min_presence
    rule = f"photos with a presence score below {percent(least)} get no mask" if least else "every photo gets a mask"
    for encoded in segmenter.classes:
        yield f"{encoded.name}: {coverage_of(encoded.shares)}; {rule}"
    if segmenter.calibration is None:
        yield "no presence scores: these weights have no calibration; python predict.py calibrate CONFIG makes one"
    yield from segmenter.notes


def coverage_of(shares: Sequence[float]) -> str:
    """Return how many examples a class has, and the shares of their photos that its object covers."""
    lowest, highest = percent(min(shares)), percent(max(shares))
    covers = f"1 example, the object covers {highest} of it"
    if len(shares) > 1:
        covered = highest if lowest == highest else f"{lowest.removesuffix(' %')} to {highest}"
        covers = f"{len(shares)} examples, in which the object covers {covered} of the photo"
    return covers if all(TINY <= share <= MOST for share in shares) else f"{covers}, {DOUBT}"


def _not_found(entries: Sequence[dict[str, Any]], least: float | None) -> Iterator[str]:
    """Yield a line for each class that was not found in some photos, by the entries of ``write_summary``.

    A class may have no mask at a sufficient presence score: its pixels are another class's, or too few.
    """
    photos = Counter(entry["class"] for entry in entries)
    absent = Counter[tuple[str, str]]()
    for entry in entries:
        if not entry["shown"] and entry["by"] == NETWORK:
            reason = "no part of its own that is large enough"
            if least and entry["presence"] is not None and entry["presence"] < least:
                reason = f"presence score below {percent(least)}"
            absent[entry["class"], reason] += 1
    for (name, reason), count in absent.items():
        yield f"{name} was not found in {count} of {photos[name]} photos ({reason})"


def _doubtful(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each class with masks of low scores, by the entries of ``write_summary``."""
    found = [entry for entry in entries if entry["shown"] and entry["by"] == NETWORK]
    doubtful = Counter(entry["class"] for entry in found if entry["score"] < DOUBTFUL)
    for name, count in Counter(entry["class"] for entry in found).items():
        if low := doubtful[name]:
            which = "these first" if low < count else "all: these scores say little"
            yield f"{name}: {low} of {count} masks have a score below {percent(DOUBTFUL)}; look at {which}"


def share(asked: Namespace) -> None:
    """Write a folder that ``Segmenter`` and ``--checkpoint`` load."""
    from photos.share import share as write_shared

    write_shared(load_engine(asked.checkpoint, device="cpu"), asked.out)
    print(f"{asked.out}: {', '.join(sorted(path.name for path in asked.out.iterdir()))}")


# By name: what it does, its options in groups, and the function that runs it
COMMANDS = {
    SEGMENT: (
        "Segment objects in photos, given a few annotated photos.",
        (
            options.add_examples,
            lambda parser: options.add_photos(parser, required=True),
            options.add_results,
            options.add_network,
        ),
        predict,
    ),
    "serve": (
        "Serve a web page to annotate, segment and correct; it saves its work in --out, default runs/page.",
        (
            options.add_examples,
            lambda parser: options.add_photos(parser, required=False),
            options.add_network,
            options.add_page,
        ),
        serve,
    ),
    "calibrate": (
        "Fit presence scores and probabilities of weights on their base classes, and write them beside them.",
        (options.add_data, options.add_weights),
        calibrate,
    ),
    "share": (
        "Write a checkpoint as a folder with a model card, which --checkpoint and Segmenter load.",
        (options.add_shared,),
        share,
    ),
}
