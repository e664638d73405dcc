"""Composed configs: the name ``<data set>_split<fold>[_<method>]_<encoder>[_<variant>]`` says which parts make one.

``config/pascal/pascal_split2_ssp_resnet50.yaml`` need not exist. Its name stands for ``data.fold: 2`` over the parts
``default.yaml``, ``pascal/pascal.yaml``, ``model/ssp.yaml`` and ``encoder/resnet50.yaml``, later ones winning. A file
names its parts itself, without the default: ``parts: [pascal, ssp, resnet50]``.

What holds for some compositions alone stands in a part's section ``for``. The words of an entry are names of methods
and encoders, ``with_base_stage``, ``training_free`` or ``any``; it counts where all of them are true. Entries come
after all parts, those of the encoder before those of the data set, in the order of the file; a variant is last.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.contract import FewShotModel
from model.registry import models
from util.config.folds import teach_base_learners
from util.config.tree import Leaf, Tree, find, parse_file, where_of
from util.errors import UserError, nearest
from util.files import REPOSITORY
from util.typecheck import hints_of

CONFIG = REPOSITORY / "config"
MAIN_METHOD = "symnet"  # not part of its configs' names
SUFFIX = ".yaml"
NAME = re.compile(r"(?P<dataset>.+)_split(?P<fold>\d+)_(?P<rest>.+)")
FOR = "for"
NET = "net"  # of a data set: the encoder where none is named, by default DEFAULT_NET
DEFAULT_NET = "resnet50"
METHODS = "methods"  # of an encoder: those that it serves, by default all that take it
OF_PARTS = (FOR, NET, METHODS)  # the keys of a part beside settings
ANY, WITH_BASE_STAGE, TRAINING_FREE = "any", "with_base_stage", "training_free"  # words of entries beside names


@dataclass(frozen=True)
class Composition:
    """The parts of a composed config; ``encoder`` is None for a method without an ``encoder`` section."""

    folder: Path  # of the data set: config/<data set>
    fold: int | None  # None: that of the data set's file
    method: str
    encoder: str | None
    variant: str | None = None  # a file config/model/<method>_<variant>.yaml on top of all others

    @property
    def stem(self) -> str:
        """Name of the config, and so of its runs."""
        return _stem(self.folder.name, self.fold, self.method, self.encoder, self.variant)

    @property
    def rooms(self) -> Rooms:
        """The folders of the parts that data sets share."""
        return Rooms(self.folder.parent)

    def files(self) -> list[Path]:
        """Return the files of its parts, later ones winning; the variant's counts after ``entries``."""
        encoder = [] if self.encoder is None else [self.rooms.encoder_file(self.encoder)]
        return [self.folder.parent / f"default{SUFFIX}", self._data_file, self.rooms.method_file(self.method), *encoder]

    def variant_file(self) -> Path | None:
        """Return the file of the variant, None without one."""
        return None if self.variant is None else self.rooms.method_file(f"{self.method}_{self.variant}")

    @property
    def _data_file(self) -> Path:
        return self.folder / f"{self.folder.name}{SUFFIX}"

    def entries(self) -> list[Tree]:
        """Return the entries of ``for`` that count here, of the encoder's file and of the data set's.

        Raises:
            UserError: ``for`` or an entry is no section, or an entry's word is no name; it names the place.
        """
        rooms, cls = self.rooms, self.rooms.model_class(self.method)
        words = {ANY, self.method, self.encoder}
        words |= {WITH_BASE_STAGE} if cls is not None and cls.has_base_stage else set()
        words |= {TRAINING_FREE} if cls is not None and not cls.learns else set()
        known = {ANY, WITH_BASE_STAGE, TRAINING_FREE, *rooms.methods, *rooms.encoders}
        out = []
        for path in ([] if self.encoder is None else [rooms.encoder_file(self.encoder)]) + [self._data_file]:
            found = parse_file(path).get(FOR, {})
            for key, tree in found.items() if isinstance(found, dict) else [(FOR, found)]:
                where = where_of(tree, str(path))
                if not isinstance(tree, dict):
                    raise UserError(f"{where}: '{key}' must be a section of settings")
                if unknown := [word for word in key.split() if word not in known]:
                    raise UserError(f"{where}: '{unknown[0]}' of '{FOR}' is unknown{nearest(unknown[0], known)}")
                if words.issuperset(key.split()):
                    out.append(tree)
        return out


