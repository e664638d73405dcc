"""A run: its config, the folders and state of its stages, its weights, and how these were trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.decides import Decides
from model.registry import class_of
from util.config.place import BEST, DISCARDED, ENVIRONMENT, LAST, PREVIOUS, RESULT, stage_name
from util.config.read import read_config, to_dict
from util.config.same import Differences, differences, in_words
from util.config.settings import Config
from util.config.tree import find, override
from util.files import kept_json
from util.files.errors import UserError
from util.files.launcher import is_first_of_machine
from util.run import checkpoint
from util.run.checkpoint import Checkpoint
from util.run.context import RunContext, make_run_context, with_data
from util.run.origin import Origin

log = logging.getLogger("symnet")
METRICS = "metrics.json"
NO_CHECKPOINT = "none"
OWN = {"best": BEST, "last": LAST}  # values of test.checkpoint that name a checkpoint of the run itself
TRAINING_FREE = "training-free"
UNTRAINED = "untrained"
FOREIGN = "foreign"
ALLOW = "--allow-changes"
# Keys of a training in its folder's ENVIRONMENT: its overrides, and the name of its run
OPTIONS, RUN = "options", "run"
PRECISION = "run.precision"


@dataclass(frozen=True)
class StageFolder:
    """The folder of a stage's training and its state."""

    path: Path

    @property
    def begun(self) -> bool:
        """Whether it holds a training that can be resumed."""
        return (self.path / LAST).exists() or (self.path / PREVIOUS).exists()

    @property
    def finished(self) -> bool:
        """Whether it holds a completed training."""
        return bool(kept_json(self.path / METRICS).get("finished")) and (self.path / BEST).exists()

    @property
    def started(self) -> bool:
        """Whether a training was started here, of which there may be no checkpoint yet."""
        return (self.path / ENVIRONMENT).exists()

    @property
    def run(self) -> str | None:
        """The name of the run that trained it last; None: not known."""
        return kept_json(self.path / ENVIRONMENT).get(RUN)

    @property
    def options(self) -> list[str]:
        """The overrides that its training was begun, or last continued, with."""
        return kept_json(self.path / ENVIRONMENT).get(OPTIONS, [])

    def newest(self) -> Checkpoint:
        """Return the last checkpoint, else of the one before; UserError if neither can be read."""
        try:
            return checkpoint.read(self.path / LAST)
        except UserError as error:
            if not (self.path / PREVIOUS).exists():
                raise
            log.warning("%s; continuing from the one before, %s", error, self.path / PREVIOUS)
            return checkpoint.read(self.path / PREVIOUS)

    def check_free(self, resume: bool, overwrite: bool) -> None:
        """Refuse (UserError) a run here that is neither to be resumed nor overwritten, and none here to resume."""
        checkpoints = [name for name in (LAST, PREVIOUS, BEST) if (self.path / name).exists()]
        if resume and not checkpoints:
            raise UserError(f"{self.path / LAST}: nothing to resume here; omit --resume")
        if not checkpoints or resume or overwrite:
            return
        fix = "start again with --overwrite, or set another run.name"
        if checkpoints != [BEST]:
            fix = f"continue it with --resume, or {fix}"
        raise UserError(f"{self.path}: holds a run already ({', '.join(checkpoints)}); {fix}")


