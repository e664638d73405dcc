"""``page/session.json``: the state of a session, as it is written and read."""

import json
from dataclasses import replace
from pathlib import Path

from photos.examples import UNNAMED
from photos.page.drawing import checked_edits
from photos.page.files import Files
from photos.page.state import Photo, State, add_photos
from photos.results import own_record
from util.files import read_json, write_atomically
from util.files.errors import UserError
from util.files.typecheck import Misfit, convert

FIX = "remove it: annotations and results stay, photos can be opened again"


class StateFile:
    """The file of a state, which is written whole; a photo that did not change is not made text again."""

    def __init__(self, path: Path):
        self.path = path
        self._texts: dict[str, tuple[Photo, str]] = {}  # of photos, by name

    def write(self, state: State) -> None:
        """Write a state."""
        texts = {}
        for name, photo in state.photos.items():
            known = self._texts.get(name)
            if known is None or known[0] is not photo:
                known = photo, f"{json.dumps(name)}: {json.dumps(photo, default=vars)}"
            texts[name] = known
        self._texts = texts
        rest = json.dumps({"classes": state.classes, "rule": state.rule}, default=vars)
        photos = ", ".join(text for _, text in texts.values())
        write_atomically(self.path, f'{{"photos": {{{photos}}}, {rest[1:]}')


def read_state(file: Path, files: Files) -> State:
    """Return the state in a file, a new one where there is none, with the results that are in the folder today.

    UserError: as ``_kept_state``.
    """
    state = _kept_state(file) if file.exists() else State(classes=[])
    records = (own_record(path) for path in sorted(files.results.out.glob("*.json")))
    state = add_photos(state, [Photo(record["query"]) for record in records if record])
    photos = {name: _with_result(photo, files) for name, photo in state.photos.items()}
    classes = list(state.classes)
    for photo in photos.values():
        classes += [name for name in photo.names if name not in classes]
    return replace(state, photos=photos, classes=classes or [UNNAMED])


def _kept_state(file: Path) -> State:
    """Return the state in a file; UserError: it is damaged, or an edit in it cannot be drawn."""
    content = read_json(file, "this state of the page", FIX)
    try:
        state = convert(State, content, "")
        for photo in state.photos.values():
            checked_edits([edit for step in (*photo.steps, *photo.undone) for edit in step.edits])
    except (Misfit, UserError) as error:
        raise UserError(f"{file}: this state of the page is damaged ({error}); {FIX}") from None
    return state


def _with_result(photo: Photo, files: Files) -> Photo:
    """Return a photo with its result and the verdicts on it as files state them."""
    found = files.found(photo)
    names = [] if found is None else [*found.names, *found.drawn]
    verdicts = {name: files.results.verdict(photo.path, name) for name in names}
    return replace(photo, found=found, verdicts={name: verdict for name, verdict in verdicts.items() if verdict})
