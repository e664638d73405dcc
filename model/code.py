"""The code of a method: digests of the modules that define it, equal on every machine."""

import ast
import hashlib
import io
import re
import sys
import tokenize
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source, resolve_name, spec_from_file_location
from pathlib import Path
from tokenize import TokenInfo
from typing import Any

from torch import nn

PACKAGE = re.compile(r"\bsymnet\.(?=(?:annotations|model|photos|util)\b)")  # which an installed package adds to names
HOUSES = ("annotations", "model", "photos", "util")  # of this project
SHARED = ("encoders", "kinds", "parts", "tensors")  # folders of ``model`` whose code is that of all methods
INSTALLED = ("site-packages", "dist-packages")


def code_of(piece: Any, but: type = nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each module that defines a class and its bases, or a function, and of what these import.

    Imports inside functions count too. Of code of others every import counts wherever it lies, but for Python,
    installed packages and this project; within a package of these what lies in the same folder or below it, without
    ``SHARED``. No folder is searched. Modules of the class ``but`` do not count. Folders, line ends, comments,
    docstrings and blank lines do not change a digest, nor does an edit after ``keep_code``.
    """
    bases = [base for base in getattr(piece, "__mro__", [piece]) if base not in but.__mro__]
    specs = [_spec_of(base.__module__) for base in bases if base.__module__ not in sys.stdlib_module_names]
    found: dict[str, str] = {}
    while specs:
        spec = specs.pop()
        if spec is not None and spec.has_location and PACKAGE.sub("", spec.name) not in found:
            text = _text(spec)
            found[PACKAGE.sub("", spec.name)] = _digest(text)
            imported = map(_spec_of, _imported(text, str(spec.parent)))
            specs += [helper for helper in imported if helper is not None and _is_helper(helper, spec)]
    return dict(sorted(found.items()))


def keep_code() -> None:
    """Keep the texts of the modules that are imported by now: they are what runs, whatever their files become."""
    specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
    for spec in specs:
        if spec is not None and _is_editable(spec):
            with suppress(OSError):  # a file that is gone
                _text(spec)


def code_of_folder(folder: Path) -> str:
    """Return the SHA-256 of the modules in a folder, but not of those in folders below it, with their names."""
    digests = [(path.name, _digest(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.py"))]
    return _digest(repr(digests))


@cache
def _digest(text: str) -> str:
    """Return the SHA-256 of a module's text without comments, docstrings and blank lines."""
    lines = text.split("\n")
    for remark in _remarks(text):
        (first, column), (last, _) = remark.start, remark.end
        lines[first - 1] = lines[first - 1][:column].rstrip()
        lines[first:last] = [""] * (last - first)
    code = "\n".join(filter(str.strip, lines))
    return hashlib.sha256(PACKAGE.sub("", code).encode()).hexdigest()


def _remarks(text: str) -> list[TokenInfo]:
    """Return the comments of a module's text, and its docstrings: strings that are a statement by themselves."""
    tokens = [*tokenize.tokenize(io.BytesIO(text.encode()).readline)]
    code = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    docstrings = [
        token
        for before, token, after in zip(code, code[1:], code[2:], strict=False)
        if before.type in (tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        and (token.type, after.type) == (tokenize.STRING, tokenize.NEWLINE)
    ]
    return docstrings + [token for token in tokens if token.type == tokenize.COMMENT]


def _text(spec: ModuleSpec) -> str:
    """Return the text of a module as it was when it was first asked for; an import anew asks anew."""
    kept = vars(spec)
    if "text" not in kept:
        kept["text"] = decode_source(Path(str(spec.origin)).read_bytes())  # with every line end as one character
    return kept["text"]


def _spec_of(name: str) -> ModuleSpec | None:
    """Return where a module lies, without importing it or its packages; None: it has no file."""
    if module := sys.modules.get(name):
        return module.__spec__ or spec_from_file_location(name, getattr(module, "__file__", None))  # of a script
    package = name.rpartition(".")[0]
    folders = getattr(_spec_of(package), "submodule_search_locations", None) if package else None
    return PathFinder.find_spec(name, folders) if folders or not package else None


def _is_helper(spec: ModuleSpec, of: ModuleSpec) -> bool:
    """Return whether a module that another one imports counts as part of it."""
    name, room = PACKAGE.sub("", f"{spec.name}..").split(".")[:2]
    if _is_editable(spec) and name not in HOUSES:
        return True
    folder, lies_in = (Path(str(each.origin)).parent for each in (of, spec))
    is_below = lies_in.is_relative_to(folder) and PACKAGE.sub("", of.name).startswith(f"{name}.")
    return is_below and (lies_in == folder or room not in SHARED)


def _is_editable(spec: ModuleSpec) -> bool:
    """Return whether a module is a file in Python that is neither Python's nor of an installed package."""
    path = str(spec.origin)
    is_installed = any(folder in path for folder in INSTALLED)
    return path.endswith(".py") and not is_installed and spec.name.partition(".")[0] not in sys.stdlib_module_names


@cache
def _imported(text: str, package: str) -> list[str]:
    """Return the names that the imports of a module's text in a package name: modules, and what is taken from them."""
    names = list[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = resolve_name("." * node.level + (node.module or ""), package)
            names += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return names
