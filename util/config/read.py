"""A config's tree of values as typed ``Settings``, with errors that name file, line and key."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from model.contract import FewShotMethod
from model.registry import models
from util.config.checks import checked
from util.config.compose import Source, completed, file_source, read_tree
from util.config.place import placed
from util.config.same import known_today
from util.config.settings import Config, DataSettings, EvaluationSettings, ProtocolSettings
from util.config.tree import Tree, place_of, place_written, plain, value_of, with_places
from util.files.errors import UserError, nearest
from util.files.typecheck import Misfit, convert

IMPORT_IT = "name it in imports of a config, in report.py by --import, in Python by import"


def read_config(source: str | Path | Source, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of a file, or of what ``find_config`` returns, after ``section.key=value``.

    UserError: missing file, broken YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return read_with_places(source, overrides)[0]


def read_with_places(source: str | Path | Source, overrides: list[str] | None = None) -> tuple[Config, Tree]:
    """Return the same, and the tree that says where each of its values was written; errors as ``read_config``."""
    if not isinstance(source, Source):
        source = file_source(Path(source))
    return _configure(read_tree(source), source, overrides or [], imports=True)


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration of plain data of ``origin``, as of ``to_dict``, after overrides; errors as above.

    Settings of tests that a former version had are left out: they decide no weights.
    """
    test, _ = known_today(content.get("test", {}), EvaluationSettings)
    recorded = {**content, "test": test, "protocols": {}}
    for name, entry in content.get("protocols", {}).items():
        protocol, unknown = known_today(entry, ProtocolSettings)
        if not any(unknown.values()):  # else it was another protocol
            recorded["protocols"][name] = protocol
    return _configure(with_places(recorded, origin), file_source(Path(origin)), overrides or [])[0]


def read_data(path: str | Path) -> DataSettings:
    """Return the data settings of a data set's file alone, such as ``fss1000.yaml``; errors as ``read_config``."""
    tree = read_tree(file_source(Path(path)))
    try:
        return convert(DataSettings, plain(tree).get("data"), "data", as_yaml=True)
    except Misfit as misfit:
        raise UserError(f"{place_of(tree, misfit.key) or path}: {misfit}") from None


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    del out["source"], out["given"]
    if config.base_stage is None:
        del out["base_stage"]
    return out


def _configure(tree: Tree, source: Source, overrides: list[str], imports: bool = False) -> tuple[Config, Tree]:
    """Return the typed and checked configuration of a tree after overrides, and the tree that these make of it.

    ``imports``: the modules that it names are imported first.
    """
    tree = completed(placed(tree, source.files[0]), overrides)
    if imports and "imports" in tree:
        from util.config.imports import with_imports  # the code of others

        tree = with_imports(tree)
    try:
        config = _typed(plain(tree), source, overrides)
        return checked(config, partial(place_written, tree, source.own)), tree
    except Misfit as misfit:
        problem = str(misfit) if imports else _without_imports(str(misfit), value_of(tree, "imports"))
        raise UserError(f"{place_of(tree, misfit.key) or source}: {problem}") from None


def _without_imports(problem: str, made_with: list[Any] | None) -> str:
    """Return a problem of a config whose imports were not done: a name that they register is no misspelt one."""
    if not made_with:
        return problem
    needed = ", ".join(map(str, made_with))
    return f"{problem.partition('; did you mean')[0]}; it was made with {needed}: {IMPORT_IT}"


def _typed(content: dict[str, Any], source: Source, overrides: list[str]) -> Config:
    """Return the typed configuration of plain data.

    Misfit: a key is unknown or missing, or a value has a wrong type.
    """
    model = content.get("model")
    if isinstance(model, dict):
        method = _method(model.get("name"))
        content["model"] = convert(method.Settings, model, "model", as_yaml=True)
        if isinstance(test := content.setdefault("test", {}), dict):
            test.setdefault("protocol", method.protocol)
    config = convert(Config, {**content, "given": overrides}, "", as_yaml=True)
    name = source.name if config.run.name is None else config.run.name
    return dataclasses.replace(config, source=source, run=dataclasses.replace(config.run, name=name))


def _method(name: Any) -> type[FewShotMethod]:
    """Return the method of a name; Misfit: there is none."""
    known = models()
    if str(name) not in known:
        raise Misfit("model.name", f"model.name = {name!r} is not a model{nearest(str(name), known)}")
    return known[str(name)]
