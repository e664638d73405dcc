"""The page of the public Python names, made from their docstrings: ``python -m tests.helpers.api_page``."""

import inspect
import re
from collections.abc import Callable, Iterator

import photos
from tests.helpers.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "api.md"
HEAD = """# Python names

Made from the docstrings by `python -m tests.helpers.api_page`. In a clone `from photos import Segmenter, UserError`,
installed `from symnet import Segmenter, UserError`, which a user's mistake raises. [Examples](python.md).
"""
METHODS = {  # that users call, of each public class
    photos.Segmenter: ("__call__", "many", "add", "save_pretrained", "from_pretrained"),
    photos.Prediction: ("instances", "summary", "overlay", "save", "to_supervision"),
}
ENTRY = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.M)  # of a block of a docstring


def as_markdown(text: str) -> str:
    """Return a docstring's text in one line."""
    return " ".join(text.split()).replace("``", "`")


def sentence(what: object) -> str:
    """Return the first paragraph of a docstring."""
    return as_markdown((inspect.getdoc(what) or "").split("\n\n")[0])


def entries(owner: type) -> Iterator[str]:
    """Yield a line on each argument or attribute that a docstring explains."""
    for name, text in ENTRY.findall(inspect.getdoc(owner) or ""):
        yield f"- `{name}`: {as_markdown(text)}"


def calls(owner: type) -> Iterator[str]:
    """Yield a line on each method that users call."""
    for name in METHODS[owner]:
        function = getattr(owner, name)
        arguments = [str(word.replace(annotation=word.empty)) for word in parameters(function)]
        shown = f"segmenter({', '.join(arguments)})" if name == "__call__" else f"{name}({', '.join(arguments)})"
        yield f"- `{shown}`: {sentence(function)}"


def parameters(function: Callable) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a method that a caller writes."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            yield parameter


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for owner in METHODS:
        parts += [f"## {owner.__name__}\n", f"{sentence(owner)}\n"]
        parts.append("Arguments:" if owner is photos.Segmenter else "Fields:")
        parts += [*entries(owner), "", "Methods:", *calls(owner), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
