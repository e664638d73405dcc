"""Run ``predict.py``: parse the command line, then predict and write results, export, or serve a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from util import cli
from util.engine.device import describe
from util.engine.errors import as_user_error
from util.errors import EXIT_USER_ERROR, UserError
from util.predict import options as opts
from util.predict.export import export
from util.predict.page import serve
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.results import check_free, facts_of, is_complete, write_results
from util.predict.tiles import check_tile

EXPORT = "export"  # the first word of the other command


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code.

    Raises:
        UserError: the command line, a file or the disk.
    """
    if arguments[:1] == [EXPORT]:
        options = _export_parser().parse_args(arguments[1:])
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
    if options.batch < 1:
        raise UserError(f"--batch {options.batch}: must be at least 1")
    check_tile(options.tile)
    queries = photos_in(options.queries, options.recursive)
    names = opts.class_names_of(options)
    for query in queries:
        check_photo(query)
    check_free(queries, options.out, names, options.overwrite or options.resume)
    with as_user_error("--batch, --resize or --tile"):
        return _predict_checked(options, queries)


def _predict_checked(options: argparse.Namespace, queries: list[Path]) -> int:
    segmenter = opts.segmenter_of(options)
    for note in segmenter.notes:
        print(note)
    facts = facts_of(segmenter)
    if options.resume:
        whole = len(queries)
        queries = [query for query in queries if not is_complete(options.out, query, facts)]
        print(f"{options.out}: {whole - len(queries)} of {whole} results are complete")
    with tqdm(total=len(queries), desc="predict", unit="photo", leave=False) as bar:
        photos = _ReadablePhotos(queries, bar)
        for number, prediction in enumerate(segmenter.many(photos, options.batch)):
            write_results(options.out, photos.read[number], prediction, facts)
            if not prediction.mask.any():
                bar.write(f"note: {photos.read[number]}: no pixel of a class was found", file=sys.stderr)
            bar.update()
    done = len(photos.read)
    print(f"{options.out}: {done} of {len(queries)} photos, on {describe(segmenter.model.device)}")
    return 0 if done == len(queries) else EXIT_USER_ERROR


class _ReadablePhotos:
    """Reads photos one after the other; prints an error for a damaged one and skips it."""

    def __init__(self, paths: list[Path], bar: tqdm):
        self.paths, self.bar = paths, bar
        self.read: list[Path] = []  # the photos that could be read so far

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            try:
                image = read_photo(path)
            except UserError as error:
                self.bar.write(f"error: {error}", file=sys.stderr)
                self.bar.update()
                continue
            self.read.append(path)
            yield image
