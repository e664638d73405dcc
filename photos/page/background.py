"""One piece of work on many photos at a time, in a thread beside the page's server."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from util.files.errors import UserError, one_line
from util.loop.processes import explained_memory_errors


class WorkState(NamedTuple):
    """How far a piece of work is."""

    word: str  # what was done with the photos, such as "segmented"
    done: int = 0  # photos
    waiting: Sequence[str] | None = None  # photos that are left; None: it is not known yet
    seconds: float | None = None  # that are left


class Background:
    """The work under way."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.thread = threading.Thread()
        self.done: dict[str, Any] = {"number": 0, "note": ""}  # how many pieces have ended, and a line on the last
        self.state: WorkState | None = None  # None without work

    def check_idle(self) -> None:
        """Raise a UserError where work is under way."""
        if self.state:
            raise UserError("wait until the work is done, or press Stop")

    def start(self, word: str, work: Callable[[], str]) -> None:
        """Do a piece of work in the background, which returns a line for the user; raises as ``check_idle`` does."""
        self.check_idle()
        self.state = WorkState(word)
        self.is_stopped = False
        self.thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self.thread.start()

    def _run(self, work: Callable[[], str]) -> None:
        try:
            with explained_memory_errors("the number of example photos, the photos' size or --resize"):
                note = work()
        except Exception as error:
            note = line_of(error)
        self.done = {"number": self.done["number"] + 1, "note": note}
        self.state = None

    def each(self, word: str, photos: Sequence[str]) -> Iterator[str]:
        """Yield the photos of a piece of work until it is stopped, and note how far it is."""
        start = time.monotonic()
        for done, photo in enumerate(photos):
            seconds = (time.monotonic() - start) / done * (len(photos) - done) if done else None
            self.state = WorkState(word, done, photos[done:], seconds)
            yield photo
            if self.is_stopped:
                return


def line_of(error: Exception) -> str:
    """Return an error as one line; other errors than ``UserError`` are also printed whole on the terminal."""
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    return one_line(f"{error!r}; the server's terminal says more")
