"""The weights of a run: the start of a training, and the checkpoint that a test or a prediction loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.contract import FewShotModel, Start, Trainable
from model.encoders.registry import downloadable
from model.encoders.weights import checksum_of, licence_of, pretraining_of
from model.registry import class_of
from util.checkpoints import checkpoint
from util.checkpoints.resume import training_differences
from util.config.folds import Fold, masks_hold_all_classes
from util.config.read import from_dict, read_config, to_dict
from util.config.settings import MASKS, Config
from util.errors import UserError
from util.run.context import RunContext
from util.run.device import gpu_count
from util.run.folders import BEST, LAST, base_folder, is_finished, weights_folder
from util.run.network import new_model

NO_CHECKPOINT = "none"
OWN = {"best": BEST, "last": LAST}  # values of test.checkpoint that name a checkpoint of the run itself
TRAINING_FREE, UNTRAINED, FOREIGN = "training-free", "untrained", "foreign"


@dataclass(frozen=True)
class Weights:
    """A record of the weights in a network: where they came from and how they were trained.

    Attributes:
        source: the path of a checkpoint, or ``training-free`` or ``untrained``.
        trained_with: the data settings of the training and its ``model`` section, None if the file does not say.
        digest: of all named tensors.
        note: a line for the log, such as the tensors of the encoder that stayed random.
        encoder_licence: of the weights that the encoder started from, where it is known.
        encoder_data: the data that those weights were trained on, where it is known.
        training: see ``checkpoint.training_of``.
        otherwise: the settings of the config that the training did not have, see ``training_differences``.
    """

    source: str
    trained_with: dict[str, Any] | None
    digest: str
    note: str = ""
    encoder_licence: str | None = None
    encoder_data: str | None = None
    training: list[dict[str, Any]] = field(default_factory=list)
    otherwise: list[str] = field(default_factory=list)


# --- the start of a training -----------------------------------------------------------------------------------------


def network_to_train(
    context: RunContext, stage: str, resume: bool, base: str | Path | None = None
) -> tuple[FewShotModel, str, list[dict[str, Any]]]:
    """Return the model as the training of a stage starts from it, a line for the log, and how its start was trained.

    The base stage, and a model without one, start from the encoder's weights; the meta stage otherwise starts from the
    base stage's checkpoint. A run that resumes starts from random values, which its own checkpoint replaces.

    Args:
        base: a base-stage checkpoint in place of the run's own.

    Raises:
        UserError: the weights are missing or do not fit, or ``base`` is given to a model without a base stage.
    """
    has_base_stage = context.model_class.has_base_stage
    if base is not None and not has_base_stage:
        raise UserError(
            f"{base}: this model ({context.model_class.title}) has no base learner and starts from no base-stage "
            "checkpoint; leave it out"
        )
    network = new_model(context)
    if resume:
        return network, "", []
    if stage == "base" or not has_base_stage:
        return network, fill_encoder(context, network), []
    start = start_file(context.config, stage, base)
    assert start is not None
    before = checkpoint.training_of(load_checkpoint(context, network, "base", start))
    for facts in before:
        stored = {"base_stage": facts["settings"]}
        differences = training_differences(stored, to_dict(context.config), "base")
        if base is None and differences:
            raise UserError(
                f"{start}: the base stage was trained with {', '.join(differences)}; train it again by train_base.py "
                "--overwrite, or name this file with --checkpoint"
            )
    return network, f"base stage: {start}", before


def check_start(context: RunContext, stage: str, base: str | Path | None = None) -> None:
    """Refuse a training whose start is missing, or that the data's masks cannot teach, before any photo is read.

    Raises:
        UserError: the base stage's checkpoint or the encoder's file does not exist; names the command that makes it. Or
            the model learns from the base classes of a photo, and the data set has a mask of one class.
    """
    config, title = context.config, context.model_class.title
    if context.model_class.reads_base_labels and not masks_hold_all_classes(config.data.mask_form):
        raise UserError(
            f"{config.path}: {title} learns from the masks of all base classes of a photo; data set {config.data.name} "
            "has a mask of one class for each; take another method, such as MODEL=hsnet"
        )
    if stage == "meta" and context.model_class.has_base_stage:
        start = start_file(config, stage, base)
        if start is None or not start.exists():
            raise UserError(
                f"{start}: the base stage's checkpoint does not exist; train it first: python train_base.py "
                f"{config.path}, or name one with --checkpoint"
            )
    else:
        check_encoder_file(config)


def check_encoder_file(config: Config) -> None:
    """Refuse an encoder's file that does not exist.

    Raises:
        UserError: says how to get it, and which settings need none.
    """
    source = config.model.start().weights
    if source is not None and source not in class_of(config.model).downloads and not Path(source).exists():
        raise UserError(f"{source}: these weights do not exist; {how_to_get(Path(source), config.model.backbone())}")


def how_to_get(path: Path, backbone: str | None) -> str:
    """Return in words how to get a file of an encoder's weights, and what works without it."""
    run = path.parent.parent.name  # of runs/<data set>_<experiment>_<encoder>/base/<file>
    if path.parent.name == "base" and run.count("_") >= 2:
        dataset, experiment, net = run.split("_", 2)
        return f"train it first: NET={net} sh train.sh {experiment} {dataset} {gpu_count()}"
    digits = checksum_of(path.name)
    checksum = "" if digits is None else f" (its SHA-256 begins with {digits})"
    plain = "--set model.encoder.stem=plain --set model.encoder.weights=torchvision"
    ways = (
        f"python prepare.py weights {backbone} with {plain}, or NET=lite0,"
        if backbone in downloadable()
        else "NET=lite0"
    )
    return f"put it there{checksum}, initmodel/README.md says where it comes from; {ways} works without it"


