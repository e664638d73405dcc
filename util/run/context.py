"""The context that the stages and the test of a run share: config, fold, model class, text vectors, folders."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.contract import FewShotModel
from model.registry import class_of
from util.config.folds import Fold
from util.config.settings import MASKS, Config
from util.data.words import text
from util.errors import UserError
from util.files import kept_json

LAST, BEST, METRICS = "last.pth", "best.pth", "metrics.json"
PREVIOUS = "previous.pth"  # the last checkpoint but one, used when the last one cannot be read


@dataclass(frozen=True)
class RunContext:
    """The config of a run with its fold, its model class and its text vectors.

    Attributes:
        vectors: (classes + 1, T) float32, one row per class id; None for a model that reads no text.
    """

    config: Config
    fold: Fold
    model_class: type[FewShotModel]
    vectors: np.ndarray | None

    @property
    def text_width(self) -> int:
        """T, the length of a text vector; 0 for a model that reads none."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    @property
    def text_digest(self) -> str | None:
        """A digest of the text vectors, None for a model that reads none."""
        return None if self.vectors is None else hashlib.sha256(self.vectors.tobytes()).hexdigest()


def make_run_context(config: Config) -> RunContext:
    """Return the run context of a config.

    Raises:
        UserError: text vectors that the model reads are missing or wrong, or given to a model that reads none.
    """
    model_class = class_of(config.model)
    if not model_class.reads_text and config.data.text != text.NO_TEXT:
        raise UserError(
            f"{config.path}: data.text = {config.data.text}, but this model ({model_class.title}) reads no text "
            f"vectors; set data.text: {text.NO_TEXT}"
        )
    vectors = text.class_vectors(config.data) if model_class.reads_text else None
    return RunContext(config, Fold.of(config.data), model_class, vectors)


def with_data(config: Config, **changes: Any) -> Config:
    """Return the config with some data settings changed, such as the number of shots."""
    return replace(config, data=replace(config.data, **changes))


def network_config(config: Config) -> Config:
    """Return the config of the network that a test runs: one shot where ``test.fuse`` is ``masks``."""
    return with_data(config, shot=1) if config.test.fuse == MASKS else config


# --- folders ---------------------------------------------------------------------------------------------------------


def run_folder(config: Config, stage: str) -> Path:
    """Return the folder of a stage (base, meta, test) of this run; meta and test have one per number of shots."""
    shots = config.data.shot
    leaf = stage if stage == "base" or shots == 1 else f"{stage}_{shots}shot"
    return Path(config.run.folder) / str(config.run.name) / leaf


def base_folder(config: Config) -> Path:
    """Return the folder of the base stage: ``run.base_folder`` or the run's own."""
    return Path(config.run.base_folder) if config.run.base_folder else run_folder(config, "base")


def weights_folder(config: Config) -> Path:
    """Return the folder of the stage, the meta stage, that a test loads its weights from.

    It is the folder of the test's number of shots, or the 1-shot folder if the model's shots share their weights; the
    base stage's of a generalised model, which trains nothing else.
    """
    if class_of(config.model).generalised:
        return base_folder(config)
    config = network_config(config)
    own = run_folder(config, "meta")
    shared = class_of(config.model).shots_share_weights and not own.exists()
    return run_folder(with_data(config, shot=1), "meta") if shared else own


def begun(folder: Path) -> bool:
    """Return whether the folder of a stage holds a training that can be resumed."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def is_finished(folder: Path) -> bool:
    """Return whether the folder of a stage holds a completed training."""
    return bool(kept_json(folder / METRICS).get("finished")) and (folder / BEST).exists()
