"""Folds: the novel classes, the base classes, and the channels of the base classes in the base learner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.episode import IGNORE
from util.config.settings import BINARY, FOLD_RULES, DataSettings
from util.files.errors import call_foreign, nearest

LISTS = "lists"  # a fold rule
MAX_INDEX = IGNORE - 1  # classes that masks of class indices can hold


@FOLD_RULES.register("contiguous")
def contiguous(data: DataSettings) -> list[list[str]]:
    """Return the classes of each fold: fold i of f tests classes i n/f + 1 .. (i + 1) n/f."""
    size = len(data.classes) // data.folds
    return [data.classes[size * fold : size * (fold + 1)] for fold in range(data.folds)]


@FOLD_RULES.register("interleaved")
def interleaved(data: DataSettings) -> list[list[str]]:
    """Return the classes of each fold: i + 1, i + 1 + f, ... of all, or of those of more photos than shots."""
    classes = _with_photos(data)
    whole = len(classes) // data.folds * data.folds
    return [classes[fold : whole : data.folds] for fold in range(data.folds)]


@FOLD_RULES.register("given")
def given(data: DataSettings) -> list[list[str]]:
    """Return the classes that the settings list."""
    return data.fold_classes or []


@FOLD_RULES.register(LISTS)
def of_lists(data: DataSettings) -> list[list[str]]:
    """Return all classes for one fold: the test list says which of them are novel, the training list which base."""
    return [data.classes]


@dataclass(frozen=True)
class Fold:
    """One split of classes 1..n into novel and base ones, each of which by the rule ``lists`` may be either."""

    novel: tuple[int, ...]  # ids (1-based, ascending) of the classes that are tested and never trained on
    base: tuple[int, ...]  # and of those that are trained on

    @classmethod
    def of(cls, data: DataSettings) -> Fold:
        """Return the fold that the settings name."""
        ids = {name: class_id for class_id, name in enumerate(data.classes, 1)}
        novel = sorted(ids[name] for name in _listed(data)[data.fold])
        base = [c for c in ids.values() if data.fold_rule == LISTS or c not in novel]
        return cls(tuple(novel), tuple(base))

    @cached_property
    def base_table(self) -> np.ndarray:
        """Lookup table (256,) uint8 from class id to base-class id: 1-based for base classes, else 0; 255 stays."""
        table = np.zeros(256, np.uint8)
        table[list(self.base)] = np.arange(1, len(self.base) + 1)
        table[IGNORE] = IGNORE
        return table


def _listed(data: DataSettings) -> list[list[str]]:
    """Return the names of the classes of each fold by the rule of the settings."""
    return call_foreign(f"fold_rule {data.fold_rule}", FOLD_RULES[data.fold_rule], data)


def _with_photos(data: DataSettings) -> list[str]:
    """Return the classes of which folds are made: by ``class_photos`` those of more photos than shots."""
    photos_of_class = data.class_photos or [data.shot + 1] * len(data.classes)
    return [name for name, photos in zip(data.classes, photos_of_class) if photos > data.shot]


def has_class_maps(data: DataSettings) -> bool:
    """Return whether photos have maps of all their classes: masks of class ids, or of one class each that are joined.

    Masks of one class are joined for training alone, where a byte holds the class ids.
    """
    if data.mask_form != BINARY:
        return True
    return data.fold_rule != LISTS and data.train_list is not None and len(data.classes) <= MAX_INDEX


def problems(data: DataSettings) -> Iterator[tuple[str, str]]:
    """Yield (key of ``data``, error and correction) for settings that describe no valid folds."""
    count = len(data.classes)
    if len(set(data.classes)) < count:
        twice = next(name for name in data.classes if data.classes.count(name) > 1)
        yield "classes", f"names '{twice}' twice; keep one"
    if data.fold >= data.folds:
        yield "fold", f"= {data.fold} does not exist; allowed: 0..{data.folds - 1}"
    if len(data.class_photos or data.classes) != count:
        yield "class_photos", f"has {len(data.class_photos or [])} numbers for {count} classes; write one for each"
    if count > MAX_INDEX and data.mask_form != BINARY:
        yield "classes", f"has {count} names; masks of class ids hold at most {MAX_INDEX}: write mask_form: binary"
    yield from _problems_of_rule(data)


def _problems_of_rule(data: DataSettings) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the folds of a rule."""
    count = len(data.classes)
    if data.fold_rule == LISTS:
        if data.folds > 1:
            yield (
                "folds",
                f"= {data.folds}: data.fold_rule is lists, which has one fold; write folds: 1, or another "
                "data.fold_rule, such as interleaved",
            )
    elif data.class_photos is not None:
        enough = len(_with_photos(data))
        if enough < data.folds or data.folds < 2:
            yield (
                "class_photos",
                f"has {enough} classes with more photos than shots ({data.shot}), but {data.folds} folds need one "
                "class each; lower data.folds or data.shot",
            )
    elif data.fold_rule not in ("contiguous", "interleaved"):
        yield from _problems_of_given(data, _listed(data))
    elif data.folds < 2 or count % data.folds:
        yield "folds", f"= {data.folds} must be at least 2 and divide the number of classes, {count}"


def _problems_of_given(data: DataSettings, fold_classes: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in folds that the settings list by name."""
    key = "fold_classes" if data.fold_rule == "given" else "fold_rule"
    names = [name for fold in fold_classes for name in fold]
    if unknown := [name for name in names if name not in data.classes]:
        yield key, f"names '{unknown[0]}', which is not in data.classes{nearest(unknown[0], data.classes)}"
    is_once = len(set(names)) == len(names)
    are_parts = all(0 < len(fold) < len(data.classes) for fold in fold_classes)
    are_all = len(fold_classes) == data.folds >= 2
    if not (is_once and are_parts and are_all):
        yield (
            key,
            f"must list as many folds as data.folds = {data.folds}, at least 2, in each at least one class but not "
            "all, and no class twice",
        )
