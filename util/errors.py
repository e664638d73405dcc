"""The one error type for what a user can mend, and the tolerance of names that are almost right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something outside the code is wrong: the message says what, where, and how to mend it, in one line."""

    def __init__(self, message: str, local: bool = False):
        """``local``: only this process of several met it, so this process must say so."""
        super().__init__(" ".join(str(message).split()))
        self.local = local


class PeerLost(UserError):
    """Another of the processes of this run has ended; it, or what started it, says why."""


class WriteError(UserError):
    """Something could not be written: never the fault of the file that was being read."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``word``, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
