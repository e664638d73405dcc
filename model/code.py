"""The code of a method: digests of the modules that define it, equal on every machine."""

import ast
import hashlib
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from tokenize import TokenInfo
from types import ModuleType
from typing import Any

from torch import nn

PACKAGE = re.compile(r"\bsymnet\.(?=(?:annotations|model|photos|util)\b)")  # which an installed package adds to names


def code_of(piece: Any, but: type = nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each module that defines a class and its bases, or a function, or is imported beside it.

    Modules of Python and of the class ``but`` do not count. Folders, line ends, comments, docstrings and blank lines do
    not change a digest.
    """
    bases = [base for base in getattr(piece, "__mro__", [piece]) if base not in but.__mro__]
    names = [base.__module__ for base in bases if base.__module__ not in sys.stdlib_module_names]
    found: dict[str, str] = {}
    while names:
        name = names.pop()
        module = sys.modules[name]
        if PACKAGE.sub("", name) not in found and getattr(module, "__file__", None):
            text = Path(str(module.__file__)).read_text(encoding="utf-8")  # with every line end as one character
            found[PACKAGE.sub("", name)] = _digest(text)
            names += _beside(module, text)
    return dict(sorted(found.items()))


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


def _beside(module: ModuleType, text: str) -> Iterator[str]:
    """Yield the names of the modules in a module's folder that its text imports."""
    folder = Path(str(module.__file__)).parent
    for name in _imported(text, str(module.__package__)):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).parent == folder:
            yield name


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
