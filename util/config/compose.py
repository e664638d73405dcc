"""Composed configs: the name ``<data set>_split<fold>[_<method>]_<encoder>[_<variant>]`` says which files make one.

``config/pascal/pascal_split2_ssp_resnet50.yaml`` need not exist. Its name stands for ``data.fold: 2`` over these files,
later ones winning: ``default.yaml``, ``pascal/pascal.yaml``, ``model/ssp.yaml``, ``encoder/resnet50.yaml`` and, where
they exist, ``encoder/resnet50_ssp.yaml`` (in place of the former), ``pascal/pascal_ssp.yaml``,
``pascal/pascal_resnet50.yaml``, ``pascal/pascal_base_resnet50.yaml`` (of methods with a base stage) or
``pascal/pascal_free_resnet50.yaml`` (of methods that learn nothing), ``pascal/pascal_ssp_resnet50.yaml``,
``pascal/pascal_override.yaml``. A file of that name wins where one exists.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.contract import FewShotModel
from model.registry import models
from util.config.tree import Leaf, Tree, find, parse_file
from util.data.folds import teach_base_learners
from util.errors import UserError, nearest
from util.files import REPOSITORY
from util.typecheck import hints_of

CONFIG = REPOSITORY / "config"
MAIN_METHOD = "symnet"  # not part of its configs' names
DEFAULT_ENCODERS = ("resnet50", "resnet10", "lite0")  # the first that the data set has a file of the main method for
SUFFIX = ".yaml"
NAME = re.compile(r"(?P<dataset>.+)_split(?P<fold>\d+)_(?P<rest>.+)")


@dataclass(frozen=True)
class Composition:
    """The parts of a composed config; ``encoder`` is None for a method without an ``encoder`` section."""

    folder: Path  # of the data set: config/<data set>
    fold: int
    method: str
    encoder: str | None
    variant: str | None = None  # a file config/model/<method>_<variant>.yaml on top of all others

    def tree(self) -> Tree:
        """Return the content of the file that need not exist: the files that it inherits, and its fold."""
        origin = str(self.folder / f"{self.stem}{SUFFIX}")
        bases = [str(Path("..") / path.relative_to(self.folder.parent)) for path in self.files()]
        return {"base": Leaf(bases, origin), "data": {"fold": Leaf(self.fold, origin)}}

    @property
    def stem(self) -> str:
        """Name of the config, and so of its runs."""
        return _stem(self.folder.name, self.fold, self.method, self.encoder, self.variant)

    def files(self) -> list[Path]:
        """Return the files it is composed of, later ones winning."""
        return [path for path in self._candidates() if path.exists()]

    def _candidates(self) -> Iterator[Path]:
        root, dataset, rooms = self.folder.parent, self.folder.name, Rooms(self.folder.parent)
        yield root / f"default{SUFFIX}"
        yield self.folder / f"{dataset}{SUFFIX}"
        yield rooms.method_file(self.method)
        if self.encoder is not None:
            yield rooms.encoder_file(self.encoder, self.method)
        yield self.folder / f"{dataset}_{self.method}{SUFFIX}"
        if self.encoder is not None:
            yield self.folder / f"{dataset}_{self.encoder}{SUFFIX}"
            cls = rooms.model_class(self.method)
            if cls is not None and cls.has_base_stage:
                yield self.folder / f"{dataset}_base_{self.encoder}{SUFFIX}"
            if cls is not None and not cls.learns:
                yield self.folder / f"{dataset}_free_{self.encoder}{SUFFIX}"
        yield self.folder / f"{dataset}_{self.method}_{self.encoder}{SUFFIX}"
        yield self.folder / f"{dataset}_override{SUFFIX}"
        if self.variant is not None:
            yield rooms.method_file(f"{self.method}_{self.variant}")


@dataclass(frozen=True)
class Rooms:
    """The folders of a ``config/`` that all data sets share: ``model`` and ``encoder``."""

    root: Path

    def method_file(self, method: str) -> Path:
        """Return the path of a method's file, or of a variant's (``<method>_<variant>``)."""
        return self.root / "model" / f"{method}{SUFFIX}"

    def encoder_file(self, encoder: str, method: str) -> Path:
        """Return the path of an encoder's file: the one for this method alone, if it has one."""
        own = self.root / "encoder" / f"{encoder}_{method}{SUFFIX}"
        return own if own.exists() else self.root / "encoder" / f"{encoder}{SUFFIX}"

    @cached_property
    def methods(self) -> list[str]:
        """Names of all methods; ``<method>_<variant>.yaml`` is no method."""
        stems = sorted(path.stem for path in (self.root / "model").glob(f"*{SUFFIX}"))
        return [s for s in stems if not any(s.startswith(f"{other}_") for other in stems)]

    @cached_property
    def encoders(self) -> list[str]:
        """Names of all encoders; ``<encoder>_<method>.yaml`` is one for that method, if it has no file of its own."""
        stems = (path.stem for path in (self.root / "encoder").glob(f"*{SUFFIX}"))
        return sorted({self._without_method(stem) for stem in stems})

    def _without_method(self, stem: str) -> str:
        return next((stem.removesuffix(f"_{m}") for m in self.methods if stem.endswith(f"_{m}")), stem)

    def split_variant(self, method: str) -> tuple[str, str | None]:
        """Return the method and the variant that ``<method>_<variant>`` names; None for a method alone."""
        for known in self.methods:
            if method.startswith(f"{known}_") and self.method_file(method).exists():
                return known, method.removeprefix(f"{known}_")
        return method, None

    def model_class(self, method: str) -> type[FewShotModel] | None:
        """Return the class of a method's file, None if it names no model that exists."""
        leaf = find(parse_file(self.method_file(method)), "model.name")
        return models().get(leaf.value) if isinstance(leaf, Leaf) and isinstance(leaf.value, str) else None

    def has_encoder(self, method: str) -> bool:
        """Return whether a method's settings have an ``encoder`` section."""
        cls = self.model_class(method)
        return cls is not None and encoder_settings(cls.Settings) is not None

    def takes(self, method: str, encoder: str) -> bool:
        """Return whether a method's settings allow an encoder's backbone."""
        cls = self.model_class(method)
        section = encoder_settings(cls.Settings) if cls is not None else None
        if section is None:
            return False
        named = _backbone(self.encoder_file(encoder, method))
        backbone = next(field for field in dataclasses.fields(section) if field.name == "backbone")
        return named is not None and backbone.metadata["problem"](named) is None

    def encoders_of(self, method: str) -> list[str]:
        """Return the encoders that a method takes."""
        return [encoder for encoder in self.encoders if self.takes(method, encoder)]


