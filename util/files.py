"""Files that are whole or not there: atomic writing, and links in place of copies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from util.errors import UserError, WriteError

REPOSITORY = Path(__file__).resolve().parents[1]


def write_atomically(path: Path, write: Callable[[Path], None] | str | bytes) -> None:
    """Write a file under another name, then rename it: an interruption leaves the old file or none.

    Args:
        write: what to write, or a function that writes the file it is given (a name with the same suffix).

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(write):
            write(temporary)
        elif isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            temporary.write_text(write, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or name another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def fingerprint(files: Iterable[Path], *words: Any, lacking: str = "this file is missing") -> str:
    """Return a digest of files' names, sizes and times of change, and of some words.

    Raises:
        UserError: a file is missing; ``lacking`` says so.
    """
    digest = hashlib.sha256(json.dumps([str(w) for w in words]).encode())
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            raise UserError(f"{path}: {lacking}") from None
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to the file or folder ``source``; where links are not possible, a copy.

    Raises:
        WriteError: something else is in the way, or the folder cannot be written.
    """
    source = source.resolve()
    if target.exists() and target.resolve() == source:
        return
    if target.is_symlink():
        target.unlink()  # of another source, or of one that has moved
    elif target.exists():
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return  # an earlier copy
        raise WriteError(f"{target}: something else is in the way; remove it or name another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source, target_is_directory=source.is_dir())
        except (NotImplementedError, PermissionError):
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror}); name another folder") from None
