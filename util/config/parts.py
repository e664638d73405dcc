"""Files of a config, each after its bases, as one tree; later ones win.

Those of ``NET=resnet101 MODEL=bam sh train.sh split2 pascal 4``, all below ``config/``:

1. of data set and method, the usual: ``default``, ``pascal/photos``, ``pascal/pascal``, ``model/bam``, ``pascal/bam``,
2. the encoder's: ``encoder/resnet101``,
3. what the files of 1 change with this encoder, under ``encoders: {resnet101: ...}``,
4. that of this run, if a person wrote it: ``pascal/pascal_split2_bam_resnet101``, with such changes; its bases then
   stand in place of those of 1. The command line comes last.

``pascal/bam`` is a recipe, which has the others of 1 as its bases; a data set without one has ``pascal/pascal`` and
``model/bam`` with their bases. The encoder is the one that the command names by ``NET``, else the last ``net`` of the
files that a person wrote, else the last of the usual ones. A file's name, such as ``pascal_split2_ssp_lite0``, states
fold and encoder as its content does.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import filterfalse
from pathlib import Path

from model.encoders.variant import PREFIX as TIMM_PREFIX
from model.registry import methods
from util.config.folder import (
    DEFAULT,
    TIMM,
    config_folder,
    data_sets,
    encoders,
    in_configs,
    method_file,
    method_names,
)
from util.config.place import run_of
from util.config.run_name import read_run_name
from util.config.tree import (
    ENCODERS,
    LISTED,
    NET,
    Leaf,
    Tree,
    bases_of,
    find,
    merge,
    nested,
    parse_file,
    places,
    settings_of,
    value_of,
)
from util.files.errors import UserError, check_known, nearest

BACKBONE, FOLD_KEY = "model.encoder.backbone", "data.fold"
NETWORKS = "model.weights"  # of a method that brings them


def merged(files: Sequence[Path], encoder: Leaf | None = None, file: str = "") -> Tree:
    """Return files, after their bases, as one tree.

    Args:
        files: of a config.
        encoder: its name, and where it is named; None: that of the files.
        file: the one that a person wrote, whatever its name.

    Raises:
        UserError: a file or an encoder is missing, or a section of one is none; it names the place.
    """
    encoder = encoder or encoder_of(files, file)
    encoder_files = with_bases([encoder_file(encoder)])
    names = [path.stem for path in encoder_files]  # the encoder's, and those that it extends
    paths = [*filterfalse(_is_encoder, with_bases(files))]
    shipped, _ = _shipped_and_own(paths, file)
    place = max(map(paths.index, shipped), default=-1) + 1  # of the encoder
    before_encoder, after_encoder = paths[:place], paths[place:]
    before = [settings_of(content_of(path)) for path in before_encoder]
    changes = [change for path in before_encoder for change in _changes(path, names)]
    after = list[Tree]()
    for path in after_encoder:
        after += [settings_of(content_of(path)), *_changes(path, names)]
    of_encoder = list[Tree]()
    if takes_encoder(reduce(merge, [*before, *changes, *after], {})):
        of_encoder += [settings_of(parse_file(path)) for path in encoder_files]
        if encoder.value.startswith(TIMM_PREFIX):
            of_encoder.append(nested(BACKBONE, encoder))
    return reduce(merge, [*before, *of_encoder, *changes, *after], {})


def _shipped_and_own(paths: Sequence[Path], file: str = "") -> tuple[list[Path], list[Path]]:
    """Return the files with the name of a data set or a method, which say what is usual, and those that a person wrote.

    Shipped files of other names, such as ``default.yaml``, are among the second, but name no encoder. ``file`` is a
    person's, whatever its name.
    """
    names = {*data_sets(), *method_names()}
    shipped = [path for path in paths if path.stem in names and str(path) != file]
    return shipped, [path for path in paths if path not in shipped]


def takes_encoder(tree: Tree) -> bool:
    """Return whether a config's method takes an encoder; true for one that is not known yet (``imports``)."""
    name = value_of(tree, "model.name")
    cls = methods().get(str(name))
    return name is not None and (cls is None or "encoder" in cls.Settings.__dataclass_fields__)


