"""Who looks at a training's steps: the calls of an observer, and observers of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from model.tables import add_once
from util.loop.training import Training

log = logging.getLogger("symnet")


class TrainingObserver:
    """Looks at a training: every call gets the training itself, and returns at once where it has nothing to do.

    All processes call all observers; ``training.world.is_main`` says which one writes files.
    """

    def begin(self, training: Training, first_step: int) -> None:
        """See the training before its first step; a resumed one does the steps from ``first_step`` on again."""

    def skips(self, training: Training) -> bool:
        """Return whether the weights stay as they are in this step, whose gradients are there.

        In fp16 the gradients are still scaled by ``training.scaler``. Processes must agree, as their gradients do.
        """
        return False

    def step(self, training: Training, losses: dict[str, float], rates: dict[str, float]) -> None:
        """See a step that is done: its losses, means over processes, and the learning rates."""

    def is_record_due(self, training: Training) -> bool:
        """Return whether a record is written after this step, as after each epoch."""
        return False

    def record(self, training: Training, entry: dict[str, Any]) -> None:
        """Add to the record of this step."""

    def recorded(self, training: Training, entry: dict[str, Any]) -> None:
        """See the record of this step, to which all observers have added."""

    def ends(self, training: Training) -> bool:
        """Return whether the training ends before its last step."""
        return False

    def interrupted(self, training: Training) -> None:
        """See that a signal ends the training after this step."""

    def finished(self, training: Training) -> None:
        """See that the training is done."""


Make = Callable[[Path], TrainingObserver]  # of the stage's folder
OBSERVERS: dict[str, Make] = {}


def register_observer(name: str) -> Callable[[Make], Make]:
    """Return a decorator of a class or function that lets it look at every training whose config imports it.

    It takes the folder of the stage. ValueError: another module has registered the name.
    """

    def add(make: Make) -> Make:
        add_once(OBSERVERS, name, make, "observer", lambda make: make)
        return make

    return add


def registered_observers(folder: Path) -> list[Any]:
    """Return the observers that imports have registered, for the stage of a folder."""
    return [Guarded(name, make(folder)) for name, make in OBSERVERS.items()]


class Guarded:
    """An observer whose first error is logged and does not end the training; it is not called again."""

    def __init__(self, name: str, observer: TrainingObserver):
        self.name = name
        self.observer = observer

    def __getattr__(self, call: str) -> Callable[..., Any]:
        """Return a call of the observer."""
        return partial(self._call, call)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.observer, name)(*arguments)
        except Exception as error:
            log.warning(
                "the observer %s failed, and is not called again: %s: %s", self.name, type(error).__name__, error
            )
            self.observer = TrainingObserver()
            return getattr(self.observer, name)(*arguments)