def start_file(config: Config, stage: str, base: str | Path | None = None) -> Path | None:
    """Return the base stage's checkpoint that the meta stage starts from, or else the encoder's file; None: no file."""
    if stage == "meta" and class_of(config.model).has_base_stage:
        return Path(base or base_folder(config) / BEST)
    weights = config.model.start().weights
    return None if weights is None or weights in class_of(config.model).downloads else Path(weights)


def fill_encoder(context: RunContext, network: FewShotModel) -> str:
    """Fill the model's encoder as the config asks; return a line for the log that names the tensors left random.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    start = context.config.model.start()
    if start.weights is None:
        return "encoder: random weights (none are named)"
    check_encoder_file(context.config)
    same_fold = None if context.config.test.allow_fold_mismatch else to_dict(context.config)
    missing = checkpoint.load_encoder_weights(network, start.weights, start.partial, same_fold)
    licence = encoder_licence(context.config, network)
    terms = "" if licence is None else f"; licence of the weights: {licence}"
    if missing:
        return f"encoder: {start.weights}; {len(missing)} tensors start from random values: {', '.join(missing)}{terms}"
    return f"encoder: {start.weights}, complete{terms}"


def encoder_licence(config: Config, network: Trainable) -> str | None:
    """Return the licence of the weights that the encoder started from; None: it has none, or it is not known here."""
    encoder = getattr(network, "encoder", None)
    return None if encoder is None else licence_of(config.model.start().weights, encoder)


def encoder_data(config: Config, network: Trainable, trained_with: dict[str, Any] | None) -> str | None:
    """Return the data that the encoder's first weights were trained on; None: no encoder, or it is not known here.

    Args:
        trained_with: see ``Weights``; its encoder's settings are taken in place of the config's.
    """
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        return None
    start = config.model.start()
    of_training = (trained_with or {}).get("model", {}).get("encoder")
    if isinstance(of_training, dict) and "weights" in of_training:
        start = Start(of_training["weights"], pretraining=of_training.get("pretraining"))
    return pretraining_of(start.weights, encoder, start.pretraining)


# --- the weights of a test or a prediction ---------------------------------------------------------------------------


def load_weights(context: RunContext, side: int | None = None) -> tuple[FewShotModel, Weights]:
    """Return the network of ``test.checkpoint`` for images of ``side`` (default ``data.size``), and its record.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another model, data set, fold or number of shots.
    """
    config, wanted = context.config, context.config.test.checkpoint
    source = weights_source(config)
    network = new_model(context, side, _base_classes_elsewhere(config, source))
    training: list[dict[str, Any]] = []
    otherwise: list[str] = []
    if source == TRAINING_FREE and wanted not in (*OWN, NO_CHECKPOINT):
        raise UserError(f"{wanted}: this model learns nothing and loads no checkpoint; leave it out")
    if isinstance(source, str):
        note, trained_with = fill_encoder(context, network), None
    else:
        whole = load_checkpoint(context, network, "meta", source)
        content, training = whole.get("config", {}), checkpoint.training_of(whole)
        trained_with = {**content["data"], "model": content["model"]} if content else None
        if weights_mark(config) != FOREIGN:
            otherwise = _otherwise(config, content, training)
        changed = checkpoint.changed_settings(content["model"], to_dict(config)["model"]) if content else []
        note = f"the model was trained with other settings: {', '.join(changed)}" if changed else ""
    return network, Weights(
        str(source),
        trained_with,
        checkpoint.digest_of(network.state_dict()),
        note,
        encoder_licence(config, network),
        encoder_data(config, network, trained_with),
        training,
        otherwise,
    )


def _otherwise(config: Config, trained: dict[str, Any], training: list[dict[str, Any]]) -> list[str]:
    """Return how the training of a run's own weights differs from its config, in words."""
    now, out = to_dict(config), []
    for stage in training:
        key = f"{stage['stage']}_stage"
        out += training_differences({**trained, key: stage["settings"]}, now, stage["stage"])
    if not is_finished(weights_folder(config)):
        out.append(f"not finished (step {training[-1]['step']} of {training[-1]['steps']})")
    return out


