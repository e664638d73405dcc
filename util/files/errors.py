"""The error type of every mistake that a user can correct, its exit codes, and suggestions for mistyped names."""

from __future__ import annotations

import difflib
import logging
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from util.files.project import REPOSITORY

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # the output is no longer read
MAX_KNOWN = 20  # names that a message lists
LEFT_OUT = " ... "
MAX_LINE = 600  # characters of a message, of whose middle the rest is left out
log = logging.getLogger("symnet")  # of trainings and tests


def one_line(text: object) -> str:
    """Return a text on one line of bounded length, without characters that a terminal would obey."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    if len(line) <= MAX_LINE:
        return line
    half = (MAX_LINE - len(LEFT_OUT)) // 2
    return f"{line[:half]}{LEFT_OUT}{line[-half:]}"


def note(line: object) -> None:
    """Print a note on the error output, as ``one_line``: names in it may be of files of others."""
    print(one_line(f"note: {line}"), file=sys.stderr)


class UserError(Exception):
    """A mistake outside the code; the message is one line that names its place, what is wrong, and the fix."""

    def __init__(self, message: str, *, fix: str = "", local: bool = False):
        """``local``: only one of several processes met the error, and that process reports it."""
        super().__init__(one_line(f"{message}; {fix}" if fix else message))
        self.local = local


class Refusals(UserError):
    """Several mistakes that do not depend on each other, a line each."""

    def __init__(self, lines: list[str]):
        super().__init__("; ".join(lines))
        self.lines = [one_line(line) for line in lines]

    def __reduce__(self) -> tuple[type[Refusals], tuple[list[str]]]:
        return Refusals, (self.lines,)


class PeerLost(UserError):
    """Another process of this run has ended; that process or its launcher reports the reason."""


class WriteError(UserError):
    """A file could not be written."""


class TooLarge(UserError):
    """A file is larger than what is read here."""


@contextmanager
def as_user_error(
    *kinds: type[Exception], before: str = "", after: str = "", refusal: type[Exception] = UserError
) -> Iterator[None]:
    """Turn an error of some kinds in the block into a ``refusal``, with what stands before it and after."""
    try:
        yield
    except kinds as error:
        raise refusal(f"{before}{error}{after}") from None


def closest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``word``, '' if none is close."""
    by_letters = {name.casefold(): name for name in sorted(known)}
    close = difflib.get_close_matches(word.casefold(), by_letters, n=1, cutoff=cutoff)
    return f"; did you mean '{by_letters[close[0]]}'?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``word``, else a list of the known names."""
    known = sorted(known)
    suggestion = closest(word, known)
    if suggestion or not known:
        return suggestion
    others = f", and {len(known) - MAX_KNOWN} more" if len(known) > MAX_KNOWN else ""
    return f"; known: {', '.join(known[:MAX_KNOWN])}{others}"


def check_known(name: str, known: Collection[str], problem: str, fix: str = "") -> None:
    """Refuse (UserError) a name that is not known, with the nearest one; ``problem`` says where it is, and no what."""
    if name not in known:
        raise UserError(problem + nearest(name, known), fix=fix)


def unknown(kind: Any, name: str, others: Iterable[str] = ()) -> str | None:
    """Say that neither a ``Registry`` (``model/registration.py``) nor ``others`` have a name; None: one does."""
    known = [*others, *kind]
    return None if name in known else f"no such {kind.title}{nearest(name, known)}"


def call_foreign(
    what: str,
    function: Callable[..., Any],
    *arguments: Any,
    failed: str = "failed",
    fix: str = "mend its code",
    local: bool = False,
) -> Any:
    """Return what a function returns, ``what`` in messages; UserError: it is, or runs, code of others and failed."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} {failed}: {in_words(error)}", fix=fix, local=local) from None


def in_words(error: BaseException) -> str:
    """Return an error of the code of others with its place."""
    place = "".join(f" ({line.filename}, line {line.lineno})" for line in places_of_others(error)[-1:])
    return f"{type(error).__name__}: {error}{place}"


def places_of_others(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the lines that an error passed, but for those of this project, of Python and of installed packages."""
    own = (
        *("annotations/", "datasets/", "model/", "photos/", "util/"),
        *("predict.py", "prepare.py", "report.py", "test.py", "train.py"),
    )
    known = (*(f"{REPOSITORY}/{name}" for name in own), sys.prefix, sys.base_prefix, "<frozen")
    return [line for line in traceback.extract_tb(error.__traceback__) if not line.filename.startswith(known)]
