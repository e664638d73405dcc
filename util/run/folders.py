"""The folders of a run and the names of the files in them."""

from __future__ import annotations

from pathlib import Path

from model.registry import class_of
from util.config.settings import Config
from util.files import kept_json
from util.run.context import network_config, with_data

LAST, BEST, METRICS = "last.pth", "best.pth", "metrics.json"
PREVIOUS = "previous.pth"  # the last checkpoint but one, used when the last one cannot be read


def run_folder(config: Config, stage: str) -> Path:
    """Return the folder of a stage (base, meta, test) of this run; meta and test have one per number of shots."""
    shots = config.data.shot
    leaf = stage if stage == "base" or shots == 1 else f"{stage}_{shots}shot"
    return Path(config.run.folder) / str(config.run.name) / leaf


def base_folder(config: Config) -> Path:
    """Return the folder of the base stage: ``run.base_folder`` or the run's own."""
    if config.run.base_folder:
        return Path(config.run.base_folder)
    return run_folder(config, "base")


def weights_folder(config: Config) -> Path:
    """Return the meta stage's folder that a test loads its weights from.

    It is the folder of the test's number of shots, or the 1-shot folder if the model's shots share their weights.
    """
    config = network_config(config)
    own = run_folder(config, "meta")
    shared = class_of(config.model).shots_share_weights and not own.exists()
    return run_folder(with_data(config, shot=1), "meta") if shared else own


def is_finished(folder: Path) -> bool:
    """Return whether the folder of a stage holds a completed training."""
    return bool(kept_json(folder / METRICS).get("finished")) and (folder / BEST).exists()
