"""The files that make a config: those that it names as ``base``, or those that its name stands for.

``config/pascal/pascal_split2_ssp_resnet50.yaml`` need not exist. Its name joins the words of a composition, ``<data
set>_split<fold>[_<method>]_<encoder>[_<variant>]``, here ``data.fold: 2`` over the parts ``default.yaml``,
``pascal/pascal.yaml``, ``model/ssp.yaml`` and ``encoder/resnet50.yaml``, later ones winning. A file of that name lies
on top, unless it names a ``base``; a file of another name may name it: ``base: pascal_split2_ssp_resnet50.yaml``. The
encoder ``timm-<name>`` is a network of timm, by ``encoder/timm.yaml``. For methods whose networks come whole
(``Foundation``) the networks' names, with ``--`` for each ``/``, stand in the encoder's place.

What holds for some compositions alone stands in a part's section ``for``. The words of an entry are names of methods
and encoders, ``with_base_stage``, ``training_free`` or ``any``; it counts where all of them are true. An encoder whose
file names another as ``base`` is that one too. Entries come after all parts, those of the encoder before those of the
data set, in the order of the file; a variant is last.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from model.common.foundation import Foundation
from model.common.with_encoder import WithEncoder
from model.contract import FewShotModel
from model.encoders.registry import problem_of
from model.encoders.settings import EncoderSettings
from model.encoders.timm_facts import PREFIX, unknown
from model.registry import every_model
from util.config.folds import teach_base_learners
from util.config.tree import Leaf, Tree, fill, find, merge, parse_file, places, value_of
from util.errors import UserError, nearest
from util.files import REPOSITORY

CONFIG = REPOSITORY / "config"
MAIN_METHOD = "symnet"  # not part of its configs' names
TIMM = "timm"  # the encoder's file for every network of timm
SLASH = "--"  # in names of configs, for "/" in a network's name or path
WITH_WORDS = ("run.base_folder", "model.encoder.weights")  # keys whose values may hold words in braces


@dataclass(frozen=True)
class Parts:
    """The words of a composition; ``encoder`` is None for a method without an ``encoder`` section."""

    folder: Path  # of the data set: config/<data set>
    fold: int
    method: str
    encoder: str | None
    variant: str | None = None  # a file config/model/<method>_<variant>.yaml on top of all others
    network: str | None = None  # timm's name of it, where ``encoder`` is ``TIMM``; the networks of a ``Foundation``

    @property
    def net(self) -> str | None:
        """The encoder, or the networks, as ``NET`` names them."""
        if self.encoder is None and self.network is not None:
            return self.network.replace(SLASH, "/")
        return self.encoder if self.network is None else f"{PREFIX}{self.network}"

    def files(self) -> list[Path]:
        """Return the files of its parts, later ones winning; the variant's counts after ``entries``."""
        root, data = self.folder.parent, self.folder / f"{self.folder.name}.yaml"
        encoder = [] if self.encoder is None else [root / "encoder" / f"{self.encoder}.yaml"]
        return [root / "default.yaml", data, root / "model" / f"{self.method}.yaml", *encoder]

    def entries(self) -> Iterator[Tree]:
        """Yield the entries of ``for`` that count here, of the encoder's file and of the data set's.

        UserError: an entry is no section, or one of its words is no name; it names the place.
        """
        root, cls, own = self.folder.parent, model_class(self.folder.parent, self.method), self.files()[3:]
        own = [path.parent / base for path in own if (base := value_of(parse_file(path), "base"))] + own
        true = {"any": True, "with_base_stage": cls.has_base_stage, "training_free": not cls.learns}
        known = true | {name: name == self.method for name in methods(root)}
        known |= {name: name in [path.stem for path in own] for name in encoders(root)}
        for path in (*own, self.files()[1]):
            entries = parse_file(path).get("for", {})
            for key, tree in entries.items() if isinstance(entries, dict) else [("for", entries)]:
                where = next(places(tree), str(path))
                if not isinstance(tree, dict):
                    raise UserError(f"{where}: '{key}' must be a section of settings")
                for word in key.split():
                    if word not in known:
                        raise UserError(f"{where}: '{word}' of 'for' is unknown{nearest(word, known)}")
                if all(known[word] for word in key.split()):
                    yield tree


def in_names(net: str) -> str:
    """Return an encoder as names of configs and run folders have it: ``timm-<name>`` for ``timm/<name>``."""
    return net.replace("/", "-")


def _data_sets(root: Path) -> list[Path]:
    return [path.parent for path in root.glob("*/*.yaml") if path.stem == path.parent.name]


def methods(root: Path) -> list[str]:
    """Return the names of all methods; ``<method>_<variant>.yaml`` is no method."""
    stems = sorted(path.stem for path in (root / "model").glob("*.yaml"))
    return [s for s in stems if not any(s.startswith(f"{other}_") for other in stems)]


def encoders(root: Path) -> list[str]:
    """Return the names of all encoders."""
    return sorted(path.stem for path in (root / "encoder").glob("*.yaml"))


