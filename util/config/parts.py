"""Files of a config, each after its bases, with what they change with an encoder, merged into one tree.

Values for one encoder stand under ``encoders: {<net>: ...}`` of a file. They are laid over that file, or over the file
of the encoder where this comes later.
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from util.config.folder import TIMM, encoders, in_configs
from util.config.tree import ENCODERS, Tree, bases_of, merge, parse_file, places, settings_of
from util.files.errors import UserError, nearest


def merged(files: Sequence[Path]) -> Tree:
    """Return files, after their bases, with what they change with the last encoder, as one tree; later ones win."""
    paths = with_bases(files)
    of_encoders = [i for i, path in enumerate(paths) if is_encoder(path)]
    end = of_encoders[-1] + 1 if of_encoders else 0
    names = [path.stem for path in with_bases(paths[end - 1 : end])]  # of the encoder and those that it extends
    trees = [settings_of(parse_file(path)) for path in paths[:end]]
    for path in paths[:end]:
        trees += _changes(path, names)
    for path in paths[end:]:
        trees += [settings_of(parse_file(path)), *_changes(path, names)]
    return reduce(merge, trees, {})


def is_encoder(path: Path) -> bool:
    """Return whether a file is an encoder's."""
    return path.resolve().parent.name == "encoder"


def bases(path: Path) -> list[Path]:
    """Return the files that a file names as its bases: beside it, or from the folder where configs are named from.

    UserError: there is none of that name; it names both files.
    """
    return [_base(path, name) for name in bases_of(path)]


def _base(path: Path, name: str) -> Path:
    beside, elsewhere = in_configs(path.parent / name), in_configs(Path(name))
    if not beside.exists() and not elsewhere.exists():
        fix = "write it with its folder, such as config/pascal/symnet.yaml"
        raise UserError(f"{path}: base: {name} is neither beside it nor in this folder", fix=fix)
    return beside if beside.exists() else elsewhere


def with_bases(files: Sequence[Path], done: set[Path] | None = None) -> list[Path]:
    """Return files, each after its bases; one that several name as their base has the first of its places."""
    done = set() if done is None else done
    out = []
    for path in files:
        if path.resolve() not in done:
            done.add(path.resolve())
            out += [*with_bases(bases(path), done), path]
    return out


def _changes(path: Path, names: Sequence[str]) -> list[Tree]:
    """Return what a file changes with encoders of these names; UserError: it does so with none, or in another form."""
    changes = parse_file(path).get(ENCODERS, {})
    known = [*encoders(), TIMM]
    for name, change in changes.items() if isinstance(changes, dict) else [("", changes)]:
        if name not in known or not isinstance(change, dict):
            place = next(places(change), path)
            raise UserError(f"{place}: {ENCODERS}.{name}: no section of a known encoder{nearest(name, known)}")
    return [settings_of(changes[name]) for name in names if name in changes]