def _backbone(file: Path) -> Any:
    """Return the backbone that an encoder's file names, or else the files that it inherits; None without one."""
    read: set[Path] = set()
    while file.exists() and file.resolve() not in read:
        read.add(file.resolve())
        tree = parse_file(file)
        if isinstance(leaf := find(tree, "model.encoder.backbone"), Leaf):
            return leaf.value
        base = tree.get("base")
        if not isinstance(base, Leaf) or not isinstance(base.value, str):
            return None
        file = file.parent / base.value
    return None


def encoder_settings(settings: type) -> type | None:
    """Return the dataclass of a model's ``encoder`` section, None for a model without one."""
    section = hints_of(settings).get("encoder")
    return section if isinstance(section, type) and dataclasses.is_dataclass(section) else None


def composition_of(path: Path) -> Composition | None:
    """Return the parts that a config's name stands for; None where it is not the name of a composed config.

    Raises:
        UserError: the name has the form of one, but names no method and encoder that go together.
    """
    folder, match = path.parent, NAME.fullmatch(path.stem)
    is_dataset = (folder / f"{folder.name}{SUFFIX}").exists()
    if match is None or path.suffix != SUFFIX or not is_dataset or match["dataset"] != folder.name:
        return None
    rooms, fold, rest = Rooms(folder.parent), int(match["fold"]), match["rest"]
    for method in rooms.methods:
        named = rest if method == MAIN_METHOD else rest.removeprefix(f"{method}_")
        if rest == method and not rooms.has_encoder(method):
            return Composition(folder, fold, method, None)
        if method != MAIN_METHOD and named == rest:
            continue
        for encoder in rooms.encoders:
            prefix, variant = f"{encoder}_", None
            if named != encoder:
                variant = named.removeprefix(prefix)
                if not named.startswith(prefix) or not rooms.method_file(f"{method}_{variant}").exists():
                    continue
            _check_encoder(path, rooms, method, encoder)
            return Composition(folder, fold, method, encoder, variant)
    hint = nearest(path.stem, known_names(folder, fold))
    raise UserError(f"{_shown(path)}: no such config, nor one composed of a method and an encoder{hint}")


def _check_encoder(path: Path, rooms: Rooms, method: str, encoder: str) -> None:
    """Refuse an encoder that a method does not take.

    Raises:
        UserError: names those it takes.
    """
    cls = rooms.model_class(method)
    if cls is not None and not rooms.takes(method, encoder):
        taken = ", ".join(rooms.encoders_of(method))
        raise UserError(f"{_shown(path)}: {cls.title} does not take the encoder {encoder}; it takes {taken}")