def _base_classes_elsewhere(config: Config, source: Path | str) -> int | None:
    """Return the number of base classes of a checkpoint of another data set (``test.trained_on``), else None."""
    if isinstance(source, str) or config.test.trained_on is None:
        return None
    content = checkpoint.read(source)
    return len(Fold.of(from_dict(content["config"], str(source)).data).base) if checkpoint.is_own(content) else None


def weights_source(config: Config) -> Path | str:
    """Return the path of the checkpoint that ``test.checkpoint`` means, or why there is none."""
    wanted = config.test.checkpoint
    if not class_of(config.model).learns:
        return TRAINING_FREE
    if wanted == NO_CHECKPOINT:
        return UNTRAINED
    return weights_folder(config) / OWN[wanted] if wanted in OWN else Path(wanted)


def weights_mark(config: Config) -> str:
    """Return '' if a test scores the run's own best weights, else the mark of its result: last, untrained, foreign."""
    if config.test.allow_fold_mismatch:
        return FOREIGN
    source = weights_source(config)
    if isinstance(source, str):
        return source if source == UNTRAINED else ""
    own = weights_folder(config)
    marks = {(own / BEST).resolve(): "", (own / LAST).resolve(): "last"}
    return marks.get(source.resolve(), FOREIGN)


def load_checkpoint(context: RunContext, network: FewShotModel, stage: str, path: str | Path) -> dict[str, Any]:
    """Fill a model (``stage`` meta) or its base stage's parts (base) from a checkpoint; return the file's content.

    Raises:
        UserError: the file is missing, damaged, or of another stage, model, encoder, data set or fold.
    """
    content, config = checkpoint.read(path), context.config
    any_fold = stage == "meta" and config.test.allow_fold_mismatch
    checkpoint.check_identity(
        content, to_dict(config), stage, str(path), any_fold, config.model.identity, config.test.trained_on
    )
    if stage == "meta" and content.get(checkpoint.TEXT, context.text_digest) != context.text_digest:
        raise UserError(f"{path}: was trained with other text vectors than data.text = {context.config.data.text}")
    target = network if stage == "meta" else network.base_stage()
    try:
        checkpoint.load_weights(target, checkpoint.weights_of(content), str(path))
    except UserError as error:
        shots = _shots_of(network, content) if stage == "meta" else None
        if shots is None or shots == config.data.shot:
            raise
        raise _other_shots(config, path, shots, error) from None
    if stage == "base":
        network.requires_grad_(True)
        network.freeze()
    return content


def _shots_of(network: FewShotModel, content: dict[str, Any]) -> int | None:
    """Return the number of shots that a checkpoint's tensors are made for.

    None: they serve any number, or they are another model's.
    """
    state = checkpoint.without_prefix(checkpoint.weights_of(content))
    own = checkpoint.is_own(content)
    translated = state if own else network.load_published(state)
    return None if translated is None else network.shots_of(translated)


def _other_shots(config: Config, path: str | Path, shots: int, error: UserError) -> UserError:
    """Return the error about weights that were trained with another number of shots."""
    alone = config.test.fuse == MASKS
    this = "test.fuse: masks takes a network of" if alone else "this run has"
    other = ", or with --set test.fuse=masks" if shots == 1 else " and --set test.fuse=features" if alone else ""
    return UserError(
        f"{path}: was trained with {shots} shot(s), {this} {config.data.shot}, and this model has weights for each "
        f"number of shots; train it with --set data.shot={config.data.shot}, or test with --shot {shots}{other} "
        f"({error})"
    )


# --- configs in checkpoints ------------------------------------------------------------------------------------------


def settings_of(weights: str | Path | None, config: str | Path | None, overrides: Sequence[str]) -> Config:
    """Return the named config, or the one in the checkpoint.

    Raises:
        UserError: the file is missing, damaged, or carries no config; or the config does not fit it.
    """
    if config is not None:
        return read_config(config, list(overrides))
    assert weights is not None
    if str(weights) in (*OWN, NO_CHECKPOINT):
        raise UserError(f"--checkpoint {weights}: means the checkpoint of a run; name the run's --config, or a file")
    content = checkpoint.read(weights)
    if not checkpoint.is_own(content):
        raise UserError(f"{weights}: carries no config; name its own, as in --config config/pascal/X.yaml")
    return from_dict(content["config"], str(weights), list(overrides))
