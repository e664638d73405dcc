"""What the project's files state for a data set and a method, whatever a run's own files and command line change."""

from dataclasses import asdict
from functools import reduce
from typing import Any

from util.config.folder import DEFAULT, config_folder, in_configs
from util.config.parts import with_bases
from util.config.same import Differences
from util.config.settings import SAMPLERS, ProtocolSettings
from util.config.tree import ENCODERS, Tree, find, merge, parse_file, plain, settings_of, value_of
from util.files.typecheck import convert


def shipped(data_set: str, method: str) -> list[Tree]:
    """Return what the files of a data set and a method state: with usual encoders, then with each that they name."""
    folder = config_folder()
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob("*/*.yaml")}
    recipe = f"{data_set}/{method}"
    names = [recipe] if recipe in known else [f"{data_set}/{data_set}", f"model/{method}"]
    files = with_bases([in_configs(DEFAULT), *(known[name] for name in names if name in known)])
    usual: Tree = reduce(merge, [settings_of(parse_file(path)) for path in files])
    changes = [settings_of(change) for path in files for change in parse_file(path).get(ENCODERS, {}).values()]
    return [usual, *(merge(usual, change) for change in changes)]


def changed_protocol(name: str, protocol: dict[str, Any], data_set: str, method: str) -> Differences:
    """Return what a protocol has otherwise than the files' of its name; none if they have no such protocol."""
    stated = [find(tree, f"protocols.{name}") for tree in shipped(data_set, method)]
    return min((changes(entry, protocol) for entry in stated if entry), key=len, default={})


def changes(stated: Tree, protocol: dict[str, Any]) -> Differences:
    """Return what a protocol has otherwise than the entry of a file: no registered sampler is the entry's own."""
    entry = asdict(convert(ProtocolSettings, plain(stated), "protocols", as_yaml=True))
    if entry["query"] in SAMPLERS:
        entry["query"] = ProtocolSettings.query
    return {key: (entry[key], ours) for key, ours in protocol.items() if ours != entry[key]}


def published_side(data_set: str, protocol: str) -> int | None:
    """Return the side in pixels of a protocol's input on a data set; None: it is not known, or there is none."""
    tree, *_ = shipped(data_set, protocol)  # the recipe of the paper's method has the protocol's name
    return value_of(tree, f"protocols.{protocol}.side") or value_of(tree, "data.size")
