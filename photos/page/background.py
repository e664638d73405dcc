"""One piece of work on many photos at a time, in a thread beside the page's server."""

import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from util.files.errors import UserError, one_line
from util.files.parallel import attempt
from util.loop.processes import explained_memory_errors


class Work(NamedTuple):
    """One piece of work."""

    photos: list[str]  # their names in the page
    each: Callable[[str], None]
    finish: Callable[[int, list[str]], str]  # of the number that were done, and of errors: a line for the user


class WorkState(NamedTuple):
    """How far a piece of work is."""

    word: str  # what becomes of the photos
    done: int  # photos
    photos: int
    seconds: float | None = None  # that are left


class Done(NamedTuple):
    """The piece of work that ended last."""

    number: int  # of pieces that ended
    note: str


class Background:
    """The work under way; ``errors`` gets for each photo why it could not be done, "" if it was."""

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors = errors
        self.is_stopped = False
        self.thread = threading.Thread()
        self.done = Done(number=0, note="")
        self.state: WorkState | None = None  # None without work

    def check_idle(self) -> None:
        """Raise a UserError where work is under way."""
        if self.state:
            raise UserError("wait until the work is done, or press Stop")

    def start(self, word: str, prepare: Callable[[], Work]) -> None:
        """Do what ``prepare`` says; errors as ``check_idle``."""
        self.check_idle()
        self.state = WorkState(word, done=0, photos=0)
        self.is_stopped = False
        self.thread = threading.Thread(target=self._run, args=(word, prepare), daemon=True)
        self.thread.start()

    def _run(self, word: str, prepare: Callable[[], Work]) -> None:
        try:
            with explained_memory_errors("the number of example photos, the photos' size or --resize"):
                note = self._do(word, prepare())
        except Exception as error:
            note = line_of(error)
        self.done = Done(self.done.number + 1, note)
        self.state = None

    def _do(self, word: str, work: Work) -> str:
        """Do a piece of work and return a line on it."""
        start = time.monotonic()
        errors: list[str] = []
        done, planned = 0, len(work.photos)
        for done, photo in enumerate(work.photos, 1):
            error = str(attempt(work.each, photo) or "")
            self.errors[photo] = error
            if error:
                errors.append(error)
            seconds = (time.monotonic() - start) / done * (planned - done)
            self.state = WorkState(word, done, planned, seconds)
            if self.is_stopped:
                break
        return work.finish(done, errors)


def line_of(error: Exception) -> str:
    """Return an error as one line; one that is not the user's is printed whole on the terminal."""
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    return one_line(f"{error!r}; the server's terminal says more")
