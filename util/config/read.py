"""A config's tree of values as a typed ``Config``, with errors that name file, line and key."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from model.code import keep_code
from model.registry import methods
from util.config.bam import bam_hint
from util.config.checks import checked
from util.config.compose import Source, completed, file_source, read_tree, usual_files
from util.config.folder import DEFAULT, LOCAL, in_configs
from util.config.parts import merged
from util.config.place import with_actual_place, without_former
from util.config.same import Differences, changed, known_keys
from util.config.settings import Config, DataSettings, EvaluationSettings, ProtocolSettings, RunSettings, Sections
from util.config.tree import (
    Leaf,
    Tree,
    bases_of,
    find,
    place_of,
    place_written,
    plain,
    value_of,
    with_places,
)
from util.files.errors import UserError, as_user_error
from util.files.typecheck import Misfit, convert, required


def read_config(source: str | Path | Source, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of a file, or of what ``find_config`` returns, after ``section.key=value``.

    Modules that it names are imported first. UserError: missing file, broken YAML, unknown key, wrong type or
    impossible value; it names the place.
    """
    if not isinstance(source, Source):
        source = file_source(Path(source))
    tree = tree_of(source, overrides or [])
    if not tree.keys() >= {*required(Sections)} and source.file and not bases_of(Path(source.file)):
        theirs = next(filter(None, map(bam_hint, tree)), "")
        raise UserError(
            f"{source.file}: this file inherits nothing",
            fix=f"write base: with a recipe, such as base: config/pascal/symnet.yaml; {theirs}".rstrip("; "),
        )
    if "imports" in tree:
        from util.config.imports import with_imports  # the code of others

        with_imports(tree)  # the method is known then, and whether it has an encoder
        tree = with_imports(tree_of(source, overrides or []))
    config = _typed(tree, source, overrides or [], checks_observers=True)
    keep_code()
    return config


def tree_of(source: Source, overrides: list[str]) -> Tree:
    """Return the values of a config after overrides, and where each was written; raises as ``read_tree`` does."""
    return completed(with_actual_place(read_tree(source), Path(source.file)), overrides)


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration of plain data of ``origin``, as of ``to_dict``, after overrides; raises as above.

    Settings of tests and of the run that a former version had are left out: they decide no weights. Nothing is
    imported.
    """
    with as_user_error(Misfit, before=f"{origin}: "):
        given = {key: convert(dict, content.get(key, {}), key) for key in ("data", "run", "test")}
        entries = convert(dict[str, dict], content.get("protocols", {}), "protocols")
    recorded = without_former(
        {
            **content,
            "data": given["data"],
            "run": known_keys(given["run"], RunSettings),
            "test": known_keys(given["test"], EvaluationSettings),
            "protocols": {},
        }
    )
    for name, entry in entries.items():
        protocol = known_keys(entry, ProtocolSettings)
        if not any(value for key, value in entry.items() if key not in protocol):  # else it was another protocol
            recorded["protocols"][name] = protocol
    source = Source(origin, Path(origin).stem, (Path(origin),), file=origin)
    tree = completed(with_actual_place(with_places(recorded, origin), Path(origin)), overrides or [])
    needed = ", ".join(map(str, recorded.get("imports") or []))
    try:
        return _typed(tree, source, overrides or [])
    except UserError as error:
        if not needed:
            raise
        raise UserError(
            f"{error}; it was made with {needed}: name it in imports of a config (predict.py --config FILE), by "
            "--import of report.py or predict.py, or import it"
        ) from None


def read_data(path: str | Path) -> DataSettings:
    """Return the data settings of a data set's file alone, such as ``fss1000.yaml``; raises as ``read_config`` does."""
    tree = read_tree(file_source(Path(path)))
    try:
        return convert(DataSettings, plain(tree).get("data"), "data", as_yaml=True)
    except Misfit as misfit:
        raise UserError(f"{place_of(tree, misfit.key) or path}: {misfit}") from None


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    return {key: out[key] for key in Sections.__dataclass_fields__ if out[key] is not None}  # else no such base_stage


def for_run_folder(content: dict[str, Any]) -> dict[str, Any]:
    """Return plain data as of ``to_dict`` as a file whose base states the protocols that it does not test by.

    The base is its data set's file, or ``default.yaml`` where that states as many of them.
    """
    data_set = content["data"]["name"]
    files = [file for file in (DEFAULT, LOCAL / data_set / f"{data_set}.yaml") if in_configs(file).exists()]
    lacking = {file: _protocols_beside(merged([in_configs(file)]), content) for file in files}
    base = min(files, key=lambda file: len(lacking[file]))
    return {"base": str(base), **content, "protocols": lacking[base]}


def _protocols_beside(stated: Tree, content: dict[str, Any]) -> dict[str, Any]:
    """Return the protocols in plain data that a tree lacks or states with other values, and the test's protocol."""
    test = content["test"]["protocol"]
    return {
        name: entry
        for name, entry in content["protocols"].items()
        if name == test or find(stated, f"protocols.{name}") is None or changed_protocol(name, entry, stated)
    }


def shipped(data_set: str, method: str, encoder: Leaf | None = None) -> Tree:
    """Return the values in the existing files of a data set and a method; default encoder: the one that they name."""
    is_name = "/" not in data_set + method  # a result of others may state a path
    files = [path for path in usual_files(data_set, method) if is_name and path.exists()]
    return merged([in_configs(DEFAULT), *files], encoder)


def changed_protocol(name: str, protocol: dict[str, Any], stated: Tree) -> Differences:
    """Return the differences of a protocol from a tree's protocol of the same name; empty if the tree has none."""
    entry = find(stated, f"protocols.{name}")
    if entry is None:
        return {}
    theirs = dataclasses.asdict(convert(ProtocolSettings, plain(entry), "protocols", as_yaml=True))
    return dict(changed(theirs, protocol))


def published_side(data_set: str, protocol: str) -> int | None:
    """Return the side in pixels of a protocol's input on a data set; None: it is not known, or there is none."""
    stated = shipped(data_set, protocol)  # the recipe of the paper's method has the protocol's name
    return value_of(stated, f"protocols.{protocol}.side") or value_of(stated, "data.size")


def _typed(tree: Tree, source: Source, overrides: list[str], checks_observers: bool = False) -> Config:
    """Return the typed and checked configuration of a tree, which overrides are in already."""
    content = plain(tree)
    method = methods().get(str(find(content, "model.name")))
    test = content.setdefault("test", {})
    if method is not None and isinstance(test, dict):
        test.setdefault("protocol", method.protocol)
    try:
        if content.get("observers"):
            from util.config.registry import with_observers  # all that may be registered

            content = with_observers(content, checks_observers)
        sections = convert(Sections, content, "", as_yaml=True)
        config = Config(**vars(sections), source=source, given=overrides)
        if config.run.name is None:
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=source.name))
        return checked(config, partial(place_written, tree, source.file))
    except Misfit as misfit:
        from util.config.misfits import refusals  # of mistakes alone

        raise refusals((misfit, *misfit.others), tree, source, content) from None
