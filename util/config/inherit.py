"""Inheritance of configs: the files that ``base`` and ``parts`` name, at any depth, merged into one tree."""

from __future__ import annotations

import dataclasses
from functools import reduce
from pathlib import Path

from util.config.compose import OF_PARTS, Composition, composition_of, encoder_settings, named_parts
from util.config.tree import Leaf, Tree, find, merge, parse_file
from util.errors import UserError

STEM = "model.encoder.stem"
BASE_FOLDER = "run.base_folder"
ENCODER_WORD = "{encoder}"  # in the path of a base folder: the encoder's name in a composed config's name


def read_tree(path: Path) -> Tree:
    """Return the merged content of a config: of a file, or of the parts that its name composes.

    Bases come before the file that names them, later ones win, and each file counts once, in its first place.

    Raises:
        UserError: missing file, broken YAML, a key written twice, or a circle of bases; it names the place.
    """
    return reduce(merge, _layers(path, (), set()), {})


def _layers(path: Path, trail: tuple[Path, ...], done: set[Path]) -> list[Tree]:
    """Return the content of a file after that of its bases; ``trail`` leads here, ``done`` is not read again."""
    here = path.resolve()
    if here in trail:
        raise UserError(f"{path}: 'base' leads back to this file; remove one link of the circle")
    if here in done:
        return []
    composition = None if path.exists() else composition_of(path)
    tree = parse_file(path) if composition is None else {"data": {"fold": Leaf(composition.fold, str(path))}}
    if path.parent.name in ("model", "encoder", path.stem):
        tree = {key: value for key, value in tree.items() if key not in OF_PARTS}
    if isinstance(parts := tree.pop("parts", None), Leaf):
        composition = named_parts(path, parts)
    bases = tree.pop("base", Leaf([], str(path)))
    if not isinstance(bases, Leaf):
        raise UserError(f"{path}: 'base' must be a file name or a list of them")
    layers = [] if composition is None else _composed(composition, (*trail, here), done)
    for base in bases.value if isinstance(bases.value, list) else [bases.value]:
        layers += _layers(path.parent / str(base), (*trail, here), done)
    done.add(here)
    return [*layers, tree]


def _composed(composition: Composition, trail: tuple[Path, ...], done: set[Path]) -> list[Tree]:
    layers = [layer for path in composition.files() for layer in _layers(path, trail, done)]
    layers += composition.entries()
    if (variant := composition.variant_file()) is not None:
        layers += _layers(variant, trail, done)
    return [_with_encoder(_without_stem(layer, composition), composition) for layer in layers]


def _with_encoder(layer: Tree, composition: Composition) -> Tree:
    """Return a layer with ``{encoder}`` in the path of its base folder replaced by the encoder's name."""
    leaf = find(layer, BASE_FOLDER)
    if not isinstance(leaf, Leaf) or ENCODER_WORD not in str(leaf.value):
        return layer
    folder = str(leaf.value).replace(ENCODER_WORD, str(composition.encoder))
    return merge(layer, {"run": {"base_folder": Leaf(folder, leaf.where)}})


def _without_stem(layer: Tree, composition: Composition) -> Tree:
    """Return a layer without the stem that an encoder's file names, if this method's encoder has no such setting."""
    leaf = find(layer, STEM)
    if not isinstance(leaf, Leaf) or Path(leaf.where).parent.name != "encoder":
        return layer
    cls = composition.rooms.model_class(composition.method)
    section = None if cls is None else encoder_settings(cls.Settings)
    if section is None or "stem" in {f.name for f in dataclasses.fields(section)}:
        return layer
    encoder = {key: value for key, value in layer["model"]["encoder"].items() if key != "stem"}
    return {**layer, "model": {**layer["model"], "encoder": encoder}}
