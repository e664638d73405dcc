"""Functions shared by the sub-commands: omitting bad files, stamps of finished folders, comparison of counts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from util.errors import UserError
from util.files import fingerprint, kept_json, write_atomically
from util.prepare.download import unpack

STAMP = "prepared.json"  # in a prepared folder: fingerprint of its sources, and facts about it
DIFFERS = "differs"
MAX_SHOWN = 5  # bad files that are named
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


def add_common_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out`` and ``--skip-bad``."""
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder to create (default {out})")
    parser.add_argument("--skip-bad", action="store_true", help="omit missing or damaged files instead of stopping")


def keep_good(keys: Sequence[Key], results: Iterable[Result | UserError], skip_bad: bool) -> dict[Key, Result]:
    """Return the results that are no errors, by key; print the errors and their number.

    Args:
        results: one per key, as returned by ``util.parallel.attempt``.

    Raises:
        UserError: a result is an error and ``skip_bad`` is False.
    """
    good: dict[Key, Result] = {}
    bad: list[UserError] = []
    for key, result in zip(keys, results, strict=True):
        if isinstance(result, UserError):
            bad.append(result)
        else:
            good[key] = result
    if bad and not skip_bad:
        others = f" (and {len(bad) - 1} more bad files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{others}; --skip-bad omits them")
    for error in bad[:MAX_SHOWN]:
        print(f"omitted: {error}")
    if len(bad) > MAX_SHOWN:
        print(f"omitted: {len(bad) - MAX_SHOWN} more")
    return good


def already_done(out: Path, made_from: str, outputs: Iterable[Path]) -> dict[str, Any] | None:
    """Return the stamp of ``mark_done`` if a folder was made from the same sources and still holds ``outputs``."""
    stamp = kept_json(out / STAMP)
    return stamp if stamp.get("made_from") == made_from and all(p.exists() for p in outputs) else None


def mark_done(out: Path, made_from: str, **facts: Any) -> None:
    """Write the stamp of a complete folder, as the last step of a preparation."""
    write_atomically(out / STAMP, json.dumps({"made_from": made_from, **facts}, indent=2) + "\n")


def unpack_once(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack the wanted files of an archive unless an earlier call has finished that.

    Raises:
        UserError: as ``download.unpack``.
    """
    stamp, made_from = folder / f".{archive.name}.unpacked", fingerprint([archive])
    if not stamp.exists() or stamp.read_text() != made_from:
        unpack(archive, folder, wanted)
        write_atomically(stamp, made_from)


def compare_count(title: str, count: int, expected: int | None) -> str:
    """Return a line with a count, the published count (None if unknown) and whether both agree."""
    if expected is None:
        return f"{title}: {count}"
    return f"{title}: {count}, published {expected}: {'OK' if count == expected else DIFFERS}"
