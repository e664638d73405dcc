"""The steps that readers of all formats share: find photos by name, number categories, count what is left out."""

import os
from collections.abc import Iterable
from pathlib import Path

from annotations.annotation import AnnotatedPhoto, Annotations, Instance
from annotations.photo_files import PhotoFiles
from annotations.remarks import LEFT_OUT, Remarks
from util.files.progress import ProgressBar


class Reading:
    """The photos and categories that a reader has found so far.

    Args:
        source: the file or folder that it reads.
        home: the folder of the photos, unless the user has named a ``folder`` of them.
        folder: as a user names it.
    """

    def __init__(self, source: Path, home: Path, folder: Path | None = None):
        self.source = source
        self.files = PhotoFiles(folder or home, is_named=folder is not None)
        self.remarks = Remarks()
        self._photos: list[AnnotatedPhoto] = []
        self._numbers: dict[str, int] = {}

    def each(self, files: list[Path]) -> Iterable[Path]:
        """Return the files of annotations, with a bar where they take long."""
        return ProgressBar(files, str(self.source), unit="file", leave=False, delay=1)

    def category(self, name: str) -> int:
        """Return the id of a category, whose name counts without spaces around it; a new one gets the next, from 1."""
        return self._numbers.setdefault(name.strip(), len(self._numbers) + 1)

    def add(self, photo: Path, size: tuple[int, int], instances: Iterable[Instance], is_upright: bool = False) -> None:
        """Take the instances of a photo of a size (height, width)."""
        name = os.path.relpath(photo, self.files.folder)
        self._photos.append(AnnotatedPhoto(name, *size, tuple(instances), is_upright))

    def count_photos_without(self, kind: str) -> None:
        """Count the photos beside those that have been taken, which have no file of a kind."""
        taken = {(self.files.folder / photo.name).resolve() for photo in self._photos}
        beside = [photo.name for photo in self.files.paths if photo.resolve() not in taken]
        self.remarks.add_photos(LEFT_OUT, f"photos without a {kind}", beside)

    def annotations(self, categories: dict[int, str] | None = None) -> Annotations:
        """Return what has been read; ``categories`` where the format numbers them itself."""
        names = categories or {number: name for name, number in self._numbers.items()}
        files = PhotoFiles(self.files.folder, is_named=False)
        return Annotations(tuple(self._photos), names, files, self.source, self.remarks)
