"""Files of a config, each after its bases, with what they change with methods and encoders, merged into one tree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from util.config.folder import TIMM, encoders, in_configs, methods
from util.config.tree import ENCODERS, METHODS, Tree, bases_of, merge, parse_file, places, settings_of
from util.files.errors import UserError, nearest

CHANGES = {"model": METHODS, "encoder": ENCODERS}  # a folder; the key of what other files change with its files


@dataclass(frozen=True)
class _Part:
    """A part of a config: a file without its bases, or what a file changes with another."""

    content: Tree
    path: Path = Path()  # of a file

    @cached_property
    def folder(self) -> str:
        """The name of the folder of a file, such as encoder; '' for a change."""
        return self.path.resolve().parent.name if self.path.name else ""

    @property
    def settings(self) -> Tree:
        """Its values, without what is said about files."""
        return settings_of(self.content, self.path)

    def changes(self, key: str, name: str) -> list["_Part"]:
        """Return what it changes with an encoder or a method of a name: nothing, or values; errors as below."""
        if key not in self.content:
            return []
        changes = self.content[key]
        _check_changes(changes, key, self.path)
        return [_Part(changes[name])] if name in changes else []


def merged(files: Sequence[Path]) -> Tree:
    """Return files, after their bases, with what they change with others, as one tree; later ones win."""
    parts = [_Part(parse_file(path), path) for path in _with_bases(files, set())]
    for folder, key in CHANGES.items():
        parts = _with_changes(parts, folder, key)
    return reduce(merge, [part.settings for part in parts], {})


def _with_changes(parts: list[_Part], folder: str, key: str) -> list[_Part]:
    """Return parts with what they change with files of a folder of configs: with encoders, or with methods.

    A change comes after both. The other file is the last of its folder, or one that this extends.
    """
    last = [part.path for part in parts if part.folder == folder][-1:]
    in_use = {path.resolve() for path in _with_bases(last, set())}
    out = list[_Part]()
    names = list[str]()  # of files in use so far
    for i, part in enumerate(parts):
        out.append(part)
        if part.folder != folder:
            for name in names:
                out += part.changes(key, name)
        elif part.path.resolve() in in_use:
            names.append(part.path.stem)
            for earlier in parts[:i]:
                out += earlier.changes(key, part.path.stem)
    return out


def _with_bases(files: Sequence[Path], done: set[Path]) -> Iterator[Path]:
    """Yield files, each after its bases; one that several name as their base has the first of its places."""
    for path in files:
        if path.resolve() in done:
            continue
        done.add(path.resolve())
        yield from _with_bases([_file_of_base(path, base) for base in bases_of(path)], done)
        yield path


def _file_of_base(path: Path, base: str) -> Path:
    """Return where the base of a file lies: beside it, or for ``config/...`` also in the folder of configs."""
    beside = in_configs(path.parent / base)
    return beside if beside.exists() else in_configs(Path(base))


def _check_changes(changes: Any, key: str, where: Path) -> None:
    """Refuse (UserError) what a file changes with encoders or methods that are none, or in another form."""
    if not isinstance(changes, dict) or not all(isinstance(change, dict) for change in changes.values()):
        raise UserError(f"{where}: {key}: must have a section for each, such as lite0: {{data: {{size: 353}}}}")
    known = [*encoders(), TIMM] if key == ENCODERS else methods()
    for name in changes:
        if name not in known:
            place = next(places(changes[name]), where)
            raise UserError(f"{place}: {key}.{name}: no such {key.removesuffix('s')}{nearest(name, known)}")
