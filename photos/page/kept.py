"""``page/session.json``: the photos, classes and sliders of a session."""

from dataclasses import dataclass, field
from pathlib import Path

from photos.page.drawing import MAX_CLASS
from util.files import read_json
from util.files.errors import UserError
from util.files.typecheck import Misfit, convert


@dataclass
class Kept:
    """The content of ``session.json``."""

    photos: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list, metadata={"length": (0, MAX_CLASS)})
    rule: list[float | None] = field(default_factory=list, metadata={"length": (0, 2)})  # of the sliders


def read_kept(file: Path) -> Kept:
    """Return the content of a session's file, of a new session where there is none; UserError if it is damaged."""
    if not file.exists():
        return Kept()
    fix = "remove it: annotations and results stay, photos can be opened again"
    try:
        return convert(Kept, read_json(file, "this state of the page", fix), "")
    except Misfit as misfit:
        raise UserError(f"{file}: this state of the page is damaged ({misfit}); {fix}") from None
