"""Who looks at a training's steps: the calls of an observer, and observers of one's own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from model.code import code_of
from model.tables import Kind
from util.files.errors import UserError, ask, in_words, log

if TYPE_CHECKING:
    from util.loop.training import Training

QUESTIONS = ("skips", "is_record_due", "ends")  # to which an answer decides something
DECIDES_BY = {"rules", "optimizers"}  # of a training: an observer whose code names them may change the rates


class TrainingObserver:
    """Looks at a training: every call gets the training itself, and returns at once where it has nothing to do.

    All processes call all observers; ``training.world.is_main`` says which one writes files. A question (``QUESTIONS``)
    to an observer of one's own is answered by yes if it is in any process.
    """

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


OBSERVERS = Kind("observer", "observers")
# A class, or a function that makes an observer, of the folder of a stage and, where it has some, its ``Settings``.
register_observer = OBSERVERS.register


def registered_observers(folder: Path, asked: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the observers of a training, for the stage of a folder; UserError: one cannot be made.

    ``asked``: their settings by name; none: all that imports have registered, with their defaults.
    """
    observers = []
    for name in asked or OBSERVERS:
        make = OBSERVERS[name]
        settings = [(asked or {}).get(name) or make.Settings()] if hasattr(make, "Settings") else []
        try:
            observer = ask(f"the observer {name}, as it is made,", make, folder, *settings)
        except UserError as error:
            raise UserError(str(error), local=True) from None
        observers.append(Guarded(name, observer, asdict(settings[0]) if settings else {}))
    return observers


class Guarded:
    """An observer of one's own, whose answers all processes share.

    Its first error ends the training if it ``may_decide``. If it only looks, the error is logged, ``facts`` say so,
    which processes share at each record, and it is not called again.
    """

    def __init__(self, name: str, observer: TrainingObserver, settings: dict[str, Any]):
        self.name = name
        self.observer = observer
        self.decides = may_decide(observer)
        code = code_of(type(observer), but=TrainingObserver)
        self.facts: dict[str, Any] = {"decides": self.decides, "settings": settings, "code": code}

    def __getattr__(self, call: str) -> Callable[..., Any]:
        """Return a call of the observer."""
        return partial(self._call, call)

    def record(self, training: Training, entry: dict[str, Any]) -> None:
        """Add to a record what the observer adds, where a file can hold it."""
        before = copy.deepcopy(entry)
        self._call("record", training, entry)
        for error in filter(None, training.world.gather(self.facts.get("left_out"))):
            self.facts.setdefault("left_out", error)
        if type(self.observer) is TrainingObserver:  # it has failed
            entry.clear()
            entry |= before

    def _call(self, call: str, training: Training, *arguments: Any) -> bool:
        """Call the observer; return its answer to a question, UserError: it failed and may decide."""
        try:
            answer = bool(getattr(self.observer, call)(training, *arguments))
            if call == "record":
                json.dumps(arguments)  # a file has to hold it
        except (Exception, SystemExit) as error:
            self._fail(training, call, in_words(error))
            return False
        return training.world.any(answer) if self.decides and call in QUESTIONS else answer

    def _fail(self, training: Training, call: str, error: str) -> None:
        step = training.progress.step
        if self.decides:
            raise UserError(
                f"step {step}: the observer {self.name}, which may decide, failed in {call}: {error}",
                fix="mend its code, then continue by train.sh --resume",
                local=True,
            )
        log.warning("the observer %s failed, and is not called again: %s", self.name, error)
        self.facts["left_out"] = f"step {step}: {error}"
        self.observer = TrainingObserver()


def may_decide(observer: object) -> bool:
    """Return whether an observer answers a question of a training, or its code names what decides the rates."""
    own = [vars(base) for base in type(observer).__mro__ if base not in TrainingObserver.__mro__]
    functions = [entry for entries in own for entry in entries.values() if hasattr(entry, "__code__")]
    answers = any(name in entries for entries in own for name in QUESTIONS)
    return answers or any(not DECIDES_BY.isdisjoint(_names_in(function.__code__)) for function in functions)


def _names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of attributes and globals that a function and those inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
