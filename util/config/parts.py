"""Files of a config, each after its bases, with what they change with a method and an encoder, merged into one tree.

Values for one encoder stand under ``encoders: {<net>: ...}`` of a file, those for one method under ``methods:
{<method>: ...}``, which may have ``encoders`` too. They are laid over that file, or over the file of the encoder or the
method where this comes later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from util.config.folder import TIMM, encoders, in_configs, methods
from util.config.tree import ENCODERS, METHODS, Tree, bases_of, merge, parse_file, places, settings_of
from util.files.errors import UserError, nearest

CHANGES = {"model": METHODS, "encoder": ENCODERS}  # a folder; the key of what other files change with its files


@dataclass(frozen=True)
class _Part:
    """A part of a config: a file without its bases, or what a file changes with a method or an encoder."""

    path: Path  # the file that has it
    content: Tree
    folder: str = ""  # of a file: the name of its folder, such as encoder


def merged(files: Sequence[Path]) -> Tree:
    """Return files, after their bases, with what they change with others, as one tree; later ones win."""
    parts = [_Part(path, parse_file(path), path.resolve().parent.name) for path in _with_bases(files, set())]
    for folder, key in CHANGES.items():
        parts = _with_changes(parts, folder, key)
    return reduce(merge, [settings_of(part.content, part.path) for part in parts], {})


def _with_changes(parts: list[_Part], folder: str, key: str) -> list[_Part]:
    """Return parts with what they change with the last file of a folder, or with one that this extends.

    The changes of earlier parts follow that file, those of a later one this part itself.
    """
    last = max((i for i, part in enumerate(parts) if part.folder == folder), default=None)
    if last is None:
        return parts
    names = [path.stem for path in _with_bases([parts[last].path], set())]
    out = parts[: last + 1]
    for i, part in enumerate(parts):
        if i > last:
            out.append(part)
        changes = part.content.get(key, {})
        _check_changes(changes, key, part.path)
        out += [_Part(part.path, changes[name]) for name in names if name in changes]
    return out


def _with_bases(files: Sequence[Path], done: set[Path]) -> Iterator[Path]:
    """Yield files, each after its bases; one that several name as their base has the first of its places."""
    for path in files:
        if path.resolve() in done:
            continue
        done.add(path.resolve())
        for name in bases_of(path):
            beside = in_configs(path.parent / name)
            yield from _with_bases([beside if beside.exists() else in_configs(Path(name))], done)
        yield path


def _check_changes(changes: Any, key: str, file: Path) -> None:
    """Refuse (UserError) what a file changes with encoders or methods that are none, or in another form."""
    known = [*encoders(), TIMM] if key == ENCODERS else methods()
    for name, change in changes.items() if isinstance(changes, dict) else [("", changes)]:
        if name not in known or not isinstance(change, dict):
            place = next(places(change), file)
            raise UserError(
                f"{place}: {key}.{name}: no section of a known {key.removesuffix('s')}{nearest(name, known)}"
            )
