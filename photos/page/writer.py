"""The state of a session, and the files that follow it: results, verdicts and examples.

What an action changes passes through ``take``, which alone writes.
"""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from photos.page.background import Background
from photos.page.files import PAGE, Files
from photos.page.kept import StateFile, read_state
from photos.page.state import Photo, State
from photos.prediction import Prediction
from photos.results import Results
from photos.segmenter import Segmenter
from util.files import lock
from util.files.errors import UserError


class WrittenState:
    """A state in a folder of earlier work, of results, or a new one; a lock keeps other pages out."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.segmenter = segmenter
        self.out = out
        self.lock = threading.RLock()
        self.archive: Path | None = None  # the download
        self.errors: dict[str, str] = {}  # why a photo could not be read, by its name
        self.changed: dict[str, int] = {}  # number of the last change of a photo, by its name
        self.renewed = 0  # number of the last change of what is not of one photo
        self._numbers = threading.RLock()  # of ``changed``, ``renewed`` and ``number``, for no longer than they take
        self.number = time.time_ns() // 1000  # of the last change or look; larger after a restart
        results = Results(out, [])
        results.check_folder()
        self.file = out / PAGE / "session.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self._state_file = StateFile(self.file)
        self.files = Files(results, segmenter)
        self.work = Background(self.note_error)
        self.state = read_state(self.file, self.files)
        self.renew()

    def touch(self, *names: str) -> None:
        """Note a change of photos."""
        with self._numbers:
            self.number += 1
            self.changed |= dict.fromkeys(names, self.number)

    def renew(self) -> None:
        """Note a change of all."""
        with self._numbers:
            self.touch(*self.state.photos)
            self.renewed = self.number

    def changed_since(self, look: int) -> tuple[int, set[str]]:
        """Return the number of a new look at the state, and the names of photos that changed after an earlier one."""
        with self._numbers:
            self.number += 1
            return self.number, {name for name, number in self.changed.items() if number > look}

    def check_seen(self, name: str, seen: int) -> None:
        """Refuse (UserError) to act on a photo that was changed after the ``seen`` change, which the user looks at."""
        if self.changed.get(name, 0) > seen:
            raise UserError(f"{name}: was changed meanwhile, in another window or by Segment; look, and do it again")

    def note_error(self, name: str, error: str) -> None:
        """Note why a photo cannot be read, "" where it can."""
        if error != self.errors.get(name, ""):
            self.errors[name] = error
            self.touch(name)

    def take(self, after: State) -> None:
        """Make a state the present one: write it, and the files of the photos that it changes."""
        before, self.state = self.state, after
        self._state_file.write(after)
        for name, photo in after.photos.items():
            earlier = before.photos.get(name)
            if earlier is not None and earlier != photo:
                self._write(earlier, name)
        for name in before.photos.keys() - after.photos.keys():
            self.files.write_example(after, replace(before.photos[name], taught=[]))
        if before.classes != after.classes or [*before.photos] != [*after.photos]:
            self.renew()
        elif before.rule != after.rule:
            loose = [name for name, photo in after.photos.items() if photo.found and not photo.is_fixed]
            self.touch(*loose)

    def _write(self, before: Photo, name: str) -> None:
        """Write the result, the verdicts and the example of a photo that was changed."""
        photo = self.state.photos[name]
        if before.found and not photo.found:
            self.files.remove_result(before)
        is_first = photo.found is None and bool(photo.verdicts)
        if is_first or before.rejected != photo.rejected or not self.files.is_current(self.state, photo):
            self.write_result(name)
        photo = self.state.photos[name]
        if before.verdicts or photo.verdicts:
            self.files.write_verdicts(photo)
        self.files.write_example(self.state, photo)
        self.touch(name)

    def write_result(self, name: str) -> None:
        """Write the result of a photo as it is now."""
        photo = self.files.keep_beneath(self.state.photos[name])
        facts = {} if photo.found else self.segmenter.without_classes().facts
        try:
            found = self.files.write_result(self.state, photo, facts)
        except BaseException:
            self._keep(replace(photo, found=self.files.found(photo)))
            raise
        self._keep(replace(photo, found=found))
        self.files.write_verdicts(self.state.photos[name])

    def take_result(self, photo: Photo, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write what the network found on a photo; earlier edits lie over it, and what is rejected remains so."""
        found = self.files.write_prediction(photo, prediction, facts)
        self._keep(replace(photo, found=found, beneath=None))
        if photo.rejected or not self.files.is_current(self.state, self.state.photos[photo.name]):
            self.write_result(photo.name)
        self.files.write_verdicts(self.state.photos[photo.name])

    def _keep(self, photo: Photo) -> None:
        """Keep what became of a photo's files, which nothing else follows."""
        self.state = replace(self.state, photos={**self.state.photos, photo.name: photo})
        self.touch(photo.name)
        self._state_file.write(self.state)

    def label(self, name: str, state: State | None = None) -> np.ndarray:
        """Return the mask of a photo with the classes that are rejected, (H, W) uint8."""
        state = state or self.state
        return self.files.label(state, state.photo(name), is_judged=False)

    def write_summary(self) -> None:
        """Write the table and the review of the results."""
        self.files.results.write_summary({})
