"""Write the files of a prediction: mask, overlay, probabilities and, last, a JSON; each is written atomically.

The JSON holds the masks as run lengths too, so that every other format is written from the JSON files alone.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from util.config.read import to_dict
from util.data.images.orientation import upright_size
from util.data.images.read import header_of, write_mask
from util.errors import UserError
from util.files import read_json, write_atomically
from util.formats.annotations import reason_of
from util.formats.found import FoundObject, FoundPhoto
from util.formats.run_lengths import encoded
from util.predict.prediction import DIGITS, Prediction
from util.predict.segmenter import Segmenter
from util.report.overlay import write_png

PROBABILITY_ONE = 2**16 - 1  # the value of probability 1 in a 16-bit PNG
NOT_IN_FILE_NAMES = re.compile(r"[^\w-]+")  # characters of a class name that become one _ in file names


def mask_path(out: Path, stem: str) -> Path:
    """Return the path of a query's mask."""
    return out / f"{stem}_mask.png"


def overlay_path(out: Path, stem: str) -> Path:
    """Return the path of a query's overlay."""
    return out / f"{stem}_overlay.png"


def json_path(out: Path, stem: str) -> Path:
    """Return the path of a query's JSON."""
    return out / f"{stem}.json"


def probability_path(out: Path, stem: str, name: str) -> Path:
    """Return the path of the probability map of a class in a query."""
    return out / f"{stem}_probability_{NOT_IN_FILE_NAMES.sub('_', name)}.png"


def facts_of(segmenter: Segmenter) -> dict[str, Any]:
    """Return the entries of the JSON that are the same for every query: model, input, supports, text vectors."""
    model = segmenter.model
    return {
        "model": model.network.title,
        "checkpoint": model.source,
        "output": segmenter.output,
        "input": f"{model.view.rule} {model.view.side} x {model.view.side}",
        "tile": segmenter.tile,
        "calibration": None if segmenter.calibration is None else segmenter.calibration.facts(),
        "decision": asdict(segmenter.decision),
        "settings": to_dict(model.context.config)["model"],
        "adapt": segmenter.adaptation,
        "supports": {known.name: known.sources for known in segmenter.classes},
        "text": {known.name: known.embedding.note for known in segmenter.classes if known.embedding.note},
    }


def check_free(
    queries: Sequence[Path], out: Path, names: Sequence[str], overwrite: bool, others: Iterable[Path] = ()
) -> None:
    """Refuse queries whose results would overwrite each other, earlier results, or the queries themselves.

    Args:
        names: the classes.
        others: files that are written once for all queries.
        overwrite: earlier results may be overwritten.

    Raises:
        UserError: names the first conflict.
    """
    if not (nearest := next(folder for folder in (out, *out.absolute().parents) if folder.exists())).is_dir():
        raise UserError(f"--out {out}: {nearest} is a file; name a folder")
    written_for: dict[str, Path] = {}
    sources = {query.resolve() for query in queries}
    for path in others:
        if path.is_dir() or (path.exists() and not overwrite):
            raise UserError(f"{path}: this result exists already; name another --out, or add --overwrite")
    for query in queries:
        stem = query.stem
        common = (mask_path(out, stem), overlay_path(out, stem), json_path(out, stem))
        for path in (*common, *(probability_path(out, stem, name) for name in names)):
            if (key := unicodedata.normalize("NFC", str(path)).casefold()) in written_for:
                raise UserError(
                    f"{path}: would be written for {written_for[key]} and for {query}; rename a photo or a class, "
                    "or use two --out folders"
                )
            written_for[key] = query
            if path.resolve() in sources:
                raise UserError(f"{path}: is a query and would be overwritten; name another --out")
            if path.exists() and not overwrite:
                raise UserError(f"{path}: this result exists already; name another --out, or add --overwrite")


