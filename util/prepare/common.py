"""What the sub-commands share: leaving out bad files, knowing that all is done, counts beside published ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from util.errors import UserError
from util.files import fingerprint, write_atomically
from util.prepare.download import unpack

STAMP = "prepared.json"  # in a prepared folder: what it was made from
DIFFERS = "differs"
SHOWN = 5  # bad files named in full
Key, Result = TypeVar("Key"), TypeVar("Result")


def add_common_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out`` and ``--skip-bad``."""
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder to make (default {out})")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out missing or damaged files instead of stopping"
    )


def sort_out(keys: Sequence[Key], results: Iterable[Result | UserError], skip_bad: bool) -> dict[Key, Result]:
    """Return what went well, by key; name and count what did not.

    Args:
        results: one per key, as ``util.parallel.attempt`` gives them.

    Raises:
        UserError: something is bad and ``skip_bad`` is False.
    """
    good, bad = {}, []
    for key, result in zip(keys, results, strict=True):
        if isinstance(result, UserError):
            bad.append(result)
        else:
            good[key] = result
    if bad and not skip_bad:
        others = f" (and {len(bad) - 1} more bad files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{others}; --skip-bad goes on without them")
    for error in bad[:SHOWN]:
        print(f"left out: {error}")
    if len(bad) > SHOWN:
        print(f"left out: {len(bad) - SHOWN} more")
    return good


def already_done(out: Path, made_from: str, outputs: Iterable[Path]) -> dict[str, Any] | None:
    """Return what ``mark_done`` wrote if a folder was made from the same things and still holds ``outputs``."""
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if stamp.get("made_from") == made_from and all(p.exists() for p in outputs) else None


def mark_done(out: Path, made_from: str, **facts: Any) -> None:
    """Write that a folder is complete, to be called last."""
    write_atomically(out / STAMP, json.dumps({"made_from": made_from, **facts}, indent=2) + "\n")


def unpack_once(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack what is wanted of an archive, unless that was finished before.

    Raises:
        UserError: as ``download.unpack``.
    """
    stamp, made_from = folder / f".{archive.name}.unpacked", fingerprint([archive])
    if not stamp.exists() or stamp.read_text() != made_from:
        unpack(archive, folder, wanted)
        write_atomically(stamp, made_from)


def beside(title: str, count: int, expected: int | None) -> str:
    """Return a line with a count beside the published one."""
    if expected is None:
        return f"{title}: {count}"
    return f"{title}: {count}, published {expected}: {'OK' if count == expected else DIFFERS}"
