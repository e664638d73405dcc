"""The page of the public Python names, made from their docstrings: ``python -m tests.helpers.api_page``."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass

import photos
from tests.helpers.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "api.md"
HEAD = """# Python names

Made from the docstrings by `python -m tests.helpers.api_page`. In a clone `from photos import ...`, installed
`from symnet import ...`; mistakes of a user raise `UserError` of `util.errors`. [Examples](python.md).
"""


def sentence(what: object) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(what) or "").split("\n\n")[0].split()).replace("``", "`")


def rows(owner: type) -> Iterator[str]:
    """Yield a row for each public method and property of a class."""
    for name, member in vars(owner).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if (name.startswith("_") and name != "__call__") or not inspect.isfunction(function):
            continue
        arguments = [word for word in inspect.signature(function).parameters if word not in ("self", "cls")]
        shown = name if isinstance(member, property) else f"{name}({', '.join(arguments)})"
        yield f"| `{shown}` | {sentence(function)} |"


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for name in photos.__all__:
        public = getattr(photos, name)
        parts.append(f"## {name}\n\n{sentence(public)}\n")
        if inspect.isclass(public) and (table := [*rows(public)]):
            fields = (
                f"\nFields: {', '.join(f'`{f}`' for f in public.__dataclass_fields__)}.\n"
                if is_dataclass(public)
                else ""
            )
            parts.append("| name | what it is |\n|---|---|\n" + "\n".join(table) + "\n" + fields)
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
