"""Run ``predict.py``: parse the command line, then predict and write results, export, or serve a page."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from util import cli
from util.checkpoints.checkpoint import digest_of
from util.config.read import to_dict
from util.errors import EXIT_USER_ERROR, UserError
from util.export.export import export
from util.page.server import serve
from util.predict import options as opts
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.results import check_free, facts_of, is_complete, write_results
from util.predict.segmenter import Segmenter
from util.predict.write_formats import Formats, write_summary
from util.run.device import describe
from util.run.processes import as_user_error

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
MANY = 200  # photos whose check takes long enough for a bar
MEMORY = "--batch, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"
EXPORT = "export"  # the first word of the other command


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code.

    Raises:
        UserError: the command line, a file or the disk.
    """
    if arguments[:1] == [EXPORT]:
        options = _export_parser().parse_args(arguments[1:])
        opts.read_support_files(options)
        return export(options)
    options = _parser().parse_args(arguments)
    return serve(options) if options.serve else predict(options)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="predict.py",
        description="Segment in photos the objects that are marked on a few others. 'predict.py export --help' shows "
        "how to export the network.",
    )
    opts.add_model_options(parser)
    opts.add_support_options(parser)
    opts.add_query_options(parser)
    opts.add_page_options(parser)
    return parser


def _export_parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog=f"predict.py {EXPORT}",
        description="Export the network as two files of graphs, of the supports and of the query.",
    )
    opts.add_model_options(parser)
    opts.add_support_options(parser)
    opts.add_export_options(parser)
    return parser


def predict(options: argparse.Namespace) -> int:
    """Write the results of every query, after all checks that need no decoded photo.

    Returns:
        the exit code: 0, or 2 if photos with an intact header were damaged and skipped.

    Raises:
        UserError: the command line, a file or the disk.
    """
    if not options.queries:
        raise UserError("no queries: add --query photo.jpg ...")
    if options.out is None:
        raise UserError("no folder for results: add --out FOLDER")
    queries = photos_in(options.queries, options.recursive)
    formats = Formats.of(options)
    opts.read_support_files(options)
    formats.number(opts.class_names_of(options), options.categories)
    failed = _unreadable(queries, {path for path in options.queries if not path.is_dir()})
    queries = [query for query in queries if query not in failed]
    again = options.overwrite or options.resume
    check_free(queries, options.out, opts.class_names_of(options), again, formats.files(queries))
    formats.check_classes()
    with as_user_error(MEMORY):
        return _predict_checked(options, queries, formats, failed)


def _unreadable(queries: list[Path], named: set[Path]) -> dict[Path, str]:
    """Return the photos of folders whose headers cannot be read, with the reason, which is printed.

    Args:
        named: photos that the command line names itself.
    """
    failed: dict[Path, str] = {}
    for query in tqdm(queries, desc="check", unit="photo", leave=False, disable=len(queries) < MANY):
        try:
            check_photo(query)
        except UserError as error:
            if query in named or len(failed) + 1 == len(queries):
                raise
            failed[query] = str(error)
    for reason in failed.values():
        print(f"error: {reason}", file=sys.stderr)
    return failed


def _predict_checked(
    options: argparse.Namespace, queries: list[Path], formats: Formats, failed: dict[Path, str]
) -> int:
    segmenter = opts.segmenter_of(options)
    for note in [*segmenter.notes, *_on_presence(segmenter)]:
        print(note)
    facts = {**facts_of(segmenter), "instances": options.instances, "inputs": _fingerprint(segmenter)}
    waiting = queries
    if options.resume:
        verified = tqdm(queries, desc="verify", unit="photo", leave=False, disable=len(queries) < MANY)
        waiting = [query for query in verified if not is_complete(options.out, query, facts, formats.pictures)]
        print(f"{options.out}: {len(queries) - len(waiting)} of {len(queries)} results are complete")
    with tqdm(total=len(waiting), desc="predict", unit="photo", leave=False, bar_format=BAR) as bar:
        photos = _ReadablePhotos(waiting, bar, failed)
        for number, prediction in enumerate(segmenter.many(photos, options.batch)):
            query = photos.read[number]
            write_results(options.out, query, prediction, facts, formats.pictures, options.instances)
            if absent := prediction.absent():
                bar.write(f"note: {query}: not found: {', '.join(absent)}", file=sys.stderr)
            bar.update()
    if done := [query for query in queries if query not in failed]:
        formats.write(done, segmenter.model.network.title, options.resume)
        write_summary(options.out, failed)
    print(
        f"{options.out}: {len(photos.read)} of {len(waiting)} photos, on {describe(segmenter.model.device)}"
        + (f"; {len(failed)} could not be read" if failed else "")
    )
    return EXIT_USER_ERROR if failed else 0


def _on_presence(segmenter: Segmenter) -> Iterator[str]:
    """Yield a line on the calibration that decides whether a class is shown."""
    known = segmenter.calibration
    if known is None:
        yield "no calibration: every class is shown; python test.py CONFIG --calibrate makes one for these weights"
    else:
        least = known.threshold if segmenter.decision.min_score is None else segmenter.decision.min_score
        yield f"presence: classes with a score of at least {least:g} are shown; calibrated on {known.made_on}"


def _fingerprint(segmenter: Segmenter) -> str:
    """Return a digest of what decides the results beside the queries: all settings, weights, supports and vectors.

    The supports count as the network sees them, so that photos, marks and the options that read them are included.
    """
    model = segmenter.model
    out = hashlib.sha256(json.dumps([to_dict(model.context.config), digest_of(model.network.state_dict())]).encode())
    for known in segmenter.classes:
        tensors = [t for batch in known.support_batches for t in (batch.image, batch.label)]
        for array in [*(t.cpu().numpy() for t in tensors), known.embedding.vector]:
            out.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return out.hexdigest()


class _ReadablePhotos:
    """Reads photos one after the other; prints an error for a damaged one, notes it in ``failed`` and skips it."""

    def __init__(self, paths: list[Path], bar: tqdm, failed: dict[Path, str]):
        self.paths, self.bar, self.failed = paths, bar, failed
        self.read: list[Path] = []  # the photos that could be read so far

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            try:
                image = read_photo(path)
            except UserError as error:
                self.bar.write(f"error: {error}", file=sys.stderr)
                self.bar.update()
                self.failed[path] = str(error)
                continue
            self.read.append(path)
            yield image
