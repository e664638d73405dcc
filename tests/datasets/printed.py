"""Checks of what ``prepare.py`` printed, and readers of what it made."""

import hashlib
from pathlib import Path

from tests.helpers.outcome import Outcome
from util.files.mask_images import read_mask


def assert_done(outcome: Outcome, *texts: str) -> str:
    """Check that a command ended without an error and printed some texts; return all that it printed."""
    assert outcome.code == 0, outcome.errors
    for text in texts:
        assert text in outcome.output
    return outcome.output


def list_lines(out: Path, part: str = "test") -> list[list[str]]:
    """Return the words of each line of a prepared list."""
    return [line.split() for line in (out / f"lists/{part}.txt").read_text().splitlines()]


def times(paths: list[Path]) -> dict[Path, int]:
    """Return when each file was written."""
    return {path: path.stat().st_mtime_ns for path in paths}


def masks_digest(out: Path) -> str:
    """Return a digest of the names and pixels of all prepared masks."""
    digest = hashlib.sha256()
    for path in sorted((out / "masks").rglob("*.png")):
        digest.update(f"{path.relative_to(out)}".encode() + read_mask(path).tobytes())
    return digest.hexdigest()