@dataclass(frozen=True)
class Rooms:
    """The folders of a ``config/`` that all data sets share: ``model`` and ``encoder``."""

    root: Path

    def method_file(self, method: str) -> Path:
        """Return the path of a method's file, or of a variant's (``<method>_<variant>``)."""
        return self.root / "model" / f"{method}{SUFFIX}"

    def encoder_file(self, encoder: str) -> Path:
        """Return the path of an encoder's file."""
        return self.root / "encoder" / f"{encoder}{SUFFIX}"

    @cached_property
    def methods(self) -> list[str]:
        """Names of all methods; ``<method>_<variant>.yaml`` is no method."""
        stems = sorted(path.stem for path in (self.root / "model").glob(f"*{SUFFIX}"))
        return [s for s in stems if not any(s.startswith(f"{other}_") for other in stems)]

    @cached_property
    def encoders(self) -> list[str]:
        """Names of all encoders."""
        return sorted(path.stem for path in (self.root / "encoder").glob(f"*{SUFFIX}"))

    def split_variant(self, method: str) -> tuple[str, str | None]:
        """Return the method and the variant that ``<method>_<variant>`` names; None for a method alone."""
        for known in self.methods:
            if method.startswith(f"{known}_") and self.method_file(method).exists():
                return known, method.removeprefix(f"{known}_")
        return method, None

    def model_class(self, method: str) -> type[FewShotModel] | None:
        """Return the class of a method's file, None if it names no model that exists."""
        name = _value(parse_file(self.method_file(method)), "model.name")
        return models().get(name) if isinstance(name, str) else None

    def has_encoder(self, method: str) -> bool:
        """Return whether a method's settings have an ``encoder`` section."""
        cls = self.model_class(method)
        return cls is not None and encoder_settings(cls.Settings) is not None

    def takes(self, method: str, encoder: str) -> bool:
        """Return whether a method's settings allow an encoder's backbone, and the encoder's file the method."""
        cls = self.model_class(method)
        section = encoder_settings(cls.Settings) if cls is not None else None
        if section is None:
            return False
        tree = parse_file(self.encoder_file(encoder))
        named, served = _value(tree, "model.encoder.backbone"), _value(tree, METHODS)
        backbone = next(field for field in dataclasses.fields(section) if field.name == "backbone")
        return method in (served or [method]) and named is not None and backbone.metadata["problem"](named) is None

    def encoders_of(self, method: str) -> list[str]:
        """Return the encoders that a method takes."""
        return [encoder for encoder in self.encoders if self.takes(method, encoder)]


def encoder_settings(settings: type) -> type | None:
    """Return the dataclass of a model's ``encoder`` section, None for a model without one."""
    section = hints_of(settings).get("encoder")
    return section if isinstance(section, type) and dataclasses.is_dataclass(section) else None


def named_parts(path: Path, parts: Leaf) -> Composition:
    """Return the composition that a file's ``parts`` name: data set, method, encoder and variant.

    Raises:
        UserError: one of them does not exist, or they do not go together.
    """
    words = [str(word) for word in parts.value] if isinstance(parts.value, list) else []
    folder = path.parent.parent / words[0] if words else path.parent
    rooms = Rooms(folder.parent)
    out = Composition(folder, None, *words[1:3], *words[3:]) if len(words) in (3, 4) else None
    if out is None or not all(file.exists() for file in (*out.files(), *filter(None, [out.variant_file()]))):
        raise UserError(f"{parts.where}: parts = {parts.value} must be [data set, method, encoder(, variant)]")
    _check_encoder(path, rooms, out.method, words[2])
    return out


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
    """Refuse an encoder that a method does not take."""
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


def _stem(dataset: str, fold: int | None, method: str, encoder: str | None, variant: str | None = None) -> str:
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
            the method's, or the ``net`` of the data set.
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
    own = None if cls is None else cls.default_net
    return own or _value(parse_file(folder / f"{folder.name}{SUFFIX}"), NET) or DEFAULT_NET


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
