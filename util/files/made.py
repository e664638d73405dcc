"""Folders that a command makes: links or copies in them, or all of it aside, which then takes its place."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from util.files import files_below, lock, write_atomically
from util.files.errors import Busy, UserError, WriteError


def link(source: Path, target: Path, relative: bool = False) -> None:
    """Make ``target`` a link to the file or folder ``source``, or a copy where no link can be made.

    A ``relative`` link holds the way from its folder, so that both can be moved together. WriteError: another file is
    in the way, or the folder cannot be written.
    """
    source = source.resolve()
    if target.resolve() == source:
        return
    if target.is_symlink():
        target.unlink()  # of another source, or of one that has moved
    elif target.exists():
        if not _is_copy(target, source):
            raise WriteError(f"{target}: another file is in the way; remove it or name another folder")
        if target.is_file():
            return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        way = Path(os.path.relpath(source, target.parent.resolve())) if relative else source
        target.symlink_to(way)
    except OSError:  # no links on this file system, or a copy of a folder that is completed now
        _copy(source, target)


def _is_copy(target: Path, source: Path) -> bool:
    """Return whether all that ``target`` holds may be copied from ``source``: files of the same names and sizes."""
    if target.is_file():
        return source.is_file() and target.stat().st_size == source.stat().st_size
    originals = [(path, source / path.relative_to(target)) for path in files_below(target)]
    return all(path.is_file() and _is_copy(path, original) for path, original in originals)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or those visible files of a folder that are not there yet."""
    if source.is_file():
        write_atomically(target, partial(shutil.copyfile, source))
        return
    for path in files_below(source):
        copy = target / path.relative_to(source)
        is_of_target = target in path.parents
        if path.is_file() and not is_of_target and not copy.exists():
            _copy(path, copy)


def refuse_other_files(out: Path, marker: str) -> None:
    """Refuse (UserError) a folder that holds files, but not the one that every folder made in this way holds."""
    if not out.exists() or (out / marker).exists():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UserError(f"--out {out}: holds other files; remove them, or name another folder")


@contextlib.contextmanager
def made_aside(out: Path, marker: str) -> Iterator[Path]:
    """Return the context in which a folder is filled that becomes ``out``, or whose parts replace those of ``out``.

    ``marker`` is a file that every folder made in this way holds. UserError: another process of this user makes
    ``out``, it holds other files, or the block raises; nothing has changed then.
    """
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"symnet-{os.getuid()}-{name}.lock")
    with _passing_lock(path, f"--out {out}: another command is making it; wait for its end, or name another folder"):
        refuse_other_files(out, marker)
        aside = out.with_name(f".{out.name}.making")
        lacking = [folder for folder in aside.parents if not folder.exists()]
        shutil.rmtree(aside, ignore_errors=True)  # of an interrupted run
        aside.mkdir(parents=True)
        try:
            yield aside
            _move_content(aside, out)
        except BaseException as error:
            shutil.rmtree(aside, ignore_errors=True)
            with contextlib.suppress(OSError):
                for folder in lacking:
                    folder.rmdir()
            if isinstance(error, UserError):
                raise UserError(str(error).replace(str(aside), str(out))) from None
            raise


@contextlib.contextmanager
def _passing_lock(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock whose file is removed at the end of the block; errors as ``lock``."""
    with lock(path, refusal) as file:
        is_removed = os.fstat(file.fileno()).st_nlink == 0  # the one before was let go between opening and locking
        if is_removed:
            raise Busy(refusal)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _move_content(source: Path, target: Path) -> None:
    """Move what a folder holds into another one, in place of what has its name there; remove the empty folder."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        place = target / path.name
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(path, place)
    source.rmdir()
