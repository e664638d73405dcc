"""What ``predict.py`` does with its options: predict and write results, or publish a checkpoint."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from util.cli import Parser, words
from util.errors import EXIT_USER_ERROR, UserError
from util.predict.load_model import load_model
from util.predict.options import marked_by, segmenter_of
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.prediction import percent
from util.predict.publish import publish as write_published
from util.predict.results import Results
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED, by_class
from util.run.device import describe
from util.run.processes import as_user_error

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
ALIKE = 0.85  # ratio of equal letters from which on two names are probably one
MEMORY = "--batch, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"


def publish(arguments: list[str]) -> int:
    """Write a folder that ``Segmenter.from_pretrained`` and ``--checkpoint`` load, and return the exit code 0.

    Raises:
        UserError: the command line, the checkpoint or the disk.
    """
    parser = Parser(prog="predict.py publish", description="Write a checkpoint as a folder with a model card.")
    parser.add_argument("--checkpoint", required=True, help="weights of this project")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--half", action="store_true", help="in half precision")
    options = parser.parse_args(arguments)
    write_published(load_model(options.checkpoint, device="cpu").weights, options.out, options.half)
    print(f"{options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """Write the results of every query, after all checks that need no decoded photo; return the exit code.

    Raises:
        UserError: the command line, a file or the disk.
    """
    marked, categories = marked_by(options)
    for given, need in (
        (options.queries, "no queries: add --query photo.jpg ..."),
        (options.out, "no folder for results: add --out FOLDER"),
        (marked or options.keep_base, "no supports: add --support photo.jpg:mask.png or --supports annotations.json"),
    ):
        if not given:
            raise UserError(need)
    names, segmenter = [name or UNNAMED for name in by_class(marked, options.name)], None
    if options.keep_base:  # the weights name classes too
        segmenter = segmenter_of(options, marked)
        names = [known.name for known in segmenter.classes]
    formats, polygons = words(options.formats), options.outlines == "polygons"
    results = Results(options.out, names, formats, categories, polygons, options.instances)
    queries = photos_in(options.queries, options.recursive)
    failed = _unreadable(queries, options.queries)
    waiting = queries = [query for query in queries if query not in failed]
    results.check(queries, options.overwrite or options.resume)
    with as_user_error(MEMORY):
        segmenter = segmenter or segmenter_of(options, marked)
        print(*_first_lines(segmenter, [one.name for one in marked if one.name and not one.annotated]), sep="\n")
        facts = {**segmenter.facts, "instances": options.instances, "inputs": segmenter.digest()}
        if options.resume:
            waiting = results.waiting(queries, facts)
            print(f"{options.out}: {len(queries) - len(waiting)} of {len(queries)} results are complete")
        asked = len(waiting) + len(failed)
        try:
            written = _write(segmenter, waiting, results, facts, options.batch, failed)
        finally:  # also when it is interrupted
            absent = results.write_summary(failed)
    if done := [query for query in queries if query not in failed]:
        results.write_formats(done, options.resume)
    if absent:
        print(f"{options.out}: not found: {absent}")
    unread = f"; {len(failed)} could not be read" if failed else ""
    print(f"{options.out}: {written} of {asked} photos, on {describe(segmenter.model.device)}{unread}")
    return EXIT_USER_ERROR if failed else 0


def _unreadable(queries: Sequence[Path], named: Sequence[Path]) -> dict[Path, str]:
    """Return the photos of folders whose headers cannot be read, with the reason; raise the error of ``named`` ones."""
    failed: dict[Path, str] = {}
    for query in tqdm(queries, desc="check", unit="photo", leave=False, delay=1):
        try:
            check_photo(query)
        except UserError as error:
            if query in named or len(failed) + 1 == len(queries):
                raise
            failed[query] = str(error)
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)
    return failed


def _write(
    segmenter: Segmenter, waiting: Sequence[Path], results: Results, facts: dict, batch: int, failed: dict[Path, str]
) -> int:
    """Predict and write one photo after the other; return how many. Damaged ones are printed, and join ``failed``."""
    read: list[Path] = []
    with tqdm(total=len(waiting), desc="predict", unit="photo", bar_format=BAR) as bar:

        def photos() -> Iterator[np.ndarray]:
            for query in waiting:
                try:
                    image = read_photo(query)
                except UserError as error:
                    failed[query] = str(error)
                    bar.write(f"error: {error}", file=sys.stderr)
                    bar.update()
                    continue
                read.append(query)
                yield image

        for number, prediction in enumerate(segmenter.many(photos(), batch)):
            results.write(read[number], prediction, facts)
            bar.update()
    return len(read)


def _first_lines(segmenter: Segmenter, typed: Sequence[str]) -> Iterator[str]:
    """Yield what a person wants to know before the first photo; ``typed`` are names of the command line."""
    known, kept = segmenter.calibration, segmenter.kept
    if kept is not None:
        yield f"{len(kept.classes)} base classes are kept, and shown where they are found"
    rule = "every photo gets a mask"
    if known is not None:
        least = known.threshold if segmenter.decision.min_score is None else segmenter.decision.min_score
        rule = f"photos below {percent(least)} get no mask"
    for one in segmenter.classes[len(kept.classes) if kept else 0 :]:
        marks = f"{len(one.sources)} mark{'s' * (len(one.sources) > 1)}"
        yield f"{one.name}: {marks}, {percent(one.share)} of the photo; {rule}"
    if known is None and not (kept and kept.fits):
        yield "no calibration, so no presence score; python test.py CONFIG --calibrate makes one for these weights"
    for first, second in combinations(dict.fromkeys(typed), 2):
        alike = SequenceMatcher(None, first.casefold(), second.casefold()).ratio() > ALIKE
        if alike and re.sub(r"\d", "", first) != re.sub(r"\d", "", second):
            yield f"'{first}' and '{second}' are two classes; is one of them misspelt?"
    yield from segmenter.notes
