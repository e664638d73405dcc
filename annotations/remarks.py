"""Remarks of readers: how many entries of annotations were left out or read in another way, in a line each."""

from collections import Counter
from collections.abc import Sequence

LEFT_OUT = "left out"
UNKNOWN = "unknown (255)"
CUT = "cut at the photo's edges"


class Remarks:
    """Counts entries by what becomes of them and what they are, in the plural, with an example of each."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str]]()
        self._examples: dict[tuple[str, str], str] = {}

    def add(self, becomes: str, entries: str, example: str = "", count: int = 1) -> None:
        """Count entries, if any."""
        if count:
            self._counts[becomes, entries] += count
            self._examples.setdefault((becomes, entries), example)

    def add_photos(self, becomes: str, entries: str, names: Sequence[str]) -> None:
        """Count photos by their names."""
        self.add(becomes, entries, names[0] if names else "", len(names))

    def lines(self) -> list[str]:
        """Return a line for each outcome: ``left out: regions without a label (3), regions of 'x' (1)``."""
        lines: dict[str, list[str]] = {}
        for key, count in self._counts.items():
            becomes, entries = key
            example = f", such as {self._examples[key]}" if self._examples[key] else ""
            lines.setdefault(becomes, []).append(f"{entries} ({count}{example})")
        return [f"{becomes}: {', '.join(entries)}" for becomes, entries in lines.items()]
