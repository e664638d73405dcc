"""Folders that a command makes: links or copies in them, or all of it aside, which then takes its place."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from util.files.errors import UserError, WriteError
from util.files.folders import files_below
from util.files.writing import write_atomically


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
    if target.exists() and not _sizes(target).items() <= _sizes(source).items():
        raise WriteError(f"{target}: another file is in the way; remove it or name another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent.resolve()) if relative else source)
    except OSError:  # no links on this file system, or a copy that is completed now
        for name in _sizes(source):
            copy = target / name
            if not copy.exists() and target.resolve() not in (source / name).parents:
                write_atomically(copy, partial(shutil.copyfile, source / name))


def _sizes(path: Path) -> dict[Path, int]:
    """Return the sizes of a folder's visible files by their relative paths, or the size of a file."""
    files = files_below(path) if path.is_dir() else [path]
    return {file.relative_to(path): file.stat().st_size for file in files if file.is_file()}


def refuse_other_files(out: Path, marker: str) -> None:
    """Refuse (UserError) a folder that holds files, but not the one that every folder made in this way holds."""
    is_taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if is_taken and not (out / marker).exists():
        raise UserError(f"--out {out}: holds other files; remove them, or name another folder")


@contextlib.contextmanager
def made_aside(out: Path, marker: str) -> Iterator[Path]:
    """Return the context in which a folder is filled that becomes ``out``, or whose parts replace those of ``out``.

    ``marker`` is a file that every folder made in this way holds. UserError: ``out`` holds other files, or the block
    raises; nothing has changed then.
    """
    refuse_other_files(out, marker)
    aside = out.with_name(f".{out.name}.making")
    shutil.rmtree(aside, ignore_errors=True)  # of an interrupted run
    aside.mkdir(parents=True)
    try:
        yield aside
        _move_content(aside, out)
    except UserError as error:
        raise UserError(str(error).replace(str(aside), str(out))) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move_content(source: Path, target: Path) -> None:
    """Move what a folder holds into another one, in place of what has its name there."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        place = target / path.name
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(path, place)
