"""One strict reader of bytes, text and JSON: regular files of bounded size, in UTF-8 with or without a byte-order mark.

A pipe or a device is refused before it is opened, so that no reader waits or reads without end.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from util.errors import UserError

MAX_BYTES = 2**31  # of a file of text; COCO's largest file of annotations has 2**29


def irregular(path: Path) -> str | None:
    """Return in words why a path cannot be read as a file: it is missing, a folder, a pipe or a device; None if not."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return str(error.strerror or error)
    except ValueError as error:  # a NUL in the path
        return str(error)
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return None if stat.S_ISREG(mode) else "it is a pipe or a device, not a file"


def read_bytes(path: Path, what: str, mend: str, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a file.

    Args:
        what: the word for the file in messages, such as ``this list``.
        mend: the end of messages: what the user can do.
        limit: the largest size in bytes.

    Raises:
        UserError: the file is missing, no regular file, too large, or cannot be read.
    """
    reason = irregular(path)
    try:
        if reason is None and (size := path.stat().st_size) > limit:
            reason = f"it has {size} bytes, the limit is {limit}"
        if reason is None:
            return path.read_bytes()
    except OSError as error:
        reason = str(error.strerror or error)
    raise UserError(f"{path}: cannot read {what} ({reason}); {mend}")


def read_text(path: Path, what: str, mend: str, limit: int = MAX_BYTES) -> str:
    """Return the text of a file in UTF-8; a byte-order mark is no part of it.

    Raises:
        UserError: as ``read_bytes``, or the file is no text in UTF-8.
    """
    content = read_bytes(path, what, mend, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot read {what} (no text in UTF-8: {error.reason} at byte {error.start}); {mend}"
        ) from None


def read_json(
    path: Path, what: str, mend: str, limit: int = MAX_BYTES, object_hook: Callable[[dict], Any] | None = None
) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: as ``read_text``, or the text is no JSON: cut short, nested too deeply, with a number that no machine
            holds, with a key twice in one object, or with NaN or Infinity.
    """
    text = read_text(path, what, mend, limit)
    try:
        return parse_json(text, object_hook)
    except ValueError as error:
        raise UserError(f"{path}: cannot read {what} (cut short or not JSON: {error}); {mend}") from None


def kept_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that this project keeps for itself; empty if it is missing or damaged."""
    try:
        content = read_json(path, "", "")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def parse_json(text: str, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON in the strict sense of ``read_json``.
    """

    def collect(pairs: list[tuple[str, Any]]) -> Any:
        out = dict(pairs)
        if len(out) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
        return out if object_hook is None else object_hook(out)

    try:
        return json.loads(text, object_pairs_hook=collect, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
