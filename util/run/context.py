"""The context that the stages and the test of a run share: config, fold, model class, text vectors."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model.contract import FewShotModel
from model.registry import class_of
from util.config.folds import Fold
from util.config.settings import Config
from util.data.words import text
from util.files.errors import UserError


@dataclass(frozen=True)
class RunContext:
    """The config of a run with its fold, its model class and its text vectors."""

    config: Config
    fold: Fold
    model_class: type[FewShotModel]
    vectors: np.ndarray | None  # (classes + 1, T) float32, one row per class id; None for a model that reads no text

    @property
    def text_width(self) -> int:
        """T, the length of a text vector; 0 for a model that reads none."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    @property
    def text_digest(self) -> str | None:
        """A digest of the text vectors, None for a model that reads none."""
        return None if self.vectors is None else hashlib.sha256(self.vectors.tobytes()).hexdigest()

    @property
    def text_note(self) -> str:
        """The line of a training's log on the text vectors, or ""."""
        return "" if self.vectors is None else text.note_on_equal_rows(self.vectors, self.config.data.classes)


def make_run_context(config: Config) -> RunContext:
    """Return the run context of a config.

    UserError: text vectors that the model reads are missing or wrong, or given to a model that reads none.
    """
    model_class = class_of(config.model)
    if not model_class.reads_text and config.data.text != text.NO_TEXT:
        problem = f"this model ({model_class.title}) reads no text vectors; set data.text: {text.NO_TEXT}"
        raise UserError(f"{config.source}: data.text = {config.data.text}, but {problem}")
    vectors = text.class_vectors(config.data) if model_class.reads_text else None
    return RunContext(config, Fold.of(config.data), model_class, vectors)


def with_data(config: Config, **changes: Any) -> Config:
    """Return the config with some data settings changed, such as the number of shots."""
    return replace(config, data=replace(config.data, **changes))
