"""Reading of files with errors of one line."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from util.files.errors import UserError

STAND_INS = {  # beginnings of files that stand in place of others -> what they are, and the fix
    rb"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
    rb"(?i)\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|error)\b": "a web page, not the file itself; download it again",
}


def stand_in(path: Path, others: Mapping[bytes, str] = STAND_INS) -> str:
    """Say what a file is that stands in place of another, by its beginning as in ``others``, and the fix; else ''."""
    try:
        with path.open("rb") as file:
            return _stand_in(file.read(1024), others)
    except OSError:
        return ""


def _stand_in(content: bytes, others: Mapping[bytes, str] = STAND_INS) -> str:
    start = content[:1024].removeprefix(b"\xef\xbb\xbf")
    return next((what for beginning, what in others.items() if re.match(beginning, start)), "")


def read_bytes(path: Path, what: str, fix: str, parse: Callable[[bytes], Any] = bytes) -> Any:
    """Return the content of a file as ``parse`` reads it.

    Args:
        what: the word for the file in messages, such as ``this list``.
        fix: the end of messages: what the user can do.

    UserError: the file is missing, a folder, cannot be read, stands in place of another, or ``parse`` raises a
    ValueError.
    """
    try:
        content = path.read_bytes()
        if other := _stand_in(content):
            raise UserError(f"{path}: is {other}")
        return parse(content)
    except (OSError, ValueError, RecursionError) as error:
        damage = "not in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cut short or damaged: {error}"
        reason = getattr(error, "strerror", None) or damage
        raise UserError(f"{path}: cannot read {what} ({reason}); {fix}") from None


def read_text(path: Path, what: str, fix: str) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark; raises as ``read_bytes`` does."""
    return read_bytes(path, what, fix, lambda content: content.decode("utf-8-sig"))


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Return the number and the text of each line that is not blank."""
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def read_json(path: Path, what: str, fix: str) -> Any:
    """Return the content of a JSON file; raises as ``read_bytes`` does."""
    return read_bytes(path, what, fix, json.loads)


def kept_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that this project keeps for itself; empty if it is missing or damaged."""
    try:
        content = read_json(path, "", "")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
