"""A page's classes: they are added, renamed and removed; the next start completes a change that was killed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotations.words import is_nothing, is_unknown, name_key
from photos import persons
from photos.examples import UNNAMED, check_class_name
from photos.page.background import Background
from photos.page.masks import PhotoMasks
from photos.prediction import NETWORK
from util.files.errors import UserError, note
from util.files.names import file_word
from util.files.reading import kept_json
from util.files.writing import write_atomically

REMOVED = ""  # stands in the list of classes for one that was removed, whose value no other class gets
MAX_CLASSES = 8  # the colours of more are alike


@dataclass
class Classes:
    """The classes of a page's photos, which persons' file of names keeps by their values in masks.

    A change is written to that one file first. Then the results, which name classes, are written again: after a kill
    by the next ``begin``.
    """

    masks: PhotoMasks
    work: Background

    @property
    def names(self) -> list[str]:
        """All classes by their values, from 1, or ``REMOVED``."""
        return persons.read(self.masks.out).classes

    def name_of(self, value: int) -> str:
        """Return a class by its value; UserError: there is none."""
        if type(value) is not int or not 1 <= value <= len(self.names) or not self.names[value - 1]:
            raise UserError("this class is no longer there; load the page again")
        return self.names[value - 1]

    def begin(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add the classes of the folder's results, and write results again that differ from what persons have said."""
        found = [row["name"] for record in records for row in record["classes"] if row["by"] == NETWORK]
        known = {*self.names, *kept_json(self.masks.replaced)}
        self._keep([*self.names, *(name for name in dict.fromkeys(found) if name not in known)])
        have_failed = False
        for path in self.masks.photos.values():
            try:
                self.masks.keep_in_step(path)
            except UserError as error:  # also of a full disk
                self.masks.errors[path] = str(error)
                note(error)
                have_failed = True
        if not have_failed:
            self.masks.replaced.unlink(missing_ok=True)

    def _keep(self, names: Sequence[str]) -> None:
        """Keep the classes by their values, or ``REMOVED``; without any there is the unnamed one."""
        names = [*names] if any(names) else [*names, UNNAMED]
        said = persons.read(self.masks.out)
        if names != said.classes:
            persons.write(self.masks.out, said._replace(classes=names))
        self.masks.results.names = [*persons.values(self.masks.out)]

    def add(self, name: str) -> None:
        """Add a class; it replaces the unnamed one if that has no mask on any photo."""
        name = self.free_name(name)
        if len(persons.values(self.masks.out)) >= MAX_CLASSES or len(self.names) >= persons.MOST:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        unnamed = persons.values(self.masks.out).get(UNNAMED)
        if unnamed and not self._photos_of(unnamed):
            self.put(unnamed, name)
        else:
            self._keep([*self.names, name])

    def _photos_of(self, value: int) -> list[Path]:
        """Return the photos that have a mask of a class, by the network or by a person."""
        return [path for path in self.masks.photos.values() if value in self.masks.looks(path)]

    def free_name(self, name: str, old: str = "") -> str:
        """Return a class name, stripped; UserError: it is no class name, or the name of a class other than ``old``."""
        name = check_class_name(name, "the class name")
        if is_nothing(name) or is_unknown(name) or name.strip("\"'") != name:
            raise UserError(f"{name}: is read as no class in lists of names; give another name, without quotes")
        for known in persons.values(self.masks.out):
            if name == known or (known != old and name_key(file_word(name)) == name_key(file_word(known))):
                raise UserError(f"{name}: this name, or that of its files, is taken by '{known}'; give another one")
        return name

    def put(self, value: int, new: str) -> str:
        """Rename a class, or remove it by the name ``REMOVED``; write its results again, and return its former name."""
        self.work.check_idle()
        old = self.name_of(value)
        photos = self._photos_of(value)
        earlier = {name: new if now == old else now for name, now in kept_json(self.masks.replaced).items()}
        write_atomically(self.masks.replaced, json.dumps({**earlier, old: new}))
        self._keep([new if name == old else name for name in self.names])
        for path in photos:
            self.masks.write(path, self.masks.found(path))
        if not earlier:  # else of a change that failed, as on a full disk, which the next ``begin`` ends
            self.masks.replaced.unlink()
        return old
