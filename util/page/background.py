"""One piece of work on many photos at a time, in a thread beside the page's server."""

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from model.mismatch import ModelMismatch
from util.errors import UserError, one_line
from util.page.photo import Photo
from util.parallel import attempt
from util.runtime.processes import as_user_error

Work = tuple[list[Photo], Callable[[Photo], None], Callable[[], Any], list[str]]  # for each, in the end, and notes


class Background:
    """The work under way."""

    def __init__(self) -> None:
        self.is_stopped, self.thread = False, threading.Thread()
        self.note = ""  # on the last piece of work
        self.state: list[Any] | None = None  # word, photos done, all, and seconds left; None without any

    def check_idle(self) -> None:
        """Raise a UserError where work is under way."""
        if self.state:
            raise UserError("wait until the work is done, or press Stop")

    def start(self, word: str, prepare: Callable[[], Work]) -> None:
        """Do what ``prepare`` says; errors as ``check_idle``."""
        self.check_idle()
        self.state, self.is_stopped = [word, 0, 0, None], False
        self.thread = threading.Thread(target=self._run, args=(word, prepare), daemon=True)
        self.thread.start()

    def _run(self, word: str, prepare: Callable[[], Work]) -> None:
        start, failed, done = time.monotonic(), list[str](), 0
        try:
            with as_user_error("the number of example photos, the photos' size, --resize or --tile"):
                photos, each, finish, notes = prepare()
                for done, photo in enumerate(photos, 1):
                    photo.error = str(attempt(each, photo) or "")
                    failed += filter(None, [photo.error])
                    photo.touch()
                    self.state = [word, done, len(photos), (time.monotonic() - start) / done * (len(photos) - done)]
                    if self.is_stopped:
                        break
                finish()
            summary = f"no photo is left to be {word}"
            if photos:
                summary = f"{done - len(failed)} of {len(photos)} photos {word}"
            self.note = "; ".join([summary, *notes, *failed[:3]])
        except Exception as error:
            self.note = line_of(error)
        self.state = None


def line_of(error: Exception) -> str:
    """Return an error as one line; one that is not the user's is printed whole on the terminal."""
    if isinstance(error, UserError | ModelMismatch):
        return str(error)
    traceback.print_exception(error)
    return one_line(f"{error!r}; the server's terminal says more")
