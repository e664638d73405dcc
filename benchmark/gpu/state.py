"""The report's file: every unit of every part with its status and result, written atomically after each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import write_atomically

FILE = "report.json"
FORMAT = 1
DONE, FAILED, SKIPPED, RUNNING, UNFINISHED = "done", "failed", "skipped", "running", "unfinished"
ENDED = (DONE, FAILED, SKIPPED)
MAX_STARTS = 2  # of a unit that ends its process or outlives a slice; then it has failed


class State:
    """The content of ``report.json``; a new object reads what another process has written."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self.content: dict[str, Any] = {"format": FORMAT, "spent_s": 0.0, "slices": 0, "finished": False, "parts": {}}
        if self.path.exists():
            try:
                self.content = json.loads(self.path.read_text(encoding="utf-8"))
                known = self.content["format"] == FORMAT and isinstance(self.content["parts"], dict)
            except (ValueError, KeyError, TypeError, OSError):
                known = False
            if not known:
                raise UserError(f"{self.path}: this is no report of this command; name another folder by --out")

    def check_same(self, **facts: Any) -> None:
        """Keep the facts of a new report; refuse to continue one of other facts.

        Raises:
            UserError: a fact differs.
        """
        for name, value in facts.items():
            if self.content.setdefault(name, value) != value:
                raise UserError(
                    f"{self.path}: begun with {name} = {self.content[name]}, now {value}; name another folder by --out"
                )
        self.write()

    def units(self, part: str) -> dict[str, dict[str, Any]]:
        """Return the entries of a part's units by name."""
        return self.content["parts"].setdefault(part, {})

    def results(self, part: str) -> dict[str, dict[str, Any]]:
        """Return the results of a part's completed units by name."""
        return {name: entry["result"] for name, entry in self.units(part).items() if entry["status"] == DONE}

    def has_ended(self, part: str, unit: str) -> bool:
        """Return whether a unit needs no further start."""
        return self.units(part).get(unit, {}).get("status") in ENDED

    def record(self, part: str, unit: str, status: str, **facts: Any) -> None:
        """Write the entry of a unit; the number of its starts is kept."""
        starts = self.starts(part, unit) + (status == RUNNING)
        self.units(part)[unit] = {"status": status, "starts": starts, **facts}
        self.write()

    def starts(self, part: str, unit: str) -> int:
        """Return how often a unit has been started."""
        return self.units(part).get(unit, {}).get("starts", 0)

    def with_status(self, *statuses: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (part, unit, entry) of all units with one of the statuses."""
        parts = self.content["parts"].items()
        return [(p, u, entry) for p, units in parts for u, entry in units.items() if entry["status"] in statuses]

    def write(self) -> None:
        """Write the file atomically.

        Raises:
            WriteError: the disk is full or the folder cannot be written.
        """
        write_atomically(self.path, json.dumps(self.content, indent=1) + "\n")
