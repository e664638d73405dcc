"""The process of a command: command line, memory and logging, and errors of the user as one line and code 2."""

import argparse
import contextlib
import errno
import gc
import logging
import math
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from model.mismatch import ModelMismatch
from util.files.errors import (
    EXIT_INTERRUPTED,
    EXIT_UNREAD,
    EXIT_USER_ERROR,
    PeerLost,
    UserError,
    closest,
    in_words,
    one_line,
    places_of_others,
)
from util.files.launcher import is_first_of_machine
from util.files.parallel import KEEP_ALL, KEEP_SMALL, set_allocator
from util.files.project import REPOSITORY
from util.loop.interrupt import STOPS

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # which torch reads at its first tensor


def version() -> str:
    """Return the version that ``pyproject.toml`` states."""
    return re.findall("^version = .([0-9.]+)", (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[0]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error that the user can correct; it has ``--version``."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.register("type", Path, lambda text: Path(text).expanduser() if text.startswith("~/") else Path(text))
        if self.add_help:
            self.add_argument(
                "--version", action="version", version=f"Sym-Net {version()}", help="print the project's version"
            )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options; UserError: there are others, which argparse would let the parser of all commands name."""
        self.words = sys.argv[1:] if args is None else args
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Raise the error of a wrong command line, a UserError."""
        if message.startswith("the following arguments are required"):  # which argparse says before others
            others = [word for word in self.words if word.startswith("--") and not self._get_option_tuples(word)]
            message += "".join(f"; unrecognized arguments: {word.partition('=')[0]}" for word in others)
        if unknown := re.search(r"unrecognized arguments: (-[-\w]+)", message):
            alike = [name for name in self._option_string_actions if name.startswith(unknown[1][:3])]
            message += closest(unknown[1], alike, cutoff=0.75)
        elif message.startswith("unrecognized arguments: "):
            message += "; write all words, such as text vectors, before the options, those with spaces in quotes"
        raise UserError(f"{message}; see {self.prog} --help")


def run_one_of(commands: dict[str, Any], description: str | None) -> int:
    """Parse a command line whose first word names a module or a recipe; return the exit code of its ``run(options)``.

    A module's docstring is its help; its ``add_options(parser)`` declares its options.
    """
    parser = Parser(description=description)
    subcommands = parser.add_subparsers(dest="what", required=True, metavar="what")
    for name, module in commands.items():
        text = textwrap.dedent(module.__doc__ or "")  # "" in Python -OO
        subparser = subcommands.add_parser(
            name, help=text.partition("\n")[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_options(subparser)
        subparser.set_defaults(run=module.run)
    options = parser.parse_args()
    return options.run(options)


def add_import(parser: argparse.ArgumentParser, load: Callable[[str], Any]) -> None:
    """Add the option of modules that a command without a config imports by ``load``, as a config its ``imports``."""
    parser.add_argument(
        "--import",
        action="append",
        type=load,
        metavar="MODULE",
        help="a module, or a .py file, that registers a method or metric; may be repeated",
    )


def comma_separated(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma-separated list; the type of an option.

    ArgumentTypeError: something else is in it, nothing, or a number below 1.
    """
    names = comma_separated(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers from 1 on, such as 1,5")
    return tuple(map(int, names))


def within(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return the type of an option whose value is a number of ``kind`` in low..high."""

    def read(text: str) -> Any:
        value = kind(text)
        if low <= value <= high:
            return value
        allowed = f"{low}..{high}" if high < math.inf else f"at least {low}"
        raise argparse.ArgumentTypeError(f"{text} is out of range; allowed: {allowed}")

    read.__name__ = kind.__name__  # for argparse's message about a text that is no number
    return read


class LastingOutput:
    """An output that goes nowhere once it cannot be written: its terminal was closed, or its reader has ended."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, perhaps nowhere."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is kept, perhaps nowhere."""
        self._attempt(self._stream.flush)

    def _attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        """Return any other property of the stream."""
        return getattr(self._stream, name)


def outlast_output() -> None:
    """Let the end of what reads this process's output not end the process."""
    sys.stdout, sys.stderr = LastingOutput(sys.stdout), LastingOutput(sys.stderr)


def main(command: Callable[[], int | None], training: bool = False, writes_files: bool = False) -> None:
    """Configure this process, run ``command`` and exit with its return value (None = 0).

    An error that the user can correct, or of a file, becomes one line and exit code 2, Ctrl-C exit code 130. An output
    that is no longer read (``... | head -1``) ends a command that writes no files with exit code 141, as it does other
    programs. An error in the code of others, such as a method that a config imports, has its traceback before the line.
    For ``training`` see ``configure_process``.
    """
    configure_process(training)
    if writes_files:
        outlast_output()
    try:
        try:
            code = command() or 0
        finally:
            sys.stdout.flush()
    except (UserError, ModelMismatch) as error:
        _print_user_error(error)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_UNREAD
    except OSError as error:
        _print_file_error(error)
        code = EXIT_USER_ERROR
    except Exception as error:
        if not places_of_others(error):
            raise
        traceback.print_exc()
        _print_user_error(UserError(in_words(error), fix="mend its code"))
        code = EXIT_USER_ERROR
    LastingOutput(sys.stdout).flush()  # what cannot be written would raise again at the end of the process
    gc.freeze()  # the end of Python would search torch's objects for garbage: half a second that frees nothing
    sys.exit(code)


def _print_user_error(error: UserError | ModelMismatch) -> None:
    """Print an error of the user, of several processes on a machine in the first or in the one that met it."""
    if is_first_of_machine() or getattr(error, "local", False):
        prefix = "stopped" if isinstance(error, PeerLost) else "error"  # another process reports the error
        for line in getattr(error, "lines", [error]):
            print(f"{prefix}: {one_line(line)}", file=sys.stderr)


def _print_file_error(error: OSError) -> None:
    """Print an error of a file with its name, or what else is known of its place."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = error.filename or ("the output could not be written" if is_full else type(error).__name__)
    print(one_line(f"error: {place}: {error.strerror or error}"), file=sys.stderr)


def heed_stops() -> None:
    """Let ``STOPS`` end this process as Ctrl-C does."""
    for number in STOPS:
        signal.signal(number, signal.default_int_handler)


def configure_process(training: bool = False) -> None:
    """Set up allocator and logging of this process and of those that it starts; a second call changes nothing.

    Only commands call it; importing a module of this project changes nothing in the process. A process that is
    ``training`` repeats one step often, so that all memory that it frees is used again.
    """
    # Large tensors then lie in large pages where the system has them; else an encoder on the CPU spends a sixth of
    # its time on page faults, since each layer returns its maps to the system.
    os.environ.setdefault(HUGE_PAGES, "1")
    set_allocator(KEEP_ALL if training else KEEP_SMALL)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        if getattr(sys, name) is None:  # closed from the start
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # which no file of the run may become
            setattr(sys, name, open(number, "w", encoding="utf-8"))  # noqa: SIM115
        with contextlib.suppress(AttributeError, ValueError):  # replaced
            getattr(sys, name).reconfigure(errors="backslashreplace")  # for a name that a terminal's encoding lacks
    gc.freeze()  # what was imported stays, so that nothing searches it for garbage
    gc.enable()
    logging.raiseExceptions = False  # a log line that cannot be written, as on a full disk, must not end a run
