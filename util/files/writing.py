"""Atomic writing of files, and locks between processes."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from util.files.errors import UserError, WriteError, note

TEMPORARY = ".tmp."  # in the name of a file that is being written, after a dot and the number of its process
LONG_NAME = 200  # bytes; file systems have room for 255


def write_atomically(
    path: Path, write: Callable[[Path], Any] | str | bytes, durable: bool = False, previous: Path | None = None
) -> None:
    """Write a file under another name, then rename it: an interruption leaves the old file or none.

    A device or a pipe is written through.

    Args:
        write: the content, or a function that writes the file it is given (a name with the same suffix).
        durable: whether the content is on the disk before the file is renamed, so that a power cut loses neither.
        previous: becomes the old file.

    WriteError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}{TEMPORARY}{_short(path)}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe, which nothing may replace
            _put(path, write)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(temporary, write)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path}: cannot be written ({reason}); free some space or name another folder") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _put(path: Path, content: Callable[[Path], Any] | str | bytes) -> None:
    """Write what ``write_atomically`` is given."""
    if callable(content):
        content(path)
    else:
        path.write_bytes(writable(content).encode() if isinstance(content, str) else content)


def _short(path: Path) -> str:
    """Return a file's name, or for a long one another of its own with its suffix."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= LONG_NAME else hashlib.sha256(name).hexdigest() + path.suffix


def lock(path: Path, refusal: str) -> TextIO:
    """Return a locked file; the system releases the lock when the file is closed or this process ends.

    UserError, with the text ``refusal``: another process holds it, on this machine or on another.
    """
    file = open(path, "a")  # noqa: SIM115  closed by the caller
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise UserError(refusal) from None
    except OSError:
        note(f"{path}: this file system has no locks; start no command twice")
    return file


def writable(text: str) -> str:
    """Return a text with ``\\udcNN`` for each byte of a file name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
