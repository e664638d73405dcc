"""The result of one check: whether the requirement is met, details, and the command that meets it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Result of the check of one requirement."""

    what: str  # the requirement
    fine: bool  # whether it is met
    says: str  # details
    mend: str = ""  # command or advice if it is not met
    partly: bool = False  # met, but published results were made with something else

    def line(self) -> str:
        """Return the finding as a line of text."""
        state = "MISSING" if not self.fine else "differs" if self.partly else "ok"
        return f"{state:8}{self.what}: {self.says}"