def model_class(root: Path, method: str) -> type[FewShotModel]:
    """Return the class that a method's file names; errors as ``model_named``."""
    path = root / "model" / f"{method}.yaml"
    return model_named(find(parse_file(path), "model.name"), str(path))


def model_named(name: Any, origin: str) -> type[FewShotModel]:
    """Return the class of the model that the leaf ``model.name`` names; UserError if there is none."""
    word, where = (name.value, name.where) if isinstance(name, Leaf) else (None, origin)
    if str(word) not in every_model():
        raise UserError(f"{where}: model.name = {word!r} is not a model{nearest(str(word), every_model())}")
    return every_model()[str(word)]


def encoders_of(root: Path, method: str) -> list[str | None]:
    """Return the encoders that a method takes and that serve it, ``TIMM`` left out; [None]: a method without one."""
    return [encoder for encoder in (*encoders(root), None) if _takes(root, method, encoder)]


def _takes(root: Path, method: str, encoder: str | None) -> bool:
    """Return whether an encoder is among ``encoders_of``: for one of timm, timm is asked, which takes a second."""
    cls = model_class(root, method)
    if encoder is None or not issubclass(cls, WithEncoder):
        return encoder is None and not issubclass(cls, WithEncoder)
    tree = parse_file(root / "encoder" / f"{encoder}.yaml")
    serves = encoder != TIMM and method in (value_of(tree, "methods") or [method])
    return serves and cls.encoder_problem(EncoderSettings(value_of(tree, "model.encoder.backbone"))) is None


def _words(method: str, encoder: str | None) -> str:
    """Return the words of method and encoder in a config's name."""
    return "_".join(filter(None, (None if method == MAIN_METHOD and encoder else method, encoder)))


def _compositions(folder: Path, fold: int, name: str) -> Iterator[Parts]:
    """Yield the parts whose words, joined, are the given end of a config's name."""
    root, files = folder.parent, [path.stem for path in (folder.parent / "model").glob("*.yaml")]
    for method, encoder in product(methods(root), (*encoders(root), None)):
        start, joint = _words(method, encoder), "-" if encoder == TIMM else "_"
        for end in (*(file.removeprefix(method) for file in files if file.startswith(f"{method}_")), ""):
            network = name[len(start) + 1 : len(name) - len(end)]
            if name == f"{start}{end}" and encoder != TIMM:
                yield Parts(folder, fold, method, encoder, end[1:] or None)
            elif not network or name != f"{start}{joint}{network}{end}":
                continue
            elif encoder == TIMM or (encoder is None and issubclass(model_class(root, method), Foundation)):
                yield Parts(folder, fold, method, encoder, end[1:] or None, network)


def parts_of_name(path: Path) -> Parts | None:
    """Return the parts that a config's name stands for; None where it is not the name of a composed config.

    UserError: no file has the name, which has the form of one, but names no method and encoder that go together.
    """
    folder, root, start = path.parent, path.parent.parent, f"{path.parent.name}_split"
    fold, _, name = path.stem.removeprefix(start).partition("_")
    composes = path.name.startswith(start) and path.suffix == ".yaml" and fold.isdecimal() and name
    if not composes or not (folder / f"{folder.name}.yaml").exists():
        return None
    for parts in _compositions(folder, int(fold), name):
        cls = model_class(root, parts.method)
        if parts.network is not None and issubclass(cls, WithEncoder):
            if (problem := problem_of(str(parts.net), cls.families, cls.grids)) is None:
                return parts
            raise UserError(f"{_shown(path)}: {cls.title} on {parts.net}: {problem}")
        if _takes(root, parts.method, parts.encoder):
            return parts
        if parts.encoder is not None and issubclass(cls, WithEncoder):
            names = ", ".join(map(str, encoders_of(root, parts.method)))
            raise UserError(f"{_shown(path)}: {cls.title} does not take the encoder {parts.encoder}; it takes {names}")
    if path.exists():
        return None
    known = {p.stem for p in folder.glob("*_split*.yaml")}
    known |= {f"{start}{int(fold)}_{_words(*pair)}" for pair in product(methods(root), (*encoders(root), None))}
    raise UserError(f"{_shown(path)}: no such config, nor one of a method and an encoder{nearest(path.stem, known)}")


