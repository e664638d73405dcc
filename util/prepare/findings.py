"""One thing that was looked at: is it right, what was seen, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing."""

    what: str
    fine: bool
    says: str
    mend: str = ""  # a command, or what to do, where it is not fine
    partly: bool = False  # fine to run with, but not what published results were made with

    def line(self) -> str:
        """Return the finding as a line of text."""
        state = "MISSING" if not self.fine else "differs" if self.partly else "ok"
        return f"{state:8}{self.what}: {self.says}"
