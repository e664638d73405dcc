"""Facts of data, code and weights that decide a training or a test beside its settings, most of them digests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from util.files.errors import UserError

SHOWN = 8  # digits of a digest in messages


def _fact(differs: str) -> Any:
    """Return the field of a fact; ``differs``: what is said where two know it, and it is not equal."""
    return field(default=None, metadata={"differs": differs})


@dataclass(frozen=True)
class Origin:
    """Facts by their names in checkpoints and results; None: not known, and neither equal nor different."""

    schedule: dict[str, int] | None = _fact("another schedule")
    list: str | None = _fact("another list")
    whole_list: str | None = _fact("another whole list")
    content: str | None = _fact("other photos or masks")
    whole_content: str | None = _fact("other photos or masks in the whole list")
    vectors: str | None = _fact("other text vectors")
    code: dict[str, str] | None = _fact("other code of the method")
    precision: str | None = _fact("another precision")
    initial: str | None = _fact("other initial weights")
    networks: str | None = _fact("other weights of the networks in model.weights")
    weights: str | None = _fact("other weights")
    training: Any = _fact("another training of the weights")  # stage by stage
    observers: Any = _fact("other observers that may decide")  # name, settings and code of each
    trained_by: int | None = _fact("another number of processes")
    episode_digests: Sequence[str] | None = _fact("other episodes")  # of each seed

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> Origin:
        """Return the origin of a result by the result's entries."""
        return cls(**{fact.name: entries.get(fact.name) for fact in fields(cls)})

    @classmethod
    def of_training(cls, entries: Mapping[str, Any]) -> Origin:
        """Return the origin of a checkpoint by its entries, whose ``weights`` are tensors and no digest."""
        return cls.of(
            {
                **entries,
                "weights": None,
                "vectors": entries.get("text"),
                "observers": deciding(entries.get("observers")),
            }
        )

    @classmethod
    def today(cls, facts: Mapping[str, Callable[[], Any]]) -> Origin:
        """Return the origin as of today: facts by the functions that find them, as far as what they need is here."""
        found = {}
        for name, find in facts.items():
            with suppress(UserError):
                found[name] = find()
        return cls(**found)

    def differences(self, other: Origin, skip: tuple[str, ...] = (), now: str = "now") -> Sequence[str]:
        """Say which facts are known of both and not equal, but for some that do not count here.

        ``now``: the word for the other origin.
        """
        said = []
        for fact in fields(self):
            theirs, ours = getattr(self, fact.name), getattr(other, fact.name)
            if fact.name not in skip and None not in (theirs, ours) and _differ(theirs, ours):
                said.append(f"{fact.metadata['differs']}{_where(theirs, ours, now)}")
        return said


def deciding(observers: Mapping[str, Any] | None) -> list[list[Any]] | None:
    """Return name, settings and code of each of a training's own observers that may decide; None: not known."""
    if observers is None:
        return None
    return [[name, facts["settings"], facts["code"]] for name, facts in observers.items() if facts["decides"]]


def _differ(theirs: Any, ours: Any) -> bool:
    """Return whether two values of a fact differ; two dictionaries by the keys that both have, if there is one."""
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return theirs != ours
    shared = theirs.keys() & ours.keys()
    return not shared or any(theirs[key] != ours[key] for key in shared)


def _where(theirs: Any, ours: Any, now: str) -> str:
    """Return in brackets where two values of a fact differ: beginnings of digests, numbers, or keys; '' for others."""
    if isinstance(theirs, str | int):
        return f" ({str(theirs)[:SHOWN]}, {now} {str(ours)[:SHOWN]})"
    if isinstance(theirs, dict):
        keys = [key for key in theirs if key in ours and theirs[key] != ours[key]] or [*theirs]
        return f" ({', '.join(keys)})"
    return ""
