"""The files and folders below a folder, in order."""

import os
from collections.abc import Iterable
from pathlib import Path

from util.files.errors import note
from util.files.names import is_hidden


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Return the paths below a folder in order, but hidden ones and those in hidden folders."""
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(folder).parts)))


def paths_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the visible files and folders below a folder that ``pattern`` matches, in order.

    Links to folders are followed, each folder is found once. Links that lead nowhere are among the files.
    """
    paths = list[Path]()
    entered = set[tuple[int, int]]()  # device and inode of folders
    if not folder.is_dir():
        return []
    for name, folders, files in os.walk(folder, onerror=note, followlinks=True):
        place = Path(name)
        status = place.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        paths += [place, *(place / file for file in files if not is_hidden(file))]
        seen = [part for part in folders if not is_hidden(part)]
        folders[:] = sorted(seen, key=lambda part: ((place / part).is_symlink(), part))  # links last
    return sorted(path for path in paths[1:] if path.match(pattern))


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """Return the files of ``paths_below`` whose names end with a suffix."""
    return [path for path in paths_below(folder, f"*{suffix}") if not path.is_dir()]


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to a file or folder that does not exist."""
    return path.is_symlink() and not path.exists()
