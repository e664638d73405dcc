"""YAML of anybody as safe data: a short text whose aliases stand for many values is refused before any is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from util.files.sizes import check_nested

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is installed
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
MAX_TEXT = 2**20  # characters of a file; a second to read
MAX_EXPANDED = 2**20  # values and characters for which aliases stand
MAX_DIGITS = 100  # of a number; reading those of many takes their square
FORM_ERRORS = (yaml.scanner.ScannerError, yaml.parser.ParserError)
MEND = "indent by spaces, write a space after each colon, and close brackets and quotes"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(text: str, loader: Any = Loader) -> Any:
    """Return the value that a YAML text writes; ValueError: as ``composed``, or it is no plain data."""
    node = composed(text, loader)
    return None if node is None else constructed(node)


def constructed(node: yaml.Node) -> Any:
    """Return the value that a node writes; ValueError: it is no plain data, or not of its tag."""
    with _errors():
        try:
            return SafeConstructor().construct_document(node)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            raise Misplaced([str(node.start_mark.line + 1)], f"a value is not what its tag says ({error})") from None


def composed(text: str, loader: Any = Loader) -> yaml.Node | None:
    """Return the tree of nodes of a YAML text, None of an empty one.

    ValueError: it is no YAML, too long, contains itself, or its aliases stand for too many values.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"has more than {MAX_TEXT} characters")
    with _errors():
        node = yaml.compose(text, Loader=loader)
        if node is not None:
            check_nested(node, _parts_of, MAX_EXPANDED + 2 * len(text))
    return node


class Misplaced(ValueError):
    """A fault of a YAML text; its arguments are the line, or the first and the last one, and the problem."""

    def __str__(self) -> str:
        return f"line {' to '.join(self.args[0])}: {self.args[1]}"


@contextmanager
def _errors() -> Iterator[None]:
    """Turn every error of the block into a ValueError."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        lines = [str(mark.line + 1) for mark in (error.context_mark, error.problem_mark) if mark]
        fix = f"; {MEND}" if isinstance(error, FORM_ERRORS) else ""
        raise Misplaced([*dict.fromkeys(lines)], f"{error.problem}{fix}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _parts_of(node: yaml.Node) -> tuple[int, Sequence[yaml.Node]]:
    """Return the own size of a node, and the nodes in it."""
    if isinstance(node, yaml.MappingNode):
        return 1, [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return 1, node.value
    if node.tag in NUMBERS and len(node.value) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return 1 + len(node.value), ()
