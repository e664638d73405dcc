"""What the files of a data set and a method state, whatever a run's own files and command line change."""

from dataclasses import asdict
from typing import Any

from util.config.compose import usual_files
from util.config.folder import DEFAULT, in_configs
from util.config.parts import merged
from util.config.same import Differences
from util.config.settings import ProtocolSettings
from util.config.tree import Leaf, Tree, find, plain, value_of
from util.files.typecheck import convert


def shipped(data_set: str, method: str, net: Leaf | None = None) -> Tree:
    """Return what the files of a data set and a method state with an encoder, default their own; as far as they are."""
    files = [path for path in usual_files(data_set, method) if path.exists()]
    return merged([in_configs(DEFAULT), *files], net)


def changed_protocol(name: str, protocol: dict[str, Any], stated: Tree) -> Differences:
    """Return what a protocol has otherwise than that of its name in a tree of values; none if the tree has none."""
    entry = find(stated, f"protocols.{name}")
    if entry is None:
        return {}
    theirs = asdict(convert(ProtocolSettings, plain(entry), "protocols", as_yaml=True))
    return {key: (theirs[key], ours) for key, ours in protocol.items() if ours != theirs[key]}


def published_side(data_set: str, protocol: str) -> int | None:
    """Return the side in pixels of a protocol's input on a data set; None: it is not known, or there is none."""
    stated = shipped(data_set, protocol)  # the recipe of the paper's method has the protocol's name
    return value_of(stated, f"protocols.{protocol}.side") or value_of(stated, "data.size")
