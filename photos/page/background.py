"""One piece of work on many photos at a time, in a thread beside the page's server."""

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from photos.page.photo import Photo
from util.files.errors import UserError, one_line
from util.files.parallel import attempt
from util.run.processes import as_user_error


class Work(NamedTuple):
    """One piece of work."""

    photos: list[Photo]
    each: Callable[[Photo], None]
    finish: Callable[[], Any]
    notes: list[str]  # for the user


class Progress(NamedTuple):
    """How far a piece of work is."""

    word: str  # what becomes of the photos
    done: int  # photos
    photos: int
    seconds: float | None = None  # that are left


class Background:
    """The work under way."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.thread = threading.Thread()
        self.note = ""  # on the last piece of work
        self.state: Progress | None = None  # None without work

    def check_idle(self) -> None:
        """Raise a UserError where work is under way."""
        if self.state:
            raise UserError("wait until the work is done, or press Stop")

    def start(self, word: str, prepare: Callable[[], Work]) -> None:
        """Do what ``prepare`` says; errors as ``check_idle``."""
        self.check_idle()
        self.state = Progress(word, done=0, photos=0)
        self.is_stopped = False
        self.thread = threading.Thread(target=self._run, args=(word, prepare), daemon=True)
        self.thread.start()

    def _run(self, word: str, prepare: Callable[[], Work]) -> None:
        start = time.monotonic()
        errors: list[str] = []
        done = 0
        try:
            with as_user_error("the number of example photos, the photos' size, --resize or --tile"):
                work = prepare()
                planned = len(work.photos)
                for done, photo in enumerate(work.photos, 1):
                    photo.error = str(attempt(work.each, photo) or "")
                    if photo.error:
                        errors.append(photo.error)
                    photo.touch()
                    seconds = (time.monotonic() - start) / done * (planned - done)
                    self.state = Progress(word, done, planned, seconds)
                    if self.is_stopped:
                        break
                work.finish()
            summary = f"no photo is left to be {word}"
            if planned:
                summary = f"{done - len(errors)} of {planned} photos {word}"
            self.note = "; ".join([summary, *work.notes, *errors[:3]])
        except Exception as error:
            self.note = line_of(error)
        self.state = None


def line_of(error: Exception) -> str:
    """Return an error as one line; one that is not the user's is printed whole on the terminal."""
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    return one_line(f"{error!r}; the server's terminal says more")
