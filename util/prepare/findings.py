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

    def line(self) -> str:
        """Return the finding as a line of text."""
        return f"{'ok' if self.fine else 'MISSING':8}{self.what}: {self.says}"