@dataclass(frozen=True)
class Run:
    """A run as a command's config names it: its folders, its weights, and how these were trained."""

    config: Config

    @cached_property
    def context(self) -> RunContext:
        """The fold, the model class and the text vectors; errors as ``make_run_context``."""
        return make_run_context(self.config)

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage (base, meta, test); meta and test have one per number of shots."""
        run = self.config.run
        if stage == "base" and run.base_folder:
            return Path(run.base_folder)
        return Path(run.folder) / str(run.name) / stage_name(stage, self.config.data.shot)

    def at(self, stage: str) -> StageFolder:
        """Return the folder and state of a stage (base, meta)."""
        return StageFolder(self.folder(stage))

    @property
    def stages(self) -> list[str]:
        """The stages of its training, in their order."""
        stages = []
        if self.config.base_stage is not None:
            stages.append("base")
        return [*stages, "meta"]

    @property
    def trained(self) -> Path:
        """The folder of the stage, the meta stage, that a test loads its weights from.

        It is the folder of the test's number of shots, or the 1-shot folder if the model's shots share their weights.
        """
        model_class = class_of(self.config.model)
        folder = self.folder("meta")
        if model_class.shots_share_weights and not folder.exists():
            return Run(with_data(self.config, shot=1)).folder("meta")
        return folder

    def discard_tests(self, stage: str) -> int:
        """Rename the results of the run's tests of a stage's weights, which are about to be replaced; return how many.

        They are told by the stage's folder that they state, wherever the run lay then.
        """
        trained = self.folder(stage)
        results = Path(self.config.run.folder, str(self.config.run.name)).glob(f"test*/*/{RESULT}")
        count = 0
        for path in results:
            result = kept_json(path)
            is_own = result.get("weights_mark") in ("", "last")
            if is_own and Path(str(result.get("checkpoint"))).parent.name == trained.name:
                path.replace(path.with_name(DISCARDED))
                count += 1
        return count

    @property
    def weights(self) -> Path | str:
        """The path of the checkpoint that ``test.checkpoint`` means, or why there is none."""
        wanted = self.config.test.checkpoint
        if not class_of(self.config.model).learns:
            return TRAINING_FREE
        if wanted == NO_CHECKPOINT:
            return UNTRAINED
        return self.trained / OWN[wanted] if wanted in OWN else checkpoint.file_of(wanted)

    @property
    def weights_origin(self) -> str:
        """'' if a test scores the run's own best weights, else the mark of its result: last, untrained, foreign."""
        if self.config.test.allow_fold_mismatch:
            return FOREIGN
        source = self.weights
        if isinstance(source, str):
            return source if source == UNTRAINED else ""
        marks = {(self.trained / BEST).resolve(): "", (self.trained / LAST).resolve(): "last"}
        return marks.get(source.resolve(), FOREIGN)

    def with_training_options(self, stage: str) -> Run:
        """Return the run with the options that a stage's training was begun with and that the command does not name.

        A base stage that another run, which shares it, trained last has options of that run.
        """
        is_shared = stage == "base" and self.config.run.base_folder
        if is_shared and self.at(stage).run != self.config.run.name:
            return self
        return self._with(self.at(stage).options, self.folder(stage))

    def with_checkpoint_config(self) -> Run:
        """Return the run as a test takes it: with data and model of its checkpoint, whose run it may be or another.

        Of weights that learnt from another data set (``test.trained_on``) it is the model alone. All options of its own
        training hold too, but in the sections of tests. The fold, what the command names, and settings of the training
        itself, which a result names where they differ, stay.
        """
        source = self.weights
        if isinstance(source, str) or not source.exists():
            return self
        is_own = self.weights_origin in ("", "last")
        overrides = _training_options(source.parent) if is_own else {}
        for key, trained in self._settings_of(source, takes_data=is_own or self.config.test.trained_on is None).items():
            overrides.setdefault(key, override(key, trained))
        return self._with([*overrides.values()], source.parent if is_own else source)

    def _settings_of(self, source: Path, takes_data: bool) -> dict[str, Any]:
        """Return the settings of model, and of data, of a checkpoint that differ from the run's and may be taken."""
        sections = ("data.", "model.") if takes_data else ("model.",)
        now = to_dict(self.config)
        stored = checkpoint.read(source)
        of_training = self.training_differences(stored)
        of_others = differences(stored.config or {}, now, Decides.IDENTITY)
        settings = {}
        for key, (theirs, _) in of_training.items():
            if key.startswith(sections) and key not in of_others and find(now, key, ...) is not ...:
                settings[key] = theirs
        return settings

    def _with(self, options: list[str], place: Path) -> Run:
        """Return the run with options of a training that the command does not name; a line says which."""
        given = {"run.folder", "run.name", "run.device", "data.shot", *map(_key, self.config.given)}
        kept = [text for text in options if _key(text) not in given]
        if not kept:
            return self
        if is_first_of_machine():
            print(f"{place}: this command uses these settings of the training: {', '.join(kept)}", flush=True)
        return Run(read_config(self.config.source, [*kept, *self.config.given]))

    def training_differences(self, stored: Checkpoint) -> Differences:
        """Return what ``differing`` does of every stage of a checkpoint's weights."""
        found: Differences = {}
        for training in stored.facts.training:
            stage = training["stage"]
            found |= self.differing({**(stored.config or {}), f"{stage}_stage": training["settings"]}, stage)
        return found

    def shared(self, stored: Checkpoint) -> list[str]:
        """Return in words the settings of data and run of a base stage that differ, which is kept as runs share it."""
        if stored.config is None or stored.stage != "base":
            return []
        found = self.differing(stored.config, "meta")
        return in_words({key: pair for key, pair in found.items() if key.startswith(("data.", "run."))})

    def differing(self, before: dict[str, Any], stage: str) -> Differences:
        """Return the settings that decide a stage's weights and differ from those of a training.

        A test may have other shots or precision than its training, or omit rare classes; a base stage serves several
        runs.
        """
        skip = ("base_stage", "data.shot", "data.rare_classes", PRECISION)
        if stage == "base":
            skip = ("meta_stage", "data.", "model.", "run.")
        return differences(before, to_dict(self.config), Decides.WEIGHTS, skip)