def config_path(
    experiment: str, dataset: str, method: str | None = None, encoder: str | None = None, root: Path | None = None
) -> Path:
    """Return the path of the config of an experiment such as ``split0``, whether it is a file or composed.

    Args:
        method: default ``MAIN_METHOD``; ``<method>_<variant>`` is that variant, which then ends the encoder's name.
        encoder: an encoder, ``timm/<name>``, or another ending of a config's name after the method, such as
            ``resnet50_plus``; default the method's, or the ``net`` of the data set.
        root: the folder of the configs; default this project's ``config``, and the path is then relative to it.

    UserError: names the nearest data set, method, encoder or config that exists.
    """
    root = root or CONFIG
    folder, method = root / dataset, method or MAIN_METHOD
    if folder not in (known := _data_sets(root)):
        raise UserError(f"config/{dataset}: no such data set{nearest(dataset, [path.name for path in known])}")
    own = next((name for name in methods(root) if f"{method}_".startswith(f"{name}_")), "")
    if not own or not (root / "model" / f"{method}.yaml").exists():
        raise UserError(f"MODEL {method}: no such method{nearest(method, methods(root))}")
    default, variant = _default_encoder(folder, own), method.removeprefix(own)
    named = None  # the networks of a method that has no encoder: one beside it is for the other methods of a command
    if issubclass(model_class(root, own), Foundation) and encoder and encoder not in encoders(root):
        named = encoder.replace("/", SLASH)
    words = f"{_words(own, named or (default and in_names(encoder or default)))}{variant}"
    path = folder / f"{dataset}_{experiment}_{words}.yaml"
    if named and len(path.name) > 240:  # bytes of a name that file systems take
        raise UserError(f"NET {encoder}: too long for the name of a run; give a link, or --set model.weights=[...]")
    if default and encoder and not path.exists() and not any(_compositions(folder, 0, words)):
        near = nearest(encoder, [*map(str, encoders_of(root, own)), f"{PREFIX}<name>"])
        near = f"; did you mean '{PREFIX}{encoder}'?" if unknown(PREFIX + encoder) is None else near
        raise UserError(f"NET {encoder}: no such encoder{near}")
    parts = parts_of_name(path)
    if named and parts is not None and parts.net != encoder:
        raise UserError(f"NET {encoder}: '{SLASH}' and the end of a variant have a meaning in names; rename the folder")
    if parts is None and not path.exists():
        known_names = [p.stem for p in folder.glob(f"{dataset}_split*.yaml")]
        raise UserError(f"{_shown(path)}: no such config{nearest(path.stem, known_names)}")
    return _shown(path)


def _shown(path: Path) -> Path:
    """Return the path as messages show it: within the project relative to its folder."""
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def _default_encoder(folder: Path, method: str) -> str | None:
    """Return the encoder of a method on a data set where none is named."""
    cls = model_class(folder.parent, method)
    if not issubclass(cls, WithEncoder):
        return None
    return cls.default_net or value_of(parse_file(folder / f"{folder.name}.yaml"), "net") or "resnet50"


def experiments(root: Path) -> list[Path]:
    """Return all configs that are files and, of every data set, all folds and methods with the default encoder."""
    paths = set(root.glob("*/*_split*.yaml"))
    for folder in _data_sets(root):
        tree = parse_file(folder / f"{folder.name}.yaml")
        known = {key: value_of(tree, f"data.{key}") for key in ("mask_form", "fold_rule", "classes", "train_list")}
        for method in methods(root):
            if teach_base_learners(known) or not model_class(root, method).has_base_stage:
                start, words = f"{folder.name}_split", _words(method, _default_encoder(folder, method))
                paths |= {folder / f"{start}{n}_{words}.yaml" for n in range(value_of(tree, "data.folds") or 0)}
    return sorted(paths)


def read_tree(path: Path, done: set[Path] | None = None) -> Tree:
    """Return the merged content of a config: of a file with its bases, or of the parts that its name composes.

    Bases come before the file that names them, later ones win, and each file counts once (``done``), in its first
    place. UserError: missing file, broken YAML, or a key written twice; it names the place.
    """
    done = set() if done is None else done
    if path.resolve() in done:
        return {}
    done.add(path.resolve())
    composed = parts_of_name(path)
    tree = parse_file(path) if path.exists() or composed is None else {}
    low: Tree = {}
    if composed is not None and "base" not in tree:
        low = merge(_composed(composed, done), {"data": {"fold": Leaf(composed.fold, str(path))}})
    if path.parent.name in ("model", "encoder", path.stem):  # a part; ``methods``: those that an encoder serves
        tree = {key: value for key, value in tree.items() if key not in ("for", "net", "methods")}
    if isinstance(bases := tree.get("base"), Leaf):
        for base in bases.value if isinstance(bases.value, list) else [bases.value]:
            low = merge(low, read_tree(path.parent / str(base), done))
        del tree["base"]
    if path.parent.name == "model" and "name" in tree.get("model", {}):  # keys of the method that it inherits from
        known = {"name", *(f.name for f in fields(model_named(find(tree, "model.name"), str(path)).Settings))}
        low = {**low, "model": {key: value for key, value in low.get("model", {}).items() if key in known}}
    return merge(low, tree)


def _composed(parts: Parts, done: set[Path]) -> Tree:
    tree = reduce(merge, [*(read_tree(path, done) for path in parts.files()), *parts.entries()])
    if parts.variant is not None:
        tree = merge(tree, read_tree(parts.files()[2].with_stem(f"{parts.method}_{parts.variant}"), done))
    if parts.encoder is None and parts.net is not None:
        tree = merge(tree, {"model": {"weights": Leaf(parts.net.split(","), f"NET {parts.net}")}})
    words = {"encoder": parts.net and in_names(parts.net), "network": parts.network}
    for key in (*WITH_WORDS, "model.encoder.backbone"):
        tree = fill(tree, key, words)
    return tree