def encoder_of(files: Sequence[Path], file: str = "") -> Leaf:
    """Return the last encoder named in a person's files (``file`` is one), else in the files of method and data set."""
    shipped, own = _shipped_and_own(with_bases(files), file)
    named = [Leaf("resnet50", f"{NET} resnet50"), *filter(None, map(_named_in, [*shipped, *own]))]
    return named[-1]


def _named_in(path: Path) -> Leaf | None:
    """Return the encoder that a file names, or whose file it is; None: neither."""
    if _is_encoder(path):
        return Leaf(TIMM_PREFIX if path.stem == TIMM else path.stem, str(path))
    content = content_of(path)
    name = value_of(content, NET)
    return None if name is None else Leaf(str(name), f"{content[NET].where}: {NET} {name}")


def encoder_file(encoder: Leaf) -> Path:
    """Return the file of an encoder; UserError: there is none."""
    name = encoder.value
    if name.startswith(TIMM_PREFIX):
        return config_folder() / "encoder" / f"{TIMM}.yaml"
    check_known(name, encoders(), f"{encoder.where}: no such encoder", f"one of timm is {TIMM_PREFIX}{name}; {LISTED}")
    return config_folder() / "encoder" / f"{name}.yaml"


def _is_encoder(path: Path) -> bool:
    """Return whether a file is an encoder's."""
    return path.resolve().parent.name == "encoder"


def with_bases(files: Sequence[Path], done: set[Path] | None = None) -> list[Path]:
    """Return files, each after its bases; one that several name as their base has the first of its places."""
    done = set() if done is None else done
    out = []
    for path in files:
        if path.resolve() not in done:
            done.add(path.resolve())
            bases = [_base(path, name) for name in bases_of(path)]
            out += [*with_bases(bases, done), path]
    return out


def _base(path: Path, name: str) -> Path:
    """Return the file that one names as its base: beside it, or from the folder where configs are named from.

    A run's config states all settings: where its base is gone, ``default.yaml`` has the protocols that it does not.

    UserError: there is none of that name; it names both files.
    """
    places = (path.parent / name, Path(name), *([DEFAULT] if run_of(path) else []))
    found = next(filter(Path.exists, map(in_configs, places)), None)
    if found is None:
        raise UserError(
            f"{path}: base: {name} is neither beside it nor in this folder",
            fix="write it with its folder, such as config/pascal/symnet.yaml",
        )
    return found


def content_of(path: Path) -> Tree:
    """Return the values that a file and its name state; UserError: they state two folds or two encoders."""
    content = parse_file(path)
    read = read_run_name(path.stem)
    if read is None:
        return content
    fold, method, name = read
    named = merge(nested(FOLD_KEY, Leaf(fold, str(path))), _network_named(name, method, path))
    for key, prefix in ((FOLD_KEY, "split"), (NET, "")):
        said, stated = value_of(named, key), value_of(content, key)
        if None not in (said, stated) and said != stated:
            raise UserError(
                f"{find(content, key).where}: {key} = {stated!r} in the file of {prefix}{said}",
                fix=f"write {said}, or give the file another name",
            )
    return merge(named, content)


def _network_named(name: str, method: str, path: Path) -> Tree:
    """Return the encoder, or for a method without one the networks of the Hub, that the name of a file states."""
    if name in encoders() or name.startswith(TIMM_PREFIX):
        return {NET: Leaf(name, str(path))}
    return nested(NETWORKS, Leaf(name.split(","), str(path))) if "/" in name and not has_encoder(method) else {}


def has_encoder(method: str) -> bool:
    """Return whether the method of a file of ``config/model/`` takes an encoder."""
    return takes_encoder(merged([method_file(method)]))


def _changes(path: Path, names: Sequence[str]) -> list[Tree]:
    """Return a file's changes for these encoders; UserError: it names an unknown encoder, or is no section."""
    changes = parse_file(path).get(ENCODERS, {})
    known = [*encoders(), TIMM]
    for name, change in changes.items() if isinstance(changes, dict) else [("", changes)]:
        if name not in known or not isinstance(change, dict):
            place = next(places(change), path)
            raise UserError(f"{place}: {ENCODERS}.{name}: no section of a known encoder{nearest(name, known)}")
    return [settings_of(changes[name]) for name in names if name in changes]
