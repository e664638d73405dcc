"""A run: its config, the folders of its stages, its weights, and how these were trained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model.contract import FewShotMethod
from model.decides import Decides
from model.registry import class_of
from util.config.folds import Fold
from util.config.place import DISCARDED, FORMER, RESULT, stage_name
from util.config.read import read_config, to_dict
from util.config.same import Differences, differences, in_words, settings_in
from util.config.settings import Config, Sections
from util.config.tree import find, key_of, override
from util.data.words import text
from util.files.errors import UserError, note
from util.files.launcher import is_first_of_machine
from util.files.reading import kept_json
from util.run.folder import BEST, LAST, StageFolder
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.may_differ import CONTINUED, CONTINUED_CHANGED, TESTED
from util.weights.origin import Origin

NO_CHECKPOINT = "none"
CHECKPOINTS = {"best": BEST, "last": LAST}  # values of test.checkpoint that name a checkpoint of the run
TRAINING_FREE = "training-free"
UNTRAINED = "untrained"
FOREIGN = "foreign"
ALLOW = "--allow-changes"


@dataclass(frozen=True)
class Run:
    """A run as a command's config names it: its classes and text vectors, its folders and its weights."""

    config: Config

    @cached_property
    def fold(self) -> Fold:
        """Its novel and base classes."""
        return Fold.of(self.config.data)

    @property
    def model_class(self) -> type[FewShotMethod]:
        """The class of its method."""
        return class_of(self.config.model)

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """The text vectors, (classes + 1, T) float32, one row per class id; None for a model that reads no text.

        UserError: they are missing or wrong, given to a model that reads none, or not given to one that reads them.
        """
        data = self.config.data
        reads_text = self.model_class.reads_text
        if reads_text == (data.text == text.NO_TEXT):
            reads, fix = ("reads", "word2vec or names") if reads_text else ("reads no", text.NO_TEXT)
            raise UserError(
                f"{self.config.source}: data.text = {data.text}, but {self.model_class.title} {reads} text vectors",
                fix=f"set data.text: {fix}",
            )
        return text.class_vectors(data) if reads_text else None

    @property
    def text_width(self) -> int:
        """T, the length of a text vector; 0 for a model that reads none."""
        return 0 if self.vectors is None else self.vectors.shape[1]

    @property
    def text_digest(self) -> str | None:
        """A digest of the text vectors, None for a model that reads none."""
        return None if self.vectors is None else hashlib.sha256(self.vectors.tobytes()).hexdigest()

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage (base, meta, test); meta and test have one per number of shots."""
        run = self.config.run
        if stage == "base" and run.base_folder:
            return Path(run.base_folder)
        return Path(run.folder) / str(run.name) / stage_name(stage, self.config.data.shot)

    def stage_folder(self, stage: str) -> StageFolder:
        """Return the folder and state of a stage (base, meta)."""
        return StageFolder(self.folder(stage))

    @property
    def stages(self) -> list[str]:
        """The stages of its training, in their order."""
        return ["meta"] if self.config.base_stage is None else ["base", "meta"]

    @property
    def tested_folder(self) -> Path:
        """The folder of the stage, the meta stage, that a test loads its weights from.

        It is the folder of the test's number of shots, or the 1-shot folder if the model's shots share their weights.
        """
        folder = self.folder("meta")
        if self.model_class.shots_share_weights and not folder.exists():
            return Run(self.config.with_data(shot=1)).folder("meta")
        return folder

    def discard_tests(self, stage: str) -> None:
        """Let no table show the results of the run's tests of a stage's weights, which are about to be replaced.

        They are told by the stage's folder that they state, wherever the run lay then.
        """
        count = 0
        for path in Path(self.config.run.folder, str(self.config.run.name)).glob(f"test*/*/{RESULT}"):
            result = kept_json(path)
            is_own = result.get("weights_mark") in ("", "last")
            if is_own and Path(str(result.get("checkpoint"))).parent.name == self.folder(stage).name:
                path.replace(path.with_name(DISCARDED))
                count += 1
        if count:
            print(f"tests of the weights that were there, kept as {DISCARDED} and in no table: {count}", flush=True)

    @property
    def no_weights(self) -> str:
        """Why a test loads no checkpoint: training-free, or untrained; '' if it loads one."""
        if not self.model_class.learns:
            return TRAINING_FREE
        return UNTRAINED if self.config.test.checkpoint == NO_CHECKPOINT else ""

    @property
    def weights_file(self) -> Path | None:
        """The checkpoint that ``test.checkpoint`` means; None: see ``no_weights``."""
        wanted = self.config.test.checkpoint
        if self.no_weights:
            return None
        return self.tested_folder / CHECKPOINTS[wanted] if wanted in CHECKPOINTS else checkpoint.file_of(wanted)

    @property
    def weights_mark(self) -> str:
        """'' if a test scores the run's best weights, else the mark of its result: last, untrained, foreign."""
        if self.weights_file is None:
            return UNTRAINED if self.no_weights == UNTRAINED else ""
        marks = {(self.tested_folder / BEST).resolve(): "", (self.tested_folder / LAST).resolve(): "last"}
        return marks.get(self.weights_file.resolve(), FOREIGN)

    def with_training_options(self, stage: str) -> Run:
        """Return the run with the options that a stage's training was begun with and that the command does not name.

        A base stage that another run, which shares it, trained last has options of that run.
        """
        is_shared = stage == "base" and self.config.run.base_folder
        if is_shared and self.stage_folder(stage).run != self.config.run.name:
            return self
        return self._with(self.stage_folder(stage).options, self.folder(stage))

    def as_tested(self) -> tuple[Run, Checkpoint | None]:
        """Return the run as a test takes it, and its checkpoint; None: there is none, or it is missing.

        Settings come from the first that has them: the command; of the run's own weights the options of their training,
        but for tests; the checkpoint's sections ``data`` and ``model``, of weights from another data set ``model``
        alone; the config. The fold and the training's own settings are always those of the config.
        """
        source = self.weights_file
        if source is None or not source.exists():
            return self, None
        is_own = self.weights_mark in ("", "last")
        stored = checkpoint.read(source)
        sections = ("model.",) if self.config.crosses_data_sets and not is_own else ("data.", "model.")
        options = self._options_of(stored, sections)
        if is_own:
            options |= _training_options(source.parent)
        return self._with([*options.values()], source.parent if is_own else source), stored

    def _options_of(self, stored: Checkpoint, sections: tuple[str, ...]) -> dict[str, str]:
        """Return, by their keys, the overrides to the settings of a checkpoint's sections that a test may take."""
        now = to_dict(self.config)
        of_others = self.differences(stored.config, Decides.IDENTITY)
        return {
            key: override(key, trained)
            for key, (trained, _) in self.training_differences(stored).items()
            if key.startswith(sections) and key not in of_others and find(now, key, ...) is not ...
        }

    def _with(self, options: list[str], place: Path) -> Run:
        """Return the run with options of a training that the command does not name; a line says which."""
        of_command = [key for key, setting in settings_in(Sections, {}) if "of_command" in setting.metadata]
        given = {*of_command, *FORMER, *map(key_of, self.config.given)}
        kept = [text for text in options if key_of(text) not in given]
        if not kept:
            return self
        if is_first_of_machine():
            note(f"{place}: this command uses these settings of the training: {', '.join(kept)}")
        return Run(read_config(self.config.source, [*kept, *self.config.given]))

    def training_differences(self, stored: Checkpoint) -> Differences:
        """Return the settings that decide weights and differ from those of their training, stage by stage."""
        if stored.config is None:
            return {}
        stages = {f"{training['stage']}_stage": training["settings"] for training in stored.training}
        before = {**stored.config, **stages}
        if "base_stage" not in stages:  # no stage of these weights
            before.pop("base_stage", None)
        return self.differences(before, Decides.WEIGHTS, TESTED.settings)

    def shared(self, stored: Checkpoint) -> list[str]:
        """Describe the settings of data and run of a base stage that differ, which is kept as runs share it."""
        if stored.stage != "base":
            return []
        of_methods = ("base_stage", "meta_stage", "model", *TESTED.settings)
        return in_words(self.differences(stored.config, Decides.WEIGHTS, of_methods))

    def differences(self, before: dict[str, Any] | None, what: Decides, skip: tuple[str, ...] = ()) -> Differences:
        """Return the settings that decide a thing and differ from those of a training; none if they are not known."""
        return {} if before is None else differences(before, to_dict(self.config), what, skip)


def check_continues(stored: Checkpoint, now: Origin, allow_changes: bool) -> None:
    """Refuse a checkpoint that a training does not continue; its settings are compared before (``why_refused``).

    Args:
        stored: the checkpoint.
        now: the origin of the training that might continue it.
        allow_changes: whether photos, precision and the method's code may be others.

    Raises:
        UserError: it is of another length, batch, list or photos, of another precision or code, or no training.
    """
    may_differ = CONTINUED_CHANGED if allow_changes else CONTINUED
    if other := stored.origin.differences(now, may_differ.facts):
        more = "" if allow_changes else f"; {ALLOW} continues with other photos, precision, code or processes"
        raise UserError(
            f"{stored.path}: was trained with {', '.join(other)}",
            fix=f"restore it, or start again with --overwrite{more}",
        )


def _training_options(folder: Path) -> dict[str, str]:
    """Return the options that the training in a folder was begun with, by their keys, but for those of tests."""
    options = {key_of(text): text for text in StageFolder(folder).options}
    return {key: text for key, text in options.items() if not key.startswith(("test.", "protocols."))}
