"""The browser's view of a session's state: the photos that changed, and a photo's size and pixels."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from annotations.pictures import header_of
from photos.page.files import EXAMPLES
from photos.page.state import Photo
from photos.page.writer import WrittenState
from photos.photo_files import read_photo
from photos.prediction import at_most
from photos.results import FORMATS
from util.files.errors import UserError
from util.files.images import upright_size
from util.files.overlay import class_colour


def view(session: WrittenState, since: int) -> dict[str, Any]:
    """Return what the browser shows, of the photos, by name, those that changed since a number.

    All are there where their list changed.
    """
    now, changed = session.changed_since(since)
    whole = session.renewed > since
    state = session.state  # not before: a change that comes between is in this look or in the next one
    names = state.photos if whole else [name for name in state.photos if name in changed]
    return {
        "about": _about(session),
        "out": str(session.out),
        "now": now,
        "whole": whole,
        "formats": FORMATS,
        "rule": [state.rule.threshold, state.rule.min_presence],
        "network_rule": [session.files.network_rule.threshold, session.files.network_rule.min_presence],
        "job": session.work.state,
        "done": session.work.done._asdict(),
        "archive": has_archive(session),
        "photos": [row(session, state.photos[name]) for name in sorted(names, key=str.casefold)],
        "classes": [[i, name, f"rgb{class_colour(i)}"] for i, name in enumerate(state.classes, 1) if name],
    }


def row(session: WrittenState, photo: Photo) -> dict[str, Any]:
    """Return what the browser shows of a photo in the grid."""
    return {
        "name": photo.name,
        "found": bool(photo.found and photo.found.names),
        "example": photo.teaches,
        "fixed": photo.is_fixed,
        "presence": photo.found.presence if photo.found else {},
        "share": photo.found.share if photo.found else {},
        "verdicts": photo.verdicts,
        "error": session.errors.get(photo.name, ""),
        "changed": session.changed.get(photo.name, 0),
        "fresh": session.files.is_current(session.state, photo),
    }


def _about(session: WrittenState) -> dict[str, str]:
    """Return what the weights are, what they can do with other objects, and a command that does better."""
    model = session.segmenter.model
    folders = Counter(photo.path.rpartition("/")[0] for photo in session.state.photos.values())
    query = max(folders, key=folders.__getitem__, default="my_photos")
    options = {"--supports": session.out / EXAMPLES, "--query": query, "--out": f"{session.out}_gfsam"}
    words = " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options.items())
    is_measured = bool(model.outlook(None))
    return {
        "title": f"{model.title}, {Path(model.source).name}",
        "outlook": model.outlook(None).partition(";")[0],
        "command": f"python predict.py --model gfsam {words}" if is_measured else "",
    }


def scene(session: WrittenState, name: str) -> dict[str, int]:
    """Return the size of a photo."""
    height, width = upright_size(*header_of(Path(session.state.photo(name).path)))
    return {"height": height, "width": width}


def picture(session: WrittenState, name: str, side: int) -> np.ndarray:
    """Return a photo with at most ``side`` pixels on a side, (h, w, 3) uint8."""
    path = session.state.photo(name).path
    try:
        return at_most(read_photo(path), side)
    except UserError as error:
        line = str(error).replace(path, name)
        session.note_error(name, line)
        raise UserError(line) from None


def has_archive(session: WrittenState) -> bool:
    """Whether there is a download."""
    return session.archive is not None and session.archive.is_file()
