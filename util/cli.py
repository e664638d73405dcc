"""The command line of all scripts, and the place where an error that the user can correct becomes exit code 2."""

from __future__ import annotations

import argparse
import errno
import math
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from model.mismatch import Mismatch
from util.errors import EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_USER_ERROR, PeerLost, UserError, one_line
from util.run.configure import configure_process

FULL = (errno.ENOSPC, errno.EDQUOT)
OUTPUT = "the output could not be written"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error that the user can correct."""

    def error(self, message: str) -> NoReturn:
        """Raise the error of a wrong command line.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; see {self.prog} --help")


def run_one_of(commands: dict[str, Any], description: str | None, prog: str | None = None) -> int:
    """Parse a command line whose first word names a module or a recipe; return the exit code of its ``run(options)``.

    A module's docstring is its help; its ``add_options(parser)`` declares its options.
    """
    out = Parser(prog=prog, description=description)
    known = out.add_subparsers(dest="what", required=True, metavar="what")
    for name, module in commands.items():
        about = textwrap.dedent(module.__doc__ or "")
        sub = known.add_parser(
            name,
            help=about.splitlines()[0],
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(sub)
        sub.set_defaults(run=module.run)
    options = out.parse_args()
    return options.run(options)


def words(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers, at least 1, of a comma-separated list.

    Raises:
        UserError: a word is not such a number.
    """
    for word in words(text):
        if not word.isdecimal() or int(word) < 1:
            raise UserError(f"{option} {text}: '{word}' is not a number of at least 1")
    return tuple(int(word) for word in words(text))


def within(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return the type of an option whose value is a number of ``kind`` in low..high."""

    def read(text: str) -> Any:
        if not low <= (value := kind(text)) <= high:
            allowed = f"{low}..{high}" if high < math.inf else f"at least {low}"
            raise argparse.ArgumentTypeError(f"{text} is out of range; allowed: {allowed}")
        return value

    read.__name__ = kind.__name__  # for argparse's message about a text that is no number
    return read


def add_training_options(out: argparse.ArgumentParser) -> None:
    """Add the options of both training scripts for a run folder that is already in use."""
    out.add_argument("--resume", action="store_true", help="continue the run in this folder from its last checkpoint")
    out.add_argument("--overwrite", action="store_true", help="start again, discarding the run in this folder")
    out.add_argument(
        "--allow-changes", action="store_true", help="resume although settings that decide the result were changed"
    )


def main(command: Callable[[], int | None], training: bool = False) -> None:
    """Configure this process, run ``command`` and exit with its return value (None = 0).

    An error that the user can correct, or of a file, becomes one line and exit code 2, Ctrl-C exit code 130, and an
    output that is no longer read (``... | head -1``) exit code 141, as with other programs.

    Args:
        training: see ``configure_process``.
    """
    configure_process(training)
    try:
        code = command() or 0
    except (UserError, Mismatch) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0" or getattr(error, "local", False):
            prefix = "stopped" if isinstance(error, PeerLost) else "error"  # another process reports the error
            print(f"{prefix}: {one_line(error)}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_UNREAD
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        code = _reported(error)
    sys.exit(_flushed(code))


def _reported(error: OSError) -> int:
    """Print an error of a file, or of an output without room, in one line; return the exit code."""
    where = OUTPUT if error.filename is None else one_line(error.filename)
    print(f"error: {where}: {error.strerror}", file=sys.stderr)
    return EXIT_USER_ERROR


def _flushed(code: int) -> int:
    """Write what is left of the output and return the exit code, another one if it is no longer read or has no room."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end of the process
        if isinstance(error, BrokenPipeError):
            return EXIT_UNREAD
        return code if code == EXIT_USER_ERROR else _reported(error)
    return code
