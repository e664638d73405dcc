"""Readers of bytes, of text in UTF-8 with or without a byte-order mark, and of JSON; each error is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from util.errors import UserError


def read_bytes(path: Path, what: str, mend: str) -> bytes:
    """Return the content of a file.

    Args:
        what: the word for the file in messages, such as ``this list``.
        mend: the end of messages: what the user can do.

    Raises:
        UserError: the file is missing, a folder, or cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path}: cannot read {what} ({getattr(error, 'strerror', error)}); {mend}") from None


def read_text(path: Path, what: str, mend: str) -> str:
    """Return the text of a file in UTF-8; a byte-order mark is no part of it.

    Raises:
        UserError: as ``read_bytes``, or the file is no text in UTF-8.
    """
    content = read_bytes(path, what, mend)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot read {what} (no text in UTF-8: {error.reason} at byte {error.start}); {mend}"
        ) from None


def read_json(path: Path, what: str, mend: str, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: as ``read_text``, or the text is no JSON.
    """
    try:
        return json.loads(read_text(path, what, mend), object_hook=object_hook)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot read {what} (cut short or not JSON: {error}); {mend}") from None


def kept_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that this project keeps for itself; empty if it is missing or damaged."""
    try:
        content = read_json(path, "", "")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
