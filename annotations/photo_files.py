"""The photos of a folder, the rule that finds the photo that an annotation states, and the facts of a photo's file."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any
from urllib.parse import unquote

from annotations.words import are_other_places, name_key, place_of
from util.files.digests import content_digest, state_of
from util.files.errors import UserError, nearest, note
from util.files.photos import photos_below

LOCAL_FILES = "?d="  # in Label Studio's address of a file on its own machine
REPLACED = "left out: masks of photos that were replaced since"  # as ``is_same_file`` says
UPLOADED = re.compile(r"^(.*[/\\])?[0-9a-f]{8}-")  # Label Studio puts these digits before the name of an uploaded file


class PhotoFiles:
    """The photos of a folder and its sub-folders, in the order of their paths.

    Files state photos as programs write them: with the folders of another machine, backslashes, as an address with
    a query, or with what Label Studio puts before a name. Unless the user has named the folder (``is_named``), they
    may state any place from there. Files ``without`` are no photos. UserError: the folder does not exist.
    """

    def __init__(self, folder: Path, is_named: bool = True, without: Collection[Path] = ()):
        if not folder.is_dir():
            raise UserError(f"{folder}: this folder of photos does not exist; check its name")
        self.folder = folder
        self.is_named = is_named
        self._without = {*without}
        self._stated: dict[Path, str] = {}  # of each photo that was found
        self._has_noted = False

    @cached_property
    def paths(self) -> list[Path]:
        return [path for path in photos_below(self.folder) if path not in self._without]

    @cached_property
    def names_of_folders(self) -> set[str]:
        """The names of the folders that photos lie in."""
        return {path.parent.name for path in self.paths}

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        photos = defaultdict(list)
        for path in self.paths:
            for key in {name_key(path.name), name_key(path.stem)}:
                photos[key].append(path)
        return photos

    def find(self, stated: str, source: Path) -> Path:
        """Return the photo that a file states: at its path, else the only one of its name, or the one in like folders.

        Case, and how accents are composed, count only among several. A line says that one lies in another folder than
        is stated.

        Args:
            stated: the photo as the file writes it.
            source: the file, with whose name errors begin.

        Raises:
            UserError: there is no such photo, there are several, or it was stated as another one before.
        """
        paths = [*map(PureWindowsPath, possible_names(stated))]
        places = (self.folder / path.as_posix() for path in paths if _is_within(path) or not self.is_named)
        photo = next(filter(Path.is_file, places), None) or self._found(paths, source)
        if photo is None:
            raise UserError(f"{source}: {self._missing(stated)}")
        before = self._stated.setdefault(photo, stated)
        if before != stated:
            raise UserError(
                f"{source}: '{before}' and '{stated}' are two photos, but {self.folder} has only {photo.name} for both",
                fix="put each there under a name of its own, or take one out",
            )
        return photo

    def _found(self, paths: Sequence[PurePath], source: Path) -> Path | None:
        """Return the photo named by the first stated path that has one; of several, that in the most like folders."""
        for path in paths:
            candidates = self._candidates(path)
            best = max((self._fit(photo, path) for photo in candidates), default=None)
            if candidates:
                return self._only([photo for photo in candidates if self._fit(photo, path) == best], path, source)
        return None

    def of_mask(self, paths: Sequence[PurePath], source: Path) -> Path | None:
        """Return the photo of a mask by the first of its possible names: that in the same folders, or the only one.

        UserError: there are several.
        """
        for path in paths:
            photos = self._by_name.get(name_key(path.name), [])
            place = place_of(path.parts[:-1])
            near = [photo for photo in photos if place_of(photo.relative_to(self.folder).parts[:-1]) == place]
            if photos:
                return self._only(near or photos, path, source)
        return None

    def _only(self, photos: list[Path], path: PurePath, source: Path) -> Path:
        """Return the only one of some photos that a stated path may mean; UserError: there are several."""
        if len(photos) > 1:
            raise UserError(
                f"{source}: {len(photos)} photos, such as {photos[0]} and {photos[1]}, have the same name",
                fix="rename one, or name the folder of those that are meant, as by --photos",
            )
        self._note_elsewhere(photos[0], path, source)
        return photos[0]

    def _note_elsewhere(self, photo: Path, path: PurePath, source: Path) -> None:
        """Say once that a photo was found by its name, in another folder than the stated one."""
        is_of_another_machine = bool(path.root) or ":" in path.parts[0]  # or an address
        root = [] if is_of_another_machine else [self.folder.resolve().name]
        place = place_of([*root, *photo.relative_to(self.folder).parts[:-1]])
        stated_place = place_of(path.relative_to(path.anchor).parts[:-1])
        if not self._has_noted and are_other_places(place, stated_place):
            self._has_noted = True
            note(
                f"{source}: photos are found by their names alone, in other folders, such as {photo} for "
                f"{path.as_posix()}"
            )

    def _candidates(self, path: PurePath) -> list[Path]:
        """Return the photos of a stated name; if folders have the stated folder's name, only those in them."""
        photos = self._by_name.get(name_key(path.name), [])
        if _is_within(path) and path.parent.name in self.names_of_folders:
            return [photo for photo in photos if photo.parent.name == path.parent.name]
        return photos

    def _fit(self, photo: Path, path: PurePath) -> tuple[bool, int]:
        """Return whether a photo has the stated suffix, and how many folders above it have the stated names."""
        *folders, name = map(name_key, photo.relative_to(self.folder).parts)
        *stated_folders, stated_name = map(name_key, path.parts)
        same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(folders), reversed(stated_folders)))
        return name == stated_name, sum(1 for _ in same)

    def _missing(self, stated: str) -> str:
        """Return the message that a stated photo is missing, with the nearest one that is there."""
        last = PureWindowsPath(possible_names(stated)[-1])
        missing = last.as_posix() if _is_within(last) else last.name
        places = {path.relative_to(self.folder).as_posix() for path in self.paths if path.name == last.name}
        known = nearest(missing, places or {path.name for path in self.paths})
        fix = "" if self.is_named else "; name the folder of the photos with --photos"
        return f"its photo '{missing}' is not in the folder of photos, {self.folder}{known}{fix}"


def _is_within(path: PurePath) -> bool:
    """Return whether a stated path stays below its start: no root, no drive and no ``..``."""
    return not (path.root or path.drive or ".." in path.parts)


def possible_names(stated: str) -> list[str]:
    """Return what a stated photo may stand for: as it is written, as an address, and without Label Studio's prefix."""
    stated = unquote(stated.partition(LOCAL_FILES)[2]) or stated
    address = unquote(stated.partition("?")[0]).removeprefix("file://")
    return [*dict.fromkeys((stated, address, UPLOADED.sub(r"\1", stated), UPLOADED.sub(r"\1", address)))]


@lru_cache(maxsize=10_000)
def digest_in(photo: Path, state: tuple[int, ...]) -> str:
    """Return the digest of a photo's content; ``state`` tells the cache of changes. UserError: it cannot be read."""
    return content_digest(photo).hex()


def file_facts(photo: Path) -> dict[str, Any]:
    """Return the state of a photo's file and the digest of its content; UserError: as ``state_of``."""
    state = state_of(photo)
    return {"state": [*state], "digest": digest_in(photo, state)}


def is_same_file(facts: Any, photo: Path) -> bool:
    """Return whether a photo's file is that of some ``file_facts``; its content is read only if its state differs."""
    if not (isinstance(facts, dict) and photo.is_file()):
        return False
    return facts.get("state") == [*state_of(photo)] or facts.get("digest") == file_facts(photo)["digest"]
