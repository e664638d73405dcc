"""The classes of the page: their names, in the order of their values in its masks, and what follows from a change."""

from annotations.remarks import is_class
from photos.examples import UNNAMED, check_class_name
from photos.page.background import Background
from photos.page.open_photos import OpenPhotos
from photos.page.photo import Common, Photo
from photos.prediction import file_word
from util.files.errors import UserError

MAX_CLASSES = 8  # the colours of more are alike


class Classes:
    """The classes of a page and its photos; an action returns a note."""

    def __init__(self, common: Common, photos: OpenPhotos, work: Background):
        self._common = common
        self._photos = photos
        self._work = work

    def value(self, name: str) -> int:
        """Return the value of a class, which is added if the page does not have it."""
        if name not in self._common.classes:
            self.add(name)
        return self._common.classes.index(name) + 1

    def add(self, name: str) -> None:
        """Add a class, in place of the unnamed one where nothing is annotated yet."""
        name = self._free_name(name)
        classes = self._common.classes
        if len(classes) >= MAX_CLASSES:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        is_used = any(photo.names or photo.edits or photo.is_example for photo in self._photos)
        if not is_used:
            classes = [known for known in classes if known != UNNAMED]
        self._common.classes = [*classes, name]

    def _free_name(self, name: str, old: str = "") -> str:
        """Return a class name that no class but ``old`` has, nor its files."""
        name = check_class_name(name, "the class name")
        if not is_class(name) or name in self._common.classes:
            raise UserError(f"{name}: this name is taken; give another one")
        for known in self._common.classes:
            if known != old and file_word(name) == file_word(known):
                raise UserError(f"{name}: its files would have the same names as those of '{known}'; give another name")
        return name

    def rename(self, value: int, name: str) -> None:
        """Rename a class; results of the old name that have no verdict are to be made again."""
        self._work.check_idle()
        old = self._common.classes[value - 1]
        new = self._free_name(name, old)
        self._forget(old, f"add '{new}' as a new class")
        self._common.classes[value - 1] = new
        self._common.renew()
        for photo in self._photos:
            if photo.taught:
                photo.taught = [new if name == old else name for name in photo.taught]
                photo.make_example()

    def remove(self, value: int) -> str:
        """Remove a class and its edits; results of it are to be made again.

        UserError: a result of it has a verdict, or work is under way.
        """
        self._work.check_idle()
        common = self._common
        name = common.classes[value - 1]
        self._forget(name, "undo the verdict, then remove the class")
        common.classes = [known for known in common.classes if known != name] or [UNNAMED]
        for photo in self._photos:
            photo.remove_class(value)
        common.renew()
        return f"{name} is removed"

    def _forget(self, name: str, fix: str) -> None:
        """Forget the results that have a class; UserError, which ends with ``fix``: one has a verdict."""
        photos: list[Photo] = [photo for photo in self._photos if name in photo.names]
        for photo in photos:
            if photo.verdicts:
                raise UserError(f"{name}: its result on {photo.name} has a verdict; {fix}")
        for photo in photos:
            photo.forget()
