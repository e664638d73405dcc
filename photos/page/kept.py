"""``page/session.json``: the photos, classes and sliders of a session."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from annotations.annotation import content_errors


@dataclass
class Kept:
    """The content of ``session.json``."""

    photos: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    rule: list[float | None] = field(default_factory=list)  # of the sliders
    base: list[str] = field(default_factory=list)  # names of base classes
    keeps_base: bool = False


def read_kept(file: Path) -> Kept:
    """Return the content of a session's file, of a new session where there is none; UserError if it is damaged."""
    if not file.exists():
        return Kept()
    fix = "remove it: annotations and results stay, photos can be opened again"
    with content_errors(f"{file}: this state of the page is damaged (", f"); {fix}"):
        return Kept(**json.loads(file.read_bytes()))