def is_complete(out: Path, query: Path, facts: dict[str, Any], pictures: bool = True) -> bool:
    """Return whether a query's results are all there, undamaged, of the same file, and made with the same facts.

    Args:
        pictures: whether mask, overlay and probabilities are among the results.
    """
    path = json_path(out, query.stem)
    try:
        record = read_json(path, "this result", "make it again")
        files = []
        if pictures:
            files = [record["mask"], record["overlay"], *(entry["probability"] for entry in record["classes"])]
        if record["query"] != str(query) or {key: record.get(key) for key in facts} != facts:
            return False
        if record["query_file"] != _file_facts(query):
            return False
        read_result(path)
        return all(_is_whole(out / Path(name).name, (record["height"], record["width"])) for name in files)
    except (UserError, KeyError, TypeError, AttributeError, OSError):
        return False


def _file_facts(query: Path) -> list[int]:
    """Return bytes, time of change in ns, width and height of a photo's file."""
    stat, (size, orientation) = query.stat(), header_of(query)
    height, width = upright_size(size, orientation)
    return [stat.st_size, stat.st_mtime_ns, width, height]


def _is_whole(path: Path, size: tuple[int, int]) -> bool:
    """Return whether an image file is complete and of a size."""
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return image is not None and image.shape[:2] == size


def write_results(
    out: Path,
    query: Path,
    prediction: Prediction,
    facts: dict[str, Any],
    pictures: bool = True,
    instances: bool = False,
) -> Path:
    """Write a query's files and return the path of the JSON.

    Args:
        facts: entries that are the same for every query.
        pictures: write mask, overlay and probabilities, not the JSON alone.
        instances: list the connected parts of each class in the JSON.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    stem, (height, width) = query.stem, prediction.mask.shape
    json_path(out, stem).unlink(missing_ok=True)  # a JSON without all other files must not exist
    record: dict[str, Any] = {"query": str(query), "width": width, "height": height}
    record["query_file"] = _file_facts(query)
    if pictures:
        write_mask(mask_path(out, stem), prediction.mask)
        write_png(overlay_path(out, stem), prediction.overlay())
        record |= {"mask": mask_path(out, stem).name, "overlay": overlay_path(out, stem).name}
    classes = []
    for row, probability in zip(prediction.summary(), prediction.probability, strict=True):
        inside = prediction.mask == row["value"]
        entry = {**row, "runs": encoded(inside)}
        if instances:
            entry["instances"] = _parts(inside, probability)
        if pictures:
            path = probability_path(out, stem, row["name"])
            _, content = cv2.imencode(".png", (probability * PROBABILITY_ONE).round().astype(np.uint16))
            write_atomically(path, content.tobytes())
            entry["probability"] = path.name
        classes.append(entry)
    record |= {"classes": classes, **facts}
    write_atomically(json_path(out, stem), json.dumps(record, indent=2) + "\n")
    return json_path(out, stem)


def _parts(mask: np.ndarray, probability: np.ndarray) -> list[dict[str, Any]]:
    """Return pixels, box, confidence and run lengths of each connected part of a mask, the largest first."""
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sums = np.bincount(parts.ravel(), probability.ravel(), count)
    out = []
    for part in range(1, count):
        left, top, width, height, pixels = facts[part].tolist()
        out.append(
            {
                "pixels": pixels,
                "box": [left, top, left + width, top + height],
                "confidence": round(sums[part] / pixels, DIGITS),
                "runs": encoded(parts == part),
            }
        )
    return sorted(out, key=lambda entry: -entry["pixels"])


def read_result(path: Path) -> FoundPhoto:
    """Return what the JSON of a query says was found: its classes with pixels, or their parts where those are listed.

    Raises:
        UserError: the file is unreadable, or no JSON of ``write_results``.
    """
    record = read_json(path, "this result", "make it again")
    try:
        objects = []
        for entry in record["classes"]:
            for found in entry.get("instances", [entry] if entry["pixels"] else []):
                left, top, right, bottom = map(int, found["box"])
                runs, score = dict(found["runs"]), float(found["confidence"])
                if runs["size"] != [record["height"], record["width"]] or not isinstance(runs["counts"], str):
                    raise ValueError("the size of a mask is not the photo's")
                objects.append(
                    FoundObject(str(entry["name"]), score, int(found["pixels"]), (left, top, right, bottom), runs)
                )
        return FoundPhoto(Path(record["query"]), int(record["height"]), int(record["width"]), tuple(objects))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is no result of predict.py ({reason_of(error)}); make it again") from None
