"""The checks before a training continues: the same run, data and settings, and files that are all there."""

import logging
import os
from pathlib import Path
from typing import Any

from util.checkpoints import checkpoint
from util.config.read import read_config
from util.config.settings import Config
from util.config.tree import find
from util.errors import UserError
from util.files import kept_json
from util.report.run_folder import ENVIRONMENT
from util.run.context import BEST, LAST, PREVIOUS

log = logging.getLogger("symnet")
ALLOW = "--allow-changes"
OPTIONS = "options"  # key of the overrides of a training in its folder's ENVIRONMENT
OF_COMMAND = ("run.folder", "run.name", "run.device", "data.shot")  # settings that each command on a run names itself
SHOWN = 5  # changed settings in a message
# Settings that do not decide the weights of a training that continues; the end of a key counts for all below it.
HARMLESS = (
    *("run.folder", "run.name", "run.base_folder", "run.device", "run.compile"),
    *("data.root", "data.cache", "data.decoded_gib", "data.workers", "data.text", "data.text_dir"),
    *("data.images", "data.masks", "data.image_suffix", "data.mask_suffix", "data.train_list", "data.train_fold_list"),
    "data.validation_list",
    *("model.encoder.weights", "model.encoder.pretraining", "model.encoder.partial", "test", "protocols"),
)
OF_STAGE = (
    *("validate_every", "validate_midway", "validate_episodes", "validate_on", "validate_seed", "patience"),
    *("save_minutes", "log_steps", "typical_epochs"),
)
# Entries of a checkpoint that a run which continues must share: what is wrong if it does not.
SAME = {
    "format": "holds weights only",
    "schedule": "was made with other epochs, batch, processes or list",
    "data": "the training list has changed",
    "photos": "photos or masks of the training list have changed",
    "text": "was trained with other text vectors",
}


def newest(folder: Path) -> dict[str, Any]:
    """Return the content of the last checkpoint, else of the one before; UserError if neither can be read."""
    try:
        return checkpoint.read(folder / LAST)
    except UserError as error:
        if not (folder / PREVIOUS).exists():
            raise
        log.warning("%s; continuing from the one before, %s", error, folder / PREVIOUS)
        return checkpoint.read(folder / PREVIOUS)


def options_of(folder: Path, config: Config, leave: tuple[str, ...] = ()) -> list[str]:
    """Return the overrides of the training in a folder that a command on it takes over: of settings that it gives none.

    Args:
        config: of the command.
        leave: sections of which it takes none.
    """
    known, given = kept_json(folder / ENVIRONMENT).get(OPTIONS, []), {_key(text) for text in config.given}
    free = [text for text in known if _key(text) not in given.union(OF_COMMAND)]
    return [text for text in free if _key(text).partition(".")[0] not in leave]


def as_trained(config: Config, folder: Path, leave: tuple[str, ...] = ()) -> Config:
    """Return a command's config with the options that ``options_of`` gives; a line says which."""
    if not (kept := options_of(folder, config, leave)):
        return config
    if os.environ.get("RANK", "0") == "0":
        print(f"{folder}: the options of its training hold here too: {', '.join(kept)}", flush=True)
    return read_config(config.path, [*kept, *config.given])


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def check_free(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse (UserError) a folder with a run, unless it is to be resumed or overwritten, or without one to resume."""
    there = [name for name in (LAST, PREVIOUS, BEST) if (folder / name).exists()]
    if resume and not there:
        raise UserError(f"{folder / LAST}: nothing to resume here; omit --resume")
    if there and not resume and not overwrite:
        how = "start again with --overwrite, or set another run.name"
        how = how if there == [BEST] else f"continue it with --resume, or {how}"
        raise UserError(f"{folder}: holds a run already ({', '.join(there)}); {how}")


def check_continues(content: dict[str, Any], state: dict[str, Any], path: Path, allow_changes: bool) -> None:
    """Refuse a checkpoint that this training does not continue.

    Args:
        content: of the checkpoint.
        state: the entries of this run's checkpoints beside weights and progress.
        path: of the checkpoint.
        allow_changes: whether settings that decide the result may differ.

    Raises:
        UserError: the checkpoint is of another length, batch, list, photos or settings, or holds no training state.
    """
    now = {"format": checkpoint.FORMAT, **state}
    for key, what in SAME.items():
        if content.get(key, now.get(key)) != now.get(key) or not checkpoint.is_own(content):
            raise UserError(f"{path}: {what}; continue with the same, or start again with --overwrite")
    decisive = _differences(content["config"], state["config"], state["stage"])
    if decisive and not allow_changes:
        more = f" and {len(decisive) - SHOWN} more" if len(decisive) > SHOWN else ""
        raise UserError(
            f"{path}: settings that decide the result were changed since ({'; '.join(decisive[:SHOWN])}{more}); undo "
            f"the change, continue with it by {ALLOW}, or start again with --overwrite"
        )


def changed_settings(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the keys in which two configs differ, as ``section.key``."""
    out = []
    for key in {**before, **now}:
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += changed_settings(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}")
    return out


def training_differences(before: dict[str, Any], now: dict[str, Any], stage: str) -> list[str]:
    """Return the settings that decide a stage's weights and differ, such as ``meta_stage.epochs = 1, now 100``.

    A test may have other shots or precision than its training, or omit rare classes; a base stage serves several runs.

    Args:
        before: the merged config of a training, as its checkpoints hold it, or its section of the stage alone.
        now: another merged config.
        stage: base or meta.
    """
    own = ("base_stage",) if stage == "base" else ("data", "model", "meta_stage", "run")
    a, b = ({section: config.get(section, {}) for section in own} for config in (before, now))
    return _differences(a, b, stage, (*HARMLESS, "data.shot", "data.rare_classes", "run.precision"))


def _differences(
    before: dict[str, Any], now: dict[str, Any], stage: str, harmless: tuple[str, ...] = HARMLESS
) -> list[str]:
    """Return the settings that decide the weights at a stage's end and differ; one that ``before`` lacks does not."""
    out = []
    for key in changed_settings(before, now):
        section, _, rest = key.partition(".")
        decides = section == f"{stage}_stage" and rest not in OF_STAGE
        if not section.endswith("_stage"):
            decides = not any(key == h or key.startswith(f"{h}.") for h in harmless)
        new = find(now, key)
        old = find(before, key, new)
        if decides and old != new:
            out.append(f"{key} = {old}, now {new}")
    return out
