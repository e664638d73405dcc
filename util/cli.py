"""The command line all scripts share, and the one place that turns a mendable error into a line and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType

from model.contract import Mismatch
from util.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, PeerLost, UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other mendable error."""

    def error(self, message: str) -> None:
        """Refuse a command line.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; see {self.prog} --help")


def run_one_of(commands: dict[str, ModuleType], description: str, prog: str | None = None) -> int:
    """Parse a command line whose first word names a module, and return what that module's ``run(options)`` returns.

    A module's docstring is its help; its ``add_options(parser)`` says what it takes.
    """
    out = Parser(prog=prog, description=description)
    known = out.add_subparsers(dest="what", required=True, metavar="what")
    for name, module in commands.items():
        told = textwrap.dedent(module.__doc__)
        sub = known.add_parser(
            name,
            help=told.splitlines()[0],
            description=told,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(sub)
        sub.set_defaults(run=module.run)
    options = out.parse_args()
    return options.run(options)


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers, at least 1, of a list with commas.

    Raises:
        UserError: names the word that is none.
    """
    for word in words(text):
        if not word.isdecimal() or int(word) < 1:
            raise UserError(f"{option} {text}: '{word}' is not a number of at least 1")
    return tuple(int(word) for word in words(text))


def add_training_options(out: argparse.ArgumentParser) -> None:
    """Add what both training scripts take: what to do with a run folder that is already in use."""
    out.add_argument("--resume", action="store_true", help="continue the run in this folder from its last checkpoint")
    out.add_argument("--overwrite", action="store_true", help="start again, discarding the run in this folder")


def main(command: Callable[[], int | None]) -> None:
    """Run ``command`` and leave the process: its return value (None = 0), 2 with one line for a mendable error."""
    try:
        code = command() or 0
    except (UserError, Mismatch) as error:
        if int(os.environ.get("LOCAL_RANK", "0")) == 0 or getattr(error, "local", False):
            prefix = "stopped" if isinstance(error, PeerLost) else "error"  # the error is another's to tell
            print(f"{prefix}: {' '.join(str(error).split())}", file=sys.stderr)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)