def known_names(folder: Path, fold: int) -> list[str]:
    """Return the names of all configs of a data set's fold: of its files, and those that can be composed."""
    rooms, dataset = Rooms(folder.parent), folder.name
    names = {path.stem for path in folder.glob(f"{dataset}_split{fold}_*{SUFFIX}")}
    for method in rooms.methods:
        if not rooms.has_encoder(method):
            names.add(_stem(dataset, fold, method, None))
        names.update(_stem(dataset, fold, method, encoder) for encoder in rooms.encoders_of(method))
    return sorted(names)


def _stem(dataset: str, fold: int | str, method: str, encoder: str | None, variant: str | None = None) -> str:
    middle = None if method == MAIN_METHOD and encoder is not None else method
    return "_".join(filter(None, (dataset, f"split{fold}", middle, encoder, variant)))


def config_path(
    experiment: str, dataset: str, method: str | None = None, encoder: str | None = None, root: Path | None = None
) -> Path:
    """Return the path of an experiment's config, whether it is a file or composed.

    Args:
        experiment: such as ``split0``.
        method: default ``MAIN_METHOD``; ``<method>_<variant>`` is that variant, which then ends the encoder's name.
        encoder: an encoder, or another ending of a config's name after the method, such as ``resnet50_plain``; default
            the method's, or the first of ``DEFAULT_ENCODERS`` that the data set has a file for.
        root: the folder of the configs; default this project's ``config``, and the path is then relative to it.

    Raises:
        UserError: names the nearest data set, method or config that exists.
    """
    base = root or CONFIG
    folder, method = base / dataset, method or MAIN_METHOD
    if not (folder / f"{dataset}{SUFFIX}").exists():
        known = [p.parent.name for p in base.glob(f"*/*{SUFFIX}") if p.stem == p.parent.name]
        raise UserError(f"config/{dataset}: no such data set{nearest(dataset, known)}")
    rooms = Rooms(base)
    method, variant = rooms.split_variant(method)
    if method not in rooms.methods:
        raise UserError(f"MODEL {method}: no such method{nearest(method, rooms.methods)}")
    if not rooms.has_encoder(method):
        encoder = None
    elif encoder is None:
        encoder = _default_encoder(folder, method)
    middle = method if method != MAIN_METHOD else None
    stem = "_".join(filter(None, (dataset, experiment, middle, encoder, variant)))
    path = folder / f"{stem}{SUFFIX}"
    if not path.exists() and composition_of(path) is None:
        known = [p.stem for p in folder.glob(f"{dataset}_split*{SUFFIX}")]
        raise UserError(f"{_shown(path)}: no such config{nearest(stem, known)}")
    return _shown(path)


def _shown(path: Path) -> Path:
    """Return the path as messages show it: within the project relative to its folder."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def _default_encoder(folder: Path, method: str) -> str:
    """Return the encoder of a method on a data set where none is named."""
    cls = Rooms(folder.parent).model_class(method)
    if cls is not None and cls.default_net is not None:
        return cls.default_net
    return next((e for e in DEFAULT_ENCODERS if any(folder.glob(f"{folder.name}_split*_{e}{SUFFIX}"))), "resnet50")


def _value(tree: Tree, key: str) -> Any:
    """Return the value of a key of a file's own content, None where it has none."""
    leaf = find(tree, key)
    return leaf.value if isinstance(leaf, Leaf) else None


def experiments(root: Path) -> list[Path]:
    """Return all configs that are files and, of every data set, all folds and methods with the default encoder."""
    rooms, paths = Rooms(root), set(root.glob(f"*/*_split*{SUFFIX}"))
    for folder in (p.parent for p in root.glob(f"*/*{SUFFIX}") if p.stem == p.parent.name):
        content = parse_file(folder / f"{folder.name}{SUFFIX}")
        folds, form, rule = (_value(content, f"data.{key}") for key in ("folds", "mask_form", "fold_rule"))
        for method in rooms.methods:
            cls = rooms.model_class(method)
            if cls is not None and cls.has_base_stage and not teach_base_learners(form, rule):
                continue
            encoder = _default_encoder(folder, method) if rooms.has_encoder(method) else None
            for fold in range(folds if isinstance(folds, int) else 0):
                paths.add(folder / f"{_stem(folder.name, fold, method, encoder)}{SUFFIX}")
    return sorted(paths)
