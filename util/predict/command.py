"""Run ``predict.py``: parse the command line, then predict and write results, export, or serve a page."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from util.checkpoints.checkpoint import digest_of
from util.checkpoints.weights import TRAINING_FREE
from util.cli import Parser, words
from util.config.read import read_config, to_dict
from util.errors import EXIT_USER_ERROR, UserError
from util.evaluate.calibration import FILE as CALIBRATION
from util.evaluate.calibration import calibration_path
from util.export.export import export
from util.export.publish import publish
from util.files import fingerprint
from util.predict.adapt import ENCODER, INTERRUPTED
from util.predict.load_model import SHIPPED, config_file, load_model
from util.predict.options import HOST, PORT, SESSION, marked_by, parser, segmenter_of
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.results import Results
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED, Marked, by_class
from util.run.device import describe
from util.run.processes import as_user_error

BESIDE_RESULTS = ("queries", "recursive", "out", "overwrite", "resume", "formats", "outlines", "batch")  # options
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"  # photos a second, however few
MEMORY = "--batch, --resize, the photo's size or the number of classes: each takes some 20 bytes a pixel"


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code.

    Raises:
        UserError: the command line, a file or the disk.
    """
    if arguments[:1] == ["export"]:
        return export(arguments[1:])
    if arguments[:1] == ["publish"]:
        return _publish(arguments[1:])
    options = parser().parse_args(arguments)
    return _serve(options) if options.serve else _predict(options)


def _publish(arguments: list[str]) -> int:
    """Write a folder that ``Segmenter.from_pretrained`` and ``--checkpoint`` load, and return the exit code 0."""
    parser = Parser(prog="predict.py publish", description="Write a checkpoint as a folder with a model card.")
    parser.add_argument("--checkpoint", required=True, help="weights of this project")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--half", action="store_true", help="in half precision")
    options = parser.parse_args(arguments)
    publish(load_model(options.checkpoint, device="cpu").weights, options.out, options.half)
    print(f"{options.out}: {', '.join(sorted(path.name for path in options.out.iterdir()))}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Serve the page."""
    opened = (options.supports, "--support"), (options.support_files, "--supports"), (options.queries, "--query")
    for given, name in (*opened, (options.adapt == ENCODER, "--adapt encoder")):
        if given:
            raise UserError(f"--serve: takes no {name}; photos and annotations are opened on the page")
    from util.page.server import serve

    return serve(segmenter_of(options, []), options.out or SESSION, options.host or HOST, options.port or PORT)


def _predict(options: argparse.Namespace) -> int:
    """Write the results of every query, after all checks that need no decoded photo; return the exit code."""
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
    queries = [query for query in queries if query not in failed]
    results.check(queries, options.overwrite or options.resume)
    facts: dict[str, Any] = {"command": _digest_of(options, marked)}
    waiting, written, place = queries, 0, "no network was needed"
    if options.resume:
        waiting = results.waiting(queries, facts)
    with as_user_error(MEMORY):
        segmenter = segmenter or (segmenter_of(options, marked) if waiting else None)
        if segmenter is not None:
            place = f"on {describe(segmenter.model.device)}"
            print(*segmenter.notes, _on_presence(segmenter), sep="\n")
            decisive = {**segmenter.facts, "instances": options.instances, "inputs": digest_of_inputs(segmenter)}
            known = {name: fact for name, fact in decisive.items() if name != "adapt"}  # which has the seconds
            waiting, facts = results.waiting(waiting, known) if options.resume else waiting, {**decisive, **facts}
            if (segmenter.adaptation or {}).get("encoder") == INTERRUPTED:
                facts.pop("command")  # the same command would give others
        if options.resume:
            print(f"{options.out}: {len(queries) - len(waiting)} of {len(queries)} results are complete")
        asked = len(waiting) + len(failed)
        try:
            if segmenter is not None:
                written = _write(segmenter, waiting, results, facts, options.batch, failed)
        finally:  # also when it is interrupted
            absent = results.write_summary(failed)
    if done := [query for query in queries if query not in failed]:
        results.write_formats(done, options.resume)
    if absent:
        print(f"{options.out}: not found: {absent}")
    unread = f"; {len(failed)} could not be read" if failed else ""
    print(f"{options.out}: {written} of {asked} photos, {place}{unread}")
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
    with tqdm(total=len(waiting), desc="predict", unit="photo", leave=False, bar_format=BAR) as bar:

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


def _on_presence(segmenter: Segmenter) -> str:
    """Return a line on the calibration that decides whether a class is shown."""
    known, kept = segmenter.calibration, segmenter.kept
    base = "" if kept is None else f"{len(kept.classes)} base classes are kept, and shown where they are found; "
    if known is None:
        mend = "" if kept and kept.fits else "; python test.py CONFIG --calibrate makes one for these weights"
        return f"{base}no calibration: every class is shown{mend}"
    least = known.threshold if segmenter.decision.min_score is None else segmenter.decision.min_score
    which = f"presence: {'new ' * bool(base)}classes with a score of at least {least:g} are shown"
    return f"{base}{which}; calibrated on {known.made_on}"


def _digest_of(options: argparse.Namespace, marked: Sequence[Marked]) -> str:
    """Return a digest of a command's words beside its queries, and of the sizes and times of the files they name.

    Results of the same digest are those of ``digest_of_inputs`` too, and it needs no network.
    """
    words = {name: value for name, value in vars(options).items() if name not in BESIDE_RESULTS}
    config = None if options.config is None else read_config(config_file(options.config), options.overrides)
    weights = options.checkpoint or (SHIPPED if config is None else config.test.checkpoint)
    own = Path(weights).parent / CALIBRATION if config is None else calibration_path(config, TRAINING_FREE)
    paths = [own, weights, options.vectors, *(one.photo for one in marked)]
    paths += [one.marks for one in marked if one.annotated is None and one.kinds & {"mask", "outlines"}]
    files = [file for path in paths if path for file in (Path(path), *Path(path).rglob("*")) if file.is_file()]
    annotated = json.dumps([(one.name, one.annotated) for one in marked], default=np.ndarray.tolist)
    return fingerprint(files, words, annotated, None if config is None else to_dict(config))


def digest_of_inputs(segmenter: Segmenter) -> str:
    """Return a digest of what decides the results beside the queries: all settings, weights, supports and vectors.

    The supports count as the network sees them, so that photos, marks and the options that read them are included.
    """
    model = segmenter.model
    decisive = [to_dict(model.context.config), digest_of(model.network.state_dict())]
    decisive += [] if segmenter.kept is None else ["keep_base"]
    out = hashlib.sha256(json.dumps(decisive).encode())
    for known in segmenter.classes:
        tensors = [t for batch in known.support_batches for t in (batch.image, batch.label)]
        for array in [*(t.cpu().numpy() for t in tensors), known.vector, np.array(known.presence_shift)]:
            out.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return out.hexdigest()
