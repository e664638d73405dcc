"""Digests of the data of a training or a test, and the names of those in which two trainings, or two tests, differ.

An entry that one of them lacks is not known, and neither equal nor different.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = 8  # digits of a digest in messages
OTHER = {  # facts, and what is said where they differ
    "schedule": "other epochs, batch, processes or list",
    "list": "another list",
    "whole_list": "another whole list",
    "content": "other photos or masks",
    "whole_content": "other photos or masks in the whole list",
    "text": "other text vectors",
    "code": "other code of the method",
    "start": "other initial weights",
    "weights": "other weights",
}
OF_CHECKPOINTS = {
    "schedule": "schedule",
    "data": "list",
    "content": "content",
    "text": "text",
    "start": "start",
    "code": "code",
}
OF_RESULTS = ("list", "whole_list", "content", "whole_content", "weights")


@dataclass(frozen=True)
class Origin:
    """The facts that are known, by their names in ``OTHER``."""

    facts: Mapping[str, Any]

    @classmethod
    def of_training(cls, content: Mapping[str, Any]) -> Origin:
        """Return that of a training, by the entries of its checkpoint, or those that it would write."""
        return cls({name: content[key] for key, name in OF_CHECKPOINTS.items() if key in content})

    @classmethod
    def of_test(cls, result: Mapping[str, Any]) -> Origin:
        """Return that of a test, by its result, or what is known of it."""
        return cls({name: result[name] for name in OF_RESULTS if result.get(name) is not None})

    def differences(self, other: Origin, among: Iterable[str] = OTHER) -> list[str]:
        """Return in words which facts, of some or all, are known of both and not equal."""
        shared = [name for name in among if name in self.facts and name in other.facts]
        return [OTHER[name] for name in shared if self.facts[name] != other.facts[name]]


def one_of_each(origins: Iterable[Origin], fact: str) -> list[str]:
    """Return the values of a fact that some origins have, each once and short, as far as they are known."""
    values = dict.fromkeys(str(origin.facts[fact])[:SHOWN] for origin in origins if fact in origin.facts)
    return list(values)
