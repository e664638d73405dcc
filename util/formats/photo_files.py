"""The photos and the annotation files of a folder: found by name, counted with a bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from util.data.images.orientation import upright_size
from util.data.images.read import header_of
from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError

MANY = 200  # files whose reading takes long enough for a bar


class PhotoFiles:
    """The photos of a folder and its sub-folders, by file name and by stem.

    Raises:
        UserError: the folder does not exist.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UserError(f"{folder}: this folder of photos does not exist; check its name")
        self.folder = folder

    @cached_property
    def paths(self) -> list[Path]:
        """All photos in the order of their paths."""
        return sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        out: dict[str, list[Path]] = {}
        for path in self.paths:
            for key in (path.name, path.stem):
                out.setdefault(key, []).append(path)
        return out

    def named(self, name: str, source: Path) -> Path:
        """Return the photo with a file name, or with a stem.

        Args:
            source: the file that names it, for messages.

        Raises:
            UserError: there is none, or there are several.
        """
        found = self._by_name.get(name, [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise UserError(f"{source}: its photo '{name}' is not in {self.folder}; name its folder with --photos")
        raise UserError(f"{source}: '{name}' may be {found[0]} or {found[1]}; rename one")


def progress(files: Sequence[Path], title: str) -> Iterable[Path]:
    """Return the files, with a bar where they are many."""
    return tqdm(files, desc=title, unit="file", leave=False, disable=len(files) < MANY)


def check_size(size: tuple[int, int], photo: Path, source: Path) -> tuple[tuple[int, int], int]:
    """Return the header of a photo whose annotations state a size (height, width): ``images.header_of``.

    Args:
        source: the file of annotations, for messages.

    Raises:
        UserError: the photo, stored or upright, has another size.
    """
    stored, orientation = header_of(photo)
    upright = upright_size(stored, orientation)
    if size not in (stored, upright):
        raise UserError(
            f"{source}: is of a photo of {size[1]} x {size[0]} pixels, this one has {upright[1]} x "
            f"{upright[0]} ({photo}); they must be equal"
        )
    return stored, orientation
