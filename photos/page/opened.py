"""The photos that are open on a page: those that were sent to it, and those elsewhere that it was started with."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from annotations.photo_files import is_same_file
from annotations.words import name_key
from photos.example_files import UPLOADS
from util.files.digests import state_of
from util.files.errors import UserError, note
from util.files.folders import visible
from util.files.reading import kept_json
from util.files.writing import writable, write_atomically


@dataclass
class OpenPhotos:
    """The open photos of a page's folder, and the names of those that were removed, kept in a file."""

    out: Path
    file: Path
    removed: list[str] = field(default_factory=list)  # names of files
    paths: dict[str, Path] = field(default_factory=dict)  # by the names of their files

    def open_again(self, records: list[dict[str, Any]]) -> None:
        """Open the photos that were sent, and those elsewhere whose files are unchanged: the folder may state any path.

        A line says which have changed; ``records`` are the results in the folder.
        """
        kept = kept_json(self.file)
        self.removed = [Path(name).name for name in kept.get("removed", [])]
        stated = [
            *kept.get("photos", {}).items(),
            *((record["query"], record["query_file"]) for record in records),
        ]
        same = [Path(path) for path, facts in stated if is_same_file(facts, Path(path))]
        self.take([*filter(Path.is_file, visible((self.out / UPLOADS).glob("*"), self.out)), *same])
        closed = {Path(path).name for path, _ in stated} - {path.name for path in same} - self.paths.keys()
        if closed:
            note(f"{self.out}: {len(closed)} photos are not as they were, such as {min(closed)}; name them by --query")

    def take(self, paths: Iterable[Path]) -> int:
        """Open photos, except removed ones and those whose results would have another's names; return how many."""
        first_of_stem = {name_key(path.stem): path for path in self.paths.values()}
        before = len(self.paths)
        for path in paths:
            if path.name not in self.removed and first_of_stem.setdefault(name_key(path.stem), path) is path:
                self.paths[writable(path.name)] = path
        return len(self.paths) - before

    def keep(self) -> None:
        """Write which photos are open, with the states of their files, and which were removed."""
        photos = {str(path.absolute()): {"state": [*state_of(path)]} for path in self.paths.values() if path.is_file()}
        removed = [name for name in self.removed if name not in self.paths]  # the others were sent again
        write_atomically(self.file, json.dumps({"photos": photos, "removed": removed}))

    def path(self, name: str) -> Path:
        """Return the file of an open photo; UserError: it is not open."""
        if name not in self.paths:
            raise UserError(f"{name}: this photo is no longer open")
        return self.paths[name]

    def free_path(self, name: Path, content: bytes) -> Path:
        """Return a path for an upload whose stem no other photo has, not even one that was removed and stays there."""
        home = self.out / UPLOADS
        others = [path for path in home.glob("*") if path.name != name.name or path.read_bytes() != content]
        taken = {name_key(path.stem) for path in (*self.paths.values(), *others)}
        stems = chain([name.stem], (f"{name.stem}_{number}" for number in count(2)))
        stem = next(stem for stem in stems if name_key(stem) not in taken)
        return home / f"{stem}{name.suffix}"

    def close(self, name: str) -> Path:
        """Close an open photo for good, and return its file, which stays."""
        path = self.path(name)
        del self.paths[name]
        self.removed.append(path.name)
        self.keep()
        return path
