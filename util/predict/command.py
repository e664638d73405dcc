"""The options of ``predict.py``, and what it does with them: read, predict, write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from util import cli
from util.engine.device import describe
from util.engine.errors import as_user_error
from util.engine.evaluation import FINAL
from util.errors import EXIT_USER_ERROR, UserError
from util.predict.photos import check_photo, read_photo
from util.predict.regions import Marking
from util.predict.results import check_free, write_results
from util.predict.segmenter import BATCH, Segmenter
from util.predict.supports import UNNAMED, by_class
from util.predict.tiles import check_tile


def add_model_options(out: argparse.ArgumentParser) -> None:
    """Add what says which network, on what, and how large its input is."""
    out.add_argument("--checkpoint", help="a file of weights, ours or the authors'")
    out.add_argument("--config", help="its YAML file; a checkpoint of ours carries its own")
    out.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    out.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
    out.add_argument("--resize", type=int, metavar="SIDE", help="side of the network's input; default as trained")
    out.add_argument(
        "--vectors", type=Path, metavar="FILE", help="word vectors, for names that are no class of the data"
    )
    out.add_argument("--output", default=FINAL, help=f"which of the model's outputs; default {FINAL}")


def add_support_options(out: argparse.ArgumentParser) -> None:
    """Add what says what to look for."""
    out.add_argument(
        "--support",
        dest="supports",
        action="append",
        default=[],
        metavar="[CLASS=]PHOTO:MARKS",
        help="a photo and a mask.png, an outlines.json (labelme, COCO), box=x0,y0,x1,y1, points=x,y;x,y or "
        "scribble=x,y;x,y; repeat it for more shots and classes",
    )
    out.add_argument("--name", help="the class of supports that name none")
    out.add_argument("--mask-value", type=int, metavar="V", help="what marks the object in masks; default all but 0")
    out.add_argument(
        "--radius", type=float, metavar="PIXELS", help="of points; default 2 %% of the photo's longer side"
    )


def add_query_options(out: argparse.ArgumentParser) -> None:
    """Add what says where to look, and where results go."""
    out.add_argument("--query", dest="queries", nargs="+", type=Path, default=[], metavar="PHOTO")
    out.add_argument("--out", type=Path, help="folder of results")
    out.add_argument("--overwrite", action="store_true", help="write over results that are there")
    out.add_argument("--tile", type=int, metavar="SIDE", help="see large photos in overlapping tiles of so many pixels")
    out.add_argument("--batch", type=int, default=BATCH, help=f"views that the network sees together; default {BATCH}")


def segmenter_of(options: argparse.Namespace) -> Segmenter:
    """Return the network and classes of a command line.

    Raises:
        UserError: as ``Segmenter``.
    """
    return Segmenter(
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
    )


def check_supports(options: argparse.Namespace) -> list[str]:
    """Return the names of the classes that a command line looks for.

    Raises:
        UserError: there are none, or a support of another form.
    """
    if not options.supports:
        raise UserError("no supports: add --support photo.jpg:mask.png, one for each marked photo")
    return [name or UNNAMED for name in by_class(options.supports, options.name)]


def predict(options: argparse.Namespace) -> int:
    """Write the results of every query; whatever can be known to be wrong is met before the first is written.

    Returns:
        the exit code: 0, or 2 when photos damaged behind a sound header had to be passed over.

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
    queries = list(dict.fromkeys(options.queries))
    names = check_supports(options)
    for query in queries:
        check_photo(query)
    check_free(queries, options.out, names, options.overwrite)
    with as_user_error("--batch, --resize or --tile"):
        return _predict(options, queries)


def _predict(options: argparse.Namespace, queries: list[Path]) -> int:
    segmenter = segmenter_of(options)
    for note in segmenter.notes:
        print(note)
    facts = facts_of(segmenter)
    with tqdm(total=len(queries), desc="predict", unit="photo", leave=False) as bar:
        readable = _Readable(queries, bar)
        for number, prediction in enumerate(segmenter.many(readable, options.batch)):
            write_results(options.out, readable.queries[number], prediction, facts)
            bar.update()
    done = len(readable.queries)
    print(f"{options.out}: {done} of {len(queries)} photos, on {describe(segmenter.model.device)}")
    return 0 if done == len(queries) else EXIT_USER_ERROR


class _Readable:
    """Reads photos one after the other; one that is damaged behind a sound header is told and passed over."""

    def __init__(self, paths: list[Path], bar: tqdm):
        self.paths, self.bar = paths, bar
        self.queries: list[Path] = []  # those that could be read so far

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            try:
                image = read_photo(path)
            except UserError as error:
                self.bar.write(f"error: {error}", file=sys.stderr)
                self.bar.update()
                continue
            self.queries.append(path)
            yield image


def facts_of(segmenter: Segmenter) -> dict[str, Any]:
    """Return what is the same for every query of a segmenter."""
    model = segmenter.model
    return {
        "model": model.network.title,
        "checkpoint": model.source,
        "output": segmenter.output,
        "input": f"letterbox {model.view.side} x {model.view.side}",
        "tile": segmenter.tile,
        "supports": {c.name: c.sources for c in segmenter.classes},
        "text": {c.name: c.meaning.note for c in segmenter.classes if c.meaning.note},
    }


def command(arguments: list[str]) -> int | None:
    """Parse, call; return the exit code."""
    if arguments[:1] == ["export"]:
        parser = cli.Parser(prog="predict.py export", description="Write the path of a query as a file of its own.")
        add_model_options(parser)
        add_support_options(parser)
        parser.add_argument("--out", type=Path, required=True, help="file to write, such as model.pt")
        parser.add_argument("--overwrite", action="store_true", help="write over a file that is there")
        options = parser.parse_args(arguments[1:])
        from util.predict.export import export

        check_supports(options)
        return export(options)
    parser = cli.Parser(
        prog="predict.py",
        description="Find what is marked on a few photos in others. 'predict.py export --help' tells how to take the "
        "network elsewhere.",
    )
    add_model_options(parser)
    add_support_options(parser)
    add_query_options(parser)
    parser.add_argument("--serve", action="store_true", help="open a page to try it on")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page; default this machine alone")
    parser.add_argument("--port", type=int, default=7860)
    options = parser.parse_args(arguments)
    if options.serve:
        from util.predict.page import serve

        return serve(options)
    return predict(options)
