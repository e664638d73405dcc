"""Training observers: their calls, and those that a config registers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.code import code_of
from model.registration import Registry
from util.files.errors import UserError, call_foreign, in_words, log

if TYPE_CHECKING:
    from util.loop.training import Training

QUESTIONS = ("skips", "is_record_due", "ends")  # to which an answer decides something


class TrainingObserver:
    """Looks at a training: every call gets the training itself, and returns at once where it has nothing to do.

    All processes call all observers; ``training.world.is_main`` says which one writes files. A question (``QUESTIONS``)
    to an observer of one's own is answered by yes if it is in any process.
    """

    decides = True  # whether it may change weights, rates or the end; False: it only looks, and its answers are no

    @property
    def name(self) -> str:
        """The observer's name in log and record."""
        return type(self).__name__.lower()

    def begin(self, training: Training, first_step: int) -> None:
        """See the training before its first step; a resumed one does the steps from ``first_step`` on again."""

    def skips(self, training: Training) -> bool:
        """Return whether the weights stay as they are in this step, whose gradients are there.

        In fp16 the gradients are still scaled by ``training.scaler``.
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
        """Return whether the training ends after this step, which is then validated and saved like the last one."""
        return False

    def interrupted(self, training: Training) -> None:
        """See that a signal ends the training after this step."""

    def finished(self, training: Training) -> None:
        """See that the training is done."""


# Classes, or functions that make an observer, of the folder of a stage and, where it has some, its ``Settings``.
OBSERVERS = Registry("observer", "observers")


def registered_observers(folder: Path, asked: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the observers of a training, for the stage of a folder; UserError: one cannot be made.

    ``asked``: their settings by name; none: all that imports have registered, with their defaults.
    """
    observers = []
    for name in asked or OBSERVERS:
        make = OBSERVERS[name]
        settings = [(asked or {}).get(name) or make.Settings()] if hasattr(make, "Settings") else []
        observer = call_foreign(f"the observer {name}, as it is made,", make, folder, *settings, local=True)
        observers.append(ForeignObserver(name, observer, asdict(settings[0]) if settings else {}))
    return observers


class ForeignObserver:
    """A user's observer: its first error ends the training; with ``decides = False`` it is only left out.

    All processes share its answers.
    """

    def __init__(self, name: str, observer: TrainingObserver, settings: dict[str, Any]):
        self.name = name
        self.observer = observer
        self.decides = observer.decides
        self.facts = {
            "decides": self.decides,
            "settings": settings,
            "code": code_of(type(observer), but=TrainingObserver),
        }

    def __getattr__(self, call: str) -> Callable[..., Any]:
        """Return a call of the observer."""
        return partial(self._call, call)

    def _call(self, call: str, training: Training, *arguments: Any) -> bool:
        """Call the observer; return its answer to a question, no where it only looks.

        One that only looks and fails is left out from then on, and so is what it adds to a record. UserError: another
        one failed.
        """
        given = copy.deepcopy(arguments) if call == "record" else arguments
        try:
            answer = bool(getattr(self.observer, call)(training, *given))
            if call == "record":
                json.dumps(given)  # a file has to hold it
                arguments[0].update(*given)
        except (Exception, SystemExit) as error:
            failed = f"step {training.progress.step}: the observer {self.name} failed in {call}: {in_words(error)}"
            if self.decides:
                raise UserError(failed, fix="mend its code, then continue by train.sh --resume", local=True) from None
            log.warning("%s; it only looks, and is left out from here on", failed)
            self.observer = TrainingObserver()
        if call not in QUESTIONS or not self.decides:
            return False
        return training.world.any(answer)
