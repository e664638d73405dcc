"""The files of a prediction: mask, overlay, probabilities and a JSON, each whole or not there, the JSON last."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from util.data.images import write_mask
from util.errors import UserError
from util.files import write_atomically
from util.predict.prediction import Prediction
from util.report.pictures import write_png

MAX = 2**16 - 1  # probability 1 in a 16-bit PNG
NO_WORD = re.compile(r"[^\w-]+")  # letters of a class name that a file's name gets a line for


def mask_path(out: Path, stem: str) -> Path:
    """Return where a query's mask goes."""
    return out / f"{stem}_mask.png"


def overlay_path(out: Path, stem: str) -> Path:
    """Return where a query's overlay goes."""
    return out / f"{stem}_overlay.png"


def json_path(out: Path, stem: str) -> Path:
    """Return where a query's numbers go."""
    return out / f"{stem}.json"


def probability_path(out: Path, stem: str, name: str) -> Path:
    """Return where the probability of a class in a query goes."""
    return out / f"{stem}_probability_{NO_WORD.sub('_', name)}.png"


def check_free(queries: Sequence[Path], out: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuse queries whose results would overwrite each other, earlier results, or the queries themselves.

    Raises:
        UserError: names the first.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    writers: dict[str, Path] = {}
    sources = {q.resolve() for q in queries}
    for query in queries:
        stem = query.stem
        common = (mask_path(out, stem), overlay_path(out, stem), json_path(out, stem))
        for path in (*common, *(probability_path(out, stem, name) for name in names)):
            if (key := str(path).lower()) in writers:
                raise UserError(
                    f"{path}: would be written for {writers[key]} and for {query}; rename a photo or a class, "
                    "or use two --out folders"
                )
            writers[key] = query
            if path.resolve() in sources:
                raise UserError(f"{path}: is a query and would be overwritten; name another --out")
            if path.exists() and not overwrite:
                raise UserError(f"{path}: a result is there already; name another --out, or add --overwrite")


def write_results(out: Path, query: Path, prediction: Prediction, facts: dict[str, Any]) -> Path:
    """Write a query's files and return the JSON's path; ``facts`` are what is the same for every query.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    stem, (height, width) = query.stem, prediction.mask.shape
    json_path(out, stem).unlink(missing_ok=True)  # what is about to change has no numbers until all is there
    write_mask(mask_path(out, stem), prediction.mask)
    write_png(overlay_path(out, stem), prediction.overlay())
    classes = []
    for row, probability in zip(prediction.summary(), prediction.probability, strict=True):
        path = probability_path(out, stem, row["name"])
        _, content = cv2.imencode(".png", (probability * MAX).round().astype(np.uint16))
        write_atomically(path, content.tobytes())
        classes.append({**row, "probability": path.name})
    record = {
        "query": str(query),
        "width": width,
        "height": height,
        "mask": mask_path(out, stem).name,
        "overlay": overlay_path(out, stem).name,
        "classes": classes,
        **facts,
    }
    write_atomically(json_path(out, stem), json.dumps(record, indent=2) + "\n")
    return json_path(out, stem)
