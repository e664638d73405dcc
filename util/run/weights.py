"""The checkpoint that a test or a prediction loads, how its training stands to the run, and whether it fits."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from model.contract import FewShotMethod
from model.decides import Decides
from model.registry import related
from util.config.read import to_dict
from util.config.same import differences, in_words
from util.config.settings import Config
from util.files.errors import UserError
from util.run.build import build_model
from util.run.folder import StageFolder
from util.run.run import CHECKPOINTS, FOREIGN, NO_CHECKPOINT, TRAINING_FREE, UNTRAINED, Run
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.code import code_of_run
from util.weights.encoders import classes_of, fold_of, photos_of_encoders, start_encoders
from util.weights.fill import fill
from util.weights.may_differ import TESTED_ON_OTHER_DATA
from util.weights.origin import Origin


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network and its weights: the file that they came from, and how their training stands to the run."""

    run: Run  # whose they are
    network: FewShotMethod
    stored: Checkpoint  # without its tensors; its path may be ``training-free`` or ``untrained``
    start: str = ""  # a line for the log on what an untrained network starts from

    @property
    def source(self) -> str:
        """The path of the file, or why there is none."""
        return str(self.stored.path)

    @property
    def is_trained(self) -> bool:
        """Whether there is a file."""
        return self.source not in (TRAINING_FREE, UNTRAINED)

    @property
    def trained_with(self) -> dict[str, Any] | None:
        """The data settings and the section ``model`` of the training, if known."""
        config = self.stored.config
        return config and {**config["data"], "model": config["model"]}

    @cached_property
    def digest(self) -> str:
        """The digest of all named tensors."""
        return checkpoint.digest_of(self.network.state_dict())

    @property
    def finished(self) -> bool:
        """Whether the training is; of a file of another run its last step tells it too."""
        stored = self.stored
        if stored.config is None or stored.finished or StageFolder(stored.path.parent).finished:
            return True
        last = stored.training[-1]
        return self.run.weights_mark == FOREIGN and last["step"] == last["steps"]

    @property
    def trained_otherwise(self) -> list[str]:
        """The settings and code that the training had otherwise, in words."""
        config = self.run.config
        differing = self.run.training_differences(self.stored)
        if self.run.weights_mark == FOREIGN:  # another training has; of another method is said
            differing = {key: values for key, values in differing.items() if key == "model.name"}
        found = in_words(differing)
        if "model.name" not in differing:
            found += self.stored.origin.differences(
                Origin(code=code_of_run(self.run.model_class, config.model, config.data, config.meta_stage))
            )
        return found

    @property
    def note(self) -> str:
        """A line for the log: the start of an untrained network, or a training of other settings or not finished."""
        if self.start:
            return self.start
        of_model = self.stored.config and {"model": self.stored.config["model"]}
        changed = self.trained_otherwise or in_words(self.run.differences(of_model, Decides.SCORES))
        words = [] if self.finished else ["the training is not finished"]
        if changed:
            words.append(f"the training had other settings: {'; '.join(changed)}")
        return "; ".join(words)


def load_weights(run: Run, side: int | None = None, stored: Checkpoint | None = None) -> Loaded:
    """Return the network of ``test.checkpoint``, filled.

    Args:
        run: whose weights they are.
        side: of its images in pixels, default ``data.size``.
        stored: a checkpoint that was read already, taken if it is the one.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another model, data set, fold, text vectors or number of
            shots.
    """
    config = run.config
    source = run.weights_file
    wanted = config.test.checkpoint
    if run.no_weights == TRAINING_FREE and wanted not in (*CHECKPOINTS, NO_CHECKPOINT):
        raise UserError(f"{wanted}: this method is not trained and loads no checkpoint; leave test.checkpoint out")
    if source is None:
        network = build_model(config, run.text_width, side)
        note, files = start_encoders(config, network)
        photos, classes = photos_of_encoders(files), classes_of(files, config.data.name)
        return Loaded(run, network, Checkpoint(Path(run.no_weights), {}, photos=photos, classes=classes), start=note)
    _check_trained(run, source)
    if stored is None or stored.path != source:
        stored = checkpoint.read(source)
    base_classes = None
    if config.test.trained_on is not None and stored.config is not None:  # those of another data set
        base_classes = len(fold_of(stored.config["data"]).base)
    network = build_model(config, run.text_width, side, base_classes)
    check_fits(stored, config, "meta")
    asked = Origin(vectors=run.text_digest, networks=checkpoint.digest_of_rest(network))
    if other := stored.origin.differences(asked):
        raise UserError(
            f"{source}: was trained with {', '.join(other)}",
            fix="restore the files that its training read "
            f"(model.weights = {config.model.encoder_name()}), or set data.text as its config.yaml has it",
        )
    fill(network, stored)
    classes = classes_of([stored], config.data.name)
    return Loaded(
        run, network, replace(stored, weights={}, state=checkpoint.State(), entries={}, named={}, classes=classes)
    )


def _check_trained(run: Run, source: Path) -> None:
    """Refuse (UserError) weights of the run that are not there."""
    if run.weights_mark != FOREIGN and not source.exists():
        shots = "" if run.tested_folder.name == "meta" else f" with --set data.shot={run.config.data.shot}"
        raise UserError(f"{source}: this run is not trained; train it by train.sh{shots}, or name other weights")


def check_fits(stored: Checkpoint, config: Config, stage: str) -> None:
    """Refuse a checkpoint of this project that is of another stage, model, encoder, data set or fold.

    The model's name is not compared in the base stage, whose checkpoints models share; a model may also load weights of
    the model that it extends, if the tensors fit. With ``test.trained_on`` the checkpoint of a meta
    stage is of that data set, with other classes and folds.

    Args:
        stored: the checkpoint; an authors' file has no config, its tensors decide.
        config: of this run.
        stage: that the checkpoint must be of: base or meta.

    Raises:
        UserError: names the first setting that differs.
    """
    if stored.config is None:
        return
    if stored.stage != stage:
        fix = "; to continue its training write --resume and no checkpoint" if stage == "base" else ""
        raise UserError(f"{stored.path}: is of the {stored.stage} stage, one of the {stage} stage is needed{fix}")
    now = to_dict(config)
    now["data"]["name"] = config.test.trained_on or now["data"]["name"]
    may_differ = TESTED_ON_OTHER_DATA.settings if config.crosses_data_sets else ()
    for key, (given, wanted) in differences(stored.config, now, Decides.IDENTITY, may_differ).items():
        is_related = key == "model.name" and (stage == "base" or related(given, wanted))
        if not is_related:
            raise UserError(
                f"{stored.path}: was trained with {key} = {given}, this run has {wanted}",
                fix=f"name a checkpoint of such a run{_other_data(key, given, stage)}",
            )


def _other_data(key: str, given: str, stage: str) -> str:
    """Say how a checkpoint of another data set is tested; '' where another setting differs."""
    if key != "data.name" or stage != "meta":
        return ""
    return f"; --set test.trained_on={given} tests it all the same, with classes that may not be novel to it"