def check_continues(stored: Checkpoint, state: dict[str, Any], allow_changes: bool) -> None:
    """Refuse a checkpoint that this training does not continue.

    Args:
        stored: the checkpoint.
        state: the entries of this run's checkpoints beside weights and progress.
        allow_changes: whether settings, precision and the method's code may be others.

    Raises:
        UserError: it is of another length, batch, list or photos, of other settings or another precision, or no
            training.
    """
    path = stored.path
    if not stored.is_own:
        raise UserError(f"{path}: holds weights only, which no training continues; start again with --overwrite")
    if other := stored.facts.origin.differences(Origin.of(state), skip=("code",) * allow_changes):
        fix = "restore them, or start again with --overwrite"
        raise UserError(f"{path}: was trained with {', '.join(other)} than those of today; {fix}")
    other_stage = "meta_stage" if state["stage"] == "base" else "base_stage"
    found = differences(_as_computed(stored.entries), _as_computed(state), Decides.WEIGHTS, (other_stage,))
    if not found or allow_changes:
        return
    shown, others = in_words(found)[:5], len(found) - 5
    if others > 0:
        shown.append(f"and {others} more")
    changed = f"settings that decide the result were changed since ({'; '.join(shown)})"
    undo = "undo the change"
    begun, _ = found.get(PRECISION, (None, None))
    if begun and len(found) == 1:  # perhaps another machine, not another setting
        undo = f"go on as begun by --set {PRECISION}={begun}"
    raise UserError(f"{path}: {changed}; {undo}, continue with it by {ALLOW}, or start again with --overwrite")


def _as_computed(content: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a checkpoint with the precision of its training in place of the one that was asked."""
    config = content["config"]
    return {**config, "run": {**config["run"], "precision": content.get("precision")}}


def _training_options(folder: Path) -> dict[str, str]:
    """Return the options that the training in a folder was begun with, by their keys, but for those of tests."""
    options = {_key(text): text for text in StageFolder(folder).options}
    return {key: text for key, text in options.items() if not key.startswith(("test.", "protocols."))}


def _key(override: str) -> str:
    return override.partition("=")[0].strip()
