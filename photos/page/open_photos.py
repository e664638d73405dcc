"""The photos that are open on the page, each by a name of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from photos.page.photo import Common, Photo
from util.files.errors import UserError

MAX_PHOTOS = 5000


class OpenPhotos:
    """The photos of a session; no two have the same stem, whose results would have the same names."""

    def __init__(self, common: Common):
        self._common = common
        self._photos: dict[str, Photo] = {}  # by their names in the page

    def __iter__(self) -> Iterator[Photo]:
        return iter(self._photos.values())

    def __getitem__(self, name: str) -> Photo:
        """Return a photo by the name of its file; UserError: it is not open."""
        if name not in self._photos:
            raise UserError(f"{name}: this photo is no longer open")
        return self._photos[name]

    @property
    def is_full(self) -> bool:
        return len(self._photos) >= MAX_PHOTOS

    def new(self, paths: Sequence[Path]) -> list[Path]:
        """Return the paths whose results would have names of their own, as many as the page takes."""
        stems = {photo.path.stem.casefold() for photo in self}
        new = []
        for path in paths:
            stem = path.stem.casefold()
            if stem not in stems:
                stems.add(stem)
                new.append(path)
        return new[: MAX_PHOTOS - len(self._photos)]

    def add(self, paths: Sequence[Path]) -> str:
        """Open the photos that are ``new``, and return a note on how many that are."""
        new = self.new(paths)
        for path in new:
            photo = Photo(path, self._common)
            photo.touch()
            self._photos[photo.name] = photo
        note = f"{counted(len(new), 'photo')} added"
        skipped = len(paths) - len(new)
        if not skipped:
            return note
        return f"{note}, {skipped} skipped: photos of these names are open, or {MAX_PHOTOS} in all"

    def remove(self, name: str) -> None:
        """Close a photo, which is no longer an example; errors as for an item."""
        self[name].drop_example()
        del self._photos[name]


def counted(number: int, what: str) -> str:
    """Return a number of things in words, such as ``1 photo`` or ``2 photos``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
