"""``page/session.json``: the state of a session, as it is written and read; also one of the version before."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from photos.examples import UNNAMED
from photos.page.drawing import checked_edits
from photos.page.files import PAGE, Files, shown_in
from photos.page.state import Photo, Rule, State, Step, add_photos
from photos.results import own_record
from util.files import kept_json, read_json, write_atomically
from util.files.errors import UserError
from util.files.mask_images import read_mask
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


def read_state(file: Path, files: Files, errors: dict[str, str]) -> State:
    """Return the state in a file, a new one where there is none, with the results that are in the folder today.

    Args:
        file: of the state.
        files: of the photos.
        errors: takes a line for each photo whose edits are left out, by its name.

    UserError: the file is damaged.
    """
    content = read_json(file, "this state of the page", FIX) if file.exists() else {"classes": []}
    try:
        if isinstance(content, dict) and isinstance(content.get("photos"), list):
            state = _of_version_before(content, files)
        else:
            state = convert(State, content, "")
    except (Misfit, TypeError, KeyError, UserError) as misfit:
        raise UserError(f"{file}: this state of the page is damaged ({misfit}); {FIX}") from None
    records = (own_record(path) for path in sorted(files.results.out.glob("*.json")))
    state = add_photos(state, [Photo(record["query"]) for record in records if record])
    photos = {name: _today(photo, files, errors) for name, photo in state.photos.items()}
    classes = list(state.classes)
    for photo in photos.values():
        classes += [name for name in photo.names if name not in classes]
    return replace(state, photos=photos, classes=classes or [UNNAMED])


def _today(photo: Photo, files: Files, errors: dict[str, str]) -> Photo:
    """Return a photo with its result and the verdicts on it as files state them; edits that cannot be drawn are out."""
    found = files.found(photo)
    names = [] if found is None else [*found.names, *found.drawn]
    verdicts = {name: files.results.verdict(photo.path, name) for name in names}
    given = {name: verdict for name, verdict in verdicts.items() if verdict}
    try:
        checked_edits([edit for step in photo.steps for edit in step.edits])
    except UserError as error:
        errors[photo.name] = f"{photo.name}: {error}; its edits are left out"
        photo = replace(photo, steps=[], undone=[])
    return replace(photo, found=found, verdicts=given)


def _of_version_before(content: dict[str, Any], files: Files) -> State:
    """Return the state of the version that kept edits in a file of each photo."""
    threshold, min_presence = [*content["rule"], None, None][:2]
    state = State(
        classes=content["classes"],
        rule=Rule(threshold, min_presence),
    )
    return add_photos(state, [_photo_of_version_before(state, Photo(path), files) for path in content["photos"]])


def _photo_of_version_before(state: State, photo: Photo, files: Files) -> Photo:
    kept = kept_json(files.results.out / PAGE / "edits" / f"{Path(photo.path).stem}.json")
    _, example = files.example(photo)
    taught = kept.get("taught") or (shown_in(state, read_mask(example)) if example.is_file() else [])
    beneath = files.beneath(photo)
    found = files.found(photo)
    rule = Rule() if found is None else found.rule
    return replace(
        photo,
        steps=[Step([edit]) for edit in kept.get("edits", [])],
        taught=taught,
        annotated=kept.get("photo"),
        rule=rule,
        beneath=list(state.classes) if beneath.is_file() else None,
    )
